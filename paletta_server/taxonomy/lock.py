"""One lock over the taxonomy, held until the transaction ends.

Whoever links clips to categories and tags, or makes one, *shares* it; an apply, which rewrites many at once,
takes it alone. So two applies never interleave, and nothing is created or linked under an apply's feet.
"""

from psycopg import errors
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core.errors import Unavailable

KEY = 0x7461786F6E6F6D79  # "taxonomy" in ASCII: the advisory lock's number


async def share(session: AsyncSession) -> None:
    """Keep applies out; others who share may come. Raises `Unavailable` when an apply takes too long."""
    await _take(session, func.pg_advisory_xact_lock_shared(KEY))


async def take(session: AsyncSession) -> None:
    """Keep everybody out. Raises `Unavailable` when that does not happen within `lock_timeout`."""
    await _take(session, func.pg_advisory_xact_lock(KEY))


async def _take(session: AsyncSession, function: ColumnElement[None]) -> None:
    try:
        await session.execute(select(function))
    except OperationalError as error:
        if isinstance(error.orig, errors.LockNotAvailable):
            raise Unavailable("the taxonomy is being changed by another", code="taxonomy_busy") from error
        raise
