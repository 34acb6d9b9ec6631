"""Work of accounts that no request waits for."""

import logging

from paletta_server.accounts import erasure, links, recovery, throttle
from paletta_server.core.jobs import INSISTENT, RETRIES, job
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


@job("accounts.erase", queue="default", retries=INSISTENT)
async def erase(runtime: Runtime, *, user_id: int) -> None:
    """Finish an erasure whose request died half way; else there is nothing left to do."""
    await erasure.finish(runtime, user_id)


@job("accounts.withdraw_clips", queue="default", retries=INSISTENT)
async def withdraw_clips(runtime: Runtime, *, user_id: int) -> None:
    """Take an erased person's clips out of the shop."""
    await erasure.withdraw_clips(runtime, user_id)


@job("accounts.forget_farewell", queue="default", retries=INSISTENT)
async def forget_farewell(runtime: Runtime, *, dedup_key: str) -> None:
    """Forget the address of an erased person's last mail once that is out."""
    await erasure.forget_farewell(runtime, dedup_key)


@job("accounts.sweep", queue="default", cron="17 4 * * *", retries=RETRIES)
async def sweep(runtime: Runtime) -> None:
    """Forget old failures and dead links, once a day."""
    async with runtime.db.transaction() as session:
        counts, dead = await throttle.sweep(session), await links.sweep(session)
    log.info("accounts swept", extra={"throttles": counts, "links": dead})
