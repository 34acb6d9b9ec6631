"""The HTML of the account pages: one small document, nothing loaded from anywhere, no script."""

import base64
import hashlib
from html import escape
from importlib.resources import files

from fastapi.responses import HTMLResponse

from paletta_server.accounts.passwords import LONGEST
from paletta_server.core.errors import PalettaError

_STYLE = files(__package__).joinpath("pages.css").read_text("utf-8")
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    # Not "no-referrer": with that browsers send `Origin: null`, and our form looks like a stranger's.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


def verify_form(email: str, token: str) -> HTMLResponse:
    return _page(
        "Confirm your address",
        f"""<p>This confirms <b>{escape(email)}</b> for your Paletta account.</p>
        <form method="post" action="/account/verify">
          <input type="hidden" name="token" value="{escape(token)}">
          <button>Confirm address</button>
        </form>""",
    )


def verified(email: str) -> HTMLResponse:
    return _page(
        "Address confirmed",
        f"""<p>Thank you: <b>{escape(email)}</b> is yours. You can close this page.</p>
        <p>To sell your clips, go on in the terminal:</p>
        <p><code>paletta profile become-contributor</code></p>""",
    )


def reset_form(email: str, token: str, *, shortest: int, problem: PalettaError | None = None) -> HTMLResponse:
    told = ""
    if problem is not None:
        words = " ".join(_sentence(text) for text in (problem.detail, problem.hint) if text)
        told = f'<p class="problem" role="alert">{escape(words)}</p>'
    limits = (
        f'type="password" autocomplete="new-password" minlength="{shortest}" maxlength="{LONGEST}" required'
    )
    return _page(
        "Choose a new password",
        f"""<p>For <b>{escape(email)}</b>. At least {shortest} characters: a few uncommon words are long
        and easy to remember. Every device will be logged out.</p>{told}
        <form method="post" action="/account/reset">
          <input type="hidden" name="token" value="{escape(token)}">
          <input type="hidden" name="username" autocomplete="username" value="{escape(email)}">
          <label for="new">New password</label>
          <input id="new" name="new_password" {limits} autofocus>
          <label for="again">The same again</label>
          <input id="again" name="repeated" {limits}>
          <button>Save password</button>
        </form>""",
        status=422 if problem else 200,
    )


def password_changed(email: str) -> HTMLResponse:
    return _page(
        "Password changed",
        f"""<p>The new password of <b>{escape(email)}</b> is in force and every device is logged out.</p>
        <p>Log in again with <code>paletta login</code></p>""",
    )


def dead_link(error: PalettaError) -> HTMLResponse:
    command = escape((error.hint or "").rpartition("with ")[2].strip("`"))
    return _page(
        "This link no longer works",
        f"""<p>It was used already, it has expired, or a newer one was sent.</p>
        <p>Ask for a new one in the terminal:</p>
        <p><code>{command}</code></p>""",
        status=410,
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _page(title: str, content: str, *, status: int = 200) -> HTMLResponse:
    return HTMLResponse(
        f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{escape(title)} · Paletta</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<div class="brand"><i></i><i></i><i></i>Paletta</div>
<h1>{escape(title)}</h1>
{content}
</main>
</body>
</html>
""",
        status_code=status,
        headers=_HEADERS,
    )
