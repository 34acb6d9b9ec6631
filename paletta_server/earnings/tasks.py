"""Jobs of earnings. Each may run twice, and each is safe to run at any time."""

import logging
from datetime import timedelta

from sqlalchemy import func, select

from paletta_server.core.jobs import job
from paletta_server.core.runtime import Runtime
from paletta_server.earnings import service

log = logging.getLogger(__name__)

LOOKED_BACK = timedelta(days=2)
"""Longer than nodes of two versions run side by side."""


@job("earnings.release", cron="23 * * * *")
async def release(runtime: Runtime) -> None:
    """Make royalties payable whose hold is over."""
    log.info("royalties released", extra={"orders": await service.release_due(runtime)})


@job("earnings.catch_up", cron="11 * * * *")
async def catch_up(runtime: Runtime) -> None:
    """Post what was sold before there was a ledger, and what nodes of the version before left out."""
    posted = await service.catch_up(runtime)
    async with runtime.db.transaction() as session:
        since = await session.scalar(select(func.now() - LOOKED_BACK))
        found = await service.differences(session, since)
    behind = sorted({one.order_id for one in found if one.order_id is not None})
    if found:
        log.error("the ledger differs", extra={"differences": len(found), "orders": len(behind)})
    await service.post_again(runtime, behind)
    log.info("ledger caught up", extra={"orders": posted})
