"""Turns of a schedule: one at a time, and none for ever.

The engine only sees to it that no second turn *waits*. Of a slow one, each minute would start another, until every
slot is taken; and one that hangs would never make way.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

from croniter import croniter
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from paletta_server.core.database import Database

log = logging.getLogger(__name__)

SHORTEST, LONGEST = timedelta(minutes=15), timedelta(hours=6)
"""How long a turn may take: as long as it is to the next one, within these. What sweeps commits step by step, so the
next turn goes on where one was cut off."""
GRACE_SECONDS = 60.0
_SEED = 0x7475726E  # "turn" in ASCII: keeps these advisory locks apart from others


class TurnTooLong(Exception):
    """A turn was cut off."""


def limit(cron: str) -> float:
    """How many seconds a turn of this schedule may take."""
    due = croniter(cron, datetime(2026, 1, 1, tzinfo=UTC))
    first: datetime = due.get_next(datetime)
    pause: timedelta = due.get_next(datetime) - first
    return min(LONGEST, max(SHORTEST, pause)).total_seconds()


async def take(database: Database, name: str, seconds: float, work: Callable[[], Awaitable[None]]) -> bool:
    """Do the work unless another turn of this name is under way, anywhere; whether it was done.

    Raises `TurnTooLong` after `seconds`, and what the work raises.
    """
    async with _alone(database, name, seconds) as mine:
        if not mine:
            log.info("the turn before is still under way", extra={"job": name})
            return False
        try:
            async with asyncio.timeout(seconds) as clock:
                await work()
        except TimeoutError as error:
            if not clock.expired():
                raise
            raise TurnTooLong(f"{name} was cut off after {seconds:g} seconds") from error
    return True


@asynccontextmanager
async def _alone(database: Database, name: str, seconds: float) -> AsyncIterator[bool]:
    """Whether nobody else has the lock of this name, which is then held until the block ends.

    It belongs to a transaction on a connection of its own, which neither writes nor reads rows, and so keeps no vacuum
    waiting. It goes with the connection when a worker dies, and where a whole machine is gone, after the turn's time. A
    lock of the session would do the same, but not behind a pooler that hands connections out by the transaction.
    """
    async with database.engine.connect() as connection:
        row = await connection.execute(
            text(
                "SELECT set_config('idle_in_transaction_session_timeout', :most, true),"
                " pg_try_advisory_xact_lock(hashtextextended(:name, :seed))"
            ),
            {"most": f"{int((seconds + GRACE_SECONDS) * 1000)}ms", "name": name, "seed": _SEED},
        )
        _, mine = row.one()
        if not mine:
            await connection.rollback()
        try:
            yield bool(mine)
        finally:
            with suppress(SQLAlchemyError):  # where the connection was lost, so was the lock
                await connection.rollback()
