"""Tests that lie within one day, or one hour."""

from __future__ import annotations

import asyncio

from sqlalchemy import text

from paletta_server.core.runtime import Runtime

_SECONDS = 120
"""More than any such test takes."""


async def within_a_day(runtime: Runtime) -> None:
    """Return when midnight (UTC, by the database's clock) is far enough for the day and the month to be the same ones
    until the test is over; nearly always at once."""
    await _within(runtime, "day", "24 hours")


async def within_an_hour(runtime: Runtime) -> None:
    """The same of the hour."""
    await _within(runtime, "hour", "1 hour")


async def _within(runtime: Runtime, unit: str, long: str) -> None:
    left = text(
        f"SELECT extract(epoch FROM date_trunc('{unit}', now(), 'UTC') + interval '{long}' - now())::float"
    )
    while True:
        async with runtime.db.transaction() as session:
            seconds = await session.scalar(left)
        assert seconds is not None
        if seconds > _SECONDS:
            return
        await asyncio.sleep(seconds)
