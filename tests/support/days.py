"""Tests that lie within one day."""

from __future__ import annotations

import asyncio

from sqlalchemy import text

from paletta_server.core.runtime import Runtime

_SECONDS = 120
"""More than any such test takes."""


async def within_a_day(runtime: Runtime) -> None:
    """Return when midnight (UTC, by the database's clock) is far enough for the day and the month to be the same ones
    until the test is over; nearly always at once."""
    left = text(
        "SELECT extract(epoch FROM date_trunc('day', now(), 'UTC') + interval '24 hours' - now())::float"
    )
    while True:
        async with runtime.db.transaction() as session:
            seconds = await session.scalar(left)
        assert seconds is not None
        if seconds > _SECONDS:
            return
        await asyncio.sleep(seconds)
