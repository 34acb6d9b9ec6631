"""The sandbox's hosted page: where the shop sends a customer, and where an outside gateway's would be."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import BaseModel

from paletta_server.core.database import SessionDep
from paletta_server.core.errors import Conflict, NotFound
from paletta_server.core.pages import OurOwnPage
from paletta_server.core.runtime import RuntimeDep
from paletta_server.payments.gateway import Refused
from paletta_server.payments.sandbox import desk, markup


async def _in_use(runtime: RuntimeDep) -> None:
    """Raises `NotFound` where this service has no sandbox, and in production whatever it says."""
    desk.refuse_in_production(runtime.settings)
    if "sandbox" not in runtime.settings.gateways:
        raise NotFound("gateway", "sandbox")


InUse = Depends(_in_use)
pages = APIRouter(
    prefix="/sandbox",
    include_in_schema=False,
    default_response_class=HTMLResponse,
    dependencies=[InUse],
)


class Pressed(BaseModel):
    """A button of the page, and the choices beside it."""

    action: desk.Action
    copies: Annotated[int, Form(ge=0, le=5)] = 1
    delay: Annotated[int, Form(ge=0, le=3600)] = 0
    backwards: bool = False


@pages.get("/checkout/{reference}")
async def show(session: SessionDep, reference: str) -> HTMLResponse:
    try:
        found = await desk.find(session, reference)
    except Refused:
        return markup.unknown()
    if await desk.is_over(session, found):
        return markup.over(found, await desk.disputes_of(session, found))
    return markup.authentication(found) if found.status == "authenticating" else markup.checkout(found)


@pages.post("/checkout/{reference}", dependencies=[OurOwnPage])
async def press(session: SessionDep, reference: str, pressed: Annotated[Pressed, Form()]) -> Response:
    """A button was pressed: back to the shop when the customer is done, else the page as it is now."""
    how = desk.Telling(copies=pressed.copies, delay=pressed.delay, backwards=pressed.backwards)
    try:
        found = await desk.act(session, reference, pressed.action, how)
    except Refused:
        return markup.unknown()
    except Conflict:
        pass  # somebody was quicker; the page says how it stands
    else:
        if pressed.action in ("success", "authenticated", "abandon"):
            return RedirectResponse(found.request["return_url"], status_code=303)
    return RedirectResponse(f"/sandbox/checkout/{reference}", status_code=303)
