"""A worker whose jobs are done one after another, so that what they leave behind is in the order of the queue."""

from __future__ import annotations

from paletta_server.core import jobs
from paletta_server.core.runtime import Runtime

_USUALLY_AT_ONCE = jobs.REST_AT_ONCE


async def work_off(runtime: Runtime) -> None:
    """Be a worker until every queue is empty. Jobs that others defer meanwhile may be left."""
    # Mails and sweeps have a lane of their own, which is several wide whatever is said of films.
    jobs.REST_AT_ONCE = 1
    try:
        await jobs.run_worker(runtime, name="test", concurrency=1, wait=False)
    finally:
        jobs.REST_AT_ONCE = _USUALLY_AT_ONCE
