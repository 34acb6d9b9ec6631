"""Events as processes write them, and the figures that come of them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.analytics import books, rollup
from paletta_server.analytics.collector import Collector
from paletta_server.core.runtime import Runtime
from tests.support.days import within_a_day


@asynccontextmanager
async def still(app: FastAPI) -> AsyncIterator[Collector]:
    """A collector in the place of the application's, which writes when it is told to and at no other time.

    The day stays the same one for as long as a test lasts: figures are of days.
    """
    theirs: Collector = app.state.analytics
    await theirs.flush()  # what tests before this one noted
    runtime: Runtime = app.state.runtime
    await within_a_day(runtime)
    async with runtime.db.transaction() as session:
        for table in ("batches", "events", "visitors", "counts", "queries", "salts"):
            await session.execute(text(f"DELETE FROM analytics_{table}"))
    app.state.analytics = Collector(runtime.db)
    try:
        yield app.state.analytics
    finally:
        app.state.analytics = theirs


async def add_up(runtime: Runtime) -> None:
    """What the job does every minute."""
    await rollup.roll_up(runtime.db)
    await books.sum_up(runtime.db)


async def write(
    session: AsyncSession,
    count: int,
    *,
    days_ago: float = 0,
    kind: str = "search",
    query: str | None = "tram",
) -> None:
    """A batch of events of as many visitors, every second of which found nothing."""
    batch = await session.scalar(
        text("INSERT INTO analytics_batches (ref, events) VALUES (:ref, :count) RETURNING id"),
        {"ref": uuid.uuid4(), "count": count},
    )
    await session.execute(
        text(
            "INSERT INTO analytics_events (batch_id, number, at, kind, visitor, query, hits)"
            " SELECT :batch, n, now() - make_interval(secs => :seconds), :kind, n, :query, n % 2"
            " FROM generate_series(1, :count) AS n"
        ),
        {"batch": batch, "seconds": days_ago * 86_400, "kind": kind, "query": query, "count": count},
    )


async def rows(runtime: Runtime, query: str, **values: Any) -> list[tuple[Any, ...]]:
    async with runtime.db.transaction() as session:
        return [tuple(row) for row in await session.execute(text(query), values)]


async def today(runtime: Runtime) -> datetime:
    """The database's day."""
    ((found,),) = await rows(runtime, "SELECT current_date")
    return found  # type: ignore[no-any-return]
