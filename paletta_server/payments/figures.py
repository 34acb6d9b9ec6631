"""What the events of an order's payments and its refunds add up to, for the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.orders.models import OrderItem
from paletta_server.payments.models import Payment, Refund, RefundItem


@dataclass(frozen=True, slots=True)
class Figures:
    """A payment's totals, in minor units. `paying`: it is the one that pays the order."""

    currency: str
    paying: bool
    captured: int
    refunded: int
    disputed: int


async def of_order(session: AsyncSession, order_id: int) -> list[Figures]:
    """The totals of an order's payments, oldest first."""
    rows = await session.execute(
        select(
            Payment.currency,
            Payment.status == "succeeded",
            Payment.captured,
            Payment.refunded,
            Payment.disputed,
        )
        .where(Payment.order_id == order_id)
        .order_by(Payment.id)
    )
    return [Figures(*row) for row in rows]


async def goodwill(session: AsyncSession, items: Sequence[OrderItem]) -> dict[int, int]:
    """How much of what was given back for items of an order is the shop's own gift, since the licence goes on.

    That is what `--keep` gave back, unless a later refund ended the licence; and all of an item that was restored
    although its last refund had ended it.
    """
    rows = await session.execute(
        select(RefundItem.order_item_id, RefundItem.amount, Refund.keeps_rights)
        .join(Refund, Refund.id == RefundItem.refund_id)
        .join(Payment, Payment.id == Refund.payment_id)
        .where(
            RefundItem.order_item_id.in_([item.id for item in items]),
            Refund.status == "succeeded",
            Payment.status == "succeeded",  # and not one that did not fit, and went back before
        )
        .order_by(Refund.id)
    )
    given: dict[int, int] = {}
    last: dict[int, bool] = {}
    for item_id, amount, keeps in rows:
        given[item_id] = given.get(item_id, 0) + (amount if keeps else 0)
        last[item_id] = keeps
    found: dict[int, int] = {}
    for item in items:
        amount = min(given.get(item.id, 0), item.refunded)
        if item.refunded >= item.amount + item.tax and not last.get(item.id, False):
            amount = item.refunded if item.goodwill_at is not None else 0
        if amount:
            found[item.id] = amount
    return found
