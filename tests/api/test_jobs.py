"""How often the queue tries again what fails, and what becomes of the rest."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

import httpx
import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import InternalError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

import paletta_server.tasks  # noqa: F401 (every job there is)
from paletta_server.core import queue, turns
from paletta_server.core.database import psycopg_connection
from paletta_server.core.jobs import defer, run_worker
from paletta_server.core.runtime import Runtime
from paletta_server.core.storage import ObjectStore
from paletta_server.embedded.ports import free_ports
from tests.conftest import MakeUser
from tests.support.locks import blocked
from tests.support.orders import Till

DAY = 86_400


async def tried(runtime: Runtime, name: str, *, attempts: int | None = None) -> tuple[str, float]:
    """Let the waiting job `name` run now, after `attempts`: its status, and the seconds from then to its next try."""
    async with runtime.db.transaction() as session:
        await session.execute(
            text(
                "UPDATE procrastinate_jobs SET scheduled_at = now() - interval '1 second',"
                " attempts = coalesce(:attempts, attempts) WHERE status = 'todo' AND task_name = :name"
            ),
            {"attempts": attempts, "name": name},
        )
    await run_worker(runtime, name="test", concurrency=1, wait=False)
    async with runtime.db.transaction() as session:
        row = await session.execute(
            text(
                "SELECT status::text, extract(epoch FROM scheduled_at - (SELECT max(at) FROM procrastinate_events"
                " WHERE job_id = job.id AND type IN ('deferred_for_retry', 'failed')))"
                " FROM procrastinate_jobs AS job WHERE task_name = :name"
            ),
            {"name": name},
        )
        status, wait = row.one()
    return status, float(wait)


@pytest.mark.parametrize(
    ("name", "table", "tries"), [("mail.sweep", "outbox_emails", 1), ("accounts.sweep", "mail_links", 9)]
)
async def test_a_scheduled_job_that_fails_makes_way_for_its_next_turn(
    runtime: Runtime, name: str, table: str, tries: int
) -> None:
    """While one waits for another try, the next turn is not queued. One that comes daily is over before that."""
    async with runtime.db.transaction() as session:
        await session.execute(text(f"ALTER TABLE {table} RENAME TO away"))
        await defer(session, name)
    try:
        waits: list[float] = []
        status = "todo"
        while status == "todo":
            status, wait = await tried(runtime, name)
            waits.append(wait)
    finally:
        async with runtime.db.transaction() as session:
            await session.execute(text(f"ALTER TABLE away RENAME TO {table}"))
    assert (status, len(waits)) == ("failed", tries)
    assert sum(waits[:-1]) < 20 * 3600
    async with runtime.db.transaction() as session:
        await defer(session, name)
    await run_worker(runtime, name="test", concurrency=1, wait=False)
    async with runtime.db.transaction() as session:
        statuses = text("SELECT status::text FROM procrastinate_jobs WHERE task_name = :name")
        left = list(await session.scalars(statuses, {"name": name}))
    assert left == ["failed"], "the next turn did its work"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("clips.discard", {"keys": ["originals/clip_x/run_x/a.mov"]}),
        ("ingest.discard", {"prefix": "media/clip_x/run_x/"}),
        ("uploads.abort", {"key": "originals/clip_x/a.mov", "multipart_id": "x"}),
    ],
)
async def test_deleting_outlasts_a_store_that_is_away_for_days(
    runtime: Runtime, caplog: pytest.LogCaptureFixture, name: str, arguments: dict[str, object]
) -> None:
    nowhere = runtime.settings.model_copy(update={"s3_endpoint": f"http://127.0.0.1:{free_ports(1)[0]}"})
    async with ObjectStore(nowhere) as store:
        away = replace(runtime, store=store)
        async with runtime.db.transaction() as session:
            await defer(session, name, **arguments)
        waits: dict[int, float] = {}
        tries: Iterable[int] = (0, 1, 7, 8, 173)
        for attempts in tries:
            status, waits[attempts] = await tried(away, name, attempts=attempts)
            assert status == "todo", attempts
        assert [round(wait, -1) for wait in waits.values()] == [0, 10, 3600, 3600, 3600]
        assert 6 * DAY < 165 * waits[8] < 8 * DAY
        with caplog.at_level(logging.ERROR, "paletta_server.core.jobs"):
            status, _ = await tried(away, name, attempts=174)
    assert status == "failed"
    [given_up] = [record for record in caplog.records if record.message == "job given up"]
    assert given_up.__dict__["job"] == name


async def test_what_an_unpaid_order_may_need_is_looked_at_again_once_however_often_deleting_fails(
    runtime: Runtime, make_user: MakeUser
) -> None:
    till = await Till.of(runtime, (await make_user("customer")).email, (await make_user("contributor")).email)
    await till.sell(paid=False, store=False)
    async with runtime.db.transaction() as session:
        reserved = sorted(await session.scalars(text("SELECT key FROM order_item_files")))
        await defer(session, "clips.discard", keys=[*reserved, "originals/clip_x/run_x/a.mov"])
    nowhere = runtime.settings.model_copy(update={"s3_endpoint": f"http://127.0.0.1:{free_ports(1)[0]}"})
    async with ObjectStore(nowhere) as store:
        failures = 0
        while failures < 3:
            await run_worker(replace(runtime, store=store), name="test", concurrency=1, wait=False)
            async with runtime.db.transaction() as session:
                failed = (
                    "UPDATE procrastinate_jobs SET scheduled_at = now() WHERE attempts > 0 RETURNING attempts"
                )
                failures = max([*await session.scalars(text(failed)), 0])
    async with runtime.db.transaction() as session:
        rows = await session.execute(
            text(
                "SELECT args->'keys', attempts, scheduled_at > now() + interval '23 hours'"
                " FROM procrastinate_jobs WHERE task_name = 'clips.discard' ORDER BY attempts"
            )
        )
        found = [tuple(row) for row in rows]
    assert found == [(reserved, 0, True), (["originals/clip_x/run_x/a.mov"], 3, False)]


async def test_a_turn_is_taken_once_at_a_time_and_again_after(runtime: Runtime) -> None:
    done = []

    async def inner() -> None:
        done.append("inner")

    async def outer() -> None:
        assert not await turns.take(runtime.db, "payments.reconcile", 60, inner)
        assert await turns.take(runtime.db, "mail.sweep", 60, inner)

    assert await turns.take(runtime.db, "payments.reconcile", 60, outer)
    assert await turns.take(runtime.db, "payments.reconcile", 60, inner)
    assert done == ["inner"] * 2


async def test_a_turn_that_hangs_makes_way(runtime: Runtime) -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    async def late() -> None:
        raise TimeoutError("of its own")

    async def work() -> None:
        return

    with pytest.raises(turns.TurnTooLong, match=r"mail\.sweep was cut off after 0\.2 seconds"):
        await turns.take(runtime.db, "mail.sweep", 0.2, hang)
    with pytest.raises(TimeoutError, match="of its own"):
        await turns.take(runtime.db, "mail.sweep", 60, late)
    assert await turns.take(runtime.db, "mail.sweep", 60, work)


async def test_a_turn_outlives_its_lock(runtime: Runtime) -> None:
    """What was done is done, though the server went away; and the lock of who is gone is free."""

    async def cut() -> None:
        async with runtime.db.transaction() as session:
            await session.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid IN"
                    " (SELECT pid FROM pg_stat_activity WHERE datname = current_database())"
                )
            )
            await session.execute(text("SELECT 1"))
        assert await turns.take(runtime.db, "mail.sweep", 60, again)

    async def again() -> None:
        return

    assert await turns.take(runtime.db, "mail.sweep", 60, cut)


@pytest.mark.parametrize(
    ("cron", "seconds"),
    [("* * * * *", 900), ("*/5 * * * *", 900), ("17 * * * *", 3600), ("17 4 * * *", 21_600)],
)
def test_a_turn_may_take_as_long_as_it_is_to_the_next(cron: str, seconds: float) -> None:
    assert turns.limit(cron) == seconds


async def test_a_request_that_cannot_queue_its_job_is_told_to_come_back(
    runtime: Runtime, client: httpx.AsyncClient, make_user: MakeUser
) -> None:
    person = await make_user("contributor")
    async with runtime.db.transaction() as holder:
        await holder.execute(text("LOCK TABLE procrastinate_jobs IN ACCESS EXCLUSIVE MODE"))
        asked = asyncio.create_task(client.post("/v1/auth/password-reset", json={"email": person.email}))
        await blocked(runtime)
        # As its own limit would in ten seconds.
        await holder.execute(
            text(
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
                " WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))"
            )
        )
        answer = await asked
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) >= 1


async def test_a_job_of_a_newer_release_waits_for_a_worker_that_knows_it(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    async with runtime.db.transaction() as session:
        await defer(session, "mail.sweep")
        await session.execute(
            text("UPDATE procrastinate_jobs SET task_name = 'mail.of_tomorrow', queueing_lock = NULL")
        )
    status, wait = await tried(runtime, "mail.of_tomorrow")
    assert (status, 0 < wait < 5) == ("todo", True)
    status, wait = await tried(runtime, "mail.of_tomorrow", attempts=20)
    assert (status, 290 < wait < 301) == ("todo", True)
    assert "job given up" not in [record.message for record in caplog.records]
    status, _ = await tried(runtime, "mail.of_tomorrow", attempts=48)
    assert status == "failed"
    [given_up] = [record for record in caplog.records if record.message == "job given up"]
    assert given_up.__dict__["job"] == "mail.of_tomorrow"


async def test_being_put_off_by_older_workers_costs_a_job_none_of_its_own_tries(runtime: Runtime) -> None:
    known, other = "ingest.discard", "ingest.discard_of_tomorrow"
    rename = text("UPDATE procrastinate_jobs SET task_name = :name")
    async with runtime.db.transaction() as session:
        await defer(session, known, prefix="media/clip_x/run_x/")
        await session.execute(rename, {"name": other})
    for _ in range(3):
        await tried(runtime, other)
    async with (
        runtime.db.transaction() as session
    ):  # a worker of the new release takes it, and its store is away
        await session.execute(rename, {"name": known})
    nowhere = runtime.settings.model_copy(update={"s3_endpoint": f"http://127.0.0.1:{free_ports(1)[0]}"})
    async with ObjectStore(nowhere) as store:
        status, wait = await tried(replace(runtime, store=store), known)
    assert (status, 0 < wait <= 3) == ("todo", True), "the first of its own"
    await tried_well(runtime, known)


async def test_an_operators_retry_gives_a_job_that_was_put_off_its_own_tries(runtime: Runtime) -> None:
    async with runtime.db.transaction() as session:
        await defer(session, "ingest.discard", prefix="media/clip_x/run_x/")
        put_off = "UPDATE procrastinate_jobs SET status = 'failed', attempts = 49, args = args || '{\"_put_off\": 49}'"
        job = await session.scalar(text(put_off + " RETURNING id"))
        assert job is not None
        assert "_put_off" not in (await queue.listed(session))[0].arguments
        await queue.retry(session, job)
    nowhere = runtime.settings.model_copy(update={"s3_endpoint": f"http://127.0.0.1:{free_ports(1)[0]}"})
    async with ObjectStore(nowhere) as store:
        status, wait = await tried(replace(runtime, store=store), "ingest.discard")
    assert (status, 1 < wait <= 3) == ("todo", True), "not at once, again and again"


async def tried_well(runtime: Runtime, name: str) -> None:
    """Let the waiting job `name` run now: it does its work."""
    async with runtime.db.transaction() as session:
        await session.execute(text("UPDATE procrastinate_jobs SET scheduled_at = now()"))
    await run_worker(runtime, name="test", concurrency=1, wait=False)
    async with runtime.db.transaction() as session:
        left = text("SELECT status::text FROM procrastinate_jobs WHERE task_name = :name")
        assert list(await session.scalars(left, {"name": name})) == []


async def test_a_connection_on_which_no_job_can_be_queued_is_given_up(runtime: Runtime) -> None:
    async def pid_of(session: AsyncSession) -> int:
        return int(await session.scalar(text("SELECT pg_backend_pid()")) or 0)

    async def queue_after(trouble: str) -> None:
        async with runtime.db.transaction() as session:
            with suppress(psycopg.OperationalError):  # of the one that ends itself
                await (await psycopg_connection(session)).execute(trouble)
            await defer(session, "mail.sweep")

    async with runtime.db.transaction() as session:
        before = await pid_of(session)
    with pytest.raises(InternalError) as caught:  # as on a server that is a replica now
        await queue_after("SET TRANSACTION READ ONLY")
    assert caught.value.connection_invalidated
    async with runtime.db.transaction() as session:
        assert before != (before := await pid_of(session))
    with pytest.raises(OperationalError) as lost:
        await queue_after("SELECT pg_terminate_backend(pg_backend_pid())")
    assert lost.value.connection_invalidated
    async with runtime.db.transaction() as session:
        assert before != await pid_of(session)
