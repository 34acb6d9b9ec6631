"""The rows of attempts at MediaConvert, as the rest of ingest needs them."""

from collections.abc import Sequence

from sqlalchemy import exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core.jobs import defer, defer_all
from paletta_server.ingest.models import IngestRun, TranscodeJob

ACTIVE = ("queued", "verifying", "probing", "transcoding", "publishing")
"""The states of an attempt that is under way."""
OPEN = ("submitting", "submitted", "progressing")
"""What counts against the limit of jobs at MediaConvert."""
OVER = ("complete", "error", "canceled", "dropped")


async def carries(session: AsyncSession, upload_id: int) -> bool:
    """Whether an attempt at this upload is under way at MediaConvert, or on its way there or back."""
    found = await session.scalar(
        select(
            exists().where(
                TranscodeJob.run_id == IngestRun.id,
                IngestRun.upload_id == upload_id,
                IngestRun.status.in_(ACTIVE),
            )
        )
    )
    return bool(found)


async def abandon(session: AsyncSession, run_ids: Sequence[int]) -> None:
    """These attempts are over: what was not submitted is not going to be, what was is cancelled by a job."""
    if not run_ids:
        return
    await session.execute(
        update(TranscodeJob)
        .where(TranscodeJob.run_id.in_(run_ids), TranscodeJob.status == "waiting")
        .values(status="dropped")
        .execution_options(synchronize_session=False)
    )
    under_way = await session.scalars(
        select(TranscodeJob.id).where(TranscodeJob.run_id.in_(run_ids), TranscodeJob.status.in_(OPEN))
    )
    await defer_all(session, "mediaconvert.cancel", [{"row_id": row_id} for row_id in under_way])


async def open_jobs(session: AsyncSession) -> int:
    """How many jobs are, or may be, at MediaConvert."""
    return await session.scalar(select(func.count()).where(TranscodeJob.status.in_(OPEN))) or 0


async def waiting(session: AsyncSession) -> int:
    """How many attempts wait for a place there."""
    return await session.scalar(select(func.count()).where(TranscodeJob.status == "waiting")) or 0


async def wake_waiting(session: AsyncSession) -> None:
    """A place has come free: whoever waits for one is submitted."""
    if await session.scalar(select(exists().where(TranscodeJob.status == "waiting"))):
        await defer(session, "mediaconvert.submit")


async def any_left(session: AsyncSession) -> bool:
    """Whether there is anything to look after: jobs under way, or come back and not finished."""
    finishing = exists().where(
        TranscodeJob.status == "complete", IngestRun.id == TranscodeJob.run_id, IngestRun.status.in_(ACTIVE)
    )
    under_way = exists().where(TranscodeJob.status.in_((*OPEN, "waiting")))
    return bool(await session.scalar(select(under_way | finishing)))
