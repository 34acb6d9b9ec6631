"""Asking MediaConvert about jobs that have been silent too long: lost events lose nothing.

Each turn looks at a limited number of rows, and ends at the first "slow down". A row of which nothing can be made keeps
no other from its turn, and has its own less and less often. Nothing is asked for ever: what has not ended after two
days, which is when MediaConvert itself gives up, is an attempt that failed.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Select, and_, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core.jobs import defer, has_job
from paletta_server.core.runtime import Runtime
from paletta_server.ingest.errors import EngineFailed
from paletta_server.ingest.mediaconvert import cancel, events, jobs, rows, submit
from paletta_server.ingest.mediaconvert.api import Api, ApiError, Gone, Throttled
from paletta_server.ingest.models import IngestRun, TranscodeJob

Q = TypeVar("Q", bound=Select[*tuple[Any, ...]])
log = logging.getLogger(__name__)

AT_ONCE = 100
"""Rows that one turn asks about; GetJob may be called a few times a second and account."""
UNHEARD_AFTER = timedelta(minutes=2)
"""The longest that a CreateJob of ours can still be under way: it is tried once, for 35 s, by a worker that may have
stood still before."""
OVER_AFTER = timedelta(hours=48)
WAITED_OUT_AFTER = timedelta(days=14)
_PATIENCE = 3
"""Questions in a row that come to nothing before the rest are left for the next turn."""
_BEFORE = timedelta(minutes=5)
"""Their clock and ours may differ by so much."""

# Events come each half minute. Three minutes of silence, then 6, 12, 24, and 30 from there on.
_PAUSE = "least(interval '3 minutes' * power(2, least(checks, 4)), interval '30 minutes')"
_DUE = text(f"greatest(heard_at, checked_at, submitted_at) + {_PAUSE} < now()")
_NOT_IN_VAIN = text(f"(checked_at IS NULL OR checked_at + {_PAUSE} < now())")


async def turn(runtime: Runtime, api: Api) -> None:
    """One round over everything that is under way."""
    await _bury(runtime)
    await _finish_again(runtime)
    if not await _find_unheard(runtime, api):
        return
    if not await _ask_silent(runtime, api):
        return
    await _cancel_left(runtime, api)
    await submit.submit_waiting(runtime, api)


async def _bury(runtime: Runtime) -> None:
    """Attempts that have been there, or waited to get there, for too long. Those that wait are nobody's fault, and are
    given much longer."""
    open_rows = (*rows.OPEN, "waiting")
    old = or_(
        and_(TranscodeJob.status != "waiting", TranscodeJob.submitted_at < func.now() - OVER_AFTER),
        and_(TranscodeJob.status == "waiting", TranscodeJob.created_at < func.now() - WAITED_OUT_AFTER),
    )
    async with runtime.db.transaction() as session:
        found = list(
            await session.scalars(
                _page(select(TranscodeJob.id).where(TranscodeJob.status.in_(open_rows), old))
            )
        )

    async def bury(session: AsyncSession, row_id: int) -> None:
        held = await jobs.hold(session, row_id)
        if held is None or held.row.status not in open_rows:
            return
        log.error("a job did not end within two days", extra={"run": held.attempt.uid})
        if held.row.job_id is not None:
            await defer(session, "mediaconvert.cancel", job_id=held.row.job_id)
        held.row.status = "dropped" if held.row.job_id is None else "canceled"
        await session.flush()
        await rows.wake_waiting(session)
        if held.source is not None:
            error = EngineFailed("the transcoder did not finish within two days")
            await jobs.fail(session, runtime.settings, held, error)

    for row_id in found:
        await _one(runtime, row_id, bury)


async def _one(runtime: Runtime, row_id: int, step: Callable[[AsyncSession, int], Awaitable[None]]) -> None:
    """Do a step for one row in a transaction of its own. What goes wrong in it is that row's trouble; where it is the
    database's, noting so fails too, and ends the turn."""
    try:
        async with runtime.db.transaction() as session:
            await step(session, row_id)
    except Exception:
        log.exception("a job's news cannot be taken in", extra={"row": row_id})
        async with runtime.db.transaction() as session:
            await jobs.note_check(session, row_id, in_vain=True)


async def _finish_again(runtime: Runtime) -> None:
    """Attempts that came back and whose finishing job is gone: cancelled by hand, or lost in a restored database."""
    async with runtime.db.transaction() as session:
        found = await session.scalars(
            _page(
                select(TranscodeJob.id)
                .join(IngestRun, TranscodeJob.run_id == IngestRun.id)
                .where(TranscodeJob.status == "complete", IngestRun.status.in_(rows.ACTIVE))
            )
        )
        for row_id in list(found):
            if not await has_job(session, "ingest.finish", row_id=row_id):
                log.warning("an attempt had no finishing job", extra={"row": row_id})
                await defer(session, "ingest.finish", row_id=row_id)


async def _find_unheard(runtime: Runtime, api: Api) -> bool:
    """Submissions without an answer: the job that was made is found by what it carries, else it is made again."""
    async with runtime.db.transaction() as session:
        found = await session.execute(
            _page(
                select(TranscodeJob.id, TranscodeJob.submitted_at).where(
                    TranscodeJob.status == "submitting",
                    TranscodeJob.submitted_at < func.now() - UNHEARD_AFTER,
                    _NOT_IN_VAIN,
                )
            )
        )
        unheard = dict(found.all())
    if not unheard:
        return True
    since = min((at for at in unheard.values() if at is not None), default=datetime.now(UTC)) - _BEFORE
    try:
        made = api.created_since(since, runtime.settings.mediaconvert_queue)
        seen = [events.answered(job) async for job in made]
    except ApiError as error:
        # Without the whole list nobody knows that a job was not made.
        log.warning("jobs cannot be listed", extra={"error": str(error)})
        return False

    async def look(session: AsyncSession, row_id: int) -> None:
        held = await jobs.hold(session, row_id)
        if held is None or held.row.status != "submitting":
            return
        matching = [news for news in seen if news.run == held.attempt.uid]
        for news in sorted(matching, key=lambda news: -news.submission):
            await jobs.hear(session, runtime.settings, news, asked=True)
        if matching:
            await submit.cancel_if_over(session, row_id)
        elif held.source is None:
            held.row.status = "dropped"
        else:
            log.warning("a job was not made; once more", extra={"run": held.attempt.uid})
            await submit.resubmit(session, row_id)

    for row_id in unheard:
        await _one(runtime, row_id, look)
    return True


async def _ask_silent(runtime: Runtime, api: Api) -> bool:
    """Jobs of which we have not heard for a while."""
    async with runtime.db.transaction() as session:
        silent = await session.execute(
            _page(
                select(TranscodeJob.id, TranscodeJob.job_id).where(
                    TranscodeJob.status.in_(rows.OPEN), TranscodeJob.job_id.is_not(None), _DUE
                )
            )
        )
        due = silent.all()
    unanswered = 0
    for row_id, job_id in due:
        assert job_id is not None
        try:
            news = events.answered(await api.get(job_id))
            unanswered = 0
        except Gone:
            await _one(runtime, row_id, partial(_gone, runtime))
            continue
        except Throttled as error:
            log.warning("jobs cannot be asked about", extra={"error": str(error)})
            return False
        except ApiError as error:  # of this one; younger ones are asked about all the same
            log.warning("a job cannot be asked about", extra={"job": job_id, "error": str(error)})
            unanswered += 1
            if unanswered == _PATIENCE:
                return False
            async with runtime.db.transaction() as session:
                await jobs.note_check(session, row_id)
            continue
        await _one(runtime, row_id, partial(_heard, runtime, news))
    return True


async def _heard(runtime: Runtime, news: events.News, session: AsyncSession, row_id: int) -> None:
    await jobs.hear(session, runtime.settings, news, asked=True)
    await jobs.note_check(session, row_id)


async def _gone(runtime: Runtime, session: AsyncSession, row_id: int) -> None:
    held = await jobs.hold(session, row_id)
    if held is None or held.row.status not in rows.OPEN:
        return
    held.row.status = "canceled"
    await session.flush()
    await rows.wake_waiting(session)
    if held.source is not None:
        await jobs.fail(session, runtime.settings, held, EngineFailed("the transcoder lost the job"))


async def _cancel_left(runtime: Runtime, api: Api) -> None:
    """Jobs of attempts that are over, which were to be cancelled and run on."""
    async with runtime.db.transaction() as session:
        left = await _left(session)
    for row_id in left:
        try:
            await cancel.of_row(runtime, api, row_id)
        except ApiError as error:
            # The next one may be another's trouble; where all are refused they are few, and asked again in a minute.
            log.warning("a job cannot be cancelled", extra={"row": row_id, "error": str(error)})


async def _left(session: AsyncSession) -> Sequence[int]:
    found = await session.scalars(
        _page(
            select(TranscodeJob.id)
            .join(IngestRun, TranscodeJob.run_id == IngestRun.id)
            .where(TranscodeJob.status.in_(rows.OPEN), IngestRun.status.not_in(rows.ACTIVE))
        )
    )
    return list(found)


def _page(query: Q) -> Q:
    """The oldest first, so that every row has its turn."""
    return query.order_by(TranscodeJob.created_at, TranscodeJob.id).limit(AT_ONCE)
