"""The two pages behind mailed links: confirm an address, choose a new password.

GET only shows a button, since mail scanners open links; the form's POST does it.
"""

from typing import Annotated

from fastapi import APIRouter, Form, Query
from fastapi.responses import HTMLResponse

from paletta_server.accounts import links, markup, recovery
from paletta_server.accounts.dependencies import HashSlot
from paletta_server.accounts.passwords import LONGEST
from paletta_server.core.database import SessionDep
from paletta_server.core.errors import Invalid
from paletta_server.core.pages import OurOwnPage
from paletta_server.core.runtime import RuntimeDep

pages = APIRouter(prefix="/account", include_in_schema=False, default_response_class=HTMLResponse)

Token = Annotated[str, Query(max_length=200)]
SentToken = Annotated[str, Form(max_length=200)]
SentPassword = Annotated[str, Form(max_length=4 * LONGEST)]


@pages.get("/verify")
async def show_verify(session: SessionDep, token: Token = "") -> HTMLResponse:
    try:
        email = await links.peek(session, "verify", token)
    except Invalid as error:
        return markup.dead_link(error)
    return markup.verify_form(email, token)


@pages.post("/verify", dependencies=[OurOwnPage])
async def do_verify(runtime: RuntimeDep, token: SentToken) -> HTMLResponse:
    """In a transaction of its own: a link that turns out to be dead must not be spent."""
    try:
        async with runtime.db.transaction() as session:
            user = await recovery.verify(session, runtime.settings, token)
    except Invalid as error:
        return markup.dead_link(error)
    return markup.verified(user.email)


@pages.get("/reset")
async def show_reset(session: SessionDep, runtime: RuntimeDep, token: Token = "") -> HTMLResponse:
    try:
        email = await links.peek(session, "reset", token)
    except Invalid as error:
        return markup.dead_link(error)
    return markup.reset_form(email, token, shortest=runtime.settings.password_min_length)


@pages.post("/reset", dependencies=[OurOwnPage])
async def do_reset(
    _: HashSlot,
    runtime: RuntimeDep,
    token: SentToken,
    new_password: SentPassword,
    repeated: SentPassword,
) -> HTMLResponse:
    """A refused password shows the form again. It needs a transaction of its own: what it did must be
    undone then."""
    try:
        async with runtime.db.transaction() as session:
            email = await links.peek(session, "reset", token)
    except Invalid as error:
        return markup.dead_link(error)
    try:
        if new_password != repeated:
            raise Invalid("the two passwords are not the same", hint="type the new one twice")
        async with runtime.db.transaction() as session:
            await recovery.reset(session, runtime, token, new_password)
    except Invalid as error:
        if error.code == "bad_link":
            return markup.dead_link(error)
        shortest = runtime.settings.password_min_length
        return markup.reset_form(email, token, shortest=shortest, problem=error)
    return markup.password_changed(email)
