"""Reading batches and uploads: lists, one in full, and the long poll."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts.security import Principal
from paletta_server.core.ids import resolve
from paletta_server.core.pagination import PageParams, cursor_for, newest_first
from paletta_server.core.runtime import Runtime
from paletta_server.uploads.models import BatchItem, Upload, UploadBatch, UploadEvent
from paletta_server.uploads.parts import stored_parts
from paletta_server.uploads.progress import topic
from paletta_server.uploads.schemas import Batch, BatchDetail, Progress, ProgressItem, UploadView
from paletta_server.uploads.service import find_batch

RECHECK_SECONDS = 5.0
"""A notification can be lost with its connection; then the poll sees the change this much later."""
ITEMS_PER_POLL = 500


async def counts(session: AsyncSession, batch_ids: Sequence[int]) -> dict[int, dict[str, int]]:
    """How many files of each batch are at which stage."""
    rows = await session.execute(
        select(BatchItem.batch_id, Upload.stage, func.count())
        .join(Upload, Upload.id == BatchItem.upload_id)
        .where(BatchItem.batch_id.in_(batch_ids))
        .group_by(BatchItem.batch_id, Upload.stage)
    )
    found: dict[int, dict[str, int]] = {batch_id: {} for batch_id in batch_ids}
    for batch_id, stage, number in rows:
        found[batch_id][stage] = number
    return found


def batch_view(batch: UploadBatch, stages: dict[str, int]) -> Batch:
    return Batch(
        id=batch.uid,
        name=batch.name,
        status=batch.status,
        version=batch.version,
        counts=stages,
        created_at=batch.created_at,
        settled_at=batch.settled_at,
    )


async def list_batches(
    session: AsyncSession, user: Principal, page: PageParams
) -> tuple[list[Batch], str | None]:
    query = select(UploadBatch).where(UploadBatch.owner_id == user.user_id)
    rows, cursor = await newest_first(session, query, UploadBatch.id, page)
    stages = await counts(session, [batch.id for (batch,) in rows])
    return [batch_view(batch, stages[batch.id]) for (batch,) in rows], cursor


async def batch_detail(session: AsyncSession, user: Principal, text: str, page: PageParams) -> BatchDetail:
    """A batch and a page of its files, in the order in which they were registered."""
    batch = await find_batch(session, user, text)
    query = select(BatchItem, Upload).join(Upload).where(BatchItem.batch_id == batch.id)
    if page.after is not None:
        query = query.where(Upload.id > page.after)
    rows = (await session.execute(query.order_by(Upload.id, BatchItem.ref).limit(page.limit + 1))).all()
    more = len(rows) > page.limit
    if more:
        # The cursor names an upload, so a page never ends between two files that are the same upload.
        beyond = rows[-1][1].id
        whole = [row for row in rows[:-1] if row[1].id != beyond]
        rows = (
            whole or (await session.execute(query.where(Upload.id == beyond).order_by(BatchItem.ref))).all()
        )
    view = batch_view(batch, (await counts(session, [batch.id]))[batch.id])
    return BatchDetail(
        **view.model_dump(),
        items=[_item(item, upload) for item, upload in rows],
        next_cursor=cursor_for(rows[-1][1].id) if more else None,
    )


def _item(item: BatchItem, upload: Upload) -> ProgressItem:
    return ProgressItem(
        ref=item.ref,
        upload_id=upload.uid,
        clip_id=upload.clip_uid,
        file=upload.file_name,
        size=upload.size,
        outcome=item.outcome,
        stage=upload.stage,
        progress=upload.progress,
        reason=upload.reason,
        hint=upload.hint,
        warnings=upload.warnings,
    )


async def poll(runtime: Runtime, user: Principal, text: str, *, after: int, wait_seconds: float) -> Progress:
    """What changed in a batch after version `after`, as soon as anything did, within `wait_seconds`.

    No connection is held while waiting. At most `ITEMS_PER_POLL` files come at once, in the order of their
    changes; the answer's version says how far it reaches.
    """
    async with runtime.db.transaction() as session:
        batch_id = (await find_batch(session, user, text)).id
    deadline = time.monotonic() + wait_seconds
    event = runtime.notify.subscribe(topic(batch_id))
    try:
        while True:
            event.clear()
            found = await _changes(runtime, batch_id, after)
            left = deadline - time.monotonic()
            if found.version > after or left <= 0 or runtime.notify.ending:
                return found
            try:
                await asyncio.wait_for(event.wait(), min(left, RECHECK_SECONDS))
            except TimeoutError:
                continue
    finally:
        runtime.notify.unsubscribe(topic(batch_id), event)


async def _changes(runtime: Runtime, batch_id: int, after: int) -> Progress:
    async with runtime.db.transaction() as session:
        # The batch first: a change that commits in between is then reported twice rather than never.
        batch = await session.get_one(UploadBatch, batch_id)
        stages = (await counts(session, [batch_id]))[batch_id]
        rows: Sequence[Any] = []
        if batch.version > after:
            query = (
                select(BatchItem, Upload)
                .join(Upload)
                .where(BatchItem.batch_id == batch_id, BatchItem.version > after)
                .order_by(BatchItem.version, BatchItem.ref)
            )
            rows = (await session.execute(query.limit(ITEMS_PER_POLL + 1))).all()
        version = batch.version
        if len(rows) > ITEMS_PER_POLL:
            # Never cut inside one version: what shares it with the last row would be lost.
            cut_at = rows[ITEMS_PER_POLL][0].version
            whole = [row for row in rows if row[0].version < cut_at]
            rows = whole or (await session.execute(query.where(BatchItem.version == cut_at))).all()
            version = rows[-1][0].version
        return Progress(
            version=version,
            status=batch.status,
            settled=batch.status in ("settled", "cancelled"),
            counts=stages,
            items=[_item(item, upload) for item, upload in rows],
        )


async def upload_view(runtime: Runtime, user: Principal, text: str) -> UploadView:
    """One upload of the caller's in full, with the store's own list of parts and what happened to it."""
    async with runtime.db.transaction() as session:
        upload = await resolve(
            session, Upload, text, Upload.owner_id == user.user_id, kind="upload", prefix="upl"
        )
    return await view_of(runtime, upload)


async def view_of(runtime: Runtime, upload: Upload) -> UploadView:
    """An upload in full."""
    async with runtime.db.transaction() as session:
        events = await session.scalars(
            select(UploadEvent).where(UploadEvent.upload_id == upload.id).order_by(UploadEvent.id)
        )
        history = [{"at": event.at, "stage": event.stage, **event.detail} for event in events]
    return UploadView(
        id=upload.uid,
        clip_id=upload.clip_uid,
        state=upload.state,
        stage=upload.stage,
        progress=upload.progress,
        reason=upload.reason,
        hint=upload.hint,
        file=upload.file_name,
        size=upload.size,
        sha256=upload.sha256,
        part_size=upload.part_size,
        part_count=upload.part_count,
        uploaded_parts=await _parts(runtime, upload),
        created_at=upload.created_at,
        history=history,
    )


async def _parts(runtime: Runtime, upload: Upload) -> list[int]:
    """The parts that the store has: by its own list while they arrive, all once they are one file, none afterwards."""
    if upload.state in ("created", "uploading"):
        return await stored_parts(runtime, upload)
    kept = upload.state in ("completing", "stored", "verified") and upload.stage != "deleted"
    return list(range(1, upload.part_count + 1)) if kept else []
