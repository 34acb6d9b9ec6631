"""Everybody's uploads, for operators: the history with sizes, speeds and failures, another try, and an end."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import directory
from paletta_server.accounts import service as accounts
from paletta_server.accounts.security import Principal
from paletta_server.audit.service import record
from paletta_server.clips import service as clips
from paletta_server.core.errors import Conflict
from paletta_server.core.ids import resolve
from paletta_server.core.jobs import defer
from paletta_server.core.pagination import PageParams, newest_first
from paletta_server.core.runtime import Runtime
from paletta_server.ingest import runs
from paletta_server.uploads import progress, service, watch
from paletta_server.uploads.admin_schemas import AdminUpload, AdminUploadDetail, Attempt
from paletta_server.uploads.models import BatchItem, Upload, UploadBatch, UploadEvent

FAILED = ("failed", "rejected", "expired")


@dataclass(frozen=True)
class Wanted:
    """Which uploads to list; None and False ask for nothing. `state` is one of the transfer or a stage."""

    contributor: str | None = None
    state: str | None = None
    since: datetime | None = None
    batch: str | None = None
    failed: bool = False


async def listed(
    session: AsyncSession, wanted: Wanted, page: PageParams
) -> tuple[list[AdminUpload], str | None]:
    """A page of everybody's uploads, newest first. Raises `NotFound` for a contributor or batch that is none."""
    rows, cursor = await newest_first(session, await _query(session, wanted), Upload.id, page)
    return await _views(session, [upload for (upload,) in rows]), cursor


async def _query(session: AsyncSession, wanted: Wanted) -> Select[Any]:
    query = select(Upload)
    if wanted.contributor is not None:
        query = query.where(Upload.owner_id == (await accounts.find_any(session, wanted.contributor)).id)
    if wanted.state is not None:
        query = query.where(or_(Upload.state == wanted.state, Upload.stage == wanted.state))
    if wanted.since is not None:
        query = query.where(Upload.created_at >= wanted.since)
    if wanted.batch is not None:
        batch = await resolve(session, UploadBatch, wanted.batch, kind="batch")
        query = query.where(exists().where(BatchItem.upload_id == Upload.id, BatchItem.batch_id == batch.id))
    if wanted.failed:
        query = query.where(Upload.stage.in_(FAILED))
    return query


async def detail(runtime: Runtime, text: str) -> AdminUploadDetail:
    """One upload of anybody's: as its owner sees it, and each attempt at ingesting it."""
    async with runtime.db.transaction() as session:
        upload = await _find(session, text)
        [view] = await _views(session, [upload])
        attempts = [Attempt.of(run) for run in await runs.listed(session, upload.id)]
    own = await watch.view_of(runtime, upload)
    return AdminUploadDetail(
        **view.model_dump(exclude={"attempts"}),
        attempts=len(attempts),
        sha256=own.sha256,
        part_size=own.part_size,
        part_count=own.part_count,
        uploaded_parts=own.uploaded_parts,
        history=own.history,
        runs=attempts,
    )


async def retry(runtime: Runtime, user: Principal, text: str) -> AdminUploadDetail:
    """Give an upload whose ingest gave up another run, from the bytes in the store.

    Raises `Conflict`: `not_failed`, or `bytes_gone` where only its contributor can send it again.
    """
    async with runtime.db.transaction() as session:
        upload = await _find(session, text)
    _only_failed(upload)
    # Asked before the transaction, which would else hold its locks meanwhile.
    if await runtime.store.head(upload.key) is None:
        raise Conflict(
            "the store does not have the bytes of this upload any more",
            code="bytes_gone",
            hint="its contributor can send them again with `paletta upload`",
        )
    async with runtime.db.transaction() as session:
        upload = await _find(session, upload.uid, lock=True)
        _only_failed(upload)
        await progress.lock_batches(session, [upload.id])
        if not await clips.set_processing(session, upload.clip_id, ["failed"], "pending"):
            raise Conflict(
                f"clip `{upload.clip_uid}` was deleted, or made from another upload since", code="not_failed"
            )
        await runs.forgive(session, upload.id)
        await progress.report(session, [upload.id], "stored")
        await defer(session, "ingest.run", upload_id=upload.id)
        await record(session, user, "upload:retried", upload.uid)
    return await detail(runtime, upload.uid)


async def cancel(runtime: Runtime, user: Principal, text: str) -> AdminUploadDetail:
    """Stop anybody's upload wherever it is on its way. Raises `Conflict` (`upload_finished`)."""
    async with runtime.db.transaction() as session:
        upload = await _find(session, text, lock=True)
        await service.end(session, user, upload)
    return await detail(runtime, upload.uid)


async def _find(session: AsyncSession, text: str, *, lock: bool = False) -> Upload:
    return await resolve(session, Upload, text, kind="upload", prefix="upl", lock=lock)


def _only_failed(upload: Upload) -> None:
    if upload.stage == "failed":
        return
    hint = {
        "rejected": "the file itself was refused, and its bytes are gone: it has to be sent again",
        "expired": "it never arrived whole: it has to be sent again",
    }.get(upload.stage)
    raise Conflict(
        f"this upload is {upload.stage.replace('_', ' ')}, not failed", code="not_failed", hint=hint
    )


async def _views(session: AsyncSession, uploads: Sequence[Upload]) -> list[AdminUpload]:
    ids = [upload.id for upload in uploads]
    emails = await directory.emails_of(session, {upload.owner_id for upload in uploads})
    batches = await _batches(session, ids)
    tries = await runs.counts(session, ids)
    times = await _times(session, ids)
    return [
        AdminUpload.of(
            upload,
            contributor=emails[upload.owner_id],
            batches=batches.get(upload.id, []),
            attempts=tries.get(upload.id, 0),
            began=times.get(upload.id, (None, None))[0],
            stored=times.get(upload.id, (None, None))[1],
        )
        for upload in uploads
    ]


async def _batches(session: AsyncSession, upload_ids: Collection[int]) -> dict[int, list[str]]:
    rows = await session.execute(
        select(BatchItem.upload_id, UploadBatch.uid)
        .join(UploadBatch, UploadBatch.id == BatchItem.batch_id)
        .where(BatchItem.upload_id.in_(upload_ids))
        .distinct()
        .order_by(UploadBatch.uid)
    )
    found: dict[int, list[str]] = {}
    for upload_id, uid in rows:
        found.setdefault(upload_id, []).append(uid)
    return found


async def _times(
    session: AsyncSession, upload_ids: Collection[int]
) -> dict[int, tuple[datetime | None, datetime | None]]:
    """When each upload's first address was given out, and when all of its bytes had arrived."""
    rows = await session.execute(
        select(
            UploadEvent.upload_id,
            func.min(UploadEvent.at).filter(UploadEvent.stage == "uploading"),
            func.min(UploadEvent.at).filter(UploadEvent.stage == "stored"),
        )
        .where(UploadEvent.upload_id.in_(upload_ids))
        .group_by(UploadEvent.upload_id)
    )
    return {upload_id: (began, stored) for upload_id, began, stored in rows}
