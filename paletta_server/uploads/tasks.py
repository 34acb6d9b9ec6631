"""Background work on uploads: sweeping what was abandoned, and the mails when a batch settles and is reviewed."""

import logging
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import exists, func, or_, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import service as accounts
from paletta_server.core.jobs import INSISTENT, defer, job
from paletta_server.core.mail import send_mail
from paletta_server.core.runtime import Runtime
from paletta_server.uploads import completion, progress, service
from paletta_server.uploads.models import BatchItem, Upload, UploadBatch

log = logging.getLogger(__name__)

REAP_AT_ONCE = 200
QUIET_BATCH = "15 minutes"
"""An open batch with nothing under way whose client said no more for so long is taken as finished."""
EMPTY_BATCH = "1 day"
"""The same for a batch without any file: its client may still be reading them."""
MAIL_LINES = 200


@job("uploads.abort", queue="default", retries=INSISTENT)
async def abort(runtime: Runtime, *, key: str, multipart_id: str) -> None:
    """Free the parts of an upload that was given up."""
    await runtime.store.abort_multipart(key, multipart_id)


@job("uploads.discard_wrong", queue="default", retries=INSISTENT)
async def discard_wrong(runtime: Runtime, *, upload_id: int) -> None:
    """Delete bytes that are not the ones that were registered."""
    await completion.discard_wrong(runtime, upload_id)


@job("uploads.reap", queue="default", cron="*/5 * * * *")
async def reap(runtime: Runtime) -> None:
    """Finish what completed unnoticed, expire what was abandoned, close batches that went quiet."""
    last = 0
    while page := await _interrupted(runtime, after=last):
        last = page[-1].id
        problems = await completion.finish(runtime, page)
        # What could not be found out about is looked at again next time: it may be complete.
        incomplete = [
            upload
            for upload in page
            if upload.uid in problems and problems[upload.uid].code not in completion.UNDECIDED
        ]
        expired = await _expire(runtime, incomplete)
        log.info("swept interrupted uploads", extra={"seen": len(page), "expired": expired})
    await _seal_quiet(runtime)


async def _interrupted(runtime: Runtime, *, after: int) -> list[Upload]:
    """A page of completions whose API process died, and of uploads that nobody came back to, by id."""
    claim_is_old = Upload.claimed_at < func.now() - timedelta(seconds=runtime.settings.upload_claim_seconds)
    async with runtime.db.transaction() as session:
        rows = await session.scalars(
            select(Upload)
            .where(
                Upload.id > after,
                or_(
                    (Upload.state == "completing") & claim_is_old,
                    progress.abandoned(_expiry(runtime)),
                ),
            )
            .order_by(Upload.id)
            .limit(REAP_AT_ONCE)
        )
        return list(rows)


def _expiry(runtime: Runtime) -> timedelta:
    return timedelta(hours=runtime.settings.upload_expiry_hours)


async def _expire(runtime: Runtime, uploads: Sequence[Upload]) -> int:
    """End those that are still abandoned; how many. One that cannot be ended is logged, and tried again next time."""
    if not uploads:
        return 0
    try:
        return await _end_abandoned(runtime, [upload.id for upload in uploads])
    except OperationalError:
        raise  # the database's trouble, not an upload's: this job is tried again as a whole
    except Exception:
        if len(uploads) == 1:
            log.exception("expiring an upload failed", extra={"upload": uploads[0].uid})
            return 0
    # All together cost little; which of them it was shows by halves.
    half = len(uploads) // 2
    return await _expire(runtime, uploads[:half]) + await _expire(runtime, uploads[half:])


async def _end_abandoned(runtime: Runtime, upload_ids: Sequence[int]) -> int:
    """In one transaction; their owner may have come back this very moment."""
    async with runtime.db.transaction() as session:
        rows = await session.scalars(
            select(Upload)
            .where(Upload.id.in_(upload_ids), progress.abandoned(_expiry(runtime)))
            .order_by(Upload.id)
            .with_for_update()
        )
        abandoned = list(rows)
        await service.cancel(session, abandoned, stage="expired")
        return len(abandoned)


async def _seal_quiet(runtime: Runtime) -> None:
    under_way = exists().where(
        BatchItem.batch_id == UploadBatch.id,
        BatchItem.upload_id == Upload.id,
        Upload.stage.not_in(progress.TERMINAL),
    )
    some = exists().where(BatchItem.batch_id == UploadBatch.id)
    quiet = (
        select(UploadBatch.id)
        .where(
            UploadBatch.status == "open",
            UploadBatch.touched_at < func.now() - text(f"interval '{QUIET_BATCH}'"),
            some | (UploadBatch.touched_at < func.now() - text(f"interval '{EMPTY_BATCH}'")),
            ~under_way,
        )
        .order_by(UploadBatch.id)
        .limit(REAP_AT_ONCE)
        # One that somebody holds is not quiet.
        .with_for_update(skip_locked=True)
    )
    async with runtime.db.transaction() as session:
        sealed = list(
            await session.scalars(
                update(UploadBatch)
                .where(UploadBatch.id.in_(quiet.scalar_subquery()))
                .values(status="sealed")
                .returning(UploadBatch.id)
                .execution_options(synchronize_session=False)
            )
        )
        for batch_id in sealed:
            await progress.settle_if_done(session, batch_id)
    # One that was sealed and whose last file ended unnoticed, by an older version that does not know its stage.
    forgotten = (
        select(UploadBatch.id)
        .where(UploadBatch.status == "sealed", ~under_way)
        .order_by(UploadBatch.id)
        .limit(REAP_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    async with runtime.db.transaction() as session:
        for batch_id in list(await session.scalars(forgotten)):
            await progress.settle_if_done(session, batch_id)


WORDS = {
    "live": "live",
    "in_review": "waiting for review",
    "changes_requested": "to be changed",
    "taken_down": "taken down",
    "rejected": "rejected",
    "failed": "failed",
    "cancelled": "cancelled",
    "expired": "expired",
    "deleted": "deleted",
}


@job("uploads.mail_settled", queue="mail")
async def mail_settled(runtime: Runtime, *, batch_id: int) -> None:
    """One mail for the whole batch: how many clips ended how, and why the ones that did not go through."""
    async with runtime.db.transaction() as session:
        batch = await session.get_one(UploadBatch, batch_id)
        if batch.settled_at is None:
            return  # more files came; there will be another end
        key = f"batch-settled:{batch.uid}:{batch.settled_at.isoformat()}"
        await _mail(session, runtime, batch, "is finished", key)


@job("uploads.mail_reviewed", queue="mail")
async def mail_reviewed(runtime: Runtime, *, batch_id: int, version: int) -> None:
    """One mail when the last clip of a settled batch was decided on."""
    async with runtime.db.transaction() as session:
        batch = await session.get_one(UploadBatch, batch_id, with_for_update=True)
        batch.untold_since = None
        await _mail(session, runtime, batch, "is reviewed", f"batch-reviewed:{batch.uid}:{version}")


@job("uploads.mail_sitting", queue="mail")
async def mail_sitting(runtime: Runtime, *, batch_id: int) -> None:
    """One mail for what moderators decided of a batch before they paused, while the rest of it waits."""
    async with runtime.db.transaction() as session:
        batch = await session.get_one(UploadBatch, batch_id, with_for_update=True)
        if batch.untold_since is None:
            return  # the mail about all of it was sent meanwhile
        now = await session.scalar(select(func.clock_timestamp()))
        assert now is not None
        left = batch.untold_since + progress.SITTING - now
        if left > timedelta(seconds=1):
            delay = round(left.total_seconds())
            await defer(session, "uploads.mail_sitting", delay_seconds=delay, batch_id=batch_id)
            return
        key = f"batch-sitting:{batch.uid}:{batch.untold_since.isoformat()}"
        batch.untold_since = None
        await _mail(session, runtime, batch, "is partly reviewed", key)


async def _mail(session: AsyncSession, runtime: Runtime, batch: UploadBatch, what: str, key: str) -> None:
    rows = (
        await session.scalars(
            select(Upload)
            .join(BatchItem, BatchItem.upload_id == Upload.id)
            .where(BatchItem.batch_id == batch.id)
            .order_by(Upload.id)
            .distinct()
        )
    ).all()
    if rows:
        await send_mail(
            session,
            to=await accounts.email_of(session, batch.owner_id),
            subject=_subject(batch, rows),
            text=_body(runtime.settings.public_url, batch, what, rows),
            dedup_key=key,
        )


def _tally(uploads: Sequence[Upload]) -> list[tuple[str, list[Upload]]]:
    groups = [(stage, [upload for upload in uploads if upload.stage == stage]) for stage in WORDS]
    return [(stage, group) for stage, group in groups if group]


def _subject(batch: UploadBatch, uploads: Sequence[Upload]) -> str:
    tally = ", ".join(f"{len(group)} {WORDS[stage]}" for stage, group in _tally(uploads))
    name = " ".join(batch.name.split())[:60]
    return f"Your upload {name}: {tally}"


def _body(public_url: str, batch: UploadBatch, what: str, uploads: Sequence[Upload]) -> str:
    lines = [f"Your upload {batch.name} ({batch.uid}) {what}.", ""]
    for stage, group in _tally(uploads):
        lines.append(f"{WORDS[stage].capitalize()}: {len(group)}")
        for upload in group[:MAIL_LINES]:
            why = f": {upload.reason}" if upload.reason else ""
            lines.append(f"  {upload.file_name} ({upload.clip_uid}){why}")
        if len(group) > MAIL_LINES:
            lines.append(f"  and {len(group) - MAIL_LINES} more")
        lines.append("")
    if any(upload.stage == "changes_requested" for upload in uploads):
        change = "Change them with paletta clips edit or paletta clips apply: they are then reviewed again."
        lines += [change, ""]
    if any(upload.stage in ("rejected", "failed") for upload in uploads):
        lines += [f"Mend them and run: paletta upload --failed {batch.uid}", ""]
    lines += [f"Details: paletta uploads show {batch.uid}", f"Service: {public_url}"]
    return "\n".join(lines)
