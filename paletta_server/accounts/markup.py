"""The HTML of the account pages."""

from html import escape

from fastapi.responses import HTMLResponse

from paletta_server.accounts.passwords import LONGEST
from paletta_server.core.errors import PalettaError
from paletta_server.core.pages import page


def verify_form(email: str, token: str) -> HTMLResponse:
    return page(
        "Confirm your address",
        f"""<p>This confirms <b>{escape(email)}</b> for your Paletta account.</p>
        <form method="post" action="/account/verify">
          <input type="hidden" name="token" value="{escape(token)}">
          <button>Confirm address</button>
        </form>""",
    )


def verified(email: str) -> HTMLResponse:
    return page(
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
    return page(
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
    return page(
        "Password changed",
        f"""<p>The new password of <b>{escape(email)}</b> is in force and every device is logged out.</p>
        <p>Log in again with <code>paletta login</code></p>""",
    )


def dead_link(error: PalettaError) -> HTMLResponse:
    command = escape((error.hint or "").rpartition("with ")[2].strip("`"))
    return page(
        "This link no longer works",
        f"""<p>It was used already, it has expired, or a newer one was sent.</p>
        <p>Ask for a new one in the terminal:</p>
        <p><code>{command}</code></p>""",
        status=410,
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
