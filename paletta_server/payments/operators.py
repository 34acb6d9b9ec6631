"""What operators do about money: note that an invoice was paid, give money back, look at an order's account."""

from collections.abc import Sequence
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts.security import Principal
from paletta_server.audit.service import record
from paletta_server.core.errors import Conflict, NotFound
from paletta_server.core.runtime import Runtime
from paletta_server.orders import service as orders
from paletta_server.orders.models import Order
from paletta_server.payments import service
from paletta_server.payments.books import parts_of
from paletta_server.payments.gateways.invoice import InvoiceGateway
from paletta_server.payments.models import Dispute, Payment, Refund
from paletta_server.payments.refunds import refund
from paletta_server.payments.schemas import AccountView, DisputeView, PaymentView, RefundIn, RefundView

View = TypeVar("View", PaymentView, DisputeView)


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
        news = await InvoiceGateway(runtime.db).receive(payment.reference, note=reference, by=user.user_id)
        if news:
            async with runtime.db.transaction() as session:
                details = {"payment": payment.uid, "reference": reference}
                await record(session, user, "order:marked_paid", order.uid, details=details)
        await service.settle(runtime, payment.id)
    async with runtime.db.transaction() as session:
        return await account(session, await orders.find_any(session, order.uid))


async def give_back(
    runtime: Runtime, user: Principal, text: str, wanted: RefundIn, *, key: str | None
) -> RefundView:
    """Give money back for some items or for all. Raises as `refunds.refund`, and `NotFound`."""
    async with runtime.db.transaction() as session:
        order = await orders.find_any(session, text)
        by_uid = {item.uid: item.id for item in await orders.items(session, order.id)}
    amounts = None
    if wanted.items is not None:
        for uid in wanted.items:
            if uid not in by_uid:
                raise NotFound("item", uid[:40])
        amounts = {by_uid[uid]: amount for uid, amount in wanted.items.items()}
    made = await refund(runtime, order.id, amounts, wanted.reason, user, key=key)
    async with runtime.db.transaction() as session:
        return (await _refunds(session, order, [made]))[0]


async def account(session: AsyncSession, order: Order) -> AccountView:
    """Payments, refunds and disputes of an order, oldest first."""
    payments = await session.scalars(select(Payment).where(Payment.order_id == order.id).order_by(Payment.id))
    disputes = await session.scalars(select(Dispute).where(Dispute.order_id == order.id).order_by(Dispute.id))
    return AccountView(
        order=order.uid,
        number=order.number,
        status=order.status,
        currency=order.currency,
        total=order.total,
        refunded=order.refunded,
        payments=[_view(PaymentView, row) for row in payments],
        refunds=await refunds_of(session, order),
        disputes=[_view(DisputeView, row) for row in disputes],
    )


async def refunds_of(session: AsyncSession, order: Order) -> list[RefundView]:
    """The refunds of an order, oldest first."""
    found = await session.scalars(select(Refund).where(Refund.order_id == order.id).order_by(Refund.id))
    return await _refunds(session, order, list(found))


def _view(kind: type[View], row: Payment | Dispute) -> View:
    names = set(kind.model_fields) - {"id"}
    return kind(id=row.uid, **{name: getattr(row, name) for name in names})


async def _refunds(session: AsyncSession, order: Order, refunds: Sequence[Refund]) -> list[RefundView]:
    uids = {item.id: item.uid for item in await orders.items(session, order.id)}
    parts = await parts_of(session, refunds)
    return [
        RefundView(
            id=row.uid,
            status=row.status,
            currency=row.currency,
            amount=row.amount,
            reason=row.reason,
            items={uids[key]: part for key, part in parts[row.id].items()},
            failure=row.failure,
            created_at=row.created_at,
        )
        for row in refunds
    ]
