"""The audit log's own work."""

import logging

from paletta_server.audit import chain
from paletta_server.core.jobs import job
from paletta_server.core.runtime import Runtime

log = logging.getLogger(__name__)


@job("audit.chain", queue="default", cron="* * * * *")
async def extend(runtime: Runtime) -> None:
    """Chain what was written since; the head goes to the process's log, which is kept elsewhere than the database."""
    before = await chain.head(runtime.db)
    try:
        now = await chain.extend(runtime.db)
    except chain.Broken as broken:
        log.error("the audit log is not chained any more", extra={"reason": str(broken)})
        return
    if now != before:
        log.info("audit log chained", extra={"head": str(now)})
