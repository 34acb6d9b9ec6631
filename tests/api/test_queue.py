"""The queue as operators see it: lists, figures, another run, an end; and the mails about what is dead."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

import paletta_server.tasks  # noqa: F401 (every job there is)
from paletta_server.core import queue
from paletta_server.core.errors import Conflict, NotFound
from paletta_server.core.jobs import defer, make_up, opened, reap_stalled, run_worker
from paletta_server.core.runtime import Runtime
from paletta_server.operations import failures
from tests.support.stack import MailSink

RunJobs = Callable[[], Awaitable[None]]
OPERATOR = "olga@example.org"


@pytest.fixture
def watched(runtime: Runtime) -> Runtime:
    """The same service, whose operators want to hear of failures."""
    return replace(runtime, settings=runtime.settings.model_copy(update={"operator_emails": (OPERATOR,)}))


async def broken(runtime: Runtime, name: str) -> int:
    """Let a job fail for good, by an argument that it does not know and after all of its tries; its id."""
    async with runtime.db.transaction() as session:
        await defer(session, name, wrong=1)
        await session.execute(
            text("UPDATE procrastinate_jobs SET attempts = 1000 WHERE args = '{\"wrong\": 1}'")
        )
    await run_worker(runtime, name="test", concurrency=1, wait=False)
    async with runtime.db.transaction() as session:
        found = await queue.listed(session, status="failed", task=name)
    return found[0].id


async def load_of(session: AsyncSession, task: str) -> queue.Load:
    # Not the only one: a worker of a test also queues what is due by the clock.
    return next(one for one in await queue.stats(session) if one.task == task)


async def test_a_dead_job_says_why_and_runs_again(runtime: Runtime) -> None:
    dead = await broken(runtime, "accounts.sweep")
    async with runtime.db.transaction() as session:
        [job] = await queue.listed(session, status="failed")
        assert (job.id, job.task, job.queue) == (dead, "accounts.sweep", "default")
        assert job.error is not None
        assert "unexpected keyword argument" in job.error
        load = await load_of(session, "accounts.sweep")
        assert (load.task, load.failed, load.failed_runs, load.per_hour) == ("accounts.sweep", 1, 1, 0)
        turn = next(one for one in await queue.schedule(session) if one.task == "accounts.sweep")
        assert (turn.cron, turn.last_outcome, turn.state) == ("17 4 * * *", "failed", None)
        assert turn.last_at is not None
        assert turn.next_at > turn.last_at
        assert await queue.retry(session, dead) == "accounts.sweep"
        await session.execute(text("UPDATE procrastinate_jobs SET args = '{}' WHERE id = :id"), {"id": dead})
    await run_worker(runtime, name="test", concurrency=1, wait=False)
    async with runtime.db.transaction() as session:
        assert await queue.listed(session, task="accounts.sweep") == []
        turn = next(one for one in await queue.schedule(session) if one.task == "accounts.sweep")
        assert turn.last_outcome == "done"
        load = await load_of(session, "accounts.sweep")
        assert (load.failed, load.failed_runs) == (0, 1)
        assert load.per_hour > 0
        with pytest.raises(NotFound):
            await queue.retry(session, dead)


async def test_a_scheduled_one_is_not_queued_twice(runtime: Runtime) -> None:
    dead = await broken(runtime, "accounts.sweep")
    async with runtime.db.transaction() as session:
        await defer(session, "accounts.sweep")
    async with runtime.db.transaction() as session:
        with pytest.raises(Conflict, match="next turn"):
            await queue.retry(session, dead)
        # The transaction goes on: others may be retried in it.
        assert len(await queue.listed(session, status="waiting", task="accounts.sweep")) == 1


async def test_cancelling(runtime: Runtime) -> None:
    dead = await broken(runtime, "accounts.sweep")
    async with runtime.db.transaction() as session:
        await defer(session, "mail.deliver", email_id=1)
        await defer(session, "mail.deliver", delay_seconds=60, email_id=2)
        later, waiting = await queue.listed(session, status="waiting", task="mail.deliver")
        assert (later.arguments, waiting.arguments) == ({"email_id": 2}, {"email_id": 1})
        load = await load_of(session, "mail.deliver")
        assert (load.waiting, load.later) == (1, 1)
        for one in (dead, waiting.id):
            assert (await queue.cancel(session, one))[1] is True
        with pytest.raises(Conflict):
            await queue.cancel(session, dead)
        await session.execute(
            text("UPDATE procrastinate_jobs SET status = 'doing' WHERE id = :id"), {"id": later.id}
        )
        assert await queue.cancel(session, later.id) == ("mail.deliver", False)
        assert [one.stopping for one in await queue.listed(session, status="running")] == [True]
        with pytest.raises(Conflict):
            await queue.retry(session, later.id)


async def test_what_is_old_is_forgotten(runtime: Runtime) -> None:
    await broken(runtime, "accounts.sweep")
    async with runtime.db.transaction() as session:
        assert await queue.prune(session, days=30) == 0
        await session.execute(text("UPDATE procrastinate_events SET at = now() - interval '31 days'"))
        assert await queue.prune(session, days=30) == 1
        assert await session.scalar(text("SELECT count(*) FROM job_failures")) == 0


async def test_the_first_of_a_kind_is_told_at_once_and_the_rest_once_a_day(
    runtime: Runtime, watched: Runtime, mailbox: MailSink, run_jobs: RunJobs
) -> None:
    async def tell() -> int:
        async with watched.db.transaction() as session:
            return await failures.tell_first(session, watched.settings)

    first = await broken(runtime, "accounts.sweep")
    assert await tell() == 1
    assert await tell() == 0
    second = await broken(runtime, "accounts.sweep")
    assert await tell() == 0, "the operators know of this kind"
    await broken(runtime, "uploads.abort")
    assert await tell() == 1
    await run_jobs()
    about = mailbox.to(OPERATOR)
    assert [mail["Subject"].partition(" (")[0] for mail in about] == [
        "A job failed: accounts.sweep",
        "A job failed: uploads.abort",
    ]
    assert "unexpected keyword argument" in about[0].get_content()
    mailbox.clear()
    for _ in range(2):
        async with watched.db.transaction() as session:
            assert await failures.report(session, watched.settings) == 3
    await run_jobs()
    [daily] = mailbox.to(OPERATOR)
    assert daily["Subject"].startswith("3 jobs failed")
    assert all(str(one) in daily.get_content() for one in (first, second))


async def test_a_retried_job_that_dies_again_is_told_again(
    runtime: Runtime, watched: Runtime, mailbox: MailSink, run_jobs: RunJobs
) -> None:
    dead = await broken(runtime, "accounts.sweep")
    for _ in range(2):
        async with watched.db.transaction() as session:
            assert await failures.tell_first(session, watched.settings) == 1
        async with runtime.db.transaction() as session:
            await queue.retry(session, dead)
            await session.execute(
                text("UPDATE procrastinate_jobs SET attempts = 1000 WHERE id = :id"), {"id": dead}
            )
        await run_worker(runtime, name="test", concurrency=1, wait=False)
    await run_jobs()
    assert len(mailbox.to(OPERATOR)) == 2


async def test_turns_that_nobody_was_there_for_are_made_up_for(runtime: Runtime) -> None:
    hours_ago = "INSERT INTO job_tallies (task, hour, queue, last_at, last_outcome) VALUES" + ", ".join(
        f"('{task}', date_trunc('hour', now() - interval '{hours} hours'), 'default',"
        f" now() - interval '{hours} hours', 'done')"
        for task, hours in (("accounts.sweep", 30), ("mail.sweep", 30), ("analytics.prune", 0))
    )
    async with opened(runtime.settings) as app:
        assert await make_up(app, runtime) == [], "a new service has missed nothing"
        async with runtime.db.transaction() as session:
            await session.execute(text(hours_ago))
        missed = await make_up(app, runtime)
        assert "accounts.sweep" in missed
        assert "payments.prune_events" in missed, "it never ran"
        assert "analytics.prune" not in missed
        assert "mail.sweep" not in missed, "its next turn is never far"
        assert await make_up(app, runtime) == [], "they wait in the queue already"
    await run_worker(runtime, name="test", concurrency=1, wait=False)
    async with runtime.db.transaction() as session:
        assert await queue.listed(session, task="accounts.sweep") == []


async def test_a_worker_that_stays_makes_up_and_keeps_the_schedule_and_one_that_empties_queues_does_not(
    runtime: Runtime,
) -> None:
    ran = "SELECT count(*) FROM job_tallies WHERE task = 'accounts.sweep' AND last_at > now() - interval '1 hour'"
    kept = "SELECT count(*) FROM procrastinate_periodic_defers WHERE task_name = 'mail.sweep'"
    async with runtime.db.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO job_tallies (task, hour, queue, last_at, last_outcome) VALUES ('accounts.sweep',"
                " date_trunc('hour', now() - interval '30 hours'), 'default', now() - interval '30 hours', 'done')"
            )
        )
    await run_worker(runtime, name="test", concurrency=1, wait=False)
    async with runtime.db.transaction() as session:
        assert (await session.scalar(text(ran)), await session.scalar(text(kept))) == (0, 0)
    staying = asyncio.create_task(run_worker(runtime, name="test", concurrency=1))
    try:
        async with asyncio.timeout(60):
            found = (0, 0)
            while not all(found):
                await asyncio.sleep(0.05)  # a tally is written now and then, and announces nothing
                async with runtime.db.transaction() as session:
                    found = (await session.scalar(text(ran)) or 0, await session.scalar(text(kept)) or 0)
    finally:
        staying.cancel()
        await asyncio.gather(staying, return_exceptions=True)


async def test_what_was_to_stop_and_lost_its_worker_is_over(runtime: Runtime) -> None:
    async with runtime.db.transaction() as session:
        await defer(session, "mail.deliver", email_id=1)
        [job] = await queue.listed(session, task="mail.deliver")
        await session.execute(
            text(
                "WITH gone AS (INSERT INTO procrastinate_workers (last_heartbeat)"
                " VALUES (now() - interval '1 hour') RETURNING id)"
                " UPDATE procrastinate_jobs SET status = 'doing', worker_id = gone.id FROM gone"
                " WHERE procrastinate_jobs.id = :id"
            ),
            {"id": job.id},
        )
        await queue.cancel(session, job.id)
    async with opened(runtime.settings) as app:
        assert await reap_stalled(app, 30) == 1
    async with runtime.db.transaction() as session:
        [over] = await queue.listed(session, task="mail.deliver")
    assert over.status == "cancelled"


async def test_without_operators_nobody_is_mailed(
    runtime: Runtime, mailbox: MailSink, run_jobs: RunJobs
) -> None:
    await broken(runtime, "accounts.sweep")
    async with runtime.db.transaction() as session:
        assert await failures.tell_first(session, runtime.settings) == 0
        assert await failures.report(session, runtime.settings) == 1
    await run_jobs()
    assert mailbox.messages == []
