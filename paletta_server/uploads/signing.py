"""Addresses for parts: each bound to its length and CRC64NVME, given out a few at a time."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from paletta_server.accounts.security import Principal
from paletta_server.core.errors import Invalid
from paletta_server.core.runtime import Runtime
from paletta_server.uploads import progress
from paletta_server.uploads.models import Upload, UploadPart
from paletta_server.uploads.parts import STORE_CALLS, Problem, own, stored_parts
from paletta_server.uploads.protocol import PARTS_PER_CALL, Cut
from paletta_server.uploads.schemas import (
    Item,
    PartToSign,
    PutAddress,
    SignedPart,
    SignedUpload,
    UploadToSign,
)


async def add_transfer_facts(runtime: Runtime, user: Principal, items: Sequence[Item]) -> None:
    """Tell fresh registrations where to go on: the address of a one-request upload, the parts that are there."""
    open_items = [item for item in items if item.outcome in ("created", "resumed") and item.upload_id]
    uploads = await own(runtime, user, [item.upload_id for item in open_items if item.upload_id])
    limit = asyncio.Semaphore(STORE_CALLS)

    async def add(item: Item) -> None:
        upload = uploads[item.upload_id or ""]
        if upload.state not in ("created", "uploading"):
            return
        if item.outcome == "resumed":
            async with limit:
                item.uploaded_parts = await stored_parts(runtime, upload)
        if upload.part_count == 1 and not item.uploaded_parts:
            part = _sign(runtime, upload, PartToSign(number=1, crc64nvme=upload.crc64nvme))
            item.put = PutAddress(url=part.url, headers=part.headers, expires_at=_expires_at(runtime))

    await asyncio.gather(*(add(item) for item in open_items))
    await _mark_uploading(runtime, [uploads[item.upload_id or ""].id for item in open_items if item.put])


async def sign(runtime: Runtime, user: Principal, wanted: Sequence[UploadToSign]) -> list[SignedUpload]:
    """Addresses for parts, each bound to its length and CRC64NVME; answers in the same order.

    An upload's problem does not keep the others from being signed.
    """
    if sum(len(one.parts) for one in wanted) > PARTS_PER_CALL:
        raise Invalid(f"a call signs {PARTS_PER_CALL} parts at most", code="too_many_parts")
    uploads = await own(runtime, user, [one.upload_id for one in wanted])
    limit = asyncio.Semaphore(STORE_CALLS)

    async def answer(one: UploadToSign) -> SignedUpload:
        try:
            upload = _open_for_parts(uploads.get(one.upload_id), one)
            if upload.part_count > 1:
                async with limit:
                    await _ensure_multipart(runtime, upload)
                    await _remember_parts(runtime, upload, one.parts)
        except Problem as problem:
            return SignedUpload(upload_id=one.upload_id, problem=problem.shape)
        signed = [_sign(runtime, upload, part) for part in one.parts]
        return SignedUpload(upload_id=one.upload_id, expires_at=_expires_at(runtime), parts=signed)

    answers = await asyncio.gather(*(answer(one) for one in wanted))
    await _mark_uploading(runtime, [upload.id for upload in uploads.values() if upload.state == "created"])
    async with runtime.db.transaction() as session:
        await progress.note_heard(session, [upload.id for upload in uploads.values()])
    return answers


def _open_for_parts(upload: Upload | None, wanted: UploadToSign) -> Upload:
    if upload is None:
        raise Problem("not_found", f"no upload `{wanted.upload_id}`")
    if upload.state in ("stored", "verified", "completing"):
        raise Problem("already_stored", "all bytes of this upload are in the store")
    if upload.state not in ("created", "uploading"):
        raise Problem("upload_over", f"this upload was {upload.state}", hint="run the upload again")
    if any(part.number > upload.part_count for part in wanted.parts):
        raise Problem("no_such_part", f"this upload has {upload.part_count} parts")
    if upload.part_count == 1 and any(part.crc64nvme != upload.crc64nvme for part in wanted.parts):
        raise _differs(1)
    return upload


def _differs(number: int) -> Problem:
    return Problem(
        "part_differs",
        f"part {number} is not what was registered",
        hint="the file changed since it was read: run the upload again",
    )


async def _ensure_multipart(runtime: Runtime, upload: Upload) -> None:
    """Begin the multipart upload once: of two callers that both began one, the second drops its own."""
    if upload.multipart_id is not None:
        return
    begun = await runtime.store.create_multipart(upload.key)
    async with runtime.db.transaction() as session:
        won = await session.scalar(
            update(Upload)
            .where(
                Upload.id == upload.id,
                Upload.multipart_id.is_(None),
                Upload.state.in_(("created", "uploading")),
            )
            .values(multipart_id=begun)
            .returning(Upload.id)
        )
        current = await session.scalar(select(Upload.multipart_id).where(Upload.id == upload.id))
    if won is None:
        await runtime.store.abort_multipart(upload.key, begun)
        if current is None:
            raise Problem("upload_over", "this upload has ended", hint="run the upload again")
    upload.multipart_id = current


async def _remember_parts(runtime: Runtime, upload: Upload, parts: Sequence[PartToSign]) -> None:
    """Note each part's checksum before its address leaves; a part is signed for one checksum only."""
    async with runtime.db.transaction() as session:
        rows = [
            {"upload_id": upload.id, "number": part.number, "crc64nvme": part.crc64nvme} for part in parts
        ]
        await session.execute(upsert(UploadPart).values(rows).on_conflict_do_nothing())
        found = await session.execute(
            select(UploadPart.number, UploadPart.crc64nvme).where(
                UploadPart.upload_id == upload.id, UploadPart.number.in_([part.number for part in parts])
            )
        )
        known = dict(found.all())
    for part in parts:
        if known[part.number] != part.crc64nvme:
            raise _differs(part.number)


def _sign(runtime: Runtime, upload: Upload, part: PartToSign) -> SignedPart:
    seconds = runtime.settings.upload_url_seconds
    size = Cut(upload.size, upload.part_size).part(part.number)
    if upload.part_count == 1:
        url, headers = runtime.store.presign_put(
            upload.key, size=size, crc64nvme=part.crc64nvme, seconds=seconds
        )
    else:
        assert upload.multipart_id is not None
        url, headers = runtime.store.presign_part(
            upload.key,
            upload.multipart_id,
            number=part.number,
            size=size,
            crc64nvme=part.crc64nvme,
            seconds=seconds,
        )
    return SignedPart(number=part.number, size=size, url=url, headers=headers)


def _expires_at(runtime: Runtime) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=runtime.store.lasting(runtime.settings.upload_url_seconds))


async def _mark_uploading(runtime: Runtime, upload_ids: Sequence[int]) -> None:
    if not upload_ids:
        return
    async with runtime.db.transaction() as session:
        await progress.lock(session, upload_ids)
        moved = list(
            await session.scalars(
                update(Upload)
                .where(Upload.id.in_(upload_ids), Upload.state == "created")
                .values(state="uploading")
                .returning(Upload.id)
                .execution_options(synchronize_session=False)
            )
        )
        await progress.report(session, moved, "uploading")
