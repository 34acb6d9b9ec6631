"""A contributor's standing: what became of their clips in review, in all and in the last 90 days."""

from collections import defaultdict
from collections.abc import Collection
from datetime import timedelta

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.clips import service as clips
from paletta_server.moderation.models import ClipReport, ReviewDecision
from paletta_server.moderation.schemas import Standing, Tally

RECENT = timedelta(days=90)


async def of(session: AsyncSession, owner_ids: Collection[int]) -> dict[int, Standing]:
    """The standing of these people; of one without clips everything is 0.

    A clip counts once under each verdict, however often it was given; a take-down only as long as it is in force.
    """
    since = func.now() - RECENT
    clip = ReviewDecision.clip_id
    decisions = await session.execute(
        select(
            ReviewDecision.owner_id,
            ReviewDecision.verdict,
            func.count(clip.distinct()),
            func.count(clip.distinct()).filter(ReviewDecision.created_at > since),
        )
        .where(
            ReviewDecision.owner_id.in_(owner_ids),
            or_(ReviewDecision.verdict != "taken_down", clip.in_(clips.keys_taken_down())),
        )
        .group_by(ReviewDecision.owner_id, ReviewDecision.verdict)
    )
    upheld = await session.execute(
        select(ClipReport.owner_id, func.count(), func.count().filter(ClipReport.handled_at > since))
        .where(ClipReport.owner_id.in_(owner_ids), ClipReport.status == "resolved")
        .group_by(ClipReport.owner_id)
    )
    counts: dict[int, dict[str, tuple[int, int]]] = defaultdict(dict)
    for owner, verdict, ever, recently in decisions:
        counts[owner][verdict] = (ever, recently)
    for owner, ever, recently in upheld:
        counts[owner]["upheld"] = (ever, recently)
    present = await clips.count_by_review(session, owner_ids)
    return {
        owner: Standing(
            live=present[owner].get("approved", 0),
            waiting=present[owner].get("submitted", 0),
            all_time=_tally(counts[owner], 0),
            last_90_days=_tally(counts[owner], 1),
        )
        for owner in owner_ids
    }


def _tally(counts: dict[str, tuple[int, int]], which: int) -> Tally:
    def count(what: str) -> int:
        return counts.get(what, (0, 0))[which]

    approved, rejected, taken_down = count("approved"), count("rejected"), count("taken_down")
    decided = approved + rejected
    return Tally(
        approved=approved,
        rejected=rejected,
        changes_requested=count("changes_requested"),
        taken_down=taken_down,
        reports_upheld=count("upheld"),
        approval_rate=round(approved / decided, 4) if decided else None,
        take_down_rate=round(taken_down / approved, 4) if approved else None,
    )
