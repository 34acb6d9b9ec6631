"""A worker in the test's own process."""

from __future__ import annotations

from paletta_server.core.jobs import run_worker
from paletta_server.core.runtime import Runtime


async def work_off(runtime: Runtime) -> None:
    """Be a worker until every queue is empty, one job after another: what they leave behind is in the queue's order.

    Jobs that others defer meanwhile may be left.
    """
    await run_worker(runtime, name="test", concurrency=1, rest=1, wait=False)
