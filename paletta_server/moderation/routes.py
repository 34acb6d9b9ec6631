"""Moderation over HTTP."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends

from paletta_server.accounts.permissions import Permission
from paletta_server.accounts.security import Principal, require
from paletta_server.clips import views
from paletta_server.clips.schemas import ClipDetail, ClipSummary, Rejection
from paletta_server.core.database import SessionDep
from paletta_server.core.errors import Conflict, Forbidden, Invalid, NotFound, Unauthorized, problems
from paletta_server.core.pagination import Page, PageDep
from paletta_server.core.runtime import RuntimeDep
from paletta_server.moderation import service, takedowns
from paletta_server.moderation.schemas import Restored, RestoreIn, TakeDownIn, TakenDown

router = APIRouter(
    prefix="/v1/admin/clips",
    tags=["moderation"],
    responses=problems(Unauthorized, Forbidden, NotFound, Conflict, Invalid),
)
Moderator = Annotated[Principal, Depends(require(Permission.MODERATE))]


@router.get("")
async def list_clips(
    user: Moderator,
    session: SessionDep,
    runtime: RuntimeDep,
    page: PageDep,
    review: Literal["submitted", "approved", "rejected", "taken_down"] = "submitted",
) -> Page[ClipSummary]:
    """Clips by where they stand in review."""
    items, cursor = await views.list_submitted(session, runtime.store, page, review)
    return Page(items=items, next_cursor=cursor)


@router.post("/{clip}/approve")
async def approve(user: Moderator, session: SessionDep, runtime: RuntimeDep, clip: str) -> ClipDetail:
    """Let a clip into the shop."""
    approved = await service.approve(session, user, clip)
    return await views.detail(session, runtime.store, user, approved)


@router.post("/{clip}/reject")
async def reject(
    user: Moderator, session: SessionDep, runtime: RuntimeDep, clip: str, rejection: Rejection
) -> ClipDetail:
    """Refuse a clip, with the reason that its contributor is told."""
    rejected = await service.reject(session, user, clip, reason=rejection.reason)
    return await views.detail(session, runtime.store, user, rejected)


@router.post("/take-down")
async def take_down(
    user: Moderator, session: SessionDep, runtime: RuntimeDep, wanted: TakeDownIn
) -> TakenDown:
    """Take clips out of the shop, for a reason that their contributors are told in one mail each.

    Each succeeds or fails by itself; the problem of a single clip is the answer.
    """
    return await takedowns.take_down(session, runtime.settings, user, wanted)


@router.post("/restore")
async def restore(user: Moderator, session: SessionDep, runtime: RuntimeDep, wanted: RestoreIn) -> Restored:
    """Lift take-downs: each clip is again where it was, and its buyers can fetch it."""
    return await takedowns.restore(session, runtime.settings, user, wanted.clips)
