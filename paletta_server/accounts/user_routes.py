"""What admins do with other people's accounts, over HTTP. `{user}` is (the beginning of) an id, or an address."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime

from paletta_server.accounts import administration, erasure, overview, service, standing
from paletta_server.accounts.permissions import Permission
from paletta_server.accounts.schemas import TokenOut
from paletta_server.accounts.security import Principal, require
from paletta_server.accounts.user_schemas import (
    AccountChange,
    AccountDetail,
    AccountOut,
    Disabling,
    Erasure,
    NewAccount,
    Role,
    RoleChange,
    SessionsEnded,
    Status,
)
from paletta_server.core.database import SessionDep
from paletta_server.core.errors import Conflict, Forbidden, Invalid, NotFound, Unauthorized, problems
from paletta_server.core.pagination import Page, PageDep
from paletta_server.core.runtime import RuntimeDep

router = APIRouter(
    prefix="/v1/admin/users",
    tags=["admin"],
    responses=problems(Unauthorized, Forbidden, NotFound, Conflict, Invalid),
)

Admin = Annotated[Principal, Depends(require(Permission.MANAGE_USERS))]
FreshAdmin = Annotated[Principal, Depends(require(Permission.MANAGE_USERS, fresh=True))]
Own = Annotated[bool, Query(description="the caller means their own account, should it be that")]


@router.get("")
async def list_users(
    admin: Admin,
    session: SessionDep,
    page: PageDep,
    role: Role | None = None,
    status: Status | None = None,
    q: Annotated[str | None, Query(max_length=100, description="part of an address or a name")] = None,
    since: Annotated[AwareDatetime | None, Query(description="registered then or later")] = None,
    until: Annotated[AwareDatetime | None, Query(description="registered before")] = None,
) -> Page[AccountOut]:
    """Accounts, newest first."""
    wanted = administration.Filter(role, status, q, since, until)
    rows, cursor = await administration.listed(session, wanted, page)
    return Page(items=[AccountOut.of(user, last_seen_at=seen) for user, seen in rows], next_cursor=cursor)


@router.post("", status_code=201)
async def create_user(body: NewAccount, admin: Admin, session: SessionDep, runtime: RuntimeDep) -> AccountOut:
    """Make an account; a mailed link lets the person choose its password. All but a customer's need a fresh login."""
    made = await administration.create(session, runtime.settings, admin, **body.model_dump())
    return AccountOut.of(made)


@router.get("/{user}")
async def show_user(user: str, admin: Admin, session: SessionDep) -> AccountDetail:
    """Everything about an account on one screen."""
    found = await administration.find(session, user)
    return AccountDetail.of(
        found,
        status_reason=found.status_reason,
        deleted_at=found.deleted_at,
        erased_at=found.erased_at,
        **await overview.figures(session, found),
    )


@router.patch("/{user}")
async def edit_user(
    user: str, body: AccountChange, admin: Admin, session: SessionDep, runtime: RuntimeDep
) -> AccountOut:
    """Change names, or the address, which needs a fresh login and counts once it is confirmed by mail."""
    changes = body.model_dump(exclude_unset=True)
    return AccountOut.of(await administration.edit(session, runtime.settings, admin, user, changes))


@router.delete("/{user}")
async def delete_user(
    user: str, admin: FreshAdmin, session: SessionDep, runtime: RuntimeDep, own_account: Own = False
) -> AccountOut:
    """Close an account. Its address stays taken, its orders and clips stay; `enable` opens it again."""
    return AccountOut.of(await standing.close(session, runtime.settings, admin, user, own=own_account))


@router.post("/{user}/disable")
async def disable_user(
    user: str, body: Disabling, admin: FreshAdmin, session: SessionDep, runtime: RuntimeDep
) -> AccountOut:
    """Shut somebody out at once, with a reason that they read in a mail."""
    return AccountOut.of(
        await standing.disable(session, runtime.settings, admin, user, body.reason, own=body.own_account)
    )


@router.post("/{user}/enable")
async def enable_user(user: str, admin: FreshAdmin, session: SessionDep, runtime: RuntimeDep) -> AccountOut:
    """Let somebody in again who was disabled or deleted."""
    return AccountOut.of(await standing.enable(session, runtime.settings, admin, user))


@router.post("/{user}/role")
async def change_role(
    user: str, body: RoleChange, admin: FreshAdmin, session: SessionDep, runtime: RuntimeDep
) -> AccountOut:
    """Give an account another role, from its next request on."""
    return AccountOut.of(
        await standing.change_role(session, runtime.settings, admin, user, body.role, own=body.own_account)
    )


@router.post("/{user}/erase")
async def erase_user(user: str, body: Erasure, admin: FreshAdmin, runtime: RuntimeDep) -> AccountOut:
    """Erase a person for good; what law wants kept stays without them."""
    return AccountOut.of(
        await erasure.erase(
            runtime, admin, user, named=body.id, own=body.own_account, waive=body.waive_earnings
        )
    )


@router.get("/{user}/export", response_class=StreamingResponse)
async def export_user(
    user: str, admin: FreshAdmin, session: SessionDep, runtime: RuntimeDep
) -> StreamingResponse:
    """Everything held on a person as one JSON document; no secrets."""
    found = await overview.begin_export(session, admin, user)
    return StreamingResponse(
        overview.export_of(runtime.db, found),
        media_type="application/json",
        headers={"Content-Disposition": f'attachment; filename="{found.uid}.json"'},
    )


@router.get("/{user}/sessions")
async def list_sessions(user: str, admin: Admin, session: SessionDep, page: PageDep) -> Page[TokenOut]:
    """An account's living tokens, newest first."""
    found = await administration.find(session, user)
    rows, cursor = await service.list_tokens(session, found.id, page)
    return Page(items=[TokenOut.of(token, current=admin.token_id) for token in rows], next_cursor=cursor)


@router.delete("/{user}/sessions")
async def end_sessions(user: str, admin: Admin, session: SessionDep) -> SessionsEnded:
    """End every token of an account, at once."""
    return SessionsEnded(ended=await administration.end_sessions(session, admin, user, None))


@router.delete("/{user}/sessions/{token}")
async def end_session(user: str, token: str, admin: Admin, session: SessionDep) -> SessionsEnded:
    """End one token of an account, at once."""
    return SessionsEnded(ended=await administration.end_sessions(session, admin, user, token))
