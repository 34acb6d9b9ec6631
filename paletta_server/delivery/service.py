"""Entitlements: who may have which files, from the moment an order is paid.

One row per order item, however often the payment is announced. What it is worth is said by the payment of its order
(`set_rights`, in the transaction of whoever settles that), and by what it extends.
"""

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import ColumnElement, Select, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.audit.service import record
from paletta_server.core import money
from paletta_server.core.ids import ALPHABET, new_uid
from paletta_server.core.jobs import defer
from paletta_server.delivery.models import DeliveryLink, Entitlement
from paletta_server.orders import service as orders
from paletta_server.orders.models import Order, OrderItem
from paletta_server.payments.under_way import being_refunded

RIGHTS = ("granted", "suspended", "revoked")
"""From the best to the worst."""
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
    extendable: bool
    """Whether it counts towards a better one: not while it is held back, only once, and not what was left to them
    although its money went back."""


async def grant(session: AsyncSession, order: Order, items: Sequence[OrderItem]) -> list[int]:
    """Entitle the customer to the items of a paid order, and tell them. Granting again changes nothing.

    Returns the keys of items that come to nothing: since they were ordered, what they extend has ended, has begun to,
    or is not worth any more what they were reduced by.
    """
    if not items:
        return []
    extended = [item.upgrade_of for item in items if item.upgrade_of is not None]
    found = await _locked(session, Entitlement.order_item_id.in_(extended)) if extended else []
    bases = {row.order_item_id: row for row in found}
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
                    "extends_id": bases[item.upgrade_of].id if item.upgrade_of in bases else None,
                    "certificate": new_certificate(),
                }
                for item in items
            ]
        )
        .on_conflict_do_nothing(index_elements=["order_item_id"])
        .returning(Entitlement.id)
    )
    if not made.all():
        return []
    await defer(session, "delivery.announce", order_id=order.id)
    await set_rights(session, order.id, {})
    return await _baseless(session, order, items, bases)


async def _baseless(
    session: AsyncSession, order: Order, items: Sequence[OrderItem], bases: Mapping[int, Entitlement]
) -> list[int]:
    """Items whose price counted on what does not count any more. Money may come late, or while other money goes back.

    Asked with the bases locked: whoever gives their money back locks them too (`hold`), and sees what extends them.
    """
    if not bases:
        return []
    counted = set(
        await session.scalars(
            select(Entitlement.extends_id).where(
                Entitlement.extends_id.in_([base.id for base in bases.values()]),
                Entitlement.order_id != order.id,
                Entitlement.status.in_(LIVING),
            )
        )
    )
    chain = await _with_predecessors(session, set(bases))
    leaving = await being_refunded(session, chain)
    found = []
    for item in items:
        if item.upgrade_of is None or item.upgrade_of not in bases:
            continue
        base = bases[item.upgrade_of]
        if (
            base.status == "revoked"
            or base.id in counted
            or chain[item.upgrade_of].goodwill_at is not None
            or not leaving.isdisjoint(_line(item.upgrade_of, chain))
            or _paid(item.upgrade_of, chain) < item.credit
        ):
            found.append(item.id)
    return found


async def set_rights(session: AsyncSession, order_id: int, wanted: Mapping[int, str]) -> None:
    """Let the rights to an order's items be what its payment says now, by item; those left out stay.

    What extends an item follows it, in whatever order. Whoever loses or regains something is told. Bases are locked
    before what extends them: they are older.
    """
    extended = select(Entitlement.extends_id).where(
        Entitlement.order_id == order_id, Entitlement.extends_id.is_not(None)
    )
    known = {row.id: row for row in await _locked(session, Entitlement.id.in_(extended))}
    level = await _locked(session, Entitlement.order_id == order_id)
    for row in level:
        row.own_status = wanted.get(row.order_item_id, row.own_status)
    changes: list[tuple[Entitlement, str]] = []
    while level:
        for row in level:
            known[row.id] = row
            base = known[row.extends_id].status if row.extends_id is not None else "granted"
            status = max(row.own_status, base, key=RIGHTS.index)
            if status != row.status:
                changes.append((row, row.status))
                row.status = status
                row.ended_at = await session.scalar(select(func.now())) if status == "revoked" else None
        await session.flush()
        level = await _locked(session, Entitlement.extends_id.in_([row.id for row in level]))
    for row, before in changes:
        await record(session, None, f"entitlement:{row.status}", row.uid, details={"before": before})
    await _tell(session, order_id, changes, known)
    await _withdraw_links(session, {row.order_id for row, _ in changes if row.status == "revoked"})


async def _locked(session: AsyncSession, which: ColumnElement[bool]) -> list[Entitlement]:
    found = await session.scalars(
        select(Entitlement)
        .where(which)
        .order_by(Entitlement.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return list(found)


async def _tell(
    session: AsyncSession,
    order_id: int,
    changes: Sequence[tuple[Entitlement, str]],
    known: Mapping[int, Entitlement],
) -> None:
    """A refund has a mail of its own; all else that takes or gives a right is told here, once for each order."""
    own = {row.status for row, _ in changes if row.order_id == order_id and row.status == row.own_status}
    if "suspended" in own:
        await defer(session, "delivery.announce_dispute", order_id=order_id)
    if "granted" in own:
        now: datetime = (await session.execute(select(func.now()))).scalar_one()
        await defer(session, "delivery.announce_return", order_id=order_id, at=now.isoformat())
    followed = set()
    for row, _ in changes:
        if row.order_id != order_id:
            followed.add((row.order_id, order_id, row.status))
        elif row.status != row.own_status and row.extends_id is not None:  # paid for while its base rests
            followed.add((row.order_id, known[row.extends_id].order_id, row.status))
    for other, base, status in sorted(followed):
        if status != "granted":
            await defer(session, "delivery.announce_extension", order_id=other, base_id=base, status=status)


async def _withdraw_links(session: AsyncSession, order_ids: Collection[int]) -> None:
    """Where nothing of an order is left, its mailed links end too."""
    if not order_ids:
        return
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
    spent = set(
        await session.scalars(
            select(Entitlement.extends_id).where(
                Entitlement.extends_id.in_([row.id for row in rows]), Entitlement.status.in_(LIVING)
            )
        )
    )
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
            extendable=row.status == "granted"
            and row.id not in spent
            and chain[row.order_item_id].goodwill_at is None,
        )
        found.setdefault(row.clip_id, []).append(mine)
    return found


async def orders_with(session: AsyncSession, user_id: int, clip_ids: Collection[int]) -> set[int]:
    """Keys of the orders that give this person something of these clips."""
    found = await session.scalars(
        select(Entitlement.order_id).where(
            Entitlement.user_id == user_id, Entitlement.clip_id.in_(clip_ids), Entitlement.status.in_(LIVING)
        )
    )
    return set(found)


async def hold(session: AsyncSession, item_ids: Collection[int]) -> None:
    """Lock the rights to items: until the transaction ends, nothing is granted that extends them. What they extend is
    locked with them, as it comes first wherever rights are locked."""
    bases = select(Entitlement.extends_id).where(Entitlement.order_item_id.in_(item_ids))
    await _locked(session, Entitlement.id.in_(bases))
    await _locked(session, Entitlement.order_item_id.in_(item_ids))


async def living(session: AsyncSession, item_ids: Collection[int]) -> set[int]:
    """Those of these items that their own order's money gives a right to, whatever became of what they extend."""
    found = await session.scalars(
        select(Entitlement.order_item_id).where(
            Entitlement.order_item_id.in_(item_ids), Entitlement.own_status.in_(LIVING)
        )
    )
    return set(found)


def fallen() -> Select[int]:
    """Keys of the items whose right ended with what they extend, and with nothing of their own, as a part of another
    query."""
    return select(Entitlement.order_item_id).where(
        Entitlement.own_status == "granted", Entitlement.status == "revoked"
    )


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


def _line(item_id: int, chain: Mapping[int, OrderItem]) -> set[int]:
    """An item and all that it builds on."""
    found = {item_id}
    while (before := chain[item_id].upgrade_of) is not None:
        found.add(item_id := before)
    return found


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
