"""Holds on the object store: while one is in force, nothing that a database snapshot may refer to is deleted.

Who copies the store takes a hold and commits it before its snapshot is taken. An object is only ever deleted by a
job that was deferred in the transaction which stopped referring to it. Where that committed before the snapshot, the
snapshot does not know the object; where it committed after, its job sees the hold and puts itself off. A hold whose
holder died lapses by itself.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from paletta_server.core.database import Base, Database
from paletta_server.core.ids import new_uid

LIVES = timedelta(minutes=10)
RENEW_SECONDS = 60.0
PUT_OFF_SECONDS = 120
"""When a deletion looks again whether the hold is over."""


class StorageHold(Base):
    __tablename__ = "storage_holds"

    uid: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str]
    until: Mapped[datetime]


async def take(session: AsyncSession, reason: str) -> str:
    """A new hold's id; it is in force once this transaction commits."""
    hold = StorageHold(uid=new_uid("hold"), reason=reason, until=func.now() + LIVES)
    session.add(hold)
    await session.flush()
    return hold.uid


async def renew(session: AsyncSession, uid: str) -> bool:
    """Keep a hold for another while; False where it had lapsed, so that what it guarded may be gone."""
    kept = await session.scalar(
        update(StorageHold)
        .where(StorageHold.uid == uid, StorageHold.until > func.now())
        .values(until=func.now() + LIVES)
        .returning(StorageHold.uid)
    )
    return kept is not None


async def drop(session: AsyncSession, uid: str) -> None:
    """End a hold, and forget those that lapsed."""
    await session.execute(
        delete(StorageHold).where((StorageHold.uid == uid) | (StorageHold.until < func.now()))
    )


async def in_force(session: AsyncSession) -> str | None:
    """Why nothing may be deleted now, or None."""
    return await session.scalar(
        select(StorageHold.reason).where(StorageHold.until > func.now()).order_by(StorageHold.uid).limit(1)
    )


@asynccontextmanager
async def held(db: Database, reason: str) -> AsyncIterator[Callable[[], Awaitable[bool]]]:
    """Hold the store for as long as the block runs; gives the question whether the hold was never lost."""
    async with db.transaction() as session:
        hold = await take(session, reason)
    lost = False

    async def still() -> bool:
        nonlocal lost
        async with db.transaction() as session:
            lost = not await renew(session, hold) or lost
        return not lost

    async def keep() -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            with suppress(Exception):  # the database may be away for a moment; the end tells
                await still()

    keeper = asyncio.create_task(keep())
    try:
        yield still
    finally:
        keeper.cancel()
        with suppress(Exception):  # it lapses by itself
            async with db.transaction() as session:
                await drop(session, hold)
