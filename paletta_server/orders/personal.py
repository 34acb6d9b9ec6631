"""What orders hold on one person: figures for the operator, the export, and what erasing takes away.

An order is a contract and a tax record: it stays when its buyer is erased, with the licensee whom its licences and
certificates name and the customer's own order reference. The law wants both kept, and whoever holds a certificate must
be able to have it checked. What is left behind in carts goes.
"""

from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core.database import Base
from paletta_server.core.export import Sections
from paletta_server.orders import cart
from paletta_server.orders.models import Cart, CartItem, Order, OrderItem
from paletta_server.orders.service import SETTLED


def keys_of(user_id: int) -> Select[int]:
    """Keys of somebody's orders, for other domains' statements."""
    return select(Order.id).where(Order.user_id == user_id)


async def pending(session: AsyncSession, user_id: int) -> list[str]:
    """Numbers of the orders that wait for their payment."""
    found = select(Order.number).where(Order.user_id == user_id, Order.status == "pending").order_by(Order.id)
    return list(await session.scalars(found))


async def summary(session: AsyncSession, user_id: int) -> dict[str, Any]:
    """Orders by status, and minor units by currency: what they spent and had back, and what was sold of theirs."""
    by_status = await session.execute(
        select(Order.status, func.count()).where(Order.user_id == user_id).group_by(Order.status)
    )
    bought = await session.execute(
        select(Order.currency, func.sum(Order.total), func.sum(Order.refunded))
        .where(Order.user_id == user_id, Order.status.in_(SETTLED))
        .group_by(Order.currency)
    )
    sold = await session.execute(
        select(Order.currency, func.count(), func.sum(OrderItem.amount))
        .join(Order, Order.id == OrderItem.order_id)
        .where(OrderItem.contributor_id == user_id, Order.status.in_(SETTLED))
        .group_by(Order.currency)
    )
    return {
        "orders": dict(by_status.all()),
        "bought": [
            {"currency": currency, "total": int(total), "refunded": int(refunded)}
            for currency, total, refunded in bought
        ],
        "sold": [
            {"currency": currency, "items": items, "amount": int(amount)} for currency, items, amount in sold
        ],
    }


def sections(user_id: int) -> Sections:
    """Orders, their items, the cart, and the items that were sold of the person's clips."""
    orders = select(
        Order.uid.label("id"), Order.number, Order.status, Order.gateway, Order.purchase_order, Order.licensee,
        Order.currency, Order.subtotal, Order.tax_name, Order.tax_rate, Order.tax, Order.total, Order.refunded,
        Order.created_at, Order.expires_at, Order.paid_at, Order.closed_at,
    ).where(Order.user_id == user_id)  # fmt: skip
    items = (
        select(
            Order.number.label("order"), OrderItem.uid.label("id"), OrderItem.clip_uid.label("clip"),
            OrderItem.title, OrderItem.contributor, OrderItem.tier, OrderItem.licence, OrderItem.price,
            OrderItem.credit, OrderItem.amount, OrderItem.tax, OrderItem.refunded,
        )
        .join(Order, Order.id == OrderItem.order_id)
        .where(Order.user_id == user_id)
    )  # fmt: skip
    sales = (
        select(
            OrderItem.uid.label("id"), OrderItem.clip_uid.label("clip"), OrderItem.title, OrderItem.contributor,
            OrderItem.tier, OrderItem.licence, Order.currency, OrderItem.amount, OrderItem.refunded, Order.paid_at,
        )
        .join(Order, Order.id == OrderItem.order_id)
        .where(OrderItem.contributor_id == user_id, Order.status.in_(SETTLED))
    )  # fmt: skip
    clips = Base.metadata.tables["clips"]
    waiting = (
        select(
            clips.c.uid.label("clip"), CartItem.tier, CartItem.licence, CartItem.amount, CartItem.currency,
            CartItem.created_at,
        )
        .join(clips, clips.c.id == CartItem.clip_id)
        .where(CartItem.user_id == user_id)
    )  # fmt: skip
    return {
        "orders": orders.order_by(Order.id),
        "order_items": items.order_by(OrderItem.id),
        "cart": waiting.order_by(CartItem.id),
        "sales": sales.order_by(OrderItem.id),
    }


async def forget(session: AsyncSession, user_id: int) -> None:
    """Empty the cart."""
    if await session.scalar(select(Cart.user_id).where(Cart.user_id == user_id)) is not None:
        await cart.lock(session, user_id)
        await cart.empty(session, user_id)
