"""Keeping the ledger in step with orders and payments.

Nothing is counted up: from the absolute figures of payments and items follows what should stand in the ledger for
each item and kind, and only the difference to what stands there is appended. So posting twice changes nothing, and
news may come in any order.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core.runtime import Runtime
from paletta_server.earnings import allocation, ledger, rates
from paletta_server.earnings.allocation import Shares
from paletta_server.earnings.ledger import Entry, Key, Posting
from paletta_server.earnings.models import (
    CHARGEBACKS,
    CUSTOMERS,
    DISPUTE,
    LOSSES,
    PAYABLE,
    PENDING,
    PLATFORM,
    REFUND,
    RELEASE,
    SALE,
    SURPLUS,
    TAX,
    UNALLOCATED,
    Royalty,
)
from paletta_server.orders import service as orders
from paletta_server.orders.models import Order, OrderItem
from paletta_server.payments import figures
from paletta_server.payments.allocation import spread
from paletta_server.payments.figures import Figures

log = logging.getLogger(__name__)

AT_ONCE = 100


async def post(session: AsyncSession, order: Order) -> None:
    """Append what the ledger lacks of an order, whose lock the caller holds."""
    payments = await figures.of_order(session, order.id)
    paying = order.paid_at is not None and any(one.paying for one in payments)
    if not paying and not any(one.captured for one in payments):
        return
    items = await orders.items(session, order.id) if paying else []
    royalties = await _frozen(session, order, items)
    have = await ledger.of_order(session, order.id)
    goodwill = await figures.goodwill(session, items) if items else {}
    want = wanted(order.currency, items, royalties, payments, goodwill)
    lacking: dict[tuple[int | None, str], dict[Key, int]] = {}
    for key in want.keys() | have.keys():
        if difference := want.get(key, 0) - have.get(key, 0):
            lacking.setdefault((key.item_id, key.kind), {})[key] = difference
    await ledger.append(
        session,
        [
            Posting(
                kind,
                _entries(amounts, royalties.get(item_id or 0)),
                at=order.paid_at if kind == SALE else None,
                order_id=order.id,
                order_item_id=item_id,
            )
            for (item_id, kind), amounts in sorted(
                lacking.items(), key=lambda one: (one[0][0] or 0, one[0][1])
            )
        ],
    )


def _entries(amounts: Mapping[Key, int], royalty: Royalty | None) -> list[Entry]:
    """A contributor's part goes to where the item's royalty stands now."""
    made = []
    for key in sorted(amounts, key=lambda key: key.account):
        account, user_id = key.account, None
        if account == PENDING:
            assert royalty is not None, "items have royalties"
            user_id = royalty.contributor_id
            account = PAYABLE if royalty.released_at is not None else PENDING
        made.append(Entry(account, key.currency, amounts[key], user_id))
    return made


async def _frozen(session: AsyncSession, order: Order, items: Sequence[OrderItem]) -> dict[int, Royalty]:
    """The royalties of an order's items, by item; at the sale they are made, at the rates of this moment."""
    found = await session.scalars(
        select(Royalty).where(Royalty.order_id == order.id).execution_options(populate_existing=True)
    )
    royalties = {row.order_item_id: row for row in found}
    missing = [item for item in items if item.id not in royalties]
    if not missing:
        return royalties
    in_force = await rates.of_items(session, missing)
    made = await session.scalars(
        insert(Royalty)
        .values(
            [
                {
                    "order_item_id": item.id,
                    "order_id": order.id,
                    "contributor_id": item.contributor_id,
                    "rate": in_force[item.id],
                    "amount": allocation.royalty(item.amount, in_force[item.id]),
                    "sold_at": order.paid_at,
                }
                for item in missing
            ]
        )
        .returning(Royalty)
    )
    return royalties | {row.order_item_id: row for row in made}


def wanted(
    currency: str,
    items: Sequence[OrderItem],
    royalties: Mapping[int, Royalty],
    payments: Sequence[Figures],
    goodwill: Mapping[int, int],
) -> dict[Key, int]:
    """What should stand in the ledger for an order. `items` are none while no payment has paid it.

    A dispute takes what refunds left of the items, in proportion to it. What was taken beyond that is a loss; money
    that no item accounts for is unallocated. What was given back as `goodwill` (by item) costs the contributor nothing,
    for as long as no bank takes what is left: with that the licence ends too.
    """
    disputed = sum(one.disputed for one in payments if one.paying)
    taken = spread(disputed, {item.id: item.amount + item.tax - item.refunded for item in items})
    made: dict[Key, int] = {}

    def put(item_id: int | None, kind: str, account: str, amount: int, of: str = currency) -> None:
        made[Key(item_id, kind, account, of)] = amount

    def share(item_id: int, kind: str, parts: Shares, source: str, sign: int) -> None:
        put(item_id, kind, source, -sign * parts.total)
        put(item_id, kind, TAX, sign * parts.tax)
        put(item_id, kind, PENDING, sign * parts.royalty)
        put(item_id, kind, PLATFORM, sign * parts.platform)

    for item in items:
        gross, rate = item.amount + item.tax, royalties[item.id].rate
        after_refunds = gross - item.refunded
        gift = goodwill.get(item.id, 0)
        stages = [
            allocation.shares(kept, item.amount, item.tax, rate, given)
            for kept, given in (
                (gross, 0),
                (after_refunds, gift),
                (after_refunds - taken.get(item.id, 0), 0 if disputed else gift),
            )
        ]
        share(item.id, SALE, stages[0], CUSTOMERS, 1)
        share(item.id, REFUND, stages[0] - stages[1], CUSTOMERS, -1)
        share(item.id, DISPUTE, stages[1] - stages[2], CHARGEBACKS, -1)
    for of in {one.currency for one in payments}:
        customers = -sum(one.captured - one.refunded for one in payments if one.currency == of)
        chargebacks = sum(one.disputed for one in payments if one.currency == of)
        customers -= sum(v for k, v in made.items() if k.account == CUSTOMERS and k.currency == of)
        chargebacks -= sum(v for k, v in made.items() if k.account == CHARGEBACKS and k.currency == of)
        left = -customers - chargebacks
        put(None, SURPLUS, CUSTOMERS, customers, of)
        put(None, SURPLUS, CHARGEBACKS, chargebacks, of)
        put(None, SURPLUS, UNALLOCATED, max(0, left), of)
        put(None, SURPLUS, LOSSES, min(0, left), of)
    return made


# ---- the hold


DUE = text(
    "SELECT DISTINCT order_id FROM royalties WHERE released_at IS NULL"
    " AND sold_at <= now() - make_interval(secs => :hold) AND order_id > :after ORDER BY order_id LIMIT :most"
)


async def release_due(runtime: Runtime) -> int:
    """Make royalties payable whose hold is over; of how many orders. One that fails keeps no other waiting."""
    hold = timedelta(days=runtime.settings.royalty_hold_days)
    done = after = 0
    while True:
        async with runtime.db.transaction() as session:
            values = {"hold": hold.total_seconds(), "after": after, "most": AT_ONCE}
            due = list(await session.scalars(DUE, values))
        for order_id in due:
            done += await _quietly(runtime, order_id, hold)
        if len(due) < AT_ONCE:
            return done
        after = due[-1]


async def _quietly(runtime: Runtime, order_id: int, hold: timedelta | None) -> bool:
    """Release (with a `hold`) or post one order in a transaction of its own; whether that went well."""
    try:
        async with runtime.db.transaction() as session:
            order = await orders.lock(session, order_id)
            await (post(session, order) if hold is None else release(session, order, hold))
    except SQLAlchemyError:
        log.exception("an order cannot be posted; to be tried again", extra={"order_key": order_id})
        return False
    return True


async def release(session: AsyncSession, order: Order, hold: timedelta) -> None:
    """Make what is on hold of an order payable, as far as its items were sold `hold` ago. The caller holds the
    order's lock."""
    over = await session.scalars(
        update(Royalty)
        .where(
            Royalty.order_id == order.id,
            Royalty.released_at.is_(None),
            Royalty.sold_at <= func.now() - hold,
        )
        .values(released_at=func.now())
        .returning(Royalty)
        .execution_options(populate_existing=True)
    )
    royalties = {row.order_item_id: row for row in over}
    held = await ledger.held(session, order.id, list(royalties))
    postings = []
    for (item_id, currency), amount in sorted(held.items()):
        if amount:
            mine = royalties[item_id].contributor_id
            entries = [Entry(PENDING, currency, -amount, mine), Entry(PAYABLE, currency, amount, mine)]
            postings.append(Posting(RELEASE, entries, order_id=order.id, order_item_id=item_id))
    await ledger.append(session, postings)


# ---- catching up


UNPOSTED = text(
    "SELECT o.id FROM orders o WHERE o.paid_at IS NOT NULL AND o.id > :after"
    " AND EXISTS (SELECT FROM payments p WHERE p.order_id = o.id AND p.status = 'succeeded')"
    " AND NOT EXISTS (SELECT FROM royalties r WHERE r.order_id = o.id) ORDER BY o.id LIMIT :most"
)
"""Every order has items, and their royalties are made together."""


async def catch_up(runtime: Runtime) -> int:
    """Post what was sold before there was a ledger, or by a node of the version before; how many orders."""
    done = after = 0
    while True:
        async with runtime.db.transaction() as session:
            found = list(await session.scalars(UNPOSTED, {"after": after, "most": AT_ONCE}))
        for order_id in found:
            done += await _quietly(runtime, order_id, None)
        if len(found) < AT_ONCE:
            return done
        after = found[-1]


async def post_again(runtime: Runtime, order_ids: Sequence[int]) -> None:
    """Append what the ledger lacks of these orders."""
    for order_id in order_ids:
        await _quietly(runtime, order_id, None)
