"""How work beside the requests treats the database: it comes again, so it need not insist."""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core.database import Database

log = logging.getLogger(__name__)


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
