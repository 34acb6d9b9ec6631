"""The few pages that people meet in a browser: one small document each, nothing loaded from anywhere, no script.

There is no cookie to abuse, yet a form's POST must come from our own page (`OurOwnPage`): `Sec-Fetch-Site` says
so in every current browser, `Origin` in the others.
"""

import base64
import hashlib
from functools import cache
from html import escape
from importlib.resources import files
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse

from paletta_server.core.errors import Forbidden
from paletta_server.core.runtime import RuntimeDep

_STYLE = files(__package__).joinpath("pages.css").read_text("utf-8")


def page(title: str, content: str, *, status: int = 200, style: str = "", banner: str = "") -> HTMLResponse:
    """A page of ours around `content`, which is HTML: who calls escapes what it puts there.

    `style` is CSS beyond the common one; `banner` is HTML above the page's title.
    """
    return HTMLResponse(
        f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{escape(title)} · Paletta</title>
<style>{_STYLE}{style}</style>
</head>
<body>
<main>
<div class="brand"><i></i><i></i><i></i>Paletta</div>
{banner}<h1>{escape(title)}</h1>
{content}
</main>
</body>
</html>
""",
        status_code=status,
        headers=_headers(style),
    )


@cache
def _headers(style: str) -> dict[str, str]:
    digest = base64.b64encode(hashlib.sha256((_STYLE + style).encode()).digest()).decode()
    return {
        "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'",
        # Not "no-referrer": with that browsers send `Origin: null`, and our form looks like a stranger's.
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-store",
        "Cross-Origin-Opener-Policy": "same-origin",
        "X-Frame-Options": "DENY",
    }


async def _from_our_own_page(request: Request, runtime: RuntimeDep) -> None:
    """Refuse a form that another site sent. Raises `Forbidden` (`cross_site`)."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        ours = site == "same-origin"
    else:
        address = urlsplit(runtime.settings.public_url)
        ours = request.headers.get("origin") == f"{address.scheme}://{address.netloc}"
    if not ours:
        raise Forbidden("this form was not sent by our own page", code="cross_site")


OurOwnPage = Depends(_from_our_own_page)
