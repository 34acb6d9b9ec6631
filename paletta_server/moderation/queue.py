"""The queue that moderators work through: who is offered which clip, and all there is to know about it.

A claim keeps others from being offered a clip for some minutes. It decides nothing: of two who decide on one clip the
first wins, and the other is told.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import directory
from paletta_server.accounts.security import Principal
from paletta_server.clips import review, views
from paletta_server.clips.models import Clip
from paletta_server.clips.review import Among
from paletta_server.clips.schemas import ClipSummary
from paletta_server.core.pagination import PageParams
from paletta_server.core.storage import ObjectStore
from paletta_server.likeness import service as likeness
from paletta_server.likeness.service import Alike
from paletta_server.moderation import reports, standing
from paletta_server.moderation.models import ReviewClaim, ReviewDecision
from paletta_server.moderation.schemas import (
    AlikeClip,
    Contributor,
    NextIn,
    NextOut,
    PastDecision,
    QueuedClip,
    ReviewItem,
)
from paletta_server.uploads import progress

CLAIMED_FOR = timedelta(minutes=10)
"""Long enough to look at a clip; whoever takes longer asks again while they look."""
_OFFERED = 10
"""Clips that are tried in one step: as many rivals may claim the same ones at the same moment."""
_HISTORY = 10


async def among(session: AsyncSession, *, batch: str | None, contributor: str | None) -> Among:
    """Which clips are meant, as an operator names them. Raises `NotFound` or `Conflict`."""
    owner_id = (await directory.person(session, contributor)).id if contributor else None
    batch_id = await progress.find_batch(session, batch) if batch else None
    return Among(owner_id, progress.clips_of_batch(batch_id) if batch_id is not None else None)


async def offer(session: AsyncSession, store: ObjectStore, user: Principal, wanted: NextIn) -> NextOut:
    """Claim the next clip that waits, the oldest first, and that nobody else looks at; none when there is none."""
    which = await among(session, batch=wanted.batch, contributor=wanted.contributor)
    after = (await review.find_any(session, wanted.after)).id if wanted.after else 0
    taken = select(ReviewClaim.clip_id).where(
        ReviewClaim.until > func.now(), ReviewClaim.moderator_id != user.user_id
    )
    waiting = await review.count_waiting(session, which)
    while candidates := await review.waiting(session, after=after, which=which, without=taken, most=_OFFERED):
        for clip in candidates:
            if (until := await _claim(session, clip.id, user)) is not None:
                return NextOut(item=await item(session, store, user, clip, until=until), waiting=waiting)
            after = clip.id
    return NextOut(item=None, waiting=waiting)


async def claim(session: AsyncSession, store: ObjectStore, user: Principal, text: str) -> ReviewItem:
    """Claim one clip, or go on with a claim, and read everything about it again.

    One that somebody else looks at is shown all the same, with whose claim it is. Raises `NotFound`.
    """
    clip = await review.find_made(session, text)
    until = await _claim(session, clip.id, user) if clip.review == "submitted" else None
    return await item(session, store, user, clip, until=until)


async def _claim(session: AsyncSession, clip_id: int, user: Principal) -> datetime | None:
    """Until when the clip is the moderator's; None where it is somebody else's."""
    until = func.now() + CLAIMED_FOR
    made = insert(ReviewClaim).values(clip_id=clip_id, moderator_id=user.user_id, until=until)
    return await session.scalar(
        made.on_conflict_do_update(
            index_elements=["clip_id"],
            set_={"moderator_id": user.user_id, "until": until},
            where=(ReviewClaim.moderator_id == user.user_id) | (ReviewClaim.until <= func.now()),
        ).returning(ReviewClaim.until)
    )


async def release(session: AsyncSession, user: Principal, text: str | None = None) -> None:
    """Let go of a clip, or of all that the moderator has claimed. Harmless where there is no claim."""
    gone = delete(ReviewClaim).where(ReviewClaim.moderator_id == user.user_id)
    if text is not None:
        gone = gone.where(ReviewClaim.clip_id == (await review.find_any(session, text)).id)
    await session.execute(gone)


async def item(
    session: AsyncSession, store: ObjectStore, user: Principal, clip: Clip, *, until: datetime | None
) -> ReviewItem:
    """Everything that a moderator looks at before deciding."""
    people = await directory.people(session, [clip.owner_id])
    holder = await _holders(session, [clip.id])
    decisions = await session.scalars(
        select(ReviewDecision)
        .where(ReviewDecision.clip_id == clip.id)
        .order_by(ReviewDecision.id.desc())
        .limit(_HISTORY)
    )
    return ReviewItem(
        clip=await views.detail(session, store, user, clip),
        contributor=Contributor.of(people[clip.owner_id]),
        standing=(await standing.of(session, [clip.owner_id]))[clip.owner_id],
        alike=await _alike(session, clip, (await likeness.noted(session, [clip.id]))[clip.id]),
        reports=await reports.of_clip(session, clip.id),
        history=[
            PastDecision(at=one.created_at, verdict=one.verdict, reason=one.reason) for one in decisions
        ],
        claimed_by=None if until is not None else holder.get(clip.id),
        claimed_until=until,
    )


async def _alike(session: AsyncSession, clip: Clip, found: Sequence[Alike]) -> list[AlikeClip]:
    people = await directory.people(session, {one.clip.owner_id for one in found})
    return [
        AlikeClip(
            id=one.clip.uid,
            title=one.clip.title,
            stage=one.clip.stage,
            contributor=people[one.clip.owner_id].email,
            own=one.clip.owner_id == clip.owner_id,
            frames=one.frames,
            kept=one.kept,
            distance=one.distance,
        )
        for one in found
    ]


async def _holders(session: AsyncSession, clip_ids: Sequence[int]) -> dict[int, str]:
    """Who looks at these clips now: addresses of moderators."""
    rows = (
        await session.execute(
            select(ReviewClaim.clip_id, ReviewClaim.moderator_id).where(
                ReviewClaim.clip_id.in_(clip_ids), ReviewClaim.until > func.now()
            )
        )
    ).all()
    people = await directory.people(session, {moderator for _, moderator in rows})
    return {clip_id: people[moderator].email for clip_id, moderator in rows}


async def listed(
    session: AsyncSession, store: ObjectStore, page: PageParams, where: str, which: Among
) -> tuple[list[QueuedClip], str | None]:
    """A page of clips by where they stand in review, newest first, with what speaks for and against each."""
    clips, cursor = await review.page(session, page, where, which)
    ids = [clip.id for clip in clips]
    owners = {clip.owner_id for clip in clips}
    people = await directory.people(session, owners)
    standings = await standing.of(session, owners)
    alike = await likeness.noted(session, ids)
    holders = await _holders(session, ids)
    open_reports = await reports.count_open(session, ids)
    summaries: list[ClipSummary] = await views.summaries(session, store, clips)
    return [
        QueuedClip(
            **summary.model_dump(),
            version=clip.version,
            contributor=Contributor.of(people[clip.owner_id]),
            standing=standings[clip.owner_id],
            alike=[one.clip.uid for one in alike[clip.id]],
            alike_others=sum(one.clip.owner_id != clip.owner_id for one in alike[clip.id]),
            open_reports=open_reports.get(clip.id, 0),
            claimed_by=holders.get(clip.id),
        )
        for clip, summary in zip(clips, summaries, strict=True)
    ], cursor
