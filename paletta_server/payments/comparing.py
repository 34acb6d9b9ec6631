"""Our books against the gateways': every difference, and its end by settling.

A payment is compared by asking its gateway for the present state. What differs is asked for once more, since news may
arrive between one look and the other.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core import money
from paletta_server.core.pagination import PageParams, cursor_for
from paletta_server.core.runtime import Runtime
from paletta_server.orders import service as orders
from paletta_server.payments import gateways, service
from paletta_server.payments.disputes import reopens
from paletta_server.payments.gateway import GatewayDown, PaymentState, Refused
from paletta_server.payments.models import Dispute, Payment, Refund
from paletta_server.payments.settling import CAPTURED, OPEN, settle

log = logging.getLogger(__name__)

AT_ONCE = 8
"""Questions to gateways at the same time."""
YOUNG = timedelta(minutes=5)
"""A checkout that was opened so recently may not be in our books yet."""


@dataclass(frozen=True, slots=True)
class Difference:
    """`what` is `ours` with us and `theirs` there; None is not there at all."""

    order: str | None
    payment: str | None
    gateway: str
    what: str
    ours: str | None
    theirs: str | None
    fixed: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    compared: int
    differences: list[Difference]
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class _Ours:
    """What our books say of a payment."""

    payment: Payment
    number: str
    order_status: str
    order_total: int
    order_refunded: int
    refunds: Sequence[Refund]
    disputes: Sequence[Dispute]


async def payments(
    runtime: Runtime, *, since: datetime | None, order: str | None, fix: bool, page: PageParams
) -> Comparison:
    """Compare a page of payments, oldest first: those that began, or of which something was heard, since then, or
    those of one order. Raises `NotFound`."""
    async with runtime.db.transaction() as session:
        query = select(Payment.id).where(Payment.id > (page.after or 0)).order_by(Payment.id)
        if order is not None:
            query = query.where(Payment.order_id == (await orders.find_any(session, order)).id)
        if since is not None:
            query = query.where(or_(Payment.created_at >= since, Payment.checked_at >= since))
        keys = list(await session.scalars(query.limit(page.limit + 1)))
    more, keys = len(keys) > page.limit, keys[: page.limit]
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(key: int) -> list[Difference]:
        async with gate:
            return await _one(runtime, key, fix=fix)

    found = await asyncio.gather(*map(one, keys))
    return Comparison(
        len(keys),
        [difference for each in found for difference in each],
        cursor_for(keys[-1]) if more else None,
    )


async def _one(runtime: Runtime, payment_id: int, *, fix: bool) -> list[Difference]:
    first = await _look(runtime, payment_id)
    if not first:
        return []
    if fix:
        try:
            await _mend(runtime, payment_id)
        except (GatewayDown, Refused) as error:
            log.warning("a payment cannot be settled", extra={"payment": payment_id, "why": error.detail})
    again = {(one.what, one.ours, one.theirs) for one in await _look(runtime, payment_id)}
    left = [one for one in first if (one.what, one.ours, one.theirs) in again]
    gone = [replace(one, fixed=True) for one in first if one not in left] if fix else []
    return left + gone


async def _mend(runtime: Runtime, payment_id: int) -> None:
    async with runtime.db.transaction() as session:
        payment = await session.get_one(Payment, payment_id)
        unsent = list(
            await session.scalars(
                select(Refund.id).where(Refund.payment_id == payment_id, Refund.status == "requested")
            )
        )
    if payment.reference is None and payment.status in OPEN:
        await service.close(runtime, payment_id)
    else:
        await settle(runtime, payment_id)
    for refund_id in unsent:
        await service.send(runtime, refund_id)


async def _look(runtime: Runtime, payment_id: int) -> list[Difference]:
    async with runtime.db.transaction() as session:
        ours = await _ours(session, payment_id)
    payment = ours.payment
    if payment.reference is None:
        async with runtime.db.transaction() as session:
            old = await session.scalar(
                select(Payment.created_at < func.now() - YOUNG).where(Payment.id == payment_id)
            )
        if payment.status == "created" and old:
            return [_difference(ours, "checkout", "begun", None)]
        return []
    try:
        state = await gateways.of(runtime, payment.gateway).fetch(payment.reference)
    except Refused:
        return [_difference(ours, "checkout", payment.reference, None)]
    except GatewayDown:
        return [_difference(ours, "answer", None, "the gateway does not answer")]
    return list(_differences(ours, state))


async def _ours(session: AsyncSession, payment_id: int) -> _Ours:
    payment = await session.get_one(Payment, payment_id)
    order = (await orders.by_key(session, [payment.order_id]))[payment.order_id]
    refunds = await session.scalars(select(Refund).where(Refund.payment_id == payment_id).order_by(Refund.id))
    quarrels = await session.scalars(
        select(Dispute).where(Dispute.payment_id == payment_id).order_by(Dispute.id)
    )
    return _Ours(
        payment,
        order.number,
        order.status,
        order.total,
        order.refunded,
        refunds.all(),
        quarrels.all(),
    )


def _differences(ours: _Ours, state: PaymentState) -> Iterator[Difference]:
    payment = ours.payment
    yield from _status(ours, state)
    if state.captured and state.currency != payment.currency:
        yield _difference(ours, "currency", payment.currency, state.currency)
    arrived = sum(one.amount for one in state.refunds if one.status == "succeeded")
    withdrawn = -sum(move.amount for one in state.disputes for move in one.movements)
    for what, mine, theirs in (
        ("captured", payment.captured, state.captured),
        ("refunded", payment.refunded, arrived),
        ("disputed", payment.disputed, withdrawn),
    ):
        if mine != theirs:
            yield _sums(ours, what, mine, theirs)
    yield from _refunds(ours, state)
    yield from _disputes(ours, state)
    yield from _order(ours)


def _status(ours: _Ours, state: PaymentState) -> Iterator[Difference]:
    mine = ours.payment.status
    unheard = state.status == "succeeded" and mine not in CAPTURED and state.captured > 0
    untrue = mine in CAPTURED and state.status != "succeeded"
    stale = mine in OPEN and state.status in ("failed", "expired", "succeeded")
    if unheard or untrue or stale:
        yield _difference(ours, "status", mine, state.status)


def _refunds(ours: _Ours, state: PaymentState) -> Iterator[Difference]:
    theirs = {one.reference: one for one in state.refunds}
    by_uid = {one.uid: one for one in state.refunds if one.uid}
    for mine in ours.refunds:
        there = theirs.pop(mine.reference or "", None) or by_uid.get(mine.uid)
        if there is not None:
            theirs.pop(there.reference, None)
            if there.status != mine.status and not (mine.status == "failed" and there.status == "pending"):
                yield _difference(ours, f"refund {mine.uid}", mine.status, there.status)
        elif mine.status in ("requested", "pending", "succeeded"):
            yield _difference(ours, f"refund {mine.uid}", mine.status, None)
    for there in theirs.values():
        sum_ = money.text(there.amount, ours.payment.currency)
        yield _difference(ours, f"refund {there.reference}", None, f"{there.status}, {sum_}")


def _disputes(ours: _Ours, state: PaymentState) -> Iterator[Difference]:
    theirs = {one.reference: one for one in state.disputes}
    for mine in ours.disputes:
        there = theirs.pop(mine.reference, None)
        # Closed is sticky with us: late news of how a dispute once stood says nothing.
        if there is None or (
            there.status != mine.status and (mine.outcome is None or reopens(mine.status, there.status))
        ):
            yield _difference(ours, f"dispute {mine.uid}", mine.status, there.status if there else None)
    for there in theirs.values():
        yield _difference(ours, f"dispute {there.reference}", None, there.status)


def _order(ours: _Ours) -> Iterator[Difference]:
    payment = ours.payment
    if payment.status != "succeeded":
        return
    if ours.order_status in orders.UNPAID:
        yield _difference(ours, "order", ours.order_status, "paid")
    elif payment.captured != ours.order_total:
        yield _sums(ours, "order total", ours.order_total, payment.captured)
    elif payment.refunded != ours.order_refunded:
        yield _sums(ours, "order refunded", ours.order_refunded, payment.refunded)


def _difference(ours: _Ours, what: str, mine: str | None, theirs: str | None) -> Difference:
    return Difference(ours.number, ours.payment.uid, ours.payment.gateway, what, mine, theirs)


def _sums(ours: _Ours, what: str, mine: int, theirs: int) -> Difference:
    currency = ours.payment.currency
    return _difference(ours, what, money.text(mine, currency), money.text(theirs, currency))
