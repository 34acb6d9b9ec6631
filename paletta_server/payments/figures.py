"""What the events of an order's payments add up to, for the ledger."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.payments.models import Payment


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
