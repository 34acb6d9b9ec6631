"""Another chance for uploads whose ingest gave up, without sending a byte: where the store still has the bytes."""

import asyncio
from collections.abc import Collection, Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts.security import Principal
from paletta_server.clips import service as clips
from paletta_server.core.runtime import Runtime
from paletta_server.ingest import runs
from paletta_server.uploads.models import Upload
from paletta_server.uploads.parts import STORE_CALLS


async def failed(session: AsyncSession, user: Principal, sha256s: Sequence[str]) -> list[Upload]:
    """The latest uploads of these bytes, where ingest gave up on them."""
    latest = (
        select(func.max(Upload.id))
        .where(Upload.owner_id == user.user_id, Upload.sha256.in_(sha256s))
        .group_by(Upload.sha256)
    )
    return list(await session.scalars(select(Upload).where(Upload.id.in_(latest), Upload.stage == "failed")))


async def lost_bytes(runtime: Runtime, user: Principal, sha256s: Sequence[str]) -> set[int]:
    """The uploads that failed and whose bytes the store does not have any more: they must be sent again.

    Asked before the transaction, which would else hold its locks meanwhile.
    """
    async with runtime.db.transaction() as session:
        uploads = await failed(session, user, sha256s)
    limit = asyncio.Semaphore(STORE_CALLS)

    async def missing(upload: Upload) -> bool:
        async with limit:
            return await runtime.store.head(upload.key) is None

    answers = await asyncio.gather(*(missing(upload) for upload in uploads))
    return {upload.id for upload, lost in zip(uploads, answers, strict=True) if lost}


async def revive(
    session: AsyncSession, user: Principal, sha256s: Sequence[str], gone: Collection[int]
) -> dict[str, Upload]:
    """Give these another chance, but for those that are `gone`; the ones that have it, by SHA-256."""
    revived = {}
    for upload in await failed(session, user, sha256s):
        if upload.id not in gone and await clips.set_processing(
            session, upload.clip_id, ["failed"], "pending"
        ):
            await runs.forgive(session, upload.id)
            revived[upload.sha256] = upload
    return revived
