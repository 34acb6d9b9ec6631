"""Work of accounts that no request waits for."""

import logging

from paletta_server.accounts import links, recovery, throttle
from paletta_server.core.jobs import RETRIES, job
from paletta_server.core.runtime import Runtime

log = logging.getLogger(__name__)


@job("accounts.send_verification", queue="mail")
async def send_verification(runtime: Runtime, *, email: str) -> None:
    """Mail a confirmation link if the address waits for one."""
    async with runtime.db.transaction() as session:
        await recovery.send_verification(session, runtime, email)


@job("accounts.send_reset", queue="mail")
async def send_reset(runtime: Runtime, *, email: str) -> None:
    """Mail a reset link if there is such an account. Run twice, the second link replaces the first."""
    async with runtime.db.transaction() as session:
        await recovery.send_reset(session, runtime, email)


@job("accounts.sweep", queue="default", cron="17 4 * * *", retries=RETRIES)
async def sweep(runtime: Runtime) -> None:
    """Forget old failures and dead links, once a day."""
    async with runtime.db.transaction() as session:
        counts, dead = await throttle.sweep(session), await links.sweep(session)
    log.info("accounts swept", extra={"throttles": counts, "links": dead})
