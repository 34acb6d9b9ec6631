"""What the store holds of an upload: its own list, never what anybody claims."""

from collections.abc import Sequence

from sqlalchemy import delete, select, update

from paletta_server.accounts.security import Principal
from paletta_server.core.errors import Unavailable
from paletta_server.core.jobs import defer
from paletta_server.core.runtime import Runtime
from paletta_server.core.storage import ObjectInfo, StoreError
from paletta_server.uploads.models import Upload, UploadPart
from paletta_server.uploads.protocol import Cut
from paletta_server.uploads.schemas import (
    UploadProblem,
)

STORE_CALLS = 8
"""Requests to the store, and with them database connections, at once per API call."""


class Problem(Exception):
    """Why one upload of a call cannot go on; the others can."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        hint: str | None = None,
        retryable: bool = False,
        missing: Sequence[int] = (),
    ) -> None:
        super().__init__(detail)
        self.shape = UploadProblem(
            code=code, detail=detail, hint=hint, retryable=retryable, missing_parts=list(missing)
        )


async def own(runtime: Runtime, user: Principal, uids: Sequence[str]) -> dict[str, Upload]:
    """The caller's own uploads among these ids; anybody else's do not exist."""
    async with runtime.db.transaction() as session:
        rows = await session.scalars(
            select(Upload).where(Upload.uid.in_(uids), Upload.owner_id == user.user_id)
        )
        return {upload.uid: upload for upload in rows}


async def stored_parts(runtime: Runtime, upload: Upload, *, forget: bool = True) -> list[int]:
    """The parts that the store holds in full: its own list, not what anybody claims.

    `forget` lets go of a multipart upload that the store does not know any more.
    """
    if upload.part_count == 1:
        info = await runtime.store.head(upload.key)
        return [1] if info and info.size == upload.size else []
    if upload.multipart_id is None:
        return []
    try:
        parts = await runtime.store.list_parts(upload.key, upload.multipart_id)
    except StoreError as error:
        if error.code != "NoSuchUpload":
            raise Unavailable(f"the object store answers {error.code}", code="store_unavailable") from error
        info = await runtime.store.head(upload.key)
        if info and fits(info, upload):
            return list(range(1, upload.part_count + 1))
        if forget:
            await forget_multipart(runtime, upload)
        return []
    plan = Cut(upload.size, upload.part_size)
    return [
        part.number for part in parts if part.number <= plan.count and part.size == plan.part(part.number)
    ]


def fits(info: ObjectInfo, upload: Upload) -> bool:
    """Whether what is stored is what was registered, as far as the store knows."""
    return info.size == upload.size and info.crc64nvme in (None, upload.crc64nvme)


async def forget_multipart(runtime: Runtime, upload: Upload, *, abort: bool = False) -> None:
    """The multipart upload is of no use any more: the next signature begins another."""
    gone = upload.multipart_id
    async with runtime.db.transaction() as session:
        await session.execute(
            update(Upload)
            .where(Upload.id == upload.id, Upload.multipart_id == gone)
            .values(multipart_id=None)
        )
        await session.execute(delete(UploadPart).where(UploadPart.upload_id == upload.id))
        if abort and gone:
            await defer(session, "uploads.abort", key=upload.key, multipart_id=gone)
