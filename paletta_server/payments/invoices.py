"""What operators see at the bank: that an invoice was paid, and what became of money that is to go back for one.

Nobody but them can tell. What they say and the note of who said it are one transaction.
"""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts.security import Principal
from paletta_server.audit.service import record
from paletta_server.core.errors import Conflict
from paletta_server.core.runtime import Runtime
from paletta_server.orders import service as orders
from paletta_server.payments import approvals, operators, service
from paletta_server.payments.gateway import Refused
from paletta_server.payments.gateways import invoice
from paletta_server.payments.models import Payment, Refund
from paletta_server.payments.schemas import AccountView


async def mark_paid(runtime: Runtime, user: Principal, text: str, *, reference: str | None) -> AccountView:
    """The whole sum of an invoice arrived. Saying so again changes nothing; an order that was given up or has
    expired is paid all the same, unless that is so long ago that its files may be gone.

    Raises `NotFound`, `Conflict` (`not_an_invoice`, `closed_too_long`).
    """
    async with runtime.db.transaction() as session:
        order = await orders.find_any(session, text)
        if order.gateway != "invoice":
            raise Conflict(f"order {order.number} is not paid by invoice", code="not_an_invoice")
        if await orders.closed_for_good(session, order):
            raise Conflict(
                f"order {order.number} was closed more than {orders.LATE_TRANSFER.days} days ago, and its files may be"
                " gone",
                code="closed_too_long",
                hint="send the money back, and have the customer order again",
            )
        payment = await session.scalar(
            select(Payment).where(Payment.order_id == order.id).order_by(Payment.id.desc()).limit(1)
        )
    if payment is None or payment.reference is None:
        payment = await service.begin(runtime, order.id)
    if payment.reference is not None:
        async with runtime.db.transaction() as session:
            if await invoice.receive(session, payment.reference, note=reference, by=user.user_id):
                details = {"payment": payment.uid, "reference": reference}
                await record(session, user, "order:marked_paid", order.uid, details=details)
        await service.settle(runtime, payment.id)
    async with runtime.db.transaction() as session:
        return await operators.account(session, await orders.find_any(session, order.uid))


async def mark_sent(runtime: Runtime, user: Principal, text: str, *, reference: str) -> Refund:
    """An operator sent a refund's money by bank; `reference` is the bank's own of the transfer. Saying the same again
    changes nothing.

    Raises `NotFound`, `Conflict` (`not_an_invoice`, `not_due`, `refund_failed`, and `sent_already` for another
    transfer).
    """
    refund = await _to_send(runtime, text)
    async with runtime.db.transaction() as session:
        before = await invoice.outcomes(session, refund.uid, lock=True)
        if "failed" in before:
            raise Conflict(
                f"refund `{refund.uid}` failed: {before['failed']}",
                code="refund_failed",
                hint="ask for another refund",
            )
        if before.get("sent", reference) != reference:
            raise Conflict(
                f"refund `{refund.uid}` was sent already: {before['sent']}",
                code="sent_already",
                hint="look whether the customer got the money twice",
            )
        if "sent" not in before:
            await _note(session, user, refund, "sent", reference)
    return await _settled(runtime, refund)


async def mark_failed(runtime: Runtime, user: Principal, text: str, *, reason: str) -> Refund:
    """A refund's money cannot be sent, or came back from the bank: it is not given back after all, and free for
    another refund. Saying so again changes nothing. Raises `NotFound`, `Conflict` (`not_an_invoice`, `not_due`)."""
    refund = await _to_send(runtime, text)
    async with runtime.db.transaction() as session:
        if "failed" not in await invoice.outcomes(session, refund.uid, lock=True):
            await _note(session, user, refund, "failed", reason)
    return await _settled(runtime, refund)


async def _to_send(runtime: Runtime, text: str) -> Refund:
    async with runtime.db.transaction() as session:
        refund = await approvals.find(session, text)
    if refund.gateway != invoice.NAME:
        raise Conflict(
            f"refund `{refund.uid}` goes back by itself, through {refund.gateway}", code="not_an_invoice"
        )
    if refund.status == "requested":
        await service.send(runtime, refund.id)
        async with runtime.db.transaction() as session:
            refund = await session.get_one(Refund, refund.id)
    return refund


async def _note(
    session: AsyncSession, user: Principal, refund: Refund, kind: invoice.Outcome, note: str
) -> None:
    try:
        await invoice.decide(session, refund.uid, kind, note=note, by=user.user_id)
    except Refused as error:
        state = refund.status.replace("_", " ")
        raise Conflict(
            f"refund `{refund.uid}` is {state}: there is nothing to send", code="not_due"
        ) from error
    order = (await orders.by_key(session, [refund.order_id]))[refund.order_id]
    said = {"sent": "reference", "failed": "reason"}[kind]
    action = {"sent": "refund:sent", "failed": "refund:marked_failed"}[kind]
    details = {"refund": refund.uid, "amount": refund.amount, "currency": refund.currency, said: note}
    await record(session, user, action, order.uid, details=details)


async def _settled(runtime: Runtime, refund: Refund) -> Refund:
    await service.settle(runtime, refund.payment_id)
    async with runtime.db.transaction() as session:
        return await session.get_one(Refund, refund.id)
