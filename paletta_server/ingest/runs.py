"""Attempts at making a clip, and the fence between them: every write of an attempt names the status it expects."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core.ids import new_uid
from paletta_server.ingest.mediaconvert import rows
from paletta_server.ingest.models import IngestRun, TranscodeJob

ACTIVE = rows.ACTIVE


class Superseded(Exception):
    """This attempt no longer counts: another took over, or the clip was deleted."""


@dataclass(frozen=True)
class Attempt:
    """A run as its worker holds it."""

    id: int
    uid: str
    prefix: str


async def begin(
    session: AsyncSession, *, upload_id: int, clip_id: int, clip_uid: str, worker: str
) -> tuple[Attempt, list[str]]:
    """Start the next attempt. One that is still open lost its worker (or is a zombie's) and is superseded.

    Returns the attempt, and the prefixes whose objects nobody will name any more.
    """
    lost = await supersede(session, [upload_id])
    last = await session.scalar(select(func.max(IngestRun.attempt)).where(IngestRun.upload_id == upload_id))
    uid = new_uid("run")
    run = IngestRun(
        uid=uid,
        upload_id=upload_id,
        clip_id=clip_id,
        attempt=(last or 0) + 1,
        status="verifying",
        worker=worker,
        prefix=f"media/{clip_uid}/{uid}/",
    )
    session.add(run)
    await session.flush()
    return Attempt(run.id, uid, run.prefix), lost


async def advance(session: AsyncSession, attempt: Attempt, status: str, **values: object) -> None:
    """Move a run on. Raises `Superseded` when it is not this worker's any more."""
    moved = await session.scalar(
        update(IngestRun)
        .where(IngestRun.id == attempt.id, IngestRun.status.in_(ACTIVE))
        .values(status=status, **values)
        .returning(IngestRun.id)
    )
    if moved is None:
        raise Superseded(attempt.uid)


async def still_ours(session: AsyncSession, attempt: Attempt) -> bool:
    status = await session.scalar(select(IngestRun.status).where(IngestRun.id == attempt.id))
    return status in ACTIVE


async def supersede(session: AsyncSession, upload_ids: Sequence[int]) -> list[str]:
    """End the open runs of these uploads; their workers find out at their next write, and what MediaConvert has of
    them is cancelled. Returns their prefixes."""
    ended = await session.execute(
        update(IngestRun)
        .where(IngestRun.upload_id.in_(upload_ids), IngestRun.status.in_(ACTIVE))
        .values(status="superseded", finished_at=func.now())
        .returning(IngestRun.id, IngestRun.prefix)
    )
    prefixes = dict(ended.all())
    await rows.abandon(session, list(prefixes))
    return list(prefixes.values())


async def withdraw(session: AsyncSession, attempt: Attempt) -> bool:
    """Take back an attempt that was stopped in good order; False when it had ended, was overtaken or handed over."""
    handed_over = exists().where(TranscodeJob.run_id == IngestRun.id)
    gone = await session.scalar(
        delete(IngestRun)
        .where(IngestRun.id == attempt.id, IngestRun.status.in_(ACTIVE), ~handed_over)
        .returning(IngestRun.id)
    )
    return gone is not None


async def attempts(session: AsyncSession, upload_id: int) -> int:
    """How many attempts there were since the last forgiveness."""
    counted = select(func.count()).where(IngestRun.upload_id == upload_id, ~IngestRun.forgiven)
    return await session.scalar(counted) or 0


async def forgive(session: AsyncSession, upload_id: int) -> None:
    """Begin counting anew, because somebody asked for another try. What there was stays to be read."""
    await session.execute(
        update(IngestRun).where(IngestRun.upload_id == upload_id, ~IngestRun.forgiven).values(forgiven=True)
    )


async def listed(session: AsyncSession, upload_id: int) -> list[IngestRun]:
    """Every attempt at an upload, the first one first, also those that count no longer."""
    return list(
        await session.scalars(
            select(IngestRun).where(IngestRun.upload_id == upload_id).order_by(IngestRun.attempt)
        )
    )


async def counts(session: AsyncSession, upload_ids: Collection[int]) -> dict[int, int]:
    """How many attempts there were at each of these uploads; what had none is left out."""
    rows = await session.execute(
        select(IngestRun.upload_id, func.count())
        .where(IngestRun.upload_id.in_(upload_ids))
        .group_by(IngestRun.upload_id)
    )
    return dict(rows.all())


async def living_prefixes(session: AsyncSession) -> list[str]:
    """Where attempts that are under way store their outputs."""
    return list(await session.scalars(select(IngestRun.prefix).where(IngestRun.status.in_(ACTIVE))))
