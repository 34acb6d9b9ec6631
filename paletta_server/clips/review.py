"""The review axis of a clip: what moderators decide, and take-downs."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Select, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.clips import service
from paletta_server.clips.models import Clip
from paletta_server.core.errors import Conflict, NotFound
from paletta_server.core.ids import resolve
from paletta_server.core.pagination import PageParams, newest_first
from paletta_server.uploads import progress

_OUT = "it is in the shop; `paletta admin clips take-down` takes it out"
_INSTEAD = {
    ("approved", "approved"): "it is in the shop already",
    ("approved", "rejected"): _OUT,
    ("approved", "changes_requested"): _OUT,
    ("rejected", "approved"): "its contributor may upload it again; it then waits for review anew",
    (
        "changes_requested",
        "changes_requested",
    ): "its contributor was asked before, and has changed nothing yet",
    ("taken_down", "approved"): "`paletta admin clips restore` brings it back",
}
"""(what was decided, what is wanted now) → what to do about it."""
_UNDECIDED = {
    "approved": ("submitted", "changes_requested"),
    "rejected": ("submitted", "changes_requested"),
    "changes_requested": ("submitted",),
}
"""What is wanted → where a clip may stand for it. Who asked for changes may think again before they come."""
JUDGED = ("approved", "changes_requested")
"""What is judged again once its owner has changed it."""
_DECIDED = ("submitted", "approved", "rejected", "changes_requested")
"""Where a clip may stand that can be taken down. A rejected one may have been sold before."""


async def find_made(session: AsyncSession, text: str) -> Clip:
    """Anybody's clip that is processed and not deleted: one that can be reviewed. Raises `NotFound`."""
    return await resolve(
        session, Clip, text, Clip.processing == "ready", Clip.deleted_at.is_(None), kind="clip"
    )


@dataclass(frozen=True, slots=True)
class Among:
    """Clips of one contributor, or of those whose keys `keys` selects, or of both; of everybody without either."""

    owner_id: int | None = None
    keys: Select[int] | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        owner = [] if self.owner_id is None else [Clip.owner_id == self.owner_id]
        return owner + ([] if self.keys is None else [Clip.id.in_(self.keys)])


def _waits(which: Among) -> list[ColumnElement[bool]]:
    waits = [Clip.review == "submitted", Clip.processing == "ready", Clip.deleted_at.is_(None)]
    return waits + which.conditions()


async def waiting(
    session: AsyncSession, *, after: int, which: Among, without: Select[int], most: int
) -> list[Clip]:
    """The next clips that wait for review, the oldest first, with keys above `after` and not among `without`."""
    query = select(Clip).where(*_waits(which), Clip.id > after, Clip.id.not_in(without))
    return list(await session.scalars(query.order_by(Clip.id).limit(most)))


async def count_waiting(session: AsyncSession, which: Among) -> int:
    return await session.scalar(select(func.count()).select_from(Clip).where(*_waits(which))) or 0


async def page(
    session: AsyncSession, page: PageParams, where: str, which: Among
) -> tuple[list[Clip], str | None]:
    """Everybody's clips by where they stand in review, newest first.

    Those that were taken down also after their owner deleted them: what was sold of them may be withheld still.
    """
    query = select(Clip).where(Clip.review == where, Clip.processing == "ready", *which.conditions())
    if where != "taken_down":
        query = query.where(Clip.deleted_at.is_(None))
    rows, cursor = await newest_first(session, query, Clip.id, page)
    return [clip for (clip,) in rows], cursor


def decide(clip: Clip, verdict: str, *, reason: str | None, at: datetime, version: int | None = None) -> None:
    """Move a clip, which the caller holds, to `approved`, `rejected` or `changes_requested`; `at` is the present.

    Raises `NotFound` when its owner deleted it while we waited, `Conflict` (`not_in_review`) when somebody decided
    before, or (`changed_meanwhile`) when it is not at the `version` that the moderator saw.
    """
    if clip.deleted_at is not None or clip.processing != "ready":
        raise NotFound("clip", clip.uid)
    if clip.review not in _UNDECIDED[verdict]:
        raise Conflict(
            f"this clip is {clip.review.replace('_', ' ')}, not waiting for review",
            code="not_in_review",
            hint=_INSTEAD.get((clip.review, verdict)),
        )
    if version is not None and clip.version != version:
        raise Conflict(
            f"this clip is at version {clip.version}: its contributor has changed it meanwhile",
            code="changed_meanwhile",
            hint="look at it again",
        )
    clip.review, clip.reason = verdict, reason
    if verdict == "approved" and clip.listed_at is None:
        clip.listed_at = at
    clip.version += 1


async def submit_again(session: AsyncSession, clip: Clip) -> None:
    """A clip, which the caller holds, waits for review again if it was approved or changes were asked for; any other
    stays where it is.

    One that was taken down stays so, and waits for review when it is restored.
    """
    moved = await session.scalar(
        update(Clip)
        .where(Clip.id == clip.id, Clip.review.in_(JUDGED))
        .values(review="submitted", reason=None)
        .returning(Clip.id)
    )
    if moved is not None:
        await progress.report_clips(session, [clip.id], "in_review")
        await session.refresh(clip)
        return
    await session.execute(
        update(Clip)
        .where(Clip.id == clip.id, Clip.review == "taken_down", Clip.review_before.in_(JUDGED))
        .values(review_before="submitted", reason=None)
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
        where = "waiting for review" if clip.review == "submitted" else clip.review.replace("_", " ")
        raise Conflict(
            f"this clip is {where}, not taken down",
            code="not_taken_down",
        )
    # One that was taken down by hand in the database says nothing of before: then a moderator looks at it.
    clip.review, clip.review_before = clip.review_before or "submitted", None
    clip.taken_down_for, clip.sold_withheld = None, False
    clip.version += 1
