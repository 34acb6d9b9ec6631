"""Every event once, whoever is killed, runs twice, comes late or writes meanwhile; and nothing is kept for ever."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import text

from paletta_server.analytics import collector as collecting
from paletta_server.analytics import rollup
from paletta_server.analytics.collector import Collector
from paletta_server.core.database import Database
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.embedded.ports import free_ports
from tests.support.analytics import rows, still, write

SUMS = "SELECT kind, sum(times), sum(visitors), sum(empty) FROM analytics_counts GROUP BY 1 ORDER BY 1"


@pytest.fixture
async def collector(app: FastAPI) -> AsyncIterator[Collector]:
    async with still(app) as made:
        yield made


async def written(runtime: Runtime, *counts: int, **more: object) -> None:
    for count in counts:
        async with runtime.db.transaction() as session:
            await write(session, count, **more)  # type: ignore[arg-type]


async def test_many_batches_are_added_up_in_steps(runtime: Runtime, collector: Collector) -> None:
    await written(runtime, 10, 10, 40, 1, 1)
    assert await rollup.roll_up(runtime.db, most=20) == 5
    assert await rows(runtime, SUMS) == [("search", 62, 40, 30)]
    assert await rows(runtime, "SELECT query, searches, empty, hits FROM analytics_queries") == [
        ("tram", 62, 30, 1)
    ]
    assert await rollup.roll_up(runtime.db) == 0


KILLED = """
import asyncio, sys
from paletta_server.analytics import rollup
from paletta_server.core.database import Database
from paletta_server.core.settings import Settings

async def main():
    database = Database(Settings(_env_file=None))
    async with database.transaction() as session:
        assert await rollup._step(session, 1000)
        print("added up, not committed", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_roll_up_that_is_killed_is_done_by_the_next(
    runtime: Runtime, collector: Collector, settings: Settings
) -> None:
    await written(runtime, 10)
    environment = {**os.environ, "PALETTA_DATABASE_URL": settings.libpq_url}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, env=environment, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert b"not committed" in await process.stdout.readline()
    assert await rollup.roll_up(runtime.db) == 0, "one at a time"
    assert await rows(runtime, SUMS) == []
    process.kill()
    await process.wait()
    async with asyncio.timeout(60), runtime.db.transaction() as session:
        # Free as soon as the server has noticed.
        await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": rollup.LOCK})
    assert await rollup.roll_up(runtime.db) == 1
    assert await rows(runtime, SUMS) == [("search", 10, 10, 5)]


async def test_eight_at_once_add_up_once(runtime: Runtime, collector: Collector) -> None:
    await written(runtime, *[5] * 20)
    done = await asyncio.gather(*(rollup.roll_up(runtime.db, most=10) for _ in range(8)))
    while more := await rollup.roll_up(runtime.db):
        done.append(more)
    assert sum(done) == 20
    assert await rows(runtime, SUMS) == [("search", 100, 5, 40)]


async def test_a_slow_transaction_is_not_passed_over(runtime: Runtime, collector: Collector) -> None:
    async with runtime.db.transaction() as slow:
        await write(slow, 3, query="slow")
        await written(runtime, 10)
        assert await rollup.roll_up(runtime.db) == 1
    assert await rows(runtime, SUMS) == [("search", 10, 10, 5)]
    assert await rollup.roll_up(runtime.db) == 1
    assert await rows(runtime, SUMS) == [("search", 13, 10, 6)]


async def test_late_events_belong_to_their_day(runtime: Runtime, collector: Collector) -> None:
    await written(runtime, 4, days_ago=5)
    await rollup.roll_up(runtime.db)
    await written(runtime, 4, days_ago=5)
    await written(runtime, 2, kind="view", query=None)
    await rollup.roll_up(runtime.db)
    assert await rows(
        runtime, "SELECT current_date - day, kind, times, visitors FROM analytics_counts ORDER BY 1"
    ) == [(0, "view", 2, 2), (5, "search", 8, 4)]


# ---- writing


async def test_a_batch_whose_commit_was_not_heard_of_is_there_once(
    runtime: Runtime, collector: Collector, client: httpx.AsyncClient
) -> None:
    await client.get("/v1/clips", params={"q": "quokka"})
    event = collector._waiting[-1]
    batch = collecting._Batch(collecting.uuid.uuid4(), [event] * 3)
    await collector.flush()
    for _ in range(2):
        await collector._write(batch)
    assert await rollup.roll_up(runtime.db) == 2
    assert await rows(runtime, SUMS) == [("search", 4, 1, 4)]


async def test_events_wait_for_a_database_that_is_away(
    app: FastAPI, collector: Collector, client: httpx.AsyncClient, settings: Settings
) -> None:
    away = Database(
        settings.model_copy(update={"database_url": SecretStr("postgresql://127.0.0.1:1/nowhere")})
    )
    theirs, collector._database = collector._database, away
    for _ in range(3):
        assert (await client.get("/v1/clips", params={"q": "quokka"})).status_code == 200
    for _ in range(2):
        with pytest.raises(Exception, match="connect"):
            await collector.flush()
    assert collector.held == 3
    await away.close()
    collector._database = theirs
    await collector.flush()
    runtime: Runtime = app.state.runtime
    assert await rows(runtime, "SELECT count(*), count(DISTINCT batch_id) FROM analytics_events") == [(3, 1)]


@asynccontextmanager
async def api(settings: Settings, folder: Path, port: int) -> AsyncIterator[httpx.AsyncClient]:
    """An API process of its own, told to stop at the end."""
    environment = {
        **os.environ,
        "PALETTA_DATABASE_URL": settings.libpq_url,
        "PALETTA_SEARCH_DIR": str(folder),
        "PALETTA_S3_ENDPOINT": str(settings.s3_endpoint),
        "PALETTA_S3_BUCKET": settings.s3_bucket,
        "PALETTA_LOG_LEVEL": "WARNING",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "paletta_server.cli", "api", "--port", str(port), env=environment
    )
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60
        ) as client:
            async with asyncio.timeout(60):
                while process.returncode is None:
                    try:
                        if (await client.get("/v1/clips/suggest")).status_code == 200:
                            break
                    except httpx.TransportError:
                        pass
                    await asyncio.sleep(0.05)
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) in (0, -signal.SIGTERM)


async def test_two_api_processes_write_while_it_is_added_up(
    runtime: Runtime, collector: Collector, settings: Settings, tmp_path: Path
) -> None:
    async def look(client: httpx.AsyncClient, times: int) -> None:
        for number in range(times):
            answer = await client.get(
                "/v1/clips",
                params={"q": f"tram {number % 7}"},
                headers={"Authorization": f"Bearer {number % 10}"},
            )
            assert answer.status_code == 200

    ports = free_ports(2)
    async with AsyncExitStack() as stack:
        clients = await asyncio.gather(
            *(stack.enter_async_context(api(settings, tmp_path, port)) for port in ports)
        )
        looking = asyncio.gather(*(look(client, 60) for client in clients))
        while not looking.done():
            await rollup.roll_up(runtime.db)
            await asyncio.wait({looking}, timeout=0.05)
        await looking
    # What the processes held when they were told to stop is there too.
    await rollup.roll_up(runtime.db)
    assert await rows(runtime, SUMS) == [("search", 120, 10, 120)], "the same visitors at both"
    assert await rows(runtime, "SELECT count(*), sum(searches) FROM analytics_queries") == [(7, 120)]


# ---- forgetting


async def test_old_events_go_their_sums_stay(
    runtime: Runtime, collector: Collector, settings: Settings
) -> None:
    await written(runtime, 50, days_ago=91)
    await written(runtime, 5, days_ago=89)
    await rollup.roll_up(runtime.db)
    sums = await rows(runtime, SUMS)
    assert await rollup.prune(runtime.db, days=settings.analytics_raw_days, most=7) == 50
    assert await rows(runtime, "SELECT count(*) FROM analytics_events") == [(5,)]
    assert await rows(runtime, SUMS) == sums == [("search", 55, 55, 27)]


async def test_what_is_not_counted_yet_is_not_forgotten(runtime: Runtime, collector: Collector) -> None:
    await written(runtime, 5, days_ago=91)
    assert await rollup.prune(runtime.db, days=90) == 0
    await rollup.roll_up(runtime.db)
    assert await rollup.prune(runtime.db, days=90) == 5


async def test_who_came_is_forgotten_within_days(
    runtime: Runtime, collector: Collector, client: httpx.AsyncClient, database_url: str
) -> None:
    await client.get("/v1/clips", params={"q": "quokka"})
    await collector.flush()
    await written(runtime, 5, days_ago=4)
    await rollup.roll_up(runtime.db)
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute("INSERT INTO analytics_salts VALUES (current_date - 1, 'a'), (current_date - 2, 'b')")
        db.execute("UPDATE analytics_batches SET counted_at = now() - interval '25 hours' WHERE events = 5")
    async with runtime.db.transaction() as session:
        await rollup.forget(session)
    assert await rows(runtime, "SELECT current_date - day FROM analytics_salts ORDER BY 1") == [(0,), (1,)]
    assert await rows(runtime, "SELECT current_date - day FROM analytics_visitors") == [(0,)]
    assert await rows(runtime, "SELECT events FROM analytics_batches") == [(1,)]
