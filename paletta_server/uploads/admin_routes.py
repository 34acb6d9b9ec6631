"""Everybody's uploads over HTTP."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from paletta_server.accounts.permissions import Permission
from paletta_server.accounts.security import Principal, require
from paletta_server.core.database import SessionDep
from paletta_server.core.errors import Conflict, Forbidden, Invalid, NotFound, Unauthorized, problems
from paletta_server.core.pagination import Page, PageDep
from paletta_server.core.runtime import RuntimeDep
from paletta_server.uploads import oversight
from paletta_server.uploads.admin_schemas import AdminUpload, AdminUploadDetail, State

router = APIRouter(
    prefix="/v1/admin/uploads",
    tags=["admin"],
    responses=problems(Unauthorized, Forbidden, NotFound, Conflict, Invalid),
)
Operator = Annotated[Principal, Depends(require(Permission.SEE_ALL_UPLOADS))]


@router.get("")
async def list_uploads(
    user: Operator,
    session: SessionDep,
    page: PageDep,
    contributor: Annotated[str | None, Query(max_length=320, description="address or id")] = None,
    state: State | None = None,
    since: Annotated[datetime | None, Query(description="registered then or later")] = None,
    batch: Annotated[str | None, Query(max_length=100)] = None,
    failed: Annotated[bool, Query(description="only what failed, was rejected or expired")] = False,
) -> Page[AdminUpload]:
    """Everybody's uploads, newest first."""
    if since is not None and since.tzinfo is None:
        raise Invalid("`since` has no time zone", hint="write it as 2026-05-01T00:00:00Z")
    wanted = oversight.Wanted(contributor, state, since, batch, failed)
    items, cursor = await oversight.listed(session, wanted, page)
    return Page(items=items, next_cursor=cursor)


@router.get("/{upload}")
async def show_upload(user: Operator, runtime: RuntimeDep, upload: str) -> AdminUploadDetail:
    """One upload: state, parts, history, and each attempt at ingesting it."""
    return await oversight.detail(runtime, upload)


@router.post("/{upload}/retry")
async def retry_upload(user: Operator, runtime: RuntimeDep, upload: str) -> AdminUploadDetail:
    """Another run for an upload whose ingest gave up; nothing is sent again."""
    return await oversight.retry(runtime, user, upload)


@router.post("/{upload}/cancel")
async def cancel_upload(user: Operator, runtime: RuntimeDep, upload: str) -> AdminUploadDetail:
    """Stop an upload wherever it is on its way."""
    return await oversight.cancel(runtime, user, upload)
