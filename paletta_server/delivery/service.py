"""Entitlements: who may have which files, from the moment an order is paid.

One row per order item, however often the payment is announced. granted ⇄ suspended (a dispute); both → revoked
(refunded in full, or the dispute was lost), which is final. Every change is a conditional UPDATE in the transaction
of whoever causes it.
"""

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core import money
from paletta_server.core.ids import ALPHABET, new_uid
from paletta_server.core.jobs import defer
from paletta_server.delivery.models import DeliveryLink, Entitlement
from paletta_server.orders import service as orders
from paletta_server.orders.models import Order, OrderItem

LIVING = ("granted", "suspended")
"""What somebody owns: a dispute holds the files back, it does not take them away."""


@dataclass(frozen=True, slots=True)
class Owned:
    """A clip that somebody owns, at a tier and licence.

    `paid_minor` is what was paid for it before tax and not given back, upgrades from lower tiers included: what a
    further upgrade is reduced by.
    """

    tier: str
    licence: str
    item_id: int
    paid_minor: int
    currency: str


async def grant(session: AsyncSession, order: Order, items: Sequence[OrderItem]) -> None:
    """Entitle the customer to the items of a paid order, and tell them. Granting again changes nothing."""
    if not items:
        return
    made = await session.scalars(
        insert(Entitlement)
        .values(
            [
                {
                    "uid": new_uid("ent"),
                    "order_item_id": item.id,
                    "order_id": order.id,
                    "user_id": order.user_id,
                    "clip_id": item.clip_id,
                    "tier": item.tier,
                    "licence": item.licence,
                    "certificate": new_certificate(),
                }
                for item in items
            ]
        )
        .on_conflict_do_nothing(index_elements=["order_item_id"])
        .returning(Entitlement.id)
    )
    if made.all():
        await defer(session, "delivery.announce", order_id=order.id)


async def suspend(session: AsyncSession, order_id: int) -> None:
    """Hold an order's files back while its payment is disputed, and tell the customer why."""
    if await _move(session, order_id, "granted", "suspended"):
        await defer(session, "delivery.announce_dispute", order_id=order_id)


async def restore(session: AsyncSession, order_id: int) -> None:
    """The dispute ended well: what was held back is granted again."""
    await _move(session, order_id, "suspended", "granted")


async def _move(session: AsyncSession, order_id: int, before: str, after: str) -> bool:
    moved = await session.scalars(
        update(Entitlement)
        .where(Entitlement.order_id == order_id, Entitlement.status == before)
        .values(status=after)
        .returning(Entitlement.id)
    )
    return bool(moved.all())


async def revoke(session: AsyncSession, item_ids: Collection[int]) -> None:
    """End the right to these items for good. Where nothing of an order is left, its mailed links end too."""
    ended = await session.scalars(
        update(Entitlement)
        .where(Entitlement.order_item_id.in_(item_ids), Entitlement.status.in_(LIVING))
        .values(status="revoked", ended_at=func.now())
        .returning(Entitlement.order_id)
    )
    if order_ids := set(ended):
        left = select(Entitlement.order_id).where(
            Entitlement.order_id.in_(order_ids), Entitlement.status.in_(LIVING)
        )
        await session.execute(
            update(DeliveryLink)
            .where(
                DeliveryLink.order_id.in_(order_ids),
                DeliveryLink.order_id.not_in(left),
                DeliveryLink.withdrawn_at.is_(None),
            )
            .values(withdrawn_at=func.now())
        )


async def notice_refund(session: AsyncSession, order_id: int) -> None:
    """Mail the customer what was given back so far. Once per sum, however often it is asked for."""
    await defer(session, "delivery.announce_refund", order_id=order_id)


async def owned(session: AsyncSession, user_id: int, clip_ids: Collection[int]) -> dict[int, list[Owned]]:
    """What this person owns of these clips; clips of which they own nothing are left out."""
    rows = list(
        await session.scalars(
            select(Entitlement)
            .where(
                Entitlement.user_id == user_id,
                Entitlement.clip_id.in_(clip_ids),
                Entitlement.status.in_(LIVING),
            )
            .order_by(Entitlement.id)
        )
    )
    if not rows:
        return {}
    chain = await _with_predecessors(session, {row.order_item_id for row in rows})
    their = await orders.by_key(session, {row.order_id for row in rows})
    found: dict[int, list[Owned]] = {}
    for row in rows:
        mine = Owned(
            tier=row.tier,
            licence=row.licence,
            item_id=row.order_item_id,
            paid_minor=_paid(row.order_item_id, chain),
            currency=their[row.order_id].currency,
        )
        found.setdefault(row.clip_id, []).append(mine)
    return found


@dataclass(frozen=True, slots=True)
class Sold:
    """How often a clip was sold and not refunded in full: `items` of paid orders, in so many `orders`."""

    items: int
    orders: int


async def sold(session: AsyncSession, clip_ids: Collection[int]) -> dict[int, Sold]:
    """What somebody owns of each of these clips, by key."""
    rows = await session.execute(
        select(Entitlement.clip_id, func.count(), func.count(Entitlement.order_id.distinct()))
        .where(Entitlement.clip_id.in_(clip_ids), Entitlement.status.in_(LIVING))
        .group_by(Entitlement.clip_id)
    )
    return dict.fromkeys(clip_ids, Sold(0, 0)) | {key: Sold(items, in_) for key, items, in_ in rows}


async def _with_predecessors(session: AsyncSession, item_ids: set[int]) -> dict[int, OrderItem]:
    """Items and, link by link, those that they were upgrades of: as many steps as there are tiers and licences."""
    chain: dict[int, OrderItem] = {}
    while wanted := item_ids - set(chain):
        more = await orders.items_of(session, wanted)
        chain |= more
        item_ids = {item.upgrade_of for item in more.values() if item.upgrade_of is not None}
    return chain


def _paid(item_id: int, chain: dict[int, OrderItem]) -> int:
    item = chain[item_id]
    gross = item.amount + item.tax
    # What comes back comes back with its share of the tax.
    back = money.share(item.refunded, Decimal(item.amount) / gross) if gross else 0
    before = min(item.credit, _paid(item.upgrade_of, chain)) if item.upgrade_of is not None else item.credit
    return before + item.amount - back


def new_certificate() -> str:
    """The code of a licence certificate, `7H3K-9M2Q-XW4T-NP58`: 78 bits, and no letter to mistake on paper."""
    letters = "".join(secrets.choice(ALPHABET) for _ in range(16)).upper()
    return "-".join(letters[start : start + 4] for start in range(0, 16, 4))
