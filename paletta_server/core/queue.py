"""Looking at the queue and mending it, for operators: over the engine's own tables, as `core.jobs` is.

A job is *dead* once it failed and is not tried again. It stays to be read, until it is retried, cancelled or pruned.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from paletta_server.core.errors import Conflict, NotFound
from paletta_server.core.jobs import scheduled_tasks

Status = Literal["waiting", "running", "failed", "cancelled"]
_STATUSES: Mapping[str, str] = {
    "todo": "waiting",
    "doing": "running",
    "failed": "failed",
    "cancelled": "cancelled",
    "aborted": "cancelled",
}
TALLIES_KEPT_DAYS = 90


@dataclass(frozen=True)
class Job:
    """A job of the queue. `at`: when it is due, began or ended, by its status; `error` is of its last failure."""

    id: int
    task: str
    queue: str
    status: Status
    arguments: dict[str, Any]
    tries: int
    at: datetime | None
    error: str | None
    stopping: bool
    """Whether a running one was asked to stop."""


_LIST = """
    SELECT jobs.id, task_name, queue_name, jobs.status::text, args - '_trace' - '_put_off', attempts,
        CASE WHEN jobs.status = 'todo' AND scheduled_at > now() THEN scheduled_at
            ELSE (SELECT max(at) FROM procrastinate_events WHERE job_id = jobs.id) END AS at,
        failures.error, abort_requested
    FROM procrastinate_jobs jobs LEFT JOIN job_failures failures ON failures.job_id = jobs.id
    WHERE {where} ORDER BY jobs.id DESC LIMIT :most"""


async def listed(
    session: AsyncSession,
    *,
    status: Status | None = None,
    task: str | None = None,
    queue: str | None = None,
    most: int = 50,
) -> list[Job]:
    """Jobs that wait, run, failed or were cancelled, newest first. Those that succeeded are gone."""
    names = [name for name, known in _STATUSES.items() if known == status] or list(_STATUSES)
    where = ["jobs.status::text = ANY(:names)"]
    where += ["task_name = :task"] if task else []
    where += ["queue_name = :queue"] if queue else []
    rows = await session.execute(
        text(_LIST.format(where=" AND ".join(where))),
        {"names": names, "task": task, "queue": queue, "most": most},
    )
    return [Job(row[0], row[1], row[2], _STATUSES[row[3]], *row[4:]) for row in rows]  # type: ignore[arg-type]


async def retry(session: AsyncSession, job_id: int) -> str:
    """Let a dead or cancelled job run now, with all of its tries; its task.

    Raises `NotFound`, and `Conflict`: `not_failed`, or `queued_already` where the next turn of a scheduled one waits.
    """
    await _lock(session, job_id, "failed", "cancelled", "aborted", code="not_failed", verb="retried")
    try:
        async with session.begin_nested():
            task = await session.scalar(
                text(
                    "UPDATE procrastinate_jobs SET status = 'todo', attempts = 0, scheduled_at = NULL,"
                    " args = args - '_put_off', abort_requested = false WHERE id = :id RETURNING task_name"
                ),
                {"id": job_id},
            )
    except IntegrityError as error:
        raise Conflict(
            f"the next turn of job {job_id} waits in the queue already", code="queued_already"
        ) from error
    await session.execute(text("DELETE FROM job_failures WHERE job_id = :id"), {"id": job_id})
    return str(task)


async def cancel(session: AsyncSession, job_id: int) -> tuple[str, bool]:
    """Drop a job that waits or is dead, or ask a running one to stop; its task, and whether it is over now.

    Raises `NotFound`, and `Conflict` (`cancelled_already`).
    """
    status = await _lock(
        session, job_id, "todo", "doing", "failed", code="cancelled_already", verb="cancelled"
    )
    change = "abort_requested = true" if status == "doing" else "status = 'cancelled'"
    task = await session.scalar(
        text(f"UPDATE procrastinate_jobs SET {change} WHERE id = :id RETURNING task_name"),  # noqa: S608
        {"id": job_id},
    )
    return str(task), status != "doing"


async def _lock(session: AsyncSession, job_id: int, *wanted: str, code: str, verb: str) -> str:
    """The engine's status of a job, which is locked. Raises `NotFound`, and `Conflict` where it is not `wanted`."""
    status = await session.scalar(
        text("SELECT status::text FROM procrastinate_jobs WHERE id = :id FOR UPDATE"), {"id": job_id}
    )
    if status is None:
        raise NotFound("job", str(job_id), hint="those that succeeded are not kept")
    if status not in wanted:
        raise Conflict(f"job {job_id} is {_STATUSES.get(status, status)}: it cannot be {verb}", code=code)
    return str(status)


@dataclass(frozen=True)
class Load:
    """How one task of a queue is doing. `per_hour` and `seconds`, of one run, are of this hour and the one before."""

    queue: str
    task: str
    waiting: int
    later: int
    """Waiting, but not due yet: another try, or a delay."""
    running: int
    failed: int
    oldest_seconds: float | None
    """For how long the oldest that is due has been."""
    per_hour: float
    failed_runs: int
    seconds: float | None


_STATS = """
    WITH here AS (
        SELECT queue_name AS queue, task_name AS task,
            count(*) FILTER (WHERE status = 'todo' AND coalesce(scheduled_at, now()) <= now()) AS waiting,
            count(*) FILTER (WHERE status = 'todo' AND scheduled_at > now()) AS later,
            count(*) FILTER (WHERE status = 'doing') AS running,
            count(*) FILTER (WHERE status = 'failed') AS failed,
            max(extract(epoch FROM now() - coalesce(scheduled_at, (
                SELECT min(at) FROM procrastinate_events WHERE job_id = jobs.id AND type = 'deferred')))
            ) FILTER (WHERE status = 'todo' AND coalesce(scheduled_at, now()) <= now()) AS oldest
        FROM procrastinate_jobs jobs GROUP BY 1, 2
    ), lately AS (
        SELECT queue, task, sum(done) AS done, sum(job_tallies.failed) AS failed, sum(seconds) AS seconds
        FROM job_tallies WHERE hour >= date_trunc('hour', now()) - interval '1 hour' GROUP BY 1, 2
    )
    SELECT queue, task, coalesce(waiting, 0), coalesce(later, 0), coalesce(running, 0),
        coalesce(here.failed, 0), oldest,
        coalesce(done, 0) / (1 + extract(epoch FROM now() - date_trunc('hour', now())) / 3600),
        coalesce(lately.failed, 0), seconds / nullif(done + lately.failed, 0)
    FROM here FULL JOIN lately USING (queue, task) ORDER BY queue, task"""


async def stats(session: AsyncSession | AsyncConnection) -> list[Load]:
    """Each task that has jobs in the queue or ran of late."""
    rows = await session.execute(text(_STATS))
    return [
        Load(*row[:6], _float(row[6]), float(row[7]), int(row[8]), _float(row[9]))  # type: ignore[call-arg]
        for row in rows
    ]


async def waiting(session: AsyncSession, queues: Iterable[str]) -> dict[str, int]:
    """How many jobs of each queue are due and not taken; also the queues that have none."""
    rows = await session.execute(
        text(
            "SELECT queue_name, count(*) FROM procrastinate_jobs"
            " WHERE status = 'todo' AND coalesce(scheduled_at, now()) <= now() GROUP BY 1"
        )
    )
    found = {str(row[0]): int(row[1]) for row in rows}
    return {name: found.get(name, 0) for name in queues}


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


@dataclass(frozen=True)
class Turn:
    """A job with a schedule (UTC). `state` is `waiting` or `running` while a turn is in the queue."""

    task: str
    cron: str
    last_at: datetime | None
    last_outcome: str | None
    state: str | None
    next_at: datetime


async def schedule(session: AsyncSession) -> list[Turn]:
    """Every periodic job, by name."""
    rows = await session.execute(
        text(
            "SELECT DISTINCT ON (task) task, last_at, last_outcome FROM job_tallies ORDER BY task, last_at DESC"
        )
    )
    last = {task: (at, outcome) for task, at, outcome in rows}
    busy = await session.execute(
        text(
            "SELECT task_name, max(CASE status WHEN 'doing' THEN 'running' ELSE 'waiting' END)"
            " FROM procrastinate_jobs WHERE status IN ('todo', 'doing') GROUP BY 1"
        )
    )
    states: dict[str, str] = dict(busy.all())
    now = datetime.now(UTC)
    return [
        Turn(task, cron, *last.get(task, (None, None)), states.get(task), next_after(now))
        for task, cron, next_after in scheduled_tasks()
    ]


async def prune(session: AsyncSession, *, days: int) -> int:
    """Forget jobs that failed or were cancelled more than `days` ago, and old figures; how many jobs went."""
    gone = await session.execute(
        text(
            "DELETE FROM procrastinate_jobs jobs WHERE status IN ('failed', 'cancelled', 'aborted') AND NOT EXISTS"
            " (SELECT FROM procrastinate_events WHERE job_id = jobs.id AND at > now() - make_interval(days => :days))"
        ),
        {"days": days},
    )
    await session.execute(
        text(
            "DELETE FROM job_failures WHERE NOT EXISTS (SELECT FROM procrastinate_jobs WHERE id = job_failures.job_id)"
        )
    )
    await session.execute(
        text("DELETE FROM job_tallies WHERE hour < now() - make_interval(days => :days)"),
        {"days": TALLIES_KEPT_DAYS},
    )
    return int(gone.rowcount)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Dead:
    """A dead job, and whether the operators were told of it."""

    id: int
    task: str
    at: datetime
    error: str | None
    told: bool

    @property
    def kind(self) -> tuple[str, str]:
        """What fails alike: the task, and the class of its error."""
        return self.task, (self.error or "").partition(":")[0]


async def dead(session: AsyncSession) -> list[Dead]:
    """Every dead job, the oldest first; locked, so that of two reports one tells."""
    await session.execute(
        text(
            "INSERT INTO job_failures (job_id, task) SELECT id, task_name FROM procrastinate_jobs"
            " WHERE status = 'failed' ON CONFLICT DO NOTHING"
        )
    )
    rows = await session.execute(
        text(
            "SELECT job_id, task, at, error, told_at IS NOT NULL FROM job_failures WHERE EXISTS"
            " (SELECT FROM procrastinate_jobs WHERE id = job_id AND status = 'failed') ORDER BY job_id FOR UPDATE"
        )
    )
    return [Dead(*row) for row in rows]


async def mark_told(session: AsyncSession, job_ids: list[int]) -> None:
    await session.execute(
        text("UPDATE job_failures SET told_at = now() WHERE job_id = ANY(:ids)"), {"ids": job_ids}
    )
