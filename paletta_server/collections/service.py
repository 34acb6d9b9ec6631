"""Saved lists of clips: everybody's own, and nobody else's business."""

from collections.abc import Sequence

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts.security import Principal
from paletta_server.clips import searchable
from paletta_server.clips import views as clips
from paletta_server.collections.models import Collection, CollectionItem
from paletta_server.core.errors import Conflict
from paletta_server.core.ids import new_uid, resolve
from paletta_server.core.pagination import PageParams, newest_first

MOST_COLLECTIONS = 200
MOST_CLIPS = 1_000
"""In one list; a person who wants more makes another."""


async def find(session: AsyncSession, user: Principal, text: str, *, lock: bool = False) -> Collection:
    """A list of the caller's own, by id (abbreviated or not) or by name. Raises `NotFound` for any other."""
    query = select(Collection).where(
        Collection.user_id == user.user_id, func.lower(Collection.name) == text.strip().lower()
    )
    named = await session.scalar(query.with_for_update() if lock else query)
    if named is not None:
        return named
    return await resolve(
        session, Collection, text, Collection.user_id == user.user_id, kind="collection", lock=lock
    )


async def create(session: AsyncSession, user: Principal, name: str) -> Collection:
    """Raises `Conflict` (`exists`, `too_many`)."""
    many = await session.scalar(select(func.count()).where(Collection.user_id == user.user_id)) or 0
    if many >= MOST_COLLECTIONS:
        raise Conflict(f"you have {many} lists already", code="too_many", hint="delete one")
    made: Collection | None = await session.scalar(
        insert(Collection)
        .values(uid=new_uid("collection"), user_id=user.user_id, name=name)
        .on_conflict_do_nothing()
        .returning(Collection)
    )
    if made is None:
        raise Conflict(f"you have a list `{name}` already", code="exists", hint="choose another name")
    return made


async def rename(session: AsyncSession, user: Principal, text: str, name: str) -> Collection:
    """Raises `NotFound` and `Conflict` (`exists`)."""
    found = await find(session, user, text, lock=True)
    taken = await session.scalar(
        select(Collection.id).where(
            Collection.user_id == user.user_id,
            func.lower(Collection.name) == name.lower(),
            Collection.id != found.id,
        )
    )
    if taken is not None:
        raise Conflict(f"you have a list `{name}` already", code="exists", hint="choose another name")
    await session.execute(update(Collection).where(Collection.id == found.id).values(name=name))
    await session.refresh(found)
    return found


async def remove(session: AsyncSession, user: Principal, text: str) -> None:
    found = await find(session, user, text, lock=True)
    await session.execute(delete(Collection).where(Collection.id == found.id))


async def list_own(
    session: AsyncSession, user: Principal, page: PageParams
) -> tuple[Sequence[Collection], str | None]:
    """The caller's lists, the newest first."""
    query = select(Collection).where(Collection.user_id == user.user_id)
    rows, cursor = await newest_first(session, query, Collection.id, page)
    return [found for (found,) in rows], cursor


async def counts(session: AsyncSession, keys: Sequence[int]) -> dict[int, int]:
    """How many clips are in each; empty lists are left out."""
    rows = await session.execute(
        select(CollectionItem.collection_id, func.count())
        .where(CollectionItem.collection_id.in_(keys))
        .group_by(CollectionItem.collection_id)
    )
    return dict(rows.all())


async def clip_keys(session: AsyncSession, collection_id: int) -> list[int]:
    """The keys of the clips in a list, in the order in which they were added."""
    return list(
        await session.scalars(
            select(CollectionItem.clip_id)
            .where(CollectionItem.collection_id == collection_id)
            .order_by(CollectionItem.added_at, CollectionItem.clip_id)
        )
    )


async def add(session: AsyncSession, user: Principal, text: str, clip_ids: Sequence[str]) -> Collection:
    """Put clips that the caller may see into a list; what is there already stays. All of them, or none.

    Raises `NotFound`, also for a clip that may not be seen, and `Conflict` (`too_many`).
    """
    found = await find(session, user, text, lock=True)
    keys = [(await clips.find(session, user, clip)).id for clip in clip_ids]
    there = (await counts(session, [found.id])).get(found.id, 0)
    if there + len(keys) > MOST_CLIPS:
        raise Conflict(f"a list has at most {MOST_CLIPS:,} clips", code="too_many", hint="make another list")
    for key in dict.fromkeys(keys):  # one by one: `added_at` keeps their order
        await session.execute(
            insert(CollectionItem)
            .values(collection_id=found.id, clip_id=key, added_at=func.clock_timestamp())
            .on_conflict_do_nothing()
        )
    return found


async def take_out(session: AsyncSession, user: Principal, text: str, clip: str) -> Collection:
    """Raises `NotFound` for a clip that is not in the list; one that left the shop can still be taken out."""
    found = await find(session, user, text, lock=True)
    key = await searchable.find_among(session, clip, await clip_keys(session, found.id))
    await session.execute(
        delete(CollectionItem).where(CollectionItem.collection_id == found.id, CollectionItem.clip_id == key)
    )
    return found
