"""Purchases, downloads and papers over HTTP."""

import base64
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query
from fastapi.responses import HTMLResponse, Response

from paletta_server.accounts.dependencies import ClientIp
from paletta_server.accounts.permissions import Permission
from paletta_server.accounts.security import Principal, require
from paletta_server.core.database import SessionDep
from paletta_server.core.errors import Conflict, Forbidden, Invalid, NotFound, Unauthorized, problems
from paletta_server.core.pagination import Page, PageDep
from paletta_server.core.runtime import RuntimeDep
from paletta_server.delivery import announcing, certificates, documents, links, markup, names, purchases
from paletta_server.delivery.pages import pages
from paletta_server.delivery.purchases import Asking
from paletta_server.delivery.schemas import (
    CertificateFile,
    Certificates,
    CertificatesIn,
    CertificateView,
    Downloads,
    DownloadsIn,
    MailedLink,
    Purchase,
)
from paletta_server.flags.guard import unless
from paletta_server.flags.service import Switch
from paletta_server.orders import service as orders

__all__ = ["pages", "router"]

router = APIRouter(
    prefix="/v1", tags=["delivery"], responses=problems(Unauthorized, Forbidden, NotFound, Conflict, Invalid)
)
Owner = Annotated[Principal, Depends(require(Permission.DOWNLOAD))]
Customer = Annotated[Principal, Depends(require(Permission.BUY))]
UserAgent = Annotated[str | None, Header()]
_PDF: dict[int | str, dict[str, Any]] = {200: {"content": {"application/pdf": {}}}}


@router.get("/me/purchases")
async def list_purchases(
    user: Owner,
    session: SessionDep,
    page: PageDep,
    order: Annotated[
        str | None, Query(max_length=100, description="only of this order: id or number")
    ] = None,
    clip: Annotated[str | None, Query(max_length=100, description="only clips whose id begins so")] = None,
) -> Page[Purchase]:
    """Everything that the caller bought, newest first, also what was refunded since."""
    items, cursor = await purchases.listed(session, user, page, order=order, clip=clip)
    return Page(items=items, next_cursor=cursor)


@router.post("/downloads", responses=problems(purchases.Withheld), dependencies=[unless(Switch.NO_DOWNLOADS)])
async def download(
    user: Owner, runtime: RuntimeDep, ip: ClientIp, wanted: DownloadsIn, user_agent: UserAgent = None
) -> Downloads:
    """Addresses for files that were bought, good for minutes; ask again when they have expired, as often as you
    like. Each is recorded."""
    return Downloads(files=await purchases.issue(runtime, user, wanted.files, Asking("api", ip, user_agent)))


@router.post("/me/certificates")
async def print_certificates(user: Owner, runtime: RuntimeDep, wanted: CertificatesIn) -> Certificates:
    """Licence certificates of several purchases."""
    async with runtime.db.transaction() as session:
        bought = await purchases.own(session, user, wanted.item_ids)
        uids = list(dict.fromkeys(wanted.item_ids))
        printed = await documents.certificates_of(session, runtime.settings, [bought[uid] for uid in uids])
    return Certificates(
        certificates=[
            CertificateFile(item_id=uid, name=name, pdf=base64.b64encode(data).decode("ascii"))
            for uid, (name, data) in zip(uids, printed, strict=True)
        ]
    )


@router.get("/me/purchases/{item}/certificate", responses=_PDF, response_class=Response)
async def print_certificate(user: Owner, runtime: RuntimeDep, item: str) -> Response:
    """The licence certificate of one purchase, as a PDF."""
    async with runtime.db.transaction() as session:
        one = (await purchases.own(session, user, [item]))[item]
        [(name, data)] = await documents.certificates_of(session, runtime.settings, [one])
    return _pdf(name, data)


@router.get("/certificates/{code}", response_model=CertificateView)
async def check_certificate(
    session: SessionDep,
    response: Response,
    code: Annotated[str, Path(max_length=40)],
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> CertificateView | HTMLResponse:
    """What a licence certificate says and whether it is in force. For anybody who holds the paper; who points a
    telephone at it gets a page."""
    if "text/html" not in accept:
        response.headers["Vary"] = "Accept"
        return certificates.view(await purchases.by_certificate(session, code))
    try:
        found = markup.certificate_page(await purchases.by_certificate(session, code))
    except NotFound:
        found = markup.no_certificate_page()
    found.headers["Vary"] = "Accept"
    return found


@router.get("/orders/{order}/receipt", responses=_PDF, response_class=Response)
async def print_receipt(user: Customer, runtime: RuntimeDep, order: str) -> Response:
    """The receipt of a paid order, as it stands now, as a PDF."""
    async with runtime.db.transaction() as session:
        found = await orders.find(session, user, order)
        if found.status not in orders.SETTLED:
            raise Conflict(
                f"order {found.number} is {found.status}: there is no receipt yet", code="order_not_paid"
            )
        items = await orders.items(session, found.id)
        receipt = await announcing.receipt_of(session, runtime.settings, found, items)
    return _pdf(receipt.name, receipt.data)


@router.post("/orders/{order}/email", status_code=202, responses=problems(purchases.Withheld))
async def mail_link(user: Customer, session: SessionDep, runtime: RuntimeDep, order: str) -> MailedLink:
    """Mail the caller a new link to the order's download page."""
    found = await orders.find(session, user, order)
    return await links.mail_again(session, runtime.settings, found)


def _pdf(name: str, data: bytes) -> Response:
    headers = {"Content-Disposition": names.disposition(name)}
    return Response(data, media_type="application/pdf", headers=headers)
