"""Stopping jobs at MediaConvert that nobody waits for any more."""

import logging

from paletta_server.core.runtime import Runtime
from paletta_server.ingest.mediaconvert import jobs, rows
from paletta_server.ingest.mediaconvert.api import Api

log = logging.getLogger(__name__)


async def of_row(runtime: Runtime, api: Api, row_id: int) -> None:
    """Cancel what an attempt that is over has there. What it stored goes when we hear that it stopped. Raises
    `ApiError`, to be tried again."""
    async with runtime.db.transaction() as session:
        held = await jobs.hold(session, row_id)
        if held is None or held.source is not None or held.row.status not in rows.OPEN:
            return
        job_id = held.row.job_id
    if job_id is None:
        return  # its creation was not heard: the reconciler finds out, and comes back here
    log.info("cancelling a job", extra={"job": job_id, "run": held.attempt.uid})
    await api.cancel(job_id)


async def stray(api: Api, job_id: str) -> None:
    """Cancel a second job for one attempt. Raises `ApiError`, to be tried again."""
    log.info("cancelling a stray job", extra={"job": job_id})
    await api.cancel(job_id)
