"""Orders: their state machine, what they contain, and reading them.

Every change of an order goes through here, wakes those who wait for it, and is a conditional UPDATE or happens
under the order's lock.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, case, func, literal, null, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts.security import Principal
from paletta_server.core.errors import NotFound
from paletta_server.core.ids import SHORTEST, resolve
from paletta_server.core.notify import announce
from paletta_server.core.pagination import PageParams, newest_first
from paletta_server.orders.models import TIERS, Order, OrderItem, OrderItemFile
from paletta_server.orders.schemas import FileView, ItemView, OrderDetail, OrderSummary

UNPAID = ("pending", "expired", "cancelled")
"""A gateway may report money for any of these: whoever paid gets what they paid for, however late it is heard."""
LATE_MONEY = timedelta(days=3)
"""Longer than any gateway's checkout lives: after that no money comes for an order that is over."""
LATE_TRANSFER = timedelta(days=90)
"""The same for an invoice, which somebody may pay by bank transfer long after its time."""
SETTLED = ("paid", "partially_refunded", "refunded")


def topic(order: Order) -> str:
    """What long polls of an order listen to."""
    return f"order:{order.uid}"


async def lock(session: AsyncSession, order_id: int) -> Order:
    """The order, locked until this transaction ends."""
    order = await session.scalar(
        select(Order).where(Order.id == order_id).with_for_update().execution_options(populate_existing=True)
    )
    assert order is not None, f"no order {order_id}"
    return order


async def items(session: AsyncSession, order_id: int) -> list[OrderItem]:
    """What was ordered, in the order of the cart."""
    found = await session.scalars(
        select(OrderItem).where(OrderItem.order_id == order_id).order_by(OrderItem.id)
    )
    return list(found)


async def by_key(session: AsyncSession, order_ids: Collection[int]) -> dict[int, Order]:
    """Orders by key, of anybody."""
    found = await session.scalars(select(Order).where(Order.id.in_(order_ids)))
    return {order.id: order for order in found}


async def items_of(session: AsyncSession, item_ids: Collection[int]) -> dict[int, OrderItem]:
    """Items by key, of any orders."""
    found = await session.scalars(select(OrderItem).where(OrderItem.id.in_(item_ids)))
    return {item.id: item for item in found}


async def own_items(session: AsyncSession, user_id: int, uids: Collection[str]) -> dict[str, OrderItem]:
    """Items that somebody ordered, by public id; foreign and unknown ones are left out."""
    found = await session.scalars(
        select(OrderItem)
        .join(Order, Order.id == OrderItem.order_id)
        .where(OrderItem.uid.in_(uids), Order.user_id == user_id)
    )
    return {item.uid: item for item in found}


async def bought_clips(session: AsyncSession, user_id: int, prefix: str) -> list[int]:
    """Keys of the clips that somebody ordered and whose public id begins with `prefix`."""
    found = await session.scalars(
        select(OrderItem.clip_id)
        .join(Order, Order.id == OrderItem.order_id)
        .where(Order.user_id == user_id, OrderItem.clip_uid.startswith(prefix, autoescape=True))
    )
    return list(found)


async def files(session: AsyncSession, item_ids: Collection[int]) -> dict[int, list[OrderItemFile]]:
    """The files frozen with each item, the lowest tier first."""
    found: dict[int, list[OrderItemFile]] = {item_id: [] for item_id in item_ids}
    for file in await session.scalars(select(OrderItemFile).where(OrderItemFile.order_item_id.in_(item_ids))):
        found[file.order_item_id].append(file)
    for row in found.values():
        row.sort(key=lambda file: TIERS.index(file.tier))
    return found


@dataclass(frozen=True, slots=True)
class Held:
    """Stored objects that orders need: `sold` for good, `reserved` until an unpaid order is over for certain."""

    sold: frozenset[str]
    reserved: frozenset[str]


async def held(session: AsyncSession, keys: Collection[str]) -> Held:
    """Which of these stored objects an order has to deliver, or may still have to."""
    rows = await session.execute(
        select(OrderItemFile.key, func.bool_or(_delivers()))
        .join(OrderItem, OrderItem.id == OrderItemFile.order_item_id)
        .join(Order, Order.id == OrderItem.order_id)
        .where(OrderItemFile.key.in_(keys), _holds())
        .group_by(OrderItemFile.key)
    )
    found: dict[str, bool] = dict(rows.all())
    sold = frozenset(key for key, is_paid in found.items() if is_paid)
    return Held(sold, frozenset(found) - sold)


def unpaid() -> Select[int]:
    """Keys of the orders that no money has paid, as a part of another query."""
    return select(Order.id).where(Order.status.in_(UNPAID))


async def closed_for_good(session: AsyncSession, order: Order) -> bool:
    """Whether an order on invoice was given up so long ago that nothing holds its files any more."""
    query = select(Order.closed_at < func.now() - LATE_TRANSFER).where(
        Order.id == order.id, Order.status.in_(("cancelled", "expired"))
    )
    return bool(await session.scalar(query))


async def extensions(session: AsyncSession, item_ids: Collection[int]) -> list[tuple[int, Order]]:
    """Items that these count towards and that have money in them, or wait for it, with their orders, the newest first.

    An upgrade that cost nothing has nothing to lose: it falls with its base, and what extends it extends that too.
    """
    found: list[tuple[int, Order]] = []
    while item_ids:
        rows = await session.execute(
            select(OrderItem, Order)
            .join(Order, Order.id == OrderItem.order_id)
            .where(
                OrderItem.upgrade_of.in_(item_ids),
                Order.status.in_(("pending", "paid", "partially_refunded")),
                or_(
                    Order.status == "pending",  # money that did not fit may have come, and gone back
                    OrderItem.amount + OrderItem.tax == 0,
                    OrderItem.refunded < OrderItem.amount + OrderItem.tax,
                ),
            )
        )
        more = rows.all()
        found += [(item.id, order) for item, order in more if item.amount + item.tax]
        item_ids = [item.id for item, _ in more if not item.amount + item.tax]
    return sorted(found, key=lambda one: one[1].id, reverse=True)


def _delivers() -> ColumnElement[bool]:
    """Items that were paid for, or given back and left to the customer all the same."""
    return or_(Order.status.in_(("paid", "partially_refunded")), OrderItem.goodwill_at.is_not(None))


def _holds() -> ColumnElement[bool]:
    """Orders whose files are needed: they are paid, or their money may still come."""
    patience = case((Order.gateway == "invoice", LATE_TRANSFER), else_=LATE_MONEY)
    late = or_(Order.status == "pending", Order.closed_at > func.now() - patience)
    return or_(_delivers(), late)


def stored_files() -> Select[*tuple[Any, ...]]:
    """The files that orders have to deliver, or may still have to, in the columns of `operations.inventory`."""
    return (
        select(
            OrderItemFile.key,
            OrderItemFile.size,
            OrderItemFile.sha256,
            null(),
            _delivers(),
            literal("sold"),
            OrderItem.clip_id,
        )
        .join(OrderItem, OrderItem.id == OrderItemFile.order_item_id)
        .join(Order, Order.id == OrderItem.order_id)
        .where(_holds())
    )


async def waiting(session: AsyncSession, user_id: int, clip_ids: Collection[int]) -> dict[int, Order]:
    """Clips of a customer that stand in an order which waits for its payment."""
    rows = await session.execute(
        select(OrderItem.clip_id, Order)
        .join(Order, Order.id == OrderItem.order_id)
        .where(Order.user_id == user_id, Order.status == "pending", OrderItem.clip_id.in_(clip_ids))
    )
    return dict(rows.all())


# ---- the state machine


async def mark_paid(session: AsyncSession, order_id: int) -> bool:
    """The money is there: pending, expired or cancelled → paid. True for the one call that did it."""
    order = await session.scalar(
        update(Order)
        .where(Order.id == order_id, Order.status.in_(UNPAID))
        .values(status="paid", paid_at=func.now(), closed_at=None)
        .returning(Order)
        .execution_options(populate_existing=True)
    )
    if order is None:
        return False
    await announce(session, topic(order))
    return True


async def close_unpaid(session: AsyncSession, order_id: int, status: str) -> bool:
    """pending → `cancelled` or `expired`; False when it was paid or closed meanwhile."""
    assert status in ("cancelled", "expired"), status
    order = await session.scalar(
        update(Order)
        .where(Order.id == order_id, Order.status == "pending")
        .values(status=status, closed_at=func.now())
        .returning(Order)
        .execution_options(populate_existing=True)
    )
    if order is None:
        return False
    await announce(session, topic(order))
    return True


async def expired(session: AsyncSession, *, limit: int = 100) -> list[tuple[int, str]]:
    """Unpaid orders past their time, by key, with their gateways: whoever asks closes the checkout there first."""
    found = await session.execute(
        select(Order.id, Order.gateway)
        .where(Order.status == "pending", Order.expires_at < func.now())
        .order_by(Order.expires_at)
        .limit(limit)
    )
    return [(key, gateway) for key, gateway in found]


async def put_off(session: AsyncSession, order_id: int, pause: timedelta) -> None:
    """An unpaid order past its time that cannot be closed yet is looked at again after `pause`: those behind it
    in the queue must not wait for it."""
    await session.execute(
        update(Order)
        .where(Order.id == order_id, Order.status == "pending")
        .values(expires_at=func.now() + pause)
    )


async def set_refunds(session: AsyncSession, order_id: int, by_item: Mapping[int, int]) -> Order:
    """What was given back for each item so far, as the payments' events add up; the order follows from it.

    Absolute figures, so that hearing of a refund twice changes nothing. Items left out have had nothing back.
    """
    order = await lock(session, order_id)
    before = order.refunded
    for item in await items(session, order_id):
        item.refunded = by_item.get(item.id, 0)
    order.refunded = sum(by_item.values())
    if order.status in SETTLED:
        order.status = (
            "paid"
            if order.refunded == 0
            else "refunded"
            if order.refunded >= order.total
            else "partially_refunded"
        )
        order.closed_at = None
        if order.status == "refunded":
            order.closed_at = await session.scalar(select(func.now()))
    await session.flush()
    if order.refunded != before:
        await announce(session, topic(order))
    return order


async def set_goodwill(session: AsyncSession, order_id: int, by_item: Mapping[int, datetime | None]) -> None:
    """Since when items are left to their customer although their money went back (None: they are not). Under the
    order's lock."""
    for item in await items(session, order_id):
        if item.id in by_item:
            item.goodwill_at = by_item[item.id]
    await session.flush()


# ---- reading


def _own(user: Principal) -> ColumnElement[bool]:
    return Order.user_id == user.user_id


async def find(session: AsyncSession, user: Principal, text: str) -> Order:
    """One of the caller's orders, by (the beginning of) its id or by its number. Raises `NotFound`, also for
    anybody else's."""
    return await _find(session, text, _own(user))


async def find_any(session: AsyncSession, text: str) -> Order:
    """Anybody's order, for operators."""
    return await _find(session, text)


async def _find(session: AsyncSession, text: str, *where: ColumnElement[bool]) -> Order:
    if text[:2].upper() == "P-" and len(text) > SHORTEST:
        found = await session.scalar(select(Order).where(Order.number == text.upper(), *where))
        if found is None:  # no id looks like a number
            raise NotFound("order", text[:40])
        return found
    return await resolve(session, Order, text, *where, kind="order")


async def list_own(
    session: AsyncSession, user: Principal, page: PageParams, *, status: str | None
) -> tuple[list[OrderSummary], str | None]:
    """The caller's orders, newest first."""
    query = select(Order).where(_own(user))
    if status:
        query = query.where(Order.status == status)
    rows, cursor = await newest_first(session, query, Order.id, page)
    return await summaries(session, [order for (order,) in rows]), cursor


async def summaries(session: AsyncSession, orders: Sequence[Order]) -> list[OrderSummary]:
    counts: dict[int, int] = defaultdict(int)
    rows = await session.execute(
        select(OrderItem.order_id, func.count())
        .where(OrderItem.order_id.in_([order.id for order in orders]))
        .group_by(OrderItem.order_id)
    )
    counts.update(dict(rows.all()))
    return [OrderSummary(**_summary(order), item_count=counts[order.id]) for order in orders]


def _summary(order: Order) -> dict[str, object]:
    names = (
        "number", "status", "gateway", "purchase_order", "licensee", "currency", "subtotal", "tax_name",
        "tax_rate", "tax", "total", "refunded", "created_at", "expires_at", "paid_at", "closed_at",
    )  # fmt: skip
    return {"id": order.uid, **{name: getattr(order, name) for name in names}}


async def view(session: AsyncSession, order: Order) -> OrderDetail:
    """An order in full."""
    rows = await items(session, order.id)
    by_item = await files(session, [item.id for item in rows])
    return OrderDetail(
        **_summary(order),
        item_count=len(rows),
        items=[
            ItemView(
                id=item.uid,
                clip_id=item.clip_uid,
                title=item.title,
                contributor=item.contributor,
                tier=item.tier,
                licence=item.licence,
                editorial=item.editorial,
                price=item.price,
                credit=item.credit,
                amount=item.amount,
                tax=item.tax,
                refunded=item.refunded,
                files=[
                    FileView(
                        tier=file.tier,
                        size=file.size,
                        sha256=file.sha256,
                        width=file.width,
                        height=file.height,
                        codec=file.codec,
                        extension=file.extension,
                    )
                    for file in by_item[item.id]
                ],
            )
            for item in rows
        ],
    )
