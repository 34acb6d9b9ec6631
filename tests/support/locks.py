"""Two connections that get in each other's way."""

from __future__ import annotations

import asyncio

from sqlalchemy import text

from paletta_server.core.runtime import Runtime


async def blocked(runtime: Runtime, connections: int = 1) -> None:
    """Return once so many connections wait for a lock of another."""
    query = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND cardinality(pg_blocking_pids(pid)) > 0"
    )
    try:
        # Less than whoever holds the lock may be idle.
        async with asyncio.timeout(40):
            while True:
                async with runtime.db.transaction() as session:  # each looks anew: one keeps its first look
                    if await session.scalar(query) >= connections:
                        return
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError("nobody waited") from None
