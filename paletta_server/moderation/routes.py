"""Deciding on clips over HTTP. The queue, reports and standing are in `desk_routes.py`."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query

from paletta_server.accounts.permissions import Permission
from paletta_server.accounts.security import Principal, require
from paletta_server.clips import views
from paletta_server.clips.schemas import ClipDetail, Rejection
from paletta_server.core.database import SessionDep
from paletta_server.core.errors import Conflict, Forbidden, Invalid, NotFound, Unauthorized, problems
from paletta_server.core.pagination import Page, PageDep
from paletta_server.core.runtime import RuntimeDep
from paletta_server.moderation import queue, service, takedowns
from paletta_server.moderation.schemas import (
    Decided,
    DecisionIn,
    QueuedClip,
    Restored,
    RestoreIn,
    TakeDownIn,
    TakenDown,
)

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
    review: Literal["submitted", "approved", "rejected", "changes_requested", "taken_down"] = "submitted",
    batch: Annotated[str | None, Query(max_length=100)] = None,
    contributor: Annotated[str | None, Query(max_length=320)] = None,
) -> Page[QueuedClip]:
    """Clips by where they stand in review, of everybody, or of one batch or contributor (an address or an id)."""
    which = await queue.among(session, batch=batch, contributor=contributor)
    items, cursor = await queue.listed(session, runtime.store, page, review, which)
    return Page(items=items, next_cursor=cursor)


@router.post("/decide")
async def decide(user: Moderator, session: SessionDep, wanted: DecisionIn) -> Decided:
    """Approve, reject or ask for changes: one decision on several clips that wait for review.

    Each succeeds or fails by itself; the problem of a single clip is the answer. Contributors are told in one mail
    for each batch.
    """
    return await service.decide(session, user, wanted)


@router.post("/{clip}/approve")
async def approve(user: Moderator, session: SessionDep, runtime: RuntimeDep, clip: str) -> ClipDetail:
    """Let a clip into the shop."""
    approved = await service.decide_one(session, user, clip, "approved")
    return await views.detail(session, runtime.store, user, approved)


@router.post("/{clip}/reject")
async def reject(
    user: Moderator, session: SessionDep, runtime: RuntimeDep, clip: str, rejection: Rejection
) -> ClipDetail:
    """Refuse a clip, with the reason that its contributor is told."""
    rejected = await service.decide_one(session, user, clip, "rejected", reason=rejection.reason)
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
