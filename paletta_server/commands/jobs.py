"""`paletta-server jobs`: the queue, what died in it, and what runs when."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from paletta_server.commands import terminal

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from paletta_server.core import queue

T = TypeVar("T")


def list_(*, status: str | None, task: str | None, on: str | None, most: int, as_json: bool) -> int:
    """Print jobs, newest first."""
    from paletta_server.core import queue

    found = _in_session(
        lambda session: queue.listed(session, status=status, task=task, queue=on, most=most)  # type: ignore[arg-type]
    )
    if as_json:
        return _print_json(found)
    terminal.table(
        ("id", "job", "status", "tries", "when", "about"),
        [
            (
                str(one.id),
                one.task,
                "stopping" if one.stopping else one.status,
                str(one.tries),
                _when(one.at),
                one.error or _arguments(one.arguments),
            )
            for one in found
        ],
        empty="no such jobs",
    )
    return 0


def retry(ids: Sequence[int]) -> int:
    """Let dead jobs run again; 1 where one could not."""
    from paletta_server.core import queue

    async def one(session: AsyncSession, job_id: int) -> str:
        task = await queue.retry(session, job_id)
        return f"{job_id} ({task}) runs again"

    return _each(ids, "job:retried", one)


def cancel(ids: Sequence[int]) -> int:
    """Drop jobs, or ask running ones to stop; 1 where one could not be."""
    from paletta_server.core import queue

    async def one(session: AsyncSession, job_id: int) -> str:
        task, over = await queue.cancel(session, job_id)
        words = f"{job_id} ({task}) {'is cancelled' if over else 'was asked to stop'}"
        if task == "ingest.run":  # an upload without a job gets one from the sweep
            words += (
                "; its upload gets another within minutes, unless `paletta admin uploads cancel` ends that"
            )
        return words

    return _each(ids, "job:cancelled", one)


def stats(*, as_json: bool) -> int:
    """Print how each task is doing."""
    from paletta_server.core import queue

    found = _in_session(queue.stats)
    if as_json:
        return _print_json(found)
    terminal.table(
        ("queue", "job", "waiting", "later", "running", "dead", "oldest", "/h", "s each"),
        [
            (
                one.queue,
                one.task,
                str(one.waiting),
                str(one.later),
                str(one.running),
                str(one.failed),
                _span(one.oldest_seconds),
                f"{one.per_hour:.0f}",
                "" if one.seconds is None else f"{one.seconds:.1f}",
            )
            for one in found
        ],
        empty="nothing waits, and nothing ran of late",
    )
    return 0


def schedule(*, as_json: bool) -> int:
    """Print what runs when, and how it went last."""
    import paletta_server.tasks  # noqa: F401 (every job there is)
    from paletta_server.core import queue

    found = _in_session(queue.schedule)
    if as_json:
        return _print_json(found)
    terminal.table(
        ("job", "cron (UTC)", "last", "outcome", "next"),
        [
            (
                one.task,
                one.cron,
                _when(one.last_at),
                one.state or one.last_outcome or "never ran",
                _when(one.next_at),
            )
            for one in found
        ],
    )
    return 0


def _each(ids: Sequence[int], action: str, do: Callable[[AsyncSession, int], Awaitable[str]]) -> int:
    """Do it to each job in a transaction of its own, noted in the audit log."""
    import paletta_server.tasks  # noqa: F401 (with it every model that the log's own refers to)
    from paletta_server.audit.service import record
    from paletta_server.core.errors import PalettaError

    async def one(session: AsyncSession, job_id: int) -> str:
        words = await do(session, job_id)
        await record(session, None, action, str(job_id), details={"by": "paletta-server jobs", "what": words})
        return words

    failed = False
    for job_id in ids:
        try:
            terminal.say(_in_session(lambda session, job_id=job_id: one(session, job_id)))  # type: ignore[misc]
        except PalettaError as error:
            terminal.error(error.detail + (f"\nhint: {error.hint}" if error.hint else ""))
            failed = True
    return 1 if failed else 0


def _in_session(work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    from paletta_server.core.database import Database
    from paletta_server.core.settings import get_settings

    async def run() -> T:
        database = Database(get_settings(), pool_size=1)
        try:
            async with database.transaction() as session:
                return await work(session)
        finally:
            await database.close()

    return asyncio.run(run())


def _print_json(found: Sequence[queue.Job | queue.Load | queue.Turn]) -> int:
    rows: list[dict[str, Any]] = [asdict(one) for one in found]
    terminal.result(json.dumps(rows, indent=2, default=lambda value: value.isoformat()))
    return 0


def _arguments(arguments: dict[str, Any]) -> str:
    return " ".join(f"{name}={json.dumps(value)}" for name, value in arguments.items() if name != "timestamp")


def _when(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment.astimezone(UTC):%m-%d %H:%M}"


def _span(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
