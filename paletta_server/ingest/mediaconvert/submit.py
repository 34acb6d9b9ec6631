"""Creating jobs at MediaConvert, as many at once as the operator allows.

A row is `submitting` from before its request until its answer is written. Whoever dies in between, or hears nothing
that makes sense, leaves it so: the reconciler finds the job that was made, or has it made again.
"""

import logging
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core.errors import Unavailable
from paletta_server.core.jobs import defer
from paletta_server.core.logging import mask
from paletta_server.core.mail import send_mail
from paletta_server.core.runtime import Runtime
from paletta_server.core.storage import StoreError
from paletta_server.ingest.errors import EngineFailed
from paletta_server.ingest.mediaconvert import events, jobs, marks, orders, rows
from paletta_server.ingest.mediaconvert.api import Api, ApiError, Gone, NotAllowed, Refused, Throttled
from paletta_server.ingest.mediaconvert.request import job_request
from paletta_server.ingest.models import IngestRun, TranscodeJob
from paletta_server.uploads import ingestion as uploads

log = logging.getLogger(__name__)

LONGEST_PUT_OFF_SECONDS = 900
_COUNTING = 7_415_001
"""The advisory lock under which places are given out, so that two workers do not give the last one twice."""


@dataclass(frozen=True)
class _Claim:
    row_id: int
    run_id: int
    run: str
    attempt: int
    prefix: str
    source_key: str
    order: orders.Order
    submission: int
    put_off: int


async def submit_waiting(runtime: Runtime, api: Api) -> int:
    """Submit who waits, oldest first, while there are places; how many were. Ends at the first "slow down"."""
    done = 0
    while True:
        try:
            claim = await _claim(runtime)
        except _Foreign as foreign:
            await _order_anew(runtime, foreign.row_id)
            continue
        if claim is None or not await _submit(runtime, api, claim):
            return done
        done += 1


class _Foreign(Exception):
    """An order that another version of the service wrote, in words that this one does not know."""

    def __init__(self, row_id: int) -> None:
        self.row_id = row_id


async def _order_anew(runtime: Runtime, row_id: int) -> None:
    """End the attempt of an order that cannot be read, so that the next one is ordered by us."""
    async with runtime.db.transaction() as session:
        held = await jobs.hold(session, row_id)
        if held is None or held.row.status != "waiting":
            return
        held.row.status = "dropped"
        await session.flush()
        if held.source is not None:
            await jobs.fail(session, runtime.settings, held, EngineFailed(orders.FOREIGN))


async def _claim(runtime: Runtime) -> _Claim | None:
    """Take the oldest row that waits, where a place is free."""
    async with runtime.db.transaction() as session:
        await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _COUNTING})
        if await rows.open_jobs(session) >= runtime.settings.mediaconvert_open_max:
            return None
        found = await session.execute(
            select(TranscodeJob, IngestRun)
            .join(IngestRun, TranscodeJob.run_id == IngestRun.id)
            .where(
                TranscodeJob.status == "waiting",
                or_(TranscodeJob.not_before.is_(None), TranscodeJob.not_before <= func.now()),
            )
            .order_by(TranscodeJob.created_at, TranscodeJob.id)
            .limit(1)
            .with_for_update(skip_locked=True, of=TranscodeJob)
        )
        pair = found.first()
        if pair is None:
            return None
        row, run = pair
        try:
            order = orders.from_dict(row.order)
        except (KeyError, TypeError):
            raise _Foreign(row.id) from None
        row.status = "submitting"
        row.submissions += 1
        row.submitted_at = func.now()
        await session.flush()
        key = await uploads.key_of(session, run.upload_id)
        return _Claim(
            row.id,
            run.id,
            run.uid,
            run.attempt,
            run.prefix,
            key,
            order,
            row.submissions,
            row.put_off,
        )


async def _submit(runtime: Runtime, api: Api, claim: _Claim) -> bool:
    """Create the job of a claim; False when the next one had better wait too."""
    settings = runtime.settings
    try:
        mark_key = await marks.ensure(runtime.store, settings.scratch_dir, claim.order.plan.comp, claim.run)
    except (Unavailable, StoreError, OSError) as error:
        await _put_off(runtime, claim, f"the mark cannot be stored: {error}")
        return False
    request = job_request(
        claim.order,
        bucket=settings.s3_bucket,
        source_key=claim.source_key,
        prefix=claim.prefix,
        mark_key=mark_key,
        run=claim.run,
        attempt=claim.attempt,
        submission=claim.submission,
        role=settings.mediaconvert_role or "",
        queue=settings.mediaconvert_queue,
    )
    try:
        job = await api.create(request)
    except Throttled as error:
        await _put_off(runtime, claim, str(error))
        return False
    except NotAllowed as error:
        # Every film would meet the same: they wait until it is mended, or the reconciler buries them.
        log.error("MediaConvert does not let us in", extra={"run": claim.run, "error": str(error)})
        await _put_off(runtime, claim, str(error))
        await _tell_operators(runtime, str(error))
        return False
    except (Refused, Gone) as error:
        await _refused(runtime, claim, error)
        return True
    except ApiError as error:
        log.warning("creating a job was not heard", extra={"run": claim.run, "error": str(error)})
        return False
    async with runtime.db.transaction() as session:
        await jobs.hear(session, settings, events.answered(job))
        # It may have ended while we asked, before there was a job to cancel.
        await cancel_if_over(session, claim.row_id)
    log.info("job created", extra={"run": claim.run, "job": job["Id"], "submission": claim.submission})
    return True


async def cancel_if_over(session: AsyncSession, row_id: int) -> bool:
    """Have the job of an attempt that is over cancelled; whether it is."""
    held = await jobs.hold(session, row_id)
    if held is None or held.source is not None or held.row.status not in rows.OPEN:
        return False
    await defer(session, "mediaconvert.cancel", row_id=row_id)
    return True


async def _put_off(runtime: Runtime, claim: _Claim, why: str) -> None:
    """Back among those that wait, each time for longer. The next submission writes elsewhere: had this one been made
    all the same, it is a stray."""
    seconds = min(15 * 2 ** min(claim.put_off, 10), LONGEST_PUT_OFF_SECONDS)
    log.warning("submission put off", extra={"run": claim.run, "seconds": seconds, "error": why})
    async with runtime.db.transaction() as session:
        held = await jobs.hold(session, claim.row_id)
        if held is None or held.row.status != "submitting":
            return
        held.row.status = "waiting" if held.source is not None else "dropped"
        held.row.put_off += 1
        held.row.not_before = func.now() + timedelta(seconds=seconds)
        if held.source is not None:
            await defer(session, "mediaconvert.submit", delay_seconds=seconds + 1)


async def _tell_operators(runtime: Runtime, why: str) -> None:
    """Once a day for as long as it lasts: nobody else can mend it, and nothing else looks wrong."""
    settings = runtime.settings
    async with runtime.db.transaction() as session:
        day = await session.scalar(select(func.to_char(func.now(), "YYYY-MM-DD")))
        waiting = await rows.waiting(session)
        for address in settings.operator_emails:
            await send_mail(
                session,
                to=address,
                subject=f"Films wait: MediaConvert does not let us in ({settings.public_url})",
                text=f"MediaConvert answers:\n\n  {mask(why)[:1000]}\n\nFilms that wait for it: {waiting}. They go on"
                " by themselves once the credentials, the rights or the clock of the workers are right.\n\n"
                "paletta-server aws check     (what is not as it should be)\n",
                dedup_key=f"mediaconvert-denied:{day}:{address}",
            )


async def _refused(runtime: Runtime, claim: _Claim, error: ApiError) -> None:
    log.error("MediaConvert refuses our job", extra={"run": claim.run, "error": str(error)})
    async with runtime.db.transaction() as session:
        held = await jobs.hold(session, claim.row_id)
        if held is None or held.row.status != "submitting":
            return
        held.row.status = "error"
        held.row.error_message = str(error)[:2000]
        await session.flush()
        if held.source is not None:
            await jobs.fail(
                session,
                runtime.settings,
                held,
                EngineFailed("the transcoder does not take our jobs", str(error)[:1000]),
            )


async def resubmit(session: AsyncSession, row_id: int) -> None:
    """Nothing was made of a submission whose answer was lost: it waits again."""
    await session.execute(
        update(TranscodeJob)
        .where(TranscodeJob.id == row_id, TranscodeJob.status == "submitting", TranscodeJob.job_id.is_(None))
        .values(status="waiting", not_before=None)
        .execution_options(synchronize_session=False)
    )
    await defer(session, "mediaconvert.submit")
