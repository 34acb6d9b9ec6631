"""Clips over HTTP, for their owners. What everybody sees of them is in `search/routes.py`."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Header, Query, Response

from paletta_server.accounts.permissions import Permission
from paletta_server.accounts.security import Principal, require
from paletta_server.clips import editing, views
from paletta_server.clips.schemas import (
    ApplyRequest,
    ApplyResponse,
    ClipDetail,
    ClipSummary,
    PosterChoice,
    Posters,
)
from paletta_server.core.database import SessionDep
from paletta_server.core.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    PreconditionFailed,
    Unauthorized,
    problems,
)
from paletta_server.core.pagination import Page, PageDep
from paletta_server.core.runtime import RuntimeDep

router = APIRouter(
    prefix="/v1",
    tags=["clips"],
    responses=problems(Unauthorized, Forbidden, NotFound, Conflict, PreconditionFailed, Invalid),
)
Owner = Annotated[Principal, Depends(require(Permission.MANAGE_OWN_CLIPS))]
Stage = Literal["live", "in_review", "changes_requested", "rejected", "failed", "taken_down", "processing"]


@router.get("/me/clips")
async def list_own(
    user: Owner,
    session: SessionDep,
    runtime: RuntimeDep,
    page: PageDep,
    stage: Stage | None = None,
    q: Annotated[str | None, Query(max_length=200)] = None,
    batch: Annotated[str | None, Query(max_length=200)] = None,
) -> Page[ClipSummary]:
    """The caller's clips, newest first."""
    items, cursor = await views.list_own(session, runtime.store, user, page, stage=stage, text=q, batch=batch)
    return Page(items=items, next_cursor=cursor)


@router.get("/me/clips/{clip}")
async def show_own(
    user: Owner, session: SessionDep, runtime: RuntimeDep, clip: str, response: Response
) -> ClipDetail:
    """One of the caller's clips; nobody else's, listed or not."""
    found = await views.find_own(session, user, clip)
    response.headers["ETag"] = f'"{found.version}"'
    return await views.detail(session, runtime.store, user, found)


@router.patch("/clips/{clip}")
async def edit(
    user: Owner,
    session: SessionDep,
    runtime: RuntimeDep,
    clip: str,
    changes: Annotated[dict[str, Any], Body()],
    if_match: Annotated[str | None, Header()] = None,
) -> ClipDetail:
    """Change some fields; `If-Match` with the ETag that was read guards against a rival's change.

    Where clips are reviewed by hand, an approved one whose words, categories or releases change is `in_review` again;
    so is, everywhere and whatever changes, one for which changes were asked.
    """
    expected = _version(if_match)
    edited = await editing.edit(session, runtime.settings, user, clip, changes, expected=expected)
    return await views.detail(session, runtime.store, user, edited)


def _version(etag: str | None) -> int | None:
    if etag is None or etag == "*":
        return None
    text = etag.strip('"')
    if not (text.isascii() and text.isdigit()):
        raise PreconditionFailed("the ETag is not one of ours")
    return int(text)


@router.delete("/clips/{clip}", status_code=204)
async def delete(user: Owner, session: SessionDep, clip: str) -> None:
    """Take a clip out of the shop; running work on it is stopped."""
    await editing.delete(session, user, clip)


@router.get("/clips/{clip}/posters")
async def list_posters(user: Owner, session: SessionDep, runtime: RuntimeDep, clip: str) -> Posters:
    """The poster candidates of one of the caller's clips."""
    found = await views.find_own(session, user, clip)
    return Posters(items=await views.posters(session, runtime.store, found))


@router.put("/clips/{clip}/poster")
async def choose_poster(
    user: Owner, session: SessionDep, runtime: RuntimeDep, clip: str, choice: PosterChoice
) -> Posters:
    """Make another candidate the poster."""
    found = await editing.choose_poster(session, user, clip, choice.number)
    await session.flush()
    return Posters(items=await views.posters(session, runtime.store, found))


@router.post("/clips/apply")
async def apply(user: Owner, session: SessionDep, runtime: RuntimeDep, wanted: ApplyRequest) -> ApplyResponse:
    """Bring clips to what a changed manifest says; all or nothing."""
    return await editing.apply(session, runtime.settings, user, wanted.items, dry_run=wanted.dry_run)
