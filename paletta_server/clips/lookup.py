"""Any clip, deleted ones too, by its id or key: for operators' lists."""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.clips.models import Clip
from paletta_server.core.ids import resolve


async def key_of(session: AsyncSession, text: str) -> int:
    """The key of a clip by (the beginning of) its id. Raises `NotFound`, `Conflict` (`ambiguous_id`)."""
    return (await resolve(session, Clip, text, kind="clip")).id


async def named(session: AsyncSession, clip_ids: Collection[int]) -> dict[int, tuple[str, str]]:
    """Public ids and titles, by key."""
    rows = await session.execute(select(Clip.id, Clip.uid, Clip.title).where(Clip.id.in_(clip_ids)))
    return {key: (uid, title) for key, uid, title in rows}
