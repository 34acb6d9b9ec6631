"""Giving money back: reserved and written down first, then asked of the gateway, then settled like everything."""

import hashlib
import json
import logging
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.audit.service import Actor, record
from paletta_server.core import money
from paletta_server.core.errors import Conflict, Invalid, NotFound
from paletta_server.core.ids import new_uid
from paletta_server.core.jobs import defer
from paletta_server.core.notify import announce
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.delivery import service as delivery
from paletta_server.orders import service as orders
from paletta_server.orders.models import Order
from paletta_server.payments import allocation, disputes, gateways
from paletta_server.payments.books import WAITING, Books
from paletta_server.payments.gateway import Failed, GatewayDown, Refused
from paletta_server.payments.models import Payment, Refund, RefundItem
from paletta_server.payments.settling import locked, settle

log = logging.getLogger(__name__)

AGAIN_SECONDS = 60
"""When a job sees to it that a refund was really sent, should this process die before."""
KEY_LIVES = timedelta(hours=12)
"""Gateways forget idempotency keys, Stripe after 24 hours: after this long we look before we ask again."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be given back: `amounts` in minor units with tax by item (None for an item: all that is left of it),
    or `amount` spread over the items, or all that is left. `keep`: what is given back whole stays the customer's."""

    amounts: Mapping[int, int | None] | None = None
    amount: int | None = None
    keep: bool = False
    reason: str = ""

    @property
    def digest(self) -> str:
        items = sorted(self.amounts.items()) if self.amounts is not None else None
        asked: list[Any] = [items, self.reason]
        if self.amount is not None or self.keep:
            asked += [self.amount, self.keep]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


async def refund(
    runtime: Runtime,
    order_id: int,
    amounts: Mapping[int, int | None] | None,
    reason: str,
    actor: Actor | None,
    *,
    amount: int | None = None,
    keep: bool = False,
    key: str | None = None,
) -> Refund:
    """Give back what `Wish` says. With a `key` that was used before: that refund.

    The answer may still be `requested` where the gateway is away, or `failed` where it refused; `awaiting_approval`
    where the amount wants a second operator. Raises `Conflict` (`not_paid`, `over_refund`, `disputed`, `nothing_left`,
    `extended`, `key_reused`), `NotFound` and `Invalid` (`bad_amount`).
    """
    wish = Wish(amounts, amount, keep, reason)
    async with runtime.db.transaction() as session:
        made = await _request(session, runtime.settings, order_id, wish, actor, key)
    with suppress(GatewayDown):  # it stays reserved, and the job asks again
        await send(runtime, made.id)
    async with runtime.db.transaction() as session:
        return await session.get_one(Refund, made.id)


@dataclass(frozen=True, slots=True)
class Planned:
    """A refund that could be made now: how much of which item, and whether it would wait for a second operator."""

    books: Books
    parts: Mapping[int, int]
    approval: bool

    @property
    def total(self) -> int:
        return sum(self.parts.values())


async def plan(
    session: AsyncSession, settings: Settings, order_id: int, wish: Wish, actor: Actor | None
) -> Planned:
    """What a refund would be, with the order locked. Raises as `refund`."""
    order = await orders.lock(session, order_id)
    books = await paying(session, order)
    not_disputed(books)
    parts = _parts(books, wish)
    await nothing_extends(session, parts)
    return Planned(books, parts, actor is not None and _is_large(books, settings, sum(parts.values())))


def _is_large(books: Books, settings: Settings, total: int) -> bool:
    """Whether a second operator has to agree: what one alone gives back of an order counts together."""
    limit = settings.refund_approval_above
    alone = sum(
        one.amount
        for one in books.refunds
        if one.requested_by is not None
        and one.decided_by is None
        and one.status not in ("failed", "rejected")
    )
    return limit is not None and alone + total > limit


async def _request(
    session: AsyncSession,
    settings: Settings,
    order_id: int,
    wish: Wish,
    actor: Actor | None,
    key: str | None,
) -> Refund:
    order = await orders.lock(session, order_id)
    if key is not None and (known := await _asked_before(session, order, key, wish.digest)) is not None:
        return known
    planned = await plan(session, settings, order_id, wish, actor)
    books, total = planned.books, planned.total
    await _reserve(session, books, total)
    made = Refund(
        uid=new_uid("refund"),
        payment_id=books.payment.id,
        order_id=order.id,
        gateway=books.payment.gateway,
        status=WAITING if planned.approval else "requested",
        currency=books.payment.currency,
        amount=total,
        reason=wish.reason,
        requested_by=actor.user_id if actor else None,
        key=key,
        request_digest=wish.digest,
        keeps_rights=wish.keep,
        expires_at=func.now() + timedelta(hours=settings.refund_approval_hours) if planned.approval else None,
    )
    session.add(made)
    await session.flush()
    session.add_all(
        RefundItem(refund_id=made.id, order_item_id=item, amount=part) for item, part in planned.parts.items()
    )
    details = {
        "refund": made.uid,
        "amount": total,
        "currency": made.currency,
        "reason": wish.reason,
        "keep": wish.keep,
        "status": made.status,
    }
    await record(session, actor, "refund:requested", order.uid, details=details)
    if planned.approval:
        await defer(session, "payments.tell_approval", refund_id=made.id)
    else:
        await defer(session, "payments.send_refund", delay_seconds=AGAIN_SECONDS, refund_id=made.id)
    return made


async def _asked_before(session: AsyncSession, order: Order, key: str, digest: str) -> Refund | None:
    known = await session.scalar(select(Refund).where(Refund.order_id == order.id, Refund.key == key))
    if known is not None and known.request_digest not in (digest, None):
        raise Conflict("this Idempotency-Key was used for another refund", code="key_reused")
    return known


async def nothing_extends(session: AsyncSession, parts: Collection[int]) -> None:
    """An upgrade was paid as a difference: without its base it would have cost too little. Raises `Conflict`
    (`extended`), also where it has fallen with its base and its money is there still."""
    await delivery.hold(session, parts)
    extending = await orders.extensions(session, parts)
    living = await delivery.living(session, [item for item, _ in extending])
    for item, order in extending:
        if order.status != "pending" and item not in living:
            continue  # a lost dispute has ended it, and there is nothing of it to give back
        first = "cancel" if order.status == "pending" else "refund"
        raise Conflict(
            f"order {order.number} extends this licence for the difference",
            code="extended",
            hint=f"{first} order {order.number} first",
        )


async def paying(session: AsyncSession, order: Order) -> Books:
    """The books of the payment that paid the order. Raises `Conflict` (`not_paid`)."""
    payment = await session.scalar(
        select(Payment).where(Payment.order_id == order.id, Payment.status == "succeeded")
    )
    if payment is None or not payment.captured:
        raise Conflict(f"no money was taken for order {order.number}", code="not_paid")
    return await locked(session, payment)


def _parts(books: Books, wish: Wish) -> dict[int, int]:
    room, amounts = books.room(), wish.amounts
    if amounts is None:
        payment = books.payment
        left = payment.captured - payment.refunded - payment.pending_refunds - payment.disputed
        if wish.amount is not None:
            _within(books, wish.amount, min(left, sum(room.values())), "order")
        amounts = allocation.spread(left if wish.amount is None else wish.amount, room)
    if not amounts:
        raise Conflict(f"nothing of order {books.order.number} is left to give back", code="nothing_left")
    parts: dict[int, int] = {}
    for item, amount in amounts.items():
        if item not in room:
            raise NotFound("item", str(item))
        if amount is None and not room[item]:
            raise Conflict("nothing of this item is left to give back", code="nothing_left")
        parts[item] = room[item] if amount is None else amount
        _within(books, parts[item], room[item], "item")
    return parts


def _within(books: Books, amount: int, most: int, what: str) -> None:
    if amount <= 0:
        raise Invalid("a refund must be more than nothing", code="bad_amount")
    if amount > most:
        currency = books.order.currency
        raise Conflict(
            f"{money.text(most, currency)} {currency} at most can be given back for this {what}",
            code="over_refund",
            left=most,
        )


def not_disputed(books: Books) -> None:
    """Raises `Conflict` (`disputed`)."""
    for one in books.disputes.values():
        if disputes.blocks_refunds(one.status, one.outcome):
            raise Conflict(
                "the payment is disputed: the bank decides who gets the money",
                code="disputed",
                hint=f"`paletta admin disputes accept {one.uid}` leaves the money to the customer",
            )


async def _reserve(session: AsyncSession, books: Books, amount: int) -> None:
    """Take `amount` out of what can be given back, in one statement that cannot take too much."""
    taken = await session.scalar(
        update(Payment)
        .where(
            Payment.id == books.payment.id,
            Payment.refunded + Payment.pending_refunds + Payment.disputed + amount <= Payment.captured,
        )
        .values(pending_refunds=Payment.pending_refunds + amount, next_check_at=func.now())
        .returning(Payment.id)
        .execution_options(synchronize_session=False)
    )
    if taken is None:
        raise Conflict("that is more than is left of the payment", code="over_refund")


async def send(runtime: Runtime, refund_id: int) -> None:
    """Ask the gateway for a refund that was requested, and settle. Asking again changes nothing.

    Raises `GatewayDown`; then it stays requested and reserved.
    """
    refund, payment, old = await _read(runtime, refund_id)
    if old and refund.status == "requested":
        await settle(runtime, payment.id)
        refund, payment, _ = await _read(runtime, refund_id)
    if refund.status != "requested":
        return
    assert payment.charge is not None, "what was captured has a charge"
    refusal: Refused | Failed | None = None
    try:
        await gateways.of(runtime, payment.gateway).refund(
            payment.charge, key=refund.uid, payment=payment.uid, amount=refund.amount
        )
    except (Refused, Failed) as error:
        refusal = error
    # Also after a refusal: an earlier call of which we never heard may have gone through.
    await settle(runtime, payment.id)
    if isinstance(refusal, Refused):
        await _give_up(runtime, refund_id, refusal.detail)


async def _read(runtime: Runtime, refund_id: int) -> tuple[Refund, Payment, bool]:
    async with runtime.db.transaction() as session:
        refund = await session.get_one(Refund, refund_id)
        payment = await session.get_one(Payment, refund.payment_id)
        old = await session.scalar(select(refund.created_at < func.now() - KEY_LIVES))
        return refund, payment, bool(old)


async def _give_up(runtime: Runtime, refund_id: int, why: str) -> None:
    """The gateway will not give this back: what was reserved is free again."""
    async with runtime.db.transaction() as session:
        asked = await session.get_one(Refund, refund_id)
        books = await locked(session, await session.get_one(Payment, asked.payment_id))
        (refund,) = (one for one in books.refunds if one.id == refund_id)
        if refund.status != "requested":
            return
        refund.status, refund.failure = "failed", why
        books.add_up()
        details = {"refund": refund.uid, "amount": refund.amount, "reason": why}
        log.error("a refund was refused", extra={"order": books.order.uid, **details})
        await record(session, None, "refund:failed", books.order.uid, details=details)
        await announce(session, orders.topic(books.order))
