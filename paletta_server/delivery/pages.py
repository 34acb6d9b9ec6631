"""The page behind a mailed download link, for people without a login.

Whoever has the link has the files, as whoever has the mail has: so it is long, ends in hours, and is never logged.
A GET looks and never uses the link up: mail scanners open links.
"""

from typing import Annotated

from fastapi import APIRouter, Header, Path
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from paletta_server.accounts.dependencies import ClientIp
from paletta_server.core.database import SessionDep
from paletta_server.core.errors import NotFound, PalettaError
from paletta_server.core.pages import OurOwnPage
from paletta_server.core.runtime import RuntimeDep
from paletta_server.delivery import documents, links, markup, names, purchases, restoring
from paletta_server.delivery.purchases import Asking, Bought
from paletta_server.flags.guard import unless
from paletta_server.flags.service import Switch

pages = APIRouter(prefix="/orders", include_in_schema=False, default_response_class=HTMLResponse)

Secret = Annotated[str, Path(max_length=200)]
Name = Annotated[str, Path(max_length=100)]
UserAgent = Annotated[str | None, Header()]


@pages.api_route("/{token}", methods=["GET", "HEAD"])
async def show(session: SessionDep, token: Secret) -> HTMLResponse:
    """What the order has to fetch."""
    try:
        opened = await links.open_(session, token)
    except NotFound:
        return markup.unknown_page()
    if opened.state == "withdrawn":
        return markup.withdrawn_page(opened.order)
    if opened.state == "expired":
        return markup.expired_page(opened.order, token)
    bought = await purchases.of_order(session, opened.order.id)
    until = f"{opened.until.day} {opened.until:%B, %H:%M} UTC"
    coming = await restoring.waiting(session, opened.order.id)
    return markup.order_page(opened.order, bought, token, until=until, coming=coming)


@pages.post("/{token}/mail", dependencies=[OurOwnPage])
async def mail(session: SessionDep, runtime: RuntimeDep, token: Secret) -> HTMLResponse:
    """Mail the buyer a new link. Who presses the button learns nothing but that."""
    try:
        opened = await links.open_(session, token)
        await links.mail_again(session, runtime.settings, opened.order)
    except NotFound:
        return markup.unknown_page()
    except PalettaError as error:
        return markup.problem_page(error)
    return markup.mailed_page(opened.order)


# A GET for the browser's sake: each fetch is recorded.
@pages.get("/{token}/files/{item}/{tier}", dependencies=[unless(Switch.NO_DOWNLOADS, Switch.READ_ONLY)])
async def fetch(
    runtime: RuntimeDep,
    ip: ClientIp,
    token: Secret,
    item: Name,
    tier: Name,
    user_agent: UserAgent = None,
) -> Response:
    """On to the file, at a fresh address; recorded."""
    try:
        one = await _chosen(runtime, token, item)
        address = await purchases.issue_one(runtime, one, tier, Asking("page", ip, user_agent))
    except NotFound:
        return markup.unknown_page()
    except _Over as over:
        return over.page
    except PalettaError as error:
        return markup.problem_page(error)
    return RedirectResponse(address, status_code=303)


@pages.get("/{token}/certificates/{item}")
async def certificate(runtime: RuntimeDep, token: Secret, item: Name) -> Response:
    """A licence certificate as a PDF."""
    try:
        one = await _chosen(runtime, token, item)
    except NotFound:
        return markup.unknown_page()
    except _Over as over:
        return over.page
    async with runtime.db.transaction() as session:
        [(name, data)] = await documents.certificates_of(session, runtime.settings, [one])
    headers = {"Content-Disposition": names.disposition(name)}
    return Response(data, media_type="application/pdf", headers=headers)


class _Over(Exception):
    """The link leads nowhere any more; `page` says so."""

    def __init__(self, page: HTMLResponse) -> None:
        self.page = page


async def _chosen(runtime: RuntimeDep, token: str, item: str) -> Bought:
    """The item of the link's order. Raises `NotFound` and `_Over`."""
    async with runtime.db.transaction() as session:
        opened = await links.open_(session, token)
        if opened.state == "withdrawn":
            raise _Over(markup.withdrawn_page(opened.order))
        if opened.state == "expired":
            raise _Over(markup.expired_page(opened.order, token))
        for one in await purchases.of_order(session, opened.order.id):
            if one.item.uid == item:
                return one
    raise NotFound("file", item)
