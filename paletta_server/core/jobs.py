"""Background work on PostgreSQL: a job is deferred in the transaction that makes it necessary.

The engine is procrastinate; nothing outside this module names it. Jobs run at least once, so every job must bear
running twice. A worker that dies is noticed by its missing heartbeat and its jobs are handed to another
(`reap_stalled`); how often a job may kill its worker is for the job itself to count.
"""

import asyncio
import json
import logging
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Concatenate, ParamSpec, cast

import procrastinate
import psycopg
from croniter import croniter
from procrastinate import exceptions as engine_errors
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core import turns
from paletta_server.core.database import fail_as_statement, psycopg_connection
from paletta_server.core.dbconnect import conninfo_async
from paletta_server.core.job_records import Tallies, note_failure
from paletta_server.core.logging import bind_job
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.core.telemetry import CARRIER, carried, job_span

P = ParamSpec("P")
log = logging.getLogger(__name__)

_app = procrastinate.App(connector=procrastinate.PsycopgConnector())

HEARTBEAT_SECONDS = 5.0
STOP_SECONDS = 3.0
"""How long a running job may take to finish when its worker is told to stop."""
FILMS, REST = ("ingest",), ("default", "mail")
REST_AT_ONCE = 4
"""Mails and sweeps mostly wait for somebody else."""


class Retries(procrastinate.BaseRetryStrategy):
    """Another try after 3, 9, 27 … seconds, at most `longest_wait` apart, `most` times. What is given up is logged."""

    def __init__(self, most: int, *, longest_wait: int) -> None:
        self._most = most
        self._longest_wait = longest_wait

    def get_retry_decision(
        self, *, exception: BaseException, job: procrastinate.jobs.Job
    ) -> procrastinate.RetryDecision | None:
        tries = max(0, job.attempts - self._not_counted(job))
        if tries >= self._most:
            log.error("job given up", extra={"job": job.task_name, "job_id": job.id, "tries": tries + 1})
            return None
        # 3 ** 15 is half a year already, and nobody needs the power of a thousand.
        return procrastinate.RetryDecision(
            retry_in={"seconds": min(3 ** (min(tries, 14) + 1), self._longest_wait)}
        )

    def _not_counted(self, job: procrastinate.jobs.Job) -> int:
        """How often it only met workers of an older release, which leaves it all the tries of its own."""
        return 0 if self is UNKNOWN else cast(int, job.task_kwargs.get(PUT_OFF, 0))


RETRIES = Retries(8, longest_wait=6561)
"""For trouble around a job (database or store away): 2.7 hours in all. What a job knows how to fail at it handles
itself."""
INSISTENT = Retries(174, longest_wait=3600)
"""A week. For what nobody looks for again when it is not done, such as deleting what no row points at any more."""


PUT_OFF = "_put_off"
"""An argument of jobs: how often workers that did not know them put them off."""
UNKNOWN = Retries(48, longest_wait=300)
"""Four hours. A job of a newer release, met by a worker that is restarted later."""


class UnknownJob(Exception):
    """This release has no such job; another that works on the same queue may."""


class _Tasks(dict[str, Any]):
    """The engine's tasks by name. It would have a job that it does not know fail for good, and in silence: while a
    release is rolled out that is any job which the new one has queued and an old worker takes."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name) or _unknown


async def _put_off(context: procrastinate.JobContext, /, **_arguments: Any) -> None:
    runtime = cast(Runtime, context.additional_context["runtime"])
    error = UnknownJob(
        f"`{context.job.task_name}` is no job of this release: are all workers of the newest one?"
    )
    await note_failure(runtime.db, cast(int, context.job.id), context.job.task_name, error)
    so_far = cast(int, context.job.task_kwargs.get(PUT_OFF, 0))
    async with runtime.db.transaction() as session:
        await session.execute(
            text("UPDATE procrastinate_jobs SET args = args || CAST(:more AS jsonb) WHERE id = :id"),
            {"more": json.dumps({PUT_OFF: so_far + 1}), "id": context.job.id},
        )
    raise error


_unknown: Any = _app.task(name="core.unknown", pass_context=True, retry=UNKNOWN)(_put_off)
_app.tasks = _Tasks(_app.tasks)


def job(
    name: str, *, queue: str = "default", cron: str | None = None, retries: Retries | None = None
) -> Callable[
    [Callable[Concatenate[Runtime, P], Awaitable[None]]], Callable[Concatenate[Runtime, P], Awaitable[None]]
]:
    """Register `async def f(runtime, **arguments)` as a job.

    With `cron` it also runs on that schedule (UTC), one turn at a time and each for so long only (`turns`). A turn that
    fails is left to the next one: while it waited for another try, no turn could be queued, and once one is, it cannot
    be tried again. One that comes daily may ask for `retries` all the same; they must be over before the next.
    """

    def register(
        function: Callable[Concatenate[Runtime, P], Awaitable[None]],
    ) -> Callable[Concatenate[Runtime, P], Awaitable[None]]:
        async def run(context: procrastinate.JobContext, /, **arguments: Any) -> None:
            bind_job(context.task.name, context.job.id)
            arguments.pop("timestamp", None)  # what the scheduler adds
            arguments.pop(PUT_OFF, None)
            carrier = arguments.pop(CARRIER, None)
            runtime = cast(Runtime, context.additional_context["runtime"])
            tallies: Tallies = context.additional_context["tallies"]
            work = partial(cast(Callable[..., Awaitable[None]], function), runtime, **arguments)
            began = time.monotonic()
            try:
                with job_span(name, queue, carrier):
                    if cron is None:
                        await work()
                    elif not await turns.take(runtime.db, name, turns.limit(cron), work):
                        return
            except Exception as error:
                tallies.note(name, queue, "failed", time.monotonic() - began)
                await note_failure(runtime.db, cast(int, context.job.id), name, error)
                raise
            tallies.note(name, queue, "done", time.monotonic() - began)

        task = _app.task(
            name=name,
            queue=queue,
            pass_context=True,
            retry=retries or (False if cron else RETRIES),
            queueing_lock=name if cron else None,
        )(run)
        if cron:
            _app.periodic(cron=cron)(task)  # type: ignore[arg-type]  # its stub insists on a timestamp parameter
        return function

    return register


async def defer(session: AsyncSession, name: str, *, delay_seconds: int = 0, **arguments: Any) -> None:
    """Queue the job `name` in the session's own transaction: it exists if, and only if, that commits."""
    await defer_all(session, name, [arguments], delay_seconds=delay_seconds)


async def defer_all(
    session: AsyncSession, name: str, each: Sequence[dict[str, Any]], *, delay_seconds: int = 0
) -> None:
    """Queue the job `name` once for each set of arguments, in one statement. Raises what a statement of the session
    would: callers need not know that it was not one."""
    if not each:
        return
    connection = await psycopg_connection(session)
    configured = _app.configure_task(
        name,
        allow_unknown=False,
        connection=connection,
        schedule_in={"seconds": delay_seconds} if delay_seconds else None,
    )
    trace = carried()
    try:
        await configured.batch_defer_async(*({**arguments, **trace} for arguments in each))
    except engine_errors.ConnectorException as error:
        if isinstance(error.__cause__, psycopg.Error):
            await fail_as_statement(session, error.__cause__)
        raise


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[procrastinate.App]:
    """The engine with every registered job, connected to this service's database."""
    connector = procrastinate.PsycopgConnector(
        # Asked for each connection.
        conninfo=partial(conninfo_async, settings),
        min_size=1,
        max_size=settings.worker_concurrency + REST_AT_ONCE + 4,
    )
    with _app.replace_connector(connector) as app:
        async with app.open_async():
            yield app


async def run_worker(
    runtime: Runtime, *, name: str, concurrency: int, rest: int = REST_AT_ONCE, wait: bool = True
) -> None:
    """Work until told to stop (SIGTERM, SIGINT), or with `wait=False` until the queues are empty; then the schedule
    queues nothing meanwhile.

    `concurrency` films are ingested at once. Everything else has a lane of its own, `rest` wide, so that a mail never
    waits behind a film. On a stop, running jobs get a moment to finish; what is cut off is taken up by another worker.
    """
    async with opened(runtime.settings) as app:
        schedule = app.periodic_registry
        if not wait:
            app.periodic_registry = procrastinate.periodic.PeriodicRegistry()  # type: ignore[no-untyped-call]
        tallies = Tallies()
        beside = [
            asyncio.create_task(_reap_for_ever(app, runtime.settings.stalled_seconds)),
            asyncio.create_task(tallies.write_for_ever(runtime.db)),
        ]
        with_them = {"runtime": runtime, "tallies": tallies}
        lanes = [
            asyncio.create_task(_lane(app, with_them, f"{name}-{label}", queues, width, wait=wait))
            for label, queues, width in (("films", FILMS, concurrency), ("rest", REST, rest))
        ]
        try:
            if wait:
                await make_up(app, runtime)
                await _until_stopped(lanes)
            else:
                await asyncio.gather(*lanes)
        finally:
            app.periodic_registry = schedule  # the engine is one for the process
            for task in beside:
                task.cancel()
            await tallies.write(runtime.db)


async def _lane(
    app: procrastinate.App,
    context: dict[str, Any],
    name: str,
    queues: Sequence[str],
    width: int,
    *,
    wait: bool,
) -> None:
    runtime: Runtime = context["runtime"]
    await app.run_worker_async(
        name=name,
        queues=list(queues),
        concurrency=width,
        wait=wait,
        additional_context=context,
        delete_jobs=procrastinate.jobs.DeleteJobCondition.SUCCESSFUL,
        update_heartbeat_interval=HEARTBEAT_SECONDS,
        stalled_worker_timeout=float(runtime.settings.stalled_seconds),
        # Without waiting, "stopping" begins when the queue is empty: running jobs end by themselves.
        shutdown_graceful_timeout=STOP_SECONDS if wait else float("inf"),
        fetch_job_polling_interval=2.0,
        install_signal_handlers=False,
    )


async def _until_stopped(lanes: Sequence[asyncio.Task[None]]) -> None:
    """Wait for a signal, or for a lane to end by itself (it lost its database); then end all of them."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    # On Windows loops know no signals; there Ctrl-C cancels this task itself.
    signals = () if sys.platform == "win32" else (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    told = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({told, *lanes}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
        for task in (told, *lanes):
            task.cancel()
        outcomes = await asyncio.gather(*lanes, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome


async def make_up(app: procrastinate.App, runtime: Runtime) -> list[str]:
    """Queue daily jobs whose last turn nobody was there for; their names.

    The engine leaves out turns that are more than ten minutes late: on a machine that is off every night they would
    never run. Whether one ran is read from the hours' tallies; a service younger than a day has missed nothing.
    """
    async with runtime.db.transaction() as session:
        rows = await session.execute(text("SELECT task, max(last_at) FROM job_tallies GROUP BY task"))
        found: dict[str, datetime] = dict(rows.all())
        now, old = (
            await session.execute(
                text("SELECT now(), coalesce(min(hour) < now() - interval '1 day', false) FROM job_tallies")
            )
        ).one()
    missed = []
    for name, _, due in scheduled_tasks():
        last = found.get(name)
        first = due(now)
        if due(first) - first < timedelta(hours=20) or (last is None and not old):
            continue
        if last is None or due(last) < now - timedelta(minutes=10):
            with suppress(engine_errors.AlreadyEnqueued):
                await app.configure_task(name).defer_async(timestamp=int(now.timestamp()))
                missed.append(name)
    if missed:
        log.info("missed turns are made up for", extra={"jobs": missed})
    return missed


_TO_STOP = "SELECT abort_requested FROM procrastinate_jobs WHERE id = %(job_id)s"
_DROP = """
    DELETE FROM procrastinate_jobs stale
    WHERE id = %(job_id)s AND status = 'doing' AND worker_id IS NOT DISTINCT FROM %(worker_id)s
      AND EXISTS (SELECT FROM procrastinate_jobs next
        WHERE next.queueing_lock = %(queueing_lock)s AND next.status = 'todo')
"""


async def reap_stalled(app: procrastinate.App, stalled_seconds: float) -> int:
    """Give the jobs of workers that stopped breathing back to the queue; how many there were."""
    stalled = list(await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=stalled_seconds))
    for stale in stalled:
        log.warning("job taken from a silent worker", extra={"job": stale.task_name, "job_id": stale.id})
        try:
            asked = await app.connector.execute_query_one_async(_TO_STOP, job_id=stale.id)
            if asked["abort_requested"]:  # somebody wanted it to end, and it has
                assert stale.id is not None
                await app.job_manager.finish_job_by_id_async(
                    stale.id, status=procrastinate.jobs.Status.ABORTED, delete_job=False
                )
                continue
            await app.job_manager.retry_job(stale)
        except engine_errors.ConnectorException:
            # Another worker's reaper was first, or the job ended after all, or the next turn of its schedule waits
            # already: then this one is over, or it would hold back its successors for ever.
            if stale.queueing_lock is not None:
                await app.connector.execute_query_async(
                    _DROP, job_id=stale.id, worker_id=stale.worker_id, queueing_lock=stale.queueing_lock
                )
            log.info("stalled job was dealt with", extra={"job_id": stale.id})
    return len(stalled)


async def _reap_for_ever(app: procrastinate.App, stalled_seconds: int) -> None:
    """Runs beside the queue and not in it: a reaper that is itself a job can get stuck like any other."""
    while True:
        try:
            await reap_stalled(app, stalled_seconds)
        except Exception:  # nobody would notice that it is gone until a worker dies
            log.exception("looking for stalled jobs failed; trying again")
        await asyncio.sleep(max(1.0, stalled_seconds / 3))


async def has_job(session: AsyncSession, name: str, **arguments: Any) -> bool:
    """Whether a job with these arguments is waiting or running."""
    found = await session.scalar(
        text(
            "SELECT EXISTS (SELECT FROM procrastinate_jobs WHERE task_name = :name"
            " AND status NOT IN ('succeeded', 'failed', 'cancelled', 'aborted') AND args @> CAST(:arguments AS jsonb))"
        ),
        {"name": name, "arguments": json.dumps(arguments)},
    )
    return bool(found)


def scheduled_tasks() -> list[tuple[str, str, Callable[[datetime], datetime]]]:
    """Every job with a schedule: its name, its cron line, and when it is due next after a moment (UTC)."""

    def due(cron: str) -> Callable[[datetime], datetime]:
        return lambda after: cast(datetime, croniter(cron, after).get_next(datetime))

    tasks = sorted(_app.periodic_registry.periodic_tasks.values(), key=lambda one: one.task.name)
    return [(one.task.name, one.cron, due(one.cron)) for one in tasks]
