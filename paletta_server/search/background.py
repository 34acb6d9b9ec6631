"""How work beside the requests treats the database: it comes again, so it need not insist."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core.database import Database

log = logging.getLogger(__name__)

T = TypeVar("T")


@asynccontextmanager
async def yielding(database: Database) -> AsyncIterator[AsyncSession]:
    """A short transaction that waits for no lock for long.

    Shorter than PostgreSQL's deadlock_timeout (1 s): whoever waits for us while we wait for them goes first.
    """
    async with database.transaction() as session:
        await session.execute(text("SET LOCAL lock_timeout = 300"))
        yield session


@contextmanager
def shrugged(words: str) -> Iterator[None]:
    """Log what goes wrong and go on."""
    try:
        yield
    except Exception:
        log.warning(words, exc_info=True)


async def to_the_end(function: Callable[..., T], *arguments: Any) -> T:
    """`asyncio.to_thread` for what must not be left half done: cancelled, it waits for the thread first.

    An index that a thread still writes to can neither be closed nor given to another.
    """
    work = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait({work})
        raise
