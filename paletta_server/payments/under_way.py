"""Money that is on its way back, for those who would count on it."""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.payments.books import RESERVED
from paletta_server.payments.models import Refund, RefundItem


async def being_refunded(session: AsyncSession, item_ids: Collection[int]) -> set[int]:
    """Which of these items a refund is under way for, or waits for a second operator. Ask under their orders'
    locks for an answer that lasts."""
    found = await session.scalars(
        select(RefundItem.order_item_id)
        .join(Refund, Refund.id == RefundItem.refund_id)
        .where(RefundItem.order_item_id.in_(item_ids), Refund.status.in_(RESERVED))
    )
    return set(found)
