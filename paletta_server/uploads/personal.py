"""What uploads hold on one person: figures, the export, and what erasing takes away."""

from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core.export import Sections
from paletta_server.uploads import progress
from paletta_server.uploads.models import Upload, UploadBatch

FORGOTTEN = "erased"


async def summary(session: AsyncSession, user_id: int) -> dict[str, Any]:
    """Batches, files, and how many of these are on their way."""
    under_way = Upload.stage.not_in(progress.TERMINAL)
    files, unfinished = (
        await session.execute(
            select(func.count(), func.count().filter(under_way)).where(Upload.owner_id == user_id)
        )
    ).one()
    batches = await session.scalar(select(func.count()).where(UploadBatch.owner_id == user_id))
    return {"batches": batches or 0, "files": files, "under_way": unfinished}


def sections(user_id: int) -> Sections:
    batches = select(
        UploadBatch.uid.label("id"), UploadBatch.name, UploadBatch.status, UploadBatch.created_at,
        UploadBatch.heard_at, UploadBatch.settled_at,
    ).where(UploadBatch.owner_id == user_id)  # fmt: skip
    uploads = select(
        Upload.uid.label("id"), Upload.clip_uid.label("clip"), Upload.file_name, Upload.size, Upload.sha256,
        Upload.state, Upload.stage, Upload.reason, Upload.created_at,
    ).where(Upload.owner_id == user_id)  # fmt: skip
    return {"batches": batches.order_by(UploadBatch.id), "uploads": uploads.order_by(Upload.id)}


async def forget(session: AsyncSession, user_id: int) -> None:
    """The names of batches and of files, which are a folder's and a machine's."""
    mine = select(UploadBatch.id).where(UploadBatch.owner_id == user_id)
    await session.execute(mine.order_by(UploadBatch.id).with_for_update(key_share=True))
    await session.execute(update(UploadBatch).where(UploadBatch.owner_id == user_id).values(name=FORGOTTEN))
    await session.execute(update(Upload).where(Upload.owner_id == user_id).values(file_name=FORGOTTEN))
