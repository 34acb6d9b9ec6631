"""What ingest needs of an upload: where its bytes are, and telling its watchers how it goes."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.clips import service as clips
from paletta_server.uploads import progress
from paletta_server.uploads.models import Upload

QUIET = "2 minutes"


@dataclass(frozen=True)
class Source:
    """A stored original on its way to being a clip."""

    upload_id: int
    clip_id: int
    clip_uid: str
    owner_id: int
    key: str
    size: int
    sha256: str
    poster_at: float | None


async def lock(session: AsyncSession, upload_id: int) -> None:
    """Take the upload's row lock first, as everything that writes to uploads does."""
    await progress.lock(session, [upload_id])


async def lock_source(session: AsyncSession, upload_id: int) -> Source | None:
    """The upload, locked; None when it is not (or no longer) to be ingested."""
    upload = await session.scalar(
        select(Upload)
        .where(
            Upload.id == upload_id,
            Upload.state.in_(("stored", "verified")),
            Upload.stage.not_in(progress.TERMINAL),
        )
        .with_for_update()
    )
    if upload is None:
        return None
    return Source(
        upload_id=upload.id,
        clip_id=upload.clip_id,
        clip_uid=upload.clip_uid,
        owner_id=upload.owner_id,
        key=upload.key,
        size=upload.size,
        sha256=upload.sha256,
        poster_at=await clips.poster_wish(session, upload.clip_id),
    )


async def report(
    session: AsyncSession,
    upload_id: int,
    stage: str,
    *,
    share: float | None = None,
    reason: str | None = None,
    hint: str | None = None,
    warnings: Sequence[str] | None = None,
    event: bool = True,
) -> None:
    """Tell the watchers of one upload; see `progress.report`."""
    await progress.report(
        session, [upload_id], stage, progress=share, reason=reason, hint=hint, warnings=warnings, event=event
    )


async def mark_verified(session: AsyncSession, upload_id: int) -> None:
    """The worker computed the same SHA-256 as the contributor's machine."""
    await session.execute(
        update(Upload).where(Upload.id == upload_id, Upload.state == "stored").values(state="verified")
    )


async def reject(session: AsyncSession, upload_id: int, *, reason: str, hint: str | None) -> None:
    """The file will not become a clip."""
    await session.execute(
        update(Upload)
        .where(Upload.id == upload_id, Upload.state.in_(("stored", "verified")))
        .values(state="rejected")
    )
    await progress.report(session, [upload_id], "rejected", reason=reason, hint=hint)


async def on_their_way(session: AsyncSession, *, after: int) -> list[int]:
    """A page of the uploads with keys above `after` that are stored and not finished; not the very newest."""
    return list(
        await session.scalars(
            select(Upload.id)
            .where(
                Upload.state.in_(("stored", "verified")),
                Upload.stage.not_in(progress.TERMINAL),
                Upload.id > after,
                Upload.created_at < func.now() - text(f"interval '{QUIET}'"),
            )
            .order_by(Upload.id)
            .limit(500)
        )
    )


async def key_of(session: AsyncSession, upload_id: int) -> str:
    """Where an upload's bytes are stored."""
    return (await session.scalars(select(Upload.key).where(Upload.id == upload_id))).one()
