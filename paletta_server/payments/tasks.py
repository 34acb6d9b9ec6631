"""Jobs of the payments. Each may run twice, and each is safe to run at any time."""

import logging

from paletta_server.core.jobs import RETRIES, job
from paletta_server.core.runtime import Runtime
from paletta_server.payments import inbox, service

log = logging.getLogger(__name__)


@job("payments.handle_event")
async def handle_event(runtime: Runtime, *, event_id: int, attempt: int) -> None:
    """Handle one event of the inbox."""
    await inbox.handle(runtime, event_id, attempt=attempt)


@job("payments.send_refund")
async def send_refund(runtime: Runtime, *, refund_id: int) -> None:
    """Ask the gateway for a refund, unless that was done."""
    await service.send(runtime, refund_id)


@job("payments.close")
async def close(runtime: Runtime, *, payment_id: int) -> None:
    """Close a checkout that nobody should pay at any more."""
    await service.close(runtime, payment_id)


@job("payments.reconcile", cron="* * * * *")
async def reconcile(runtime: Runtime) -> None:
    """Find what no event told us, and expire unpaid orders."""
    await service.reconcile(runtime)


@job("payments.prune_events", cron="17 4 * * *", retries=RETRIES)
async def prune_events(runtime: Runtime) -> None:
    """Drop events that were handled long ago, and say so where some never were."""
    async with runtime.db.transaction() as session:
        log.info("pruned events", extra={"events": await inbox.prune(session)})
        if left := await inbox.left_over(session):
            log.error("events were never handled", extra={"events": left})
