"""Payments as the rest of the shop sees them: begin one, cancel it, settle it, give money back, look after all.

A step that must be known before a gateway is asked is committed before; what the gateway answered is written in a
transaction of its own. Whoever dies in between leaves a row that the next caller, or the reconciler, takes up with
the same idempotency key.
"""

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, or_, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import service as accounts
from paletta_server.accounts.security import Principal
from paletta_server.audit.service import record
from paletta_server.core.errors import Conflict, PalettaError
from paletta_server.core.ids import new_uid
from paletta_server.core.jobs import defer
from paletta_server.core.notify import announce
from paletta_server.core.runtime import Runtime
from paletta_server.delivery import service as delivery
from paletta_server.earnings import service as earnings
from paletta_server.orders import service as orders
from paletta_server.orders.models import Order
from paletta_server.orders.schemas import PayView
from paletta_server.payments import answering, gateways
from paletta_server.payments.gateway import Checkout, CheckoutRequest, Failed, GatewayDown, Line, Refused
from paletta_server.payments.models import Payment, Refund
from paletta_server.payments.refunds import AGAIN_SECONDS, refund, send
from paletta_server.payments.settling import CLAIM, OPEN, QUIET, UNDECIDED, settle

__all__ = [
    "begin",
    "cancel",
    "close",
    "look_again",
    "pay",
    "reconcile",
    "refresh",
    "refund",
    "send",
    "settle",
    "undecided",
]

log = logging.getLogger(__name__)

SHORTEST = timedelta(minutes=45)
"""A checkout lives for this long at least. Stripe wants 30 minutes, and the first call may have to be repeated."""
LINES_MAX = 100
"""More than these a hosted page does not list (Stripe's limit)."""
AT_ONCE = 100


async def pay(runtime: Runtime, user: Principal, order_id: int) -> PayView:
    """Open the gateway's page for an order, and tell where it is. Raises as `begin`."""
    payment = await begin(runtime, order_id)
    async with runtime.db.transaction() as session:
        order = (await orders.by_key(session, [order_id]))[order_id]
        return PayView(
            order=await orders.view(session, order),
            payment_id=payment.uid,
            gateway=payment.gateway,
            url=payment.url,
            message=_message(order, payment),
        )


def _message(order: Order, payment: Payment) -> str | None:
    if payment.status == "succeeded" and not payment.amount:
        return "there is nothing to pay"
    if payment.gateway == "invoice":
        return f"pay by bank transfer, naming {payment.reference} and your purchase order"
    return f"the last attempt was refused: {payment.failure}" if payment.failure else None


# ---- opening


async def begin(runtime: Runtime, order_id: int) -> Payment:
    """The open payment of an order that waits for its money; asked again, the same one.

    An order that costs nothing is paid by this alone. Raises `Conflict` (`order_not_pending`, `order_expired`),
    `Refused` and `GatewayDown`; after those, calling again is the right thing to do.
    """
    payment = await _intend(runtime, order_id)
    if payment.status != "created":
        return payment
    try:
        checkout = await gateways.of(runtime, payment.gateway).open_checkout(request_of(payment))
    except (Refused, Failed) as error:
        await _refused(runtime, payment, error)
        raise
    return await _opened(runtime, payment, checkout)


async def _intend(runtime: Runtime, order_id: int) -> Payment:
    """The payment's row, made and committed before the gateway hears of it; its id is the idempotency key."""
    async with runtime.db.transaction() as session:
        order = await orders.lock(session, order_id)
        if order.status != "pending":
            state = order.status.replace("_", " ")
            raise Conflict(f"order {order.number} is {state}", code="order_not_pending")
        if await session.scalar(select(order.expires_at <= func.now())):
            raise Conflict(f"order {order.number} has expired", code="order_expired")
        payment = await session.scalar(
            select(Payment)
            .where(Payment.order_id == order.id, Payment.status.in_((*OPEN, "succeeded")))
            .with_for_update()
        )
        if payment is not None and _went_back(payment):
            payment.status, payment = "surplus", None
            await session.flush()
            await orders.set_refunds(session, order.id, {})
        if payment is None:
            payment = Payment(
                uid=new_uid("pay"),
                order_id=order.id,
                gateway=order.gateway,
                currency=order.currency,
                amount=order.total,
                next_check_at=func.now() + QUIET,
            )
            session.add(payment)
            await session.flush()
            await session.refresh(payment)
            payment.request = await _frozen(runtime, session, order, payment)
            if order.total == 0:
                await _for_nothing(session, order, payment)
        return payment


def _went_back(payment: Payment) -> bool:
    """Whether it had not fitted its unpaid order, and nothing of it is left: then it is in the way of no other."""
    return 0 < payment.captured == payment.refunded + payment.disputed


async def _for_nothing(session: AsyncSession, order: Order, payment: Payment) -> None:
    payment.status, payment.next_check_at = "succeeded", None
    await session.flush()
    if await orders.mark_paid(session, order.id):
        await delivery.grant(session, order, await orders.items(session, order.id))
        await earnings.post(session, order)


async def _frozen(runtime: Runtime, session: AsyncSession, order: Order, payment: Payment) -> dict[str, Any]:
    items = await orders.items(session, order.id)
    lines = [(item.title, item.amount + item.tax) for item in items]
    if len(lines) > LINES_MAX:
        lines = [(f"Order {order.number}, {len(lines)} clips", order.total)]
    return {
        "order": order.number,
        "lines": lines,
        "email": await accounts.email_of(session, order.user_id),
        "expires_at": max(order.expires_at, payment.created_at + SHORTEST).isoformat(),
        "return_url": f"{runtime.settings.public_url}/checkout/return/{payment.uid}",
        "purchase_order": order.purchase_order,
    }


def request_of(payment: Payment) -> CheckoutRequest:
    """What the gateway is asked to open: always the same for a payment."""
    asked = payment.request
    return CheckoutRequest(
        key=payment.uid,
        order=asked["order"],
        currency=payment.currency,
        amount=payment.amount,
        lines=tuple(Line(title, amount) for title, amount in asked["lines"]),
        email=asked["email"],
        expires_at=datetime.fromisoformat(asked["expires_at"]),
        return_url=asked["return_url"],
        purchase_order=asked["purchase_order"],
    )


async def _opened(runtime: Runtime, payment: Payment, checkout: Checkout) -> Payment:
    async with runtime.db.transaction() as session:
        order = await orders.lock(session, payment.order_id)
        row = await session.get_one(Payment, payment.id, with_for_update=True)
        if row.reference is None:
            row.reference, row.url = checkout.reference, checkout.url
        if row.status == "created":
            row.status = "open"
            row.next_check_at = func.now() + QUIET
        if order.status != "pending" or row.status not in OPEN:
            # Given up while the gateway was being asked: nobody should pay for it any more.
            await defer(session, "payments.close", payment_id=row.id)
        await session.flush()
        await session.refresh(row)
        return row


async def _refused(runtime: Runtime, payment: Payment, error: Refused | Failed) -> None:
    """The gateway will not open this checkout, however often it is asked: the next attempt starts afresh. Should
    there be one all the same, nobody has its address."""
    async with runtime.db.transaction() as session:
        order = await orders.lock(session, payment.order_id)
        moved = await session.scalar(
            update(Payment)
            .where(Payment.id == payment.id, Payment.status == "created")
            .values(status="failed", failure=error.detail, next_check_at=None)
            .returning(Payment.id)
        )
        if moved is not None:
            details = {"payment": payment.uid, "reason": error.detail}
            await record(session, None, "payment:refused", order.uid, details=details)
            await announce(session, orders.topic(order))


async def sandbox_reference(runtime: Runtime, order: Order) -> str:
    """The sandbox's checkout of an order, opened where that is still to be done. Raises `Conflict`
    (`not_sandbox`) for an order that is paid in earnest, and as `begin`."""
    if order.gateway != "sandbox":
        raise Conflict(f"order {order.number} is not paid in the sandbox", code="not_sandbox")
    if order.status == "pending":
        payment: Payment | None = await begin(runtime, order.id)
    else:
        async with runtime.db.transaction() as session:
            payment = await session.scalar(
                select(Payment)
                .where(Payment.order_id == order.id, Payment.reference.is_not(None))
                .order_by((Payment.status == "succeeded").desc(), Payment.id.desc())
                .limit(1)
            )
    if payment is None or payment.reference is None:
        raise Conflict(f"order {order.number} has no checkout", code="not_sandbox")
    return payment.reference


# ---- closing


async def cancel(runtime: Runtime, order_id: int) -> None:
    """Close an order's open checkouts at the gateway. Money that came first is settled: look at the order after.

    Raises `GatewayDown`: then somebody may still pay.
    """
    async with runtime.db.transaction() as session:
        found = await session.scalars(
            select(Payment.id).where(Payment.order_id == order_id, Payment.status.in_(OPEN))
        )
        payment_ids = list(found)
    for payment_id in payment_ids:
        await close(runtime, payment_id)


async def undecided(session: AsyncSession, order_id: int) -> bool:
    """Whether money for an unpaid order may still come, or has come and does not fit. Ask under the order's lock:
    an order is not given up meanwhile."""
    found = await session.scalar(
        select(Payment.id).where(
            Payment.order_id == order_id,
            or_(Payment.status.in_(OPEN), Payment.captured > Payment.refunded + Payment.disputed),
        )
    )
    return found is not None


async def close(runtime: Runtime, payment_id: int) -> None:
    """Close one checkout, wherever its opening was broken off, and settle how it ended. Raises `GatewayDown`."""
    async with runtime.db.transaction() as session:
        payment = await session.get_one(Payment, payment_id)
    gateway = gateways.of(runtime, payment.gateway)
    if payment.reference is None:
        # The gateway may have opened it, and whoever asked died before the answer was written: ask by the key.
        try:
            checkout = await gateway.open_checkout(request_of(payment))
        except (Refused, Failed) as error:
            await _refused(runtime, payment, error)
            return
        async with runtime.db.transaction() as session:
            await session.execute(
                update(Payment)
                .where(Payment.id == payment.id, Payment.reference.is_(None))
                .values(reference=checkout.reference, url=checkout.url)
            )
        reference = checkout.reference
    else:
        reference = payment.reference
    await gateway.close_checkout(reference)
    await settle(runtime, payment_id)


async def adopt(session: AsyncSession, payment_id: int, reference: str) -> None:
    """The gateway's name of a checkout of whose opening we never heard the end."""
    await session.execute(
        update(Payment)
        .where(Payment.id == payment_id, Payment.reference.is_(None))
        .values(reference=reference)
    )


# ---- looking after everything


async def refresh(runtime: Runtime, payment_uid: str) -> Payment | None:
    """The payment with this public id, settled if it is open and nobody asked just now."""
    async with runtime.db.transaction() as session:
        fresh = Payment.checked_at > func.now() - timedelta(seconds=2)
        found = (
            await session.execute(
                select(Payment, func.coalesce(fresh, False)).where(Payment.uid == payment_uid)
            )
        ).one_or_none()
    if found is None:
        return None
    payment, just_asked = found
    if payment.status in OPEN and not just_asked:
        await settle(runtime, payment.id)
        async with runtime.db.transaction() as session:
            return await session.get_one(Payment, payment.id)
    return payment


async def look_again(runtime: Runtime, order_id: int) -> None:
    """Ask the gateway about an order's open checkout, unless somebody just did: no event may ever come. Where the
    gateway does not answer, nothing is known that was not known before."""
    async with runtime.db.transaction() as session:
        uid = await session.scalar(
            select(Payment.uid).where(Payment.order_id == order_id, Payment.status.in_(OPEN))
        )
    if uid is not None:
        with suppress(GatewayDown, Refused):
            await refresh(runtime, uid)


async def reconcile(runtime: Runtime) -> None:
    """Ask about payments that have been silent for too long, send refunds that were not, expire unpaid orders.

    What one of them runs into does not keep the others waiting: it is tried again at the next run. A gateway that
    did not answer is left alone for the rest of this one, since each question may take it a minute.
    """
    round_ = _Round()
    for payment_id, gateway in await _due(runtime):
        await round_.do("settle", gateway, payment_id, settle, runtime)
    for refund_id, gateway in await _unsent(runtime):
        await round_.do("send_refund", gateway, refund_id, send, runtime)
    async with runtime.db.transaction() as session:
        overdue = await orders.expired(session, limit=AT_ONCE)
        unanswered = await answering.unsent(session)
    for dispute_id, gateway in unanswered:
        await round_.do("send_answer", gateway, dispute_id, answering.send, runtime)
    for order_id, gateway in overdue:
        await round_.do("expire", gateway, order_id, _expire, runtime)


@dataclass
class _Round:
    """One run of the reconciler."""

    away: set[str] = field(default_factory=set)

    async def do(
        self,
        what: str,
        gateway: str,
        key: int,
        work: Callable[[Runtime, int], Awaitable[None]],
        runtime: Runtime,
    ) -> None:
        if gateway in self.away:
            return
        try:
            await work(runtime, key)
        except GatewayDown as error:
            self.away.add(gateway)
            log.warning("a gateway is away", extra={"gateway": gateway, "error": str(error)})
        except (PalettaError, OperationalError) as error:
            log.warning("to be tried again", extra={"what": what, "key": key, "error": str(error)})
        except Exception:
            log.exception("to be tried again", extra={"what": what, "key": key})


async def _due(runtime: Runtime) -> list[tuple[int, str]]:
    """Payments to ask about now, with their gateways; put off a little, so that another reconciler, or the next one,
    takes others."""
    async with runtime.db.transaction() as session:
        due = (
            select(Payment.id)
            .where(Payment.next_check_at <= func.now())
            .order_by(Payment.next_check_at)
            .limit(AT_ONCE)
            .with_for_update(skip_locked=True)
        )
        found = await session.execute(
            update(Payment)
            .where(Payment.id.in_(due))
            .values(next_check_at=func.now() + CLAIM)
            .returning(Payment.id, Payment.gateway)
            .execution_options(synchronize_session=False)
        )
        return sorted((key, gateway) for key, gateway in found)


async def _unsent(runtime: Runtime) -> list[tuple[int, str]]:
    patience = timedelta(seconds=2 * AGAIN_SECONDS)
    async with runtime.db.transaction() as session:
        found = await session.execute(
            select(Refund.id, Refund.gateway)
            .where(Refund.status == "requested", Refund.created_at < func.now() - patience)
            .order_by(Refund.id)
            .limit(AT_ONCE)
        )
        return [(key, gateway) for key, gateway in found]


async def _expire(runtime: Runtime, order_id: int) -> None:
    """The checkout is closed first. Where it cannot be, because a bank is still deciding or the gateway refuses, the
    order waits, and those behind it in the queue do not."""
    try:
        await cancel(runtime, order_id)
    except GatewayDown:
        raise
    except Exception:
        async with runtime.db.transaction() as session:
            await orders.put_off(session, order_id, UNDECIDED)
        raise
    async with runtime.db.transaction() as session:
        order = await orders.lock(session, order_id)
        if await undecided(session, order_id):
            await orders.put_off(session, order_id, UNDECIDED)
        elif await orders.close_unpaid(session, order_id, "expired"):
            await record(session, None, "order:expired", order.uid)
