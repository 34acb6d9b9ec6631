"""Jobs of the payments. Each may run twice, and each is safe to run at any time."""

import logging

from paletta_server.core.jobs import INSISTENT, RETRIES, job
from paletta_server.core.runtime import Runtime
from paletta_server.payments import alarms, answering, approvals, inbox, service

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
    """Find what no event told us, and expire unpaid orders and refunds that nobody approved."""
    await service.reconcile(runtime)
    await approvals.expire(runtime)


@job("payments.send_answer")
async def send_answer(runtime: Runtime, *, dispute_id: int) -> None:
    """Give the gateway an answer to a dispute, unless that was done."""
    await answering.send(runtime, dispute_id)


@job("payments.tell_approval", queue="mail", retries=INSISTENT)
async def tell_approval(runtime: Runtime, *, refund_id: int) -> None:
    """Tell the operators that a refund waits for a second one of them."""
    async with runtime.db.transaction() as session:
        await alarms.tell_approval(session, runtime.settings, refund_id)


@job("payments.tell_to_send", queue="mail", retries=INSISTENT)
async def tell_to_send(runtime: Runtime, *, refund_id: int) -> None:
    """Tell the operators that they are to send a refund by bank."""
    async with runtime.db.transaction() as session:
        await alarms.tell_to_send(session, runtime.settings, refund_id)


@job("payments.remind_to_send", queue="mail", cron="41 * * * *")
async def remind_to_send(runtime: Runtime) -> None:
    """Name the refunds that nobody has sent."""
    async with runtime.db.transaction() as session:
        await alarms.remind_to_send(session, runtime.settings)


@job("payments.tell_dispute", queue="mail", retries=INSISTENT)
async def tell_dispute(runtime: Runtime, *, dispute_id: int, at: str | None = None) -> None:
    """Tell the operators that a dispute was opened, or that it was closed `at` a time."""
    async with runtime.db.transaction() as session:
        await alarms.tell_dispute(session, runtime.settings, dispute_id, at)


@job("payments.tell_dispute_round", queue="mail", retries=INSISTENT)
async def tell_dispute_round(runtime: Runtime, *, dispute_id: int, number: int) -> None:
    """Tell the operators that a bank wants evidence once more."""
    async with runtime.db.transaction() as session:
        await alarms.tell_round(session, runtime.settings, dispute_id, number)


@job("payments.remind_of_disputes", queue="mail", cron="23 * * * *")
async def remind_of_disputes(runtime: Runtime) -> None:
    """Name the disputes whose deadline comes near."""
    async with runtime.db.transaction() as session:
        await alarms.remind(session, runtime.settings)


@job("payments.prune_events", cron="17 4 * * *", retries=RETRIES)
async def prune_events(runtime: Runtime) -> None:
    """Drop events that were handled long ago, and say so where some never were."""
    async with runtime.db.transaction() as session:
        log.info("pruned events", extra={"events": await inbox.prune(session)})
        if left := await inbox.left_over(session):
            log.error("events were never handled", extra={"events": left})
