"""What collections hold on one person: the export, and erasing."""

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.collections.models import Collection, CollectionItem
from paletta_server.core.export import Sections


async def count(session: AsyncSession, user_id: int) -> int:
    return await session.scalar(select(func.count()).where(Collection.user_id == user_id)) or 0


def sections(user_id: int) -> Sections:
    lists = (
        select(
            Collection.uid.label("id"),
            Collection.name,
            Collection.created_at,
            func.count(CollectionItem.clip_id).label("clips"),
        )
        .join(CollectionItem, CollectionItem.collection_id == Collection.id, isouter=True)
        .where(Collection.user_id == user_id)
        .group_by(Collection.id)
    )
    return {"collections": lists.order_by(Collection.id)}


async def forget(session: AsyncSession, user_id: int) -> None:
    """All of their lists."""
    await session.execute(delete(Collection).where(Collection.user_id == user_id))
