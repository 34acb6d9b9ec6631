"""Batches: opening, sealing, cancelling; and cancelling uploads."""

import uuid
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Select, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts.security import Principal
from paletta_server.audit.service import record
from paletta_server.clips import service as clips
from paletta_server.core.errors import Conflict
from paletta_server.core.ids import new_uid, resolve
from paletta_server.core.jobs import defer
from paletta_server.ingest import runs
from paletta_server.uploads import progress
from paletta_server.uploads.models import BatchItem, Upload, UploadBatch

BATCHES_OPEN_MAX = 1000
"""Batches that one account may have under way; what is left alone settles by itself."""


async def open_batch(
    session: AsyncSession, user: Principal, *, client_ref: uuid.UUID, name: str
) -> tuple[UploadBatch, bool]:
    """The batch that this run of a client made or makes now, and whether it is new.

    Raises `Conflict` (`too_many_open`).
    """
    made = await session.scalar(
        upsert(UploadBatch)
        .values(uid=new_uid("batch"), owner_id=user.user_id, client_ref=client_ref, name=name)
        .on_conflict_do_nothing(index_elements=["owner_id", "client_ref"])
        .returning(UploadBatch)
    )
    if made is not None:
        under_way = select(func.count()).where(
            UploadBatch.owner_id == user.user_id, UploadBatch.status.in_(("open", "sealed"))
        )
        if (await session.scalar(under_way) or 0) > BATCHES_OPEN_MAX:
            raise Conflict(
                f"{BATCHES_OPEN_MAX:,} batches of this account are under way already",
                code="too_many_open",
                hint="finish or cancel some first: `paletta uploads list`",
            )
        return made, True
    found = await session.scalars(
        select(UploadBatch).where(UploadBatch.owner_id == user.user_id, UploadBatch.client_ref == client_ref)
    )
    return found.one(), False


async def find_batch(session: AsyncSession, user: Principal, text: str, *, lock: bool = False) -> UploadBatch:
    """A batch of the caller's own. Raises `NotFound` for anybody else's."""
    return await resolve(
        session, UploadBatch, text, UploadBatch.owner_id == user.user_id, kind="batch", lock=lock
    )


async def seal(session: AsyncSession, user: Principal, text: str) -> UploadBatch:
    """No more files will come; the batch settles once all of them have."""
    batch = await find_batch(session, user, text, lock=True)
    if batch.status == "open":
        batch.status = "sealed"
        await session.flush()
        await progress.settle_if_done(session, batch.id)
        await session.refresh(batch)
    return batch


async def cancel_batch(session: AsyncSession, user: Principal, text: str) -> UploadBatch:
    """Stop everything of a batch that is not finished; what is live or in review stays."""
    batch = await find_batch(session, user, text)
    uploads = await _lock_unfinished(session, batch.id)
    # Before the uploads end: a sealed batch whose last file ends would count as settled.
    await session.execute(
        update(UploadBatch)
        .where(UploadBatch.id == batch.id, UploadBatch.status.in_(("open", "sealed")))
        .values(status="cancelled", version=UploadBatch.version + 1)
    )
    await cancel(session, uploads)
    await record(session, user, "batch:cancelled", batch.uid)
    await session.refresh(batch)
    return batch


async def _lock_unfinished(session: AsyncSession, batch_id: int) -> list[Upload]:
    """The uploads of a batch that are not finished, and every batch that has one of them, locked in this order.

    A registration may commit more of them while we wait for the batch. Locking those too would turn the order
    round, so the locks are let go and taken anew.
    """
    unfinished = (
        select(Upload)
        .join(BatchItem, BatchItem.upload_id == Upload.id)
        .where(BatchItem.batch_id == batch_id, Upload.stage.not_in(progress.TERMINAL))
        .order_by(Upload.id)
    )
    while True:
        attempt = await session.begin_nested()
        uploads = list(
            await session.scalars(
                unfinished.with_for_update(of=Upload).execution_options(populate_existing=True)
            )
        )
        await progress.lock_batches(session, [upload.id for upload in uploads], batch_id)
        more = set(await session.scalars(unfinished.with_only_columns(Upload.id)))
        if more <= {upload.id for upload in uploads}:
            await attempt.commit()
            return uploads
        await attempt.rollback()


async def cancel_upload(session: AsyncSession, user: Principal, text: str) -> Upload:
    """Stop one upload of the caller's wherever it is on its way. Raises as `end`."""
    upload = await resolve(
        session, Upload, text, Upload.owner_id == user.user_id, kind="upload", prefix="upl", lock=True
    )
    await end(session, user, upload)
    return upload


async def end(session: AsyncSession, user: Principal, upload: Upload) -> None:
    """Stop a locked upload for `user`; a finished one is left alone: `Conflict` (`upload_finished`)."""
    if upload.stage in progress.TERMINAL:
        if upload.stage != "cancelled":
            raise Conflict(
                f"this upload is {upload.stage.replace('_', ' ')} already",
                code="upload_finished",
                hint=f"delete the clip itself with `paletta clips delete {upload.clip_uid}`",
            )
        return
    await cancel(session, [upload])
    await record(session, user, "upload:cancelled", upload.uid)
    await session.refresh(upload)


async def cancel_for_clip(session: AsyncSession, clip_id: int) -> None:
    """Stop whatever upload is still making this clip."""
    running = await session.scalars(
        select(Upload)
        .where(Upload.clip_id == clip_id, Upload.stage.not_in(progress.TERMINAL))
        .order_by(Upload.id)
        .with_for_update()
    )
    await cancel(session, list(running))


async def cancel(session: AsyncSession, uploads: Sequence[Upload], *, stage: str = "cancelled") -> None:
    """End locked uploads as `cancelled` or `expired`: their clips go, their bytes are discarded by a job."""
    ids = [upload.id for upload in uploads]
    if not ids:
        return
    await session.execute(
        update(Upload)
        .where(Upload.id.in_(ids))
        .values(state="expired" if stage == "expired" else "cancelled")
        .execution_options(synchronize_session=False)
    )
    for prefix in await runs.supersede(session, ids):
        await defer(session, "ingest.discard", delay_seconds=60, prefix=prefix)
    await clips.remove(session, [upload.clip_id for upload in uploads])
    await progress.report(session, ids, stage)
    for upload in uploads:
        if upload.multipart_id:
            await defer(session, "uploads.abort", key=upload.key, multipart_id=upload.multipart_id)


async def ingest_again(session: AsyncSession, clip_id: int) -> bool:
    """Make a finished clip anew from its stored original; False where it moved on, or no upload of it is there."""
    latest = (await progress.latest_of(session, [clip_id], locked=True)).get(clip_id)
    if latest is None or latest.state not in ("stored", "verified"):
        return False
    await progress.lock_batches(session, [latest.id])
    if not await clips.set_processing(session, clip_id, ["ready"], "pending"):
        return False
    await runs.forgive(session, latest.id)
    await progress.report(session, [latest.id], "stored")
    await defer(session, "ingest.run", upload_id=latest.id)
    return True


def stored_objects() -> Select[*tuple[Any, ...]]:
    """What uploads have stored or are storing, in the columns of `operations.inventory`."""
    return select(
        Upload.key,
        Upload.size,
        Upload.sha256,
        Upload.crc64nvme,
        Upload.state.in_(("stored", "verified")) & Upload.stage.not_in(progress.TERMINAL),
        literal("original"),
        Upload.clip_id,
    ).where(
        Upload.state.not_in(("rejected", "expired", "cancelled")),
        or_(Upload.stage.not_in(progress.TERMINAL), Upload.stage == "failed"),
    )


async def open_multiparts(session: AsyncSession) -> set[tuple[str, str]]:
    """Key and id of every multipart upload that somebody may still complete."""
    rows = await session.execute(
        select(Upload.key, Upload.multipart_id).where(
            Upload.multipart_id.is_not(None), Upload.state.in_(("created", "uploading", "completing"))
        )
    )
    return {(key, multipart_id) for key, multipart_id in rows if multipart_id}


async def stored_multiparts(session: AsyncSession, keys: Collection[str]) -> set[tuple[str, str]]:
    """Of these keys, key and id of the multipart uploads that were completed, and whose object is in use."""
    rows = await session.execute(
        select(Upload.key, Upload.multipart_id).where(
            Upload.key.in_(keys), Upload.multipart_id.is_not(None), Upload.state.in_(("stored", "verified"))
        )
    )
    return {(key, multipart_id) for key, multipart_id in rows if multipart_id}
