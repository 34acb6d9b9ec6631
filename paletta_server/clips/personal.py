"""What clips hold on one person: figures, the export, and taking all of them out of the shop."""

from typing import Any

from sqlalchemy import func, null, select, update
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.audit.service import record
from paletta_server.clips import service
from paletta_server.clips.models import Clip, ClipCategory, ClipTag
from paletta_server.core.database import Base
from paletta_server.core.export import Sections
from paletta_server.uploads import progress
from paletta_server.uploads import service as uploads

FIELDS = (
    "title", "description", "editorial", "mature", "illustration", "location", "shot_date", "source", "releases",
    "copyright", "batch", "price", "people", "shot", "ai_generated", "exclusive", "agencies", "poster_at",
    "file_name", "size", "sha256", "processing", "review", "reason", "taken_down_for", "duration", "width", "height",
    "fps", "codec", "created_at", "listed_at", "deleted_at",
)  # fmt: skip
"""Of a clip, what its contributor said and what became of it."""


FORGOTTEN = "erased"
_WORDS = ("location", "source", "releases", "copyright", "batch", "people", "editorial", "agencies")


async def summary(session: AsyncSession, user_id: int) -> dict[str, Any]:
    """Clips that are not deleted, and how many of them the public sees."""
    there, live = (
        await session.execute(
            select(
                func.count().filter(Clip.deleted_at.is_(None)), func.count().filter(service.listed())
            ).where(Clip.owner_id == user_id)
        )
    ).one()
    return {"clips": there, "live": live}


def sections(user_id: int) -> Sections:
    tags, categories = Base.metadata.tables["tags"], Base.metadata.tables["categories"]
    keywords = (
        select(func.array_agg(aggregate_order_by(tags.c.name, ClipTag.position)))
        .select_from(ClipTag)
        .join(tags, tags.c.id == ClipTag.tag_id)
        .where(ClipTag.clip_id == Clip.id)
    )
    slugs = (
        select(func.array_agg(aggregate_order_by(categories.c.slug, ClipCategory.position)))
        .select_from(ClipCategory)
        .join(categories, categories.c.id == ClipCategory.category_id)
        .where(ClipCategory.clip_id == Clip.id)
    )
    clips = select(
        Clip.uid.label("id"),
        keywords.scalar_subquery().label("keywords"),
        slugs.scalar_subquery().label("categories"),
        *(getattr(Clip, name) for name in FIELDS),
    ).where(Clip.owner_id == user_id)
    return {"clips": clips.order_by(Clip.id)}


async def standing_of(session: AsyncSession, user_id: int, *, limit: int = 100) -> list[int]:
    """Keys of their clips that are not deleted, some at a time."""
    mine = select(Clip.id).where(Clip.owner_id == user_id, Clip.deleted_at.is_(None))
    return list(await session.scalars(mine.order_by(Clip.id).limit(limit)))


async def forget(session: AsyncSession, user_id: int) -> None:
    """Take the words out of their deleted clips: what a film was called stays, since it was sold under that name."""
    await session.execute(
        update(Clip)
        .where(Clip.owner_id == user_id, Clip.deleted_at.is_not(None))
        .values(
            description="",
            file_name=FORGOTTEN,
            # SQL's NULL, and not the `null` that JSON knows.
            **dict.fromkeys(_WORDS, null()),
        )
        .execution_options(synchronize_session=False)
    )


async def withdraw(session: AsyncSession, clip_id: int) -> None:
    """Delete one clip for an owner who is gone, as they would; buyers keep what they bought."""
    uid = await session.scalar(select(Clip.uid).where(Clip.id == clip_id, Clip.deleted_at.is_(None)))
    if uid is None:
        return
    await progress.hold(session, [clip_id])
    await uploads.cancel_for_clip(session, clip_id)
    await service.remove(session, [clip_id])
    if await progress.is_made(session, clip_id):
        await progress.report_clips(session, [clip_id], "deleted", told=True)
    await record(session, None, "clip:deleted", uid)
