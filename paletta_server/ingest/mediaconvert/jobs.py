"""The state of attempts at MediaConvert: handing one over, and what word of it means.

Word comes twice, late, in any order, from several handlers and from the reconciler at once: `hear` takes the upload's
lock, then the row's, and never leaves a state that is over.
"""

import logging
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core.jobs import defer
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.ingest import ending, runs
from paletta_server.ingest.ending import Refused
from paletta_server.ingest.errors import EngineFailed, Finding
from paletta_server.ingest.mediaconvert import faults, rows
from paletta_server.ingest.mediaconvert.events import KNOWN, News
from paletta_server.ingest.mediaconvert.orders import Order
from paletta_server.ingest.mediaconvert.request import submission_folder
from paletta_server.ingest.models import IngestRun, TranscodeJob
from paletta_server.ingest.runs import Attempt
from paletta_server.uploads import ingestion as uploads

log = logging.getLogger(__name__)

DISCARD_AFTER_SECONDS = 60
"""A job that is over writes nothing any more; this is for the store's own listing."""
_STATUSES = {"COMPLETE": "complete", "ERROR": "error", "CANCELED": "canceled", "SUBMITTED": "submitted"}


@dataclass
class Held:
    """A row and its attempt, both locked; `source` is None when the attempt is over."""

    row: TranscodeJob
    attempt: Attempt
    source: uploads.Source | None


async def hand_over(runtime: Runtime, source: uploads.Source, attempt: Attempt, order: Order) -> None:
    """From here on the row carries the attempt. Raises `Superseded`. Twice does no harm."""

    async def write(session: AsyncSession) -> None:
        await uploads.lock(session, source.upload_id)
        await runs.advance(session, attempt, "transcoding")
        number = select(IngestRun.attempt).where(IngestRun.id == attempt.id).scalar_subquery()
        await session.execute(
            insert(TranscodeJob)
            .values(
                run_id=attempt.id,
                clip_id=source.clip_id,
                plan_digest=order.digest(source.key),
                attempt=number,
                order=order.to_dict(),
            )
            .on_conflict_do_nothing(index_elements=["run_id"])
        )
        await uploads.report(session, source.upload_id, "transcoding")
        await defer(session, "mediaconvert.submit")

    await ending.insist(runtime, attempt, write)


async def hold(session: AsyncSession, row_id: int) -> Held | None:
    """Lock a row, after the upload that it is about; None when there is no such row."""
    run = await session.scalar(
        select(IngestRun)
        .join(TranscodeJob, TranscodeJob.run_id == IngestRun.id)
        .where(TranscodeJob.id == row_id)
    )
    if run is None:
        return None
    source = await uploads.lock_source(session, run.upload_id)
    row = await session.scalar(
        select(TranscodeJob)
        .where(TranscodeJob.id == row_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if row is None:
        return None
    await session.refresh(run)
    return Held(row, Attempt(run.id, run.uid, run.prefix), source if run.status in rows.ACTIVE else None)


async def row_of(session: AsyncSession, news: News) -> int | None:
    """The row that word is about: by the run that the job carries, or by the job itself."""
    if news.run is not None:
        found = await session.scalar(
            select(TranscodeJob.id)
            .join(IngestRun, TranscodeJob.run_id == IngestRun.id)
            .where(IngestRun.uid == news.run)
        )
        if found is not None:
            return found
    return await session.scalar(select(TranscodeJob.id).where(TranscodeJob.job_id == news.job_id))


async def hear(session: AsyncSession, settings: Settings, news: News, *, asked: bool = False) -> str:
    """Take in word of a job, `asked` for or not; what came of it, in a word for the inbox."""
    if news.status not in KNOWN:
        log.warning("unknown status of a job", extra={"job": news.job_id, "status": news.status})
        return "unknown status"
    if (account := account_of(settings)) is not None and news.account not in (None, account):
        log.warning("an event of another account", extra={"job": news.job_id, "account": news.account})
        return "another account's"
    row_id = await row_of(session, news)
    held = None if row_id is None else await hold(session, row_id)
    if held is None:
        return "not ours"
    row = held.row
    if row.job_id is None and 0 < news.submission <= row.submissions and row.status not in rows.OVER:
        # Its creation was not heard, or its first event overtook the answer.
        row.job_id, row.submission = news.job_id, news.submission
        if row.status in ("waiting", "submitting"):
            row.status = "submitted"
    if row.job_id != news.job_id:
        return await _stray(session, held, news)
    if row.status in rows.OVER:
        return "late"
    row.heard_at = func.now()
    row.checks = row.checks + 1 if asked else 0
    match news.status:
        case "COMPLETE" | "ERROR" | "CANCELED":
            await _over(session, settings, held, news)
        case _:
            await _moving(session, held, news)
    await session.flush()
    return "handled"


def account_of(settings: Settings) -> str | None:
    """The account whose jobs are ours: that of the role which they run with. None where it is not set (any more)."""
    parts = (settings.mediaconvert_role or "").split(":")
    return parts[4] if len(parts) > 5 else None


async def _moving(session: AsyncSession, held: Held, news: News) -> None:
    row = held.row
    if news.status != "SUBMITTED":
        row.status = "progressing"
    if news.share is not None and news.share > row.progress:
        row.progress = news.share
        if held.source is not None:
            await uploads.report(session, held.source.upload_id, "transcoding", share=news.share, event=False)


async def _over(session: AsyncSession, settings: Settings, held: Held, news: News) -> None:
    row, source = held.row, held.source
    row.status = _STATUSES[news.status]
    row.error_code, row.error_message = news.error_code, news.error_message
    await session.flush()
    await rows.wake_waiting(session)
    if source is None:
        # Superseded while it ran: only now is all that it stored there to be found.
        await defer(
            session, "ingest.discard", delay_seconds=DISCARD_AFTER_SECONDS, prefix=held.attempt.prefix
        )
    elif news.status == "COMPLETE":
        await defer(session, "ingest.finish", row_id=row.id)
    elif news.status == "ERROR":
        await fail(session, settings, held, faults.judge(news.error_code, news.error_message))
    else:
        await fail(session, settings, held, EngineFailed("the transcoder's job was cancelled by somebody"))


async def fail(session: AsyncSession, settings: Settings, held: Held, fault: Finding | EngineFailed) -> None:
    """End a held attempt that is under way: the file's fault refuses it, ours lets it be tried again."""
    assert held.source is not None
    if isinstance(fault, Finding):
        await ending.refuse_in(session, held.source, held.attempt, Refused((fault,)))
        await ending.discard(session, held.attempt.prefix)
    else:
        await ending.try_again_in(session, settings, held.source, held.attempt, fault)


async def _stray(session: AsyncSession, held: Held, news: News) -> str:
    """A second job for one attempt, made when the first one's creation seemed lost: it is stopped, and what it
    stored goes, if it wrote under a prefix of its own. A twin of the same submission wrote what ours did, where ours
    did."""
    log.warning("a stray job", extra={"job": news.job_id, "run": held.attempt.uid, "status": news.status})
    if news.status not in ("COMPLETE", "ERROR", "CANCELED"):
        await defer(session, "mediaconvert.cancel", job_id=news.job_id)
    elif news.submission != held.row.submission:
        prefix = held.attempt.prefix + submission_folder(news.submission)
        await defer(session, "ingest.discard", delay_seconds=DISCARD_AFTER_SECONDS, prefix=prefix)
    return "stray"


async def note_check(session: AsyncSession, row_id: int, *, in_vain: bool = False) -> None:
    """We asked about a row now, whatever the answer; the next time is later, where nothing could be made of it."""
    await session.execute(
        update(TranscodeJob)
        .where(TranscodeJob.id == row_id)
        .values(checked_at=func.now(), checks=TranscodeJob.checks + int(in_vain))
        .execution_options(synchronize_session=False)
    )
