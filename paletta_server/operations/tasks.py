"""Work that keeps an eye on the service itself."""

import logging

from paletta_server.core import queue
from paletta_server.core.jobs import FILMS, REST, RETRIES, job
from paletta_server.core.runtime import Runtime
from paletta_server.operations import failures

log = logging.getLogger(__name__)


@job("operations.watch_jobs", cron="* * * * *")
async def watch_jobs(runtime: Runtime) -> None:
    """Tell the operators of the first dead job of a kind, and the log how many jobs wait: what a fleet is sized by."""
    async with runtime.db.transaction() as session:
        await failures.tell_first(session, runtime.settings)
        waiting = await queue.waiting(session, (*FILMS, *REST))
    for name, number in waiting.items():
        log.info("jobs wait", extra={"queue": name, "waiting": number})


@job("operations.report_jobs", cron="30 6 * * *", retries=RETRIES)
async def report_jobs(runtime: Runtime) -> None:
    """Tell the operators of every dead job, once a day."""
    async with runtime.db.transaction() as session:
        dead = await failures.report(session, runtime.settings)
    if dead:
        log.warning("jobs are dead", extra={"jobs": dead})


@job("operations.prune_jobs", cron="50 3 * * *", retries=RETRIES)
async def prune_jobs(runtime: Runtime) -> None:
    """Forget what failed or was cancelled long ago."""
    async with runtime.db.transaction() as session:
        gone = await queue.prune(session, days=runtime.settings.jobs_kept_days)
    log.info("old jobs pruned", extra={"jobs": gone})
