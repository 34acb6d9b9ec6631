"""The review axis of a clip: what moderators decide, and take-downs."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import func, update
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.clips import service
from paletta_server.clips.models import Clip
from paletta_server.core.errors import Conflict, NotFound
from paletta_server.core.ids import resolve
from paletta_server.uploads import progress

_INSTEAD = {
    ("approved", "approved"): "it is in the shop already",
    ("approved", "rejected"): "it is in the shop; `paletta admin clips take-down` takes it out",
    ("rejected", "approved"): "its contributor may upload it again; it then waits for review anew",
    ("taken_down", "approved"): "`paletta admin clips restore` brings it back",
}
"""(what was decided, what is wanted now) → what to do about it."""
_DECIDED = ("submitted", "approved", "rejected")
"""Where a clip may stand that can be taken down. A rejected one may have been sold before."""


async def decide(session: AsyncSession, text: str, verdict: str, *, reason: str | None) -> Clip:
    """Move a submitted clip to `approved` or `rejected`: of two moderators who decide at once, one wins.

    Raises `NotFound`, or `Conflict` (`not_in_review`) when somebody decided before.
    """
    clip = await resolve(
        session, Clip, text, Clip.processing == "ready", Clip.deleted_at.is_(None), kind="clip"
    )
    await progress.hold(session, [clip.id])
    moved = await session.scalar(
        update(Clip)
        .where(
            Clip.id == clip.id,
            Clip.review == "submitted",
            # Again, now that nobody can change it: its owner may have deleted it while we waited.
            Clip.processing == "ready",
            Clip.deleted_at.is_(None),
        )
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
        if clip.deleted_at is not None:
            raise NotFound("clip", clip.uid)
        raise Conflict(
            f"this clip is {clip.review.replace('_', ' ')}, not waiting for review",
            code="not_in_review",
            hint=_INSTEAD.get((clip.review, verdict)),
        )
    await session.refresh(clip)
    return clip


async def submit_again(session: AsyncSession, clip: Clip) -> None:
    """An approved clip, which the caller holds, waits for review again; any other stays where it is.

    One that was taken down stays so, and waits for review when it is restored.
    """
    moved = await session.scalar(
        update(Clip)
        .where(Clip.id == clip.id, Clip.review == "approved")
        .values(review="submitted")
        .returning(Clip.id)
    )
    if moved is not None:
        await progress.report_clips(session, [clip.id], "in_review")
        await session.refresh(clip)
        return
    await session.execute(
        update(Clip)
        .where(Clip.id == clip.id, Clip.review == "taken_down", Clip.review_before == "approved")
        .values(review_before="submitted")
    )


# ---- take-downs


@dataclass(frozen=True, slots=True)
class Terms:
    """How clips are taken down. `withhold_sold`: buyers may not fetch them meanwhile; for a `legal` reason only."""

    reason: str
    legal: bool
    withhold_sold: bool


async def find_any(session: AsyncSession, text: str) -> Clip:
    """Anybody's clip wherever it stands, also a deleted one: what was sold of it outlives it. Raises `NotFound`."""
    return await resolve(session, Clip, text, kind="clip")


async def hold(session: AsyncSession, clip_ids: Collection[int]) -> None:
    """Lock clips against decisions, edits and sales, after their uploads and batches, and read them again."""
    await progress.hold(session, clip_ids)
    await service.lock(session, clip_ids)


def check_take_down(clip: Clip, terms: Terms) -> None:
    """Raises `Conflict`: `never_decided` for a clip that no buyer can have seen, `already_taken_down` where the
    terms add nothing. A legal take-down may change what an earlier one did about sold files."""
    if clip.review == "taken_down":
        if terms.legal and terms.withhold_sold != clip.sold_withheld:
            return
        raise Conflict(
            "this clip was taken down before" + (", with what was sold of it" if clip.sold_withheld else ""),
            code="already_taken_down",
            hint="`--legal --keep-sold` gives buyers their files again, `paletta admin clips restore` lifts all of it"
            if clip.sold_withheld
            else "`--legal` withholds what was sold of it as well",
        )
    if clip.processing != "ready" or clip.review not in _DECIDED:
        raise Conflict(
            "this clip was never in the shop, nor does it wait for review",
            code="never_decided",
            hint="it can be taken down once it is processed",
        )


def take_down(clip: Clip, terms: Terms) -> None:
    """Take a clip, which the caller holds, out of the shop. Raises as `check_take_down`."""
    check_take_down(clip, terms)
    if clip.review != "taken_down":
        clip.review_before, clip.review = clip.review, "taken_down"
    clip.taken_down_for = terms.reason
    clip.sold_withheld = terms.withhold_sold
    clip.version += 1


def restore(clip: Clip) -> None:
    """Undo a take-down of a clip, which the caller holds; a deleted one stays deleted, but its buyers have it again.

    Raises `Conflict` (`not_taken_down`).
    """
    if clip.review != "taken_down":
        raise Conflict(
            f"this clip is {'waiting for review' if clip.review == 'submitted' else clip.review}, not taken down",
            code="not_taken_down",
        )
    # One that was taken down by hand in the database says nothing of before: then a moderator looks at it.
    clip.review, clip.review_before = clip.review_before or "submitted", None
    clip.taken_down_for, clip.sold_withheld = None, False
    clip.version += 1
