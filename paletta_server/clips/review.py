"""The review axis of a clip."""

from sqlalchemy import func, update
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.clips.models import Clip
from paletta_server.core.errors import Conflict
from paletta_server.core.ids import resolve
from paletta_server.uploads import progress

_INSTEAD = {
    ("approved", "approved"): "it is in the shop already",
    ("approved", "rejected"): "it is in the shop; its contributor takes it out with `paletta clips delete`",
    ("rejected", "approved"): "its contributor may upload it again; it then waits for review anew",
}
"""(what was decided, what is wanted now) → what to do about it."""


async def decide(session: AsyncSession, text: str, verdict: str, *, reason: str | None) -> Clip:
    """Move a submitted clip to `approved` or `rejected`: of two moderators who decide at once, one wins.

    Raises `NotFound`, or `Conflict` (`not_in_review`) when somebody decided before.
    """
    clip = await resolve(
        session, Clip, text, Clip.processing == "ready", Clip.deleted_at.is_(None), kind="clip"
    )
    moved = await session.scalar(
        update(Clip)
        .where(Clip.id == clip.id, Clip.review == "submitted")
        .values(
            review=verdict,
            reason=reason,
            listed_at=func.coalesce(Clip.listed_at, func.now()) if verdict == "approved" else Clip.listed_at,
            version=Clip.version + 1,
        )
        .returning(Clip.id)
    )
    if moved is None:
        await session.refresh(clip)
        raise Conflict(
            f"this clip is {clip.review.replace('_', ' ')}, not waiting for review",
            code="not_in_review",
            hint=_INSTEAD.get((clip.review, verdict)),
        )
    await session.refresh(clip)
    return clip


async def submit_again(session: AsyncSession, clip: Clip) -> None:
    """An approved clip, whose row the caller has locked, waits for review again; any other stays where it is."""
    moved = await session.scalar(
        update(Clip)
        .where(Clip.id == clip.id, Clip.review == "approved")
        .values(review="submitted")
        .returning(Clip.id)
    )
    if moved is not None:
        await progress.report_clips(session, [clip.id], "in_review")
        await session.refresh(clip)
