"""What the watcher of a batch is told, and when a batch has settled.

Every change of an upload's stage goes through `report`: it raises the version of each batch that the upload
belongs to (under that batch's row lock, so versions appear in commit order and a long poll misses nothing), notes
the event, wakes long polls and, when nothing of a sealed batch is under way any more, settles it with one mail.
Locks are taken in one order: uploads, then batches by id, then the clips (`hold`).
"""

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, func, insert, select, text, true, update
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core.ids import resolve
from paletta_server.core.jobs import defer
from paletta_server.core.notify import announce
from paletta_server.uploads.models import BatchItem, Upload, UploadBatch, UploadEvent

HEARD_EVERY = timedelta(minutes=5)
TERMINAL = (
    "in_review", "live", "changes_requested", "taken_down", "rejected", "failed", "cancelled", "expired", "deleted",
)  # fmt: skip
MADE = ("in_review", "live", "changes_requested", "taken_down")
UNDECIDED = ("in_review", "changes_requested")
"""A decision on clips that stand here is news to their batch."""
SITTING = timedelta(minutes=15)
"""What moderators decide on a batch with no longer pause between is told in one mail, where some of it still waits."""


def topic(batch_id: int) -> str:
    """The notification topic of a batch."""
    return f"batch:{batch_id}"


async def lock(session: AsyncSession, upload_ids: Sequence[int]) -> None:
    """Take uploads' row locks in the one order, before any other lock of a transaction."""
    await session.execute(
        select(Upload.id).where(Upload.id.in_(upload_ids)).order_by(Upload.id).with_for_update()
    )


async def report(
    session: AsyncSession,
    upload_ids: Sequence[int],
    stage: str,
    *,
    progress: float | None = None,
    reason: str | None = None,
    hint: str | None = None,
    warnings: Sequence[str] | None = None,
    event: bool = True,
) -> None:
    """Uploads are now at `stage` (`progress` from 0 to 1 within it). `event=False` for mere progress."""
    if not upload_ids:
        return
    await lock(session, upload_ids)
    values: dict[str, Any] = {"stage": stage, "progress": progress, "reason": reason, "hint": hint}
    if warnings is not None:
        values["warnings"] = list(warnings)
    await session.execute(
        update(Upload)
        .where(Upload.id.in_(upload_ids))
        .values(values)
        .execution_options(synchronize_session=False)
    )
    if event:
        detail = {"reason": reason} if reason else {}
        await session.execute(
            insert(UploadEvent),
            [{"upload_id": upload_id, "stage": stage, "detail": detail} for upload_id in upload_ids],
        )
    await touch(session, upload_ids, settle=stage in TERMINAL)


async def lock_batches(session: AsyncSession, upload_ids: Sequence[int], *also: int) -> list[int]:
    """Lock every batch that these uploads belong to, and `also` others, in the one order; their keys.

    For update, so that nobody can put a file into a batch between our look at what is under way and our commit.
    """
    theirs = select(BatchItem.batch_id).where(BatchItem.upload_id.in_(upload_ids)).scalar_subquery()
    return list(
        await session.scalars(
            select(UploadBatch.id)
            .where(UploadBatch.id.in_(theirs) | UploadBatch.id.in_(also))
            .order_by(UploadBatch.id)
            .with_for_update()
        )
    )


async def hold(session: AsyncSession, clip_ids: Collection[int]) -> None:
    """Lock the latest uploads of these clips and the batches that they are in: before their clips are locked, by
    whoever goes on to `report_clips`."""
    latest = await latest_of(session, clip_ids, locked=True)
    await lock_batches(session, [upload.id for upload in latest.values()])


async def touch(session: AsyncSession, upload_ids: Sequence[int], *, settle: bool = False) -> None:
    """Raise the version of every batch that these uploads belong to, and wake who watches."""
    batch_ids = await lock_batches(session, upload_ids)
    if not batch_ids:
        return
    await session.execute(
        text(
            "WITH raised AS (UPDATE upload_batches SET version = version + 1, touched_at = now()"
            " WHERE id = ANY(:batches) RETURNING id, version)"
            " UPDATE batch_items SET version = raised.version FROM raised"
            " WHERE batch_items.batch_id = raised.id AND batch_items.upload_id = ANY(:uploads)"
        ),
        {"batches": batch_ids, "uploads": list(upload_ids)},
    )
    for batch_id in batch_ids:
        await announce(session, topic(batch_id))
        if settle:
            await settle_if_done(session, batch_id)


async def note_heard(session: AsyncSession, upload_ids: Sequence[int]) -> None:
    """Their client is at work: no file of their batches is abandoned, however long it waits for its turn.

    Written now and then, not at every call. A batch that somebody holds is left to the next call.
    """
    batches = (
        select(UploadBatch.id)
        .where(
            UploadBatch.id.in_(select(BatchItem.batch_id).where(BatchItem.upload_id.in_(upload_ids))),
            UploadBatch.heard_at < func.now() - HEARD_EVERY,
        )
        .order_by(UploadBatch.id)
        .with_for_update(skip_locked=True)
    )
    await session.execute(
        update(UploadBatch)
        .where(UploadBatch.id.in_(batches.scalar_subquery()))
        .values(heard_at=func.now())
        .execution_options(synchronize_session=False)
    )


def abandoned(expiry: timedelta) -> ColumnElement[bool]:
    """Whether nobody has come back to an upload: its time is over, and no batch of it was heard of since."""
    at_work = exists().where(
        BatchItem.upload_id == Upload.id,
        BatchItem.batch_id == UploadBatch.id,
        UploadBatch.heard_at > func.now() - expiry,
    )
    return Upload.state.in_(("created", "uploading")) & (Upload.expires_at < func.now()) & ~at_work


def _has_news(batch_id: int) -> ColumnElement[bool]:
    """Whether this batch brought anything: what was here before was told about by the batch that brought it."""
    return exists().where(BatchItem.batch_id == batch_id, BatchItem.outcome.in_(("created", "resumed")))


async def settle_if_done(session: AsyncSession, batch_id: int) -> bool:
    """Settle a sealed batch of which nothing is under way any more; one mail tells its owner, if it is news."""
    under_way = exists().where(
        BatchItem.batch_id == batch_id, BatchItem.upload_id == Upload.id, Upload.stage.not_in(TERMINAL)
    )
    settled = await session.scalar(
        update(UploadBatch)
        .where(UploadBatch.id == batch_id, UploadBatch.status == "sealed", ~under_way)
        .values(status="settled", settled_at=func.now(), version=UploadBatch.version + 1)
        .returning(UploadBatch.id)
        .execution_options(synchronize_session=False)
    )
    if settled is None:
        return False
    await announce(session, topic(batch_id))
    if await session.scalar(select(_has_news(batch_id))):
        await defer(session, "uploads.mail_settled", batch_id=batch_id)
    return True


async def report_clips(
    session: AsyncSession,
    clip_ids: Collection[int],
    stage: str,
    *,
    reason: str | None = None,
    told: bool = False,
) -> None:
    """A decision on clips (approved, rejected, taken down, deleted): their uploads' watchers hear of it at once.

    Who does not watch gets one mail per settled batch: when nothing of it waits for review any more, or else when
    moderators have left the rest of it alone for a while (`SITTING`). A decision on clips that did not wait ends no
    wait, and sends none; nor does one of which the owner is `told` by a mail of its own, where it is all that a batch
    has.
    """
    latest = await latest_of(session, clip_ids, locked=True)
    upload_ids = sorted(upload.id for upload in latest.values())
    waited = [upload.id for upload in latest.values() if upload.stage in UNDECIDED]
    await report(session, upload_ids, stage, reason=reason)
    settled = await session.execute(
        select(UploadBatch.id, UploadBatch.version)
        .join(BatchItem, BatchItem.batch_id == UploadBatch.id)
        .where(BatchItem.upload_id.in_(waited), UploadBatch.status == "settled")
        .distinct()
        .order_by(UploadBatch.id)
    )
    for batch_id, version in settled.all():
        waits = exists().where(
            BatchItem.batch_id == batch_id, BatchItem.upload_id == Upload.id, Upload.stage == "in_review"
        )
        others = exists().where(
            BatchItem.batch_id == batch_id,
            BatchItem.upload_id == Upload.id,
            Upload.id.not_in(upload_ids),
            Upload.stage != "deleted",
        )
        if await session.scalar(select(_has_news(batch_id) & ~waits & (others if told else true()))):
            # The version tells rounds apart: a clip that was changed is reviewed again.
            await defer(session, "uploads.mail_reviewed", batch_id=batch_id, version=version)
        elif stage != "in_review" and await session.scalar(select(_has_news(batch_id) & waits & (not told))):
            await _note_untold(session, batch_id)


async def _note_untold(session: AsyncSession, batch_id: int) -> None:
    """Moderators decided on a part of a batch, whose lock the caller holds: its owner is told when they pause."""
    before = await session.scalar(select(UploadBatch.untold_since).where(UploadBatch.id == batch_id))
    await session.execute(
        update(UploadBatch)
        .where(UploadBatch.id == batch_id)
        .values(untold_since=func.now())
        .execution_options(synchronize_session=False)
    )
    if before is None:  # else the job for it is there
        delay = round(SITTING.total_seconds())
        await defer(session, "uploads.mail_sitting", delay_seconds=delay, batch_id=batch_id)


async def is_made(session: AsyncSession, clip_id: int) -> bool:
    """Whether a clip's latest upload ended in a clip that could be looked at."""
    latest = (await latest_of(session, [clip_id])).get(clip_id)
    return latest is not None and latest.stage in MADE


def clips_at(stage: str) -> Select[int]:
    """The keys of the clips with an upload that ended at `stage`, as a subquery."""
    return select(Upload.clip_id).where(Upload.stage == stage)


async def find_batch(session: AsyncSession, text: str) -> int:
    """The key of anybody's batch, by its id or the beginning of that. Raises `NotFound`."""
    return (await resolve(session, UploadBatch, text, kind="batch")).id


def clips_of_batch(batch_id: int) -> Select[int]:
    """The keys of the clips that a batch is about, as a subquery."""
    return select(Upload.clip_id).join(BatchItem).where(BatchItem.batch_id == batch_id)


async def latest_of(
    session: AsyncSession, clip_ids: Collection[int], *, locked: bool = False
) -> dict[int, Upload]:
    """The latest upload of each clip, by the clip's key."""
    latest = select(func.max(Upload.id)).where(Upload.clip_id.in_(clip_ids)).group_by(Upload.clip_id)
    query = select(Upload).where(Upload.id.in_(latest)).order_by(Upload.id)
    if locked:
        query = query.with_for_update().execution_options(populate_existing=True)
    return {upload.clip_id: upload for upload in await session.scalars(query)}
