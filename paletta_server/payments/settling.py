"""`settle`: the one way in which news of a payment reaches the shop.

Webhook, return page and reconciler all call it. It asks the gateway, then in one transaction writes down what is
new and lets everything follow from the sum of what is written. Calling it once more changes nothing; old news only
lacks what newer news has, since events are only ever added.
"""

import hashlib
import logging
from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.audit.service import record
from paletta_server.core.ids import new_uid
from paletta_server.core.jobs import defer
from paletta_server.core.notify import announce
from paletta_server.core.runtime import Runtime
from paletta_server.delivery import service as delivery
from paletta_server.earnings import service as earnings
from paletta_server.orders import service as orders
from paletta_server.payments import disputes, gateways
from paletta_server.payments.books import RESERVED, Books
from paletta_server.payments.gateway import PaymentState
from paletta_server.payments.models import ExternalEvent, Payment, Refund, RefundItem

log = logging.getLogger(__name__)

LOOKS = 4
"""How often `settle` looks again because somebody else settled meanwhile; then it writes what it has."""
QUIET = timedelta(minutes=5)
"""An open payment that nothing is heard of for so long is asked about."""
CLAIM = timedelta(minutes=1)
"""The reconciler puts off what it is about to ask by so much, lest two ask at once."""
UNDECIDED = timedelta(hours=1)
"""The same for refunds on their way and for disputes."""
WATCHED = timedelta(days=180)
"""How long captured money is asked about: most cards can be disputed for 120 days."""
LATE = timedelta(days=3)
"""How long a checkout that came to nothing is: longer than any gateway's lives."""
OPEN, CAPTURED = ("created", "open"), ("succeeded", "surplus")
PAID_TWICE = "the order was paid already"
NOTHING_TO_EXTEND = "the licence that was to be extended has ended"


async def settle(runtime: Runtime, payment_id: int, *, event_id: int | None = None) -> None:
    """Bring the shop up to date with what the gateway knows of a payment. `event_id`: the inbox's row that asked
    for it is marked in the same transaction. Raises `GatewayDown`, `Refused`."""
    for look in range(LOOKS):
        async with runtime.db.transaction() as session:
            payment = await session.get_one(Payment, payment_id)
        if payment.reference is None:
            return  # nothing was opened yet, or we did not hear of it: closing finds out
        state = await gateways.of(runtime, payment.gateway).fetch(payment.reference)
        digest = _digest(state)
        async with runtime.db.transaction() as session:
            # In a transaction of its own: the locks below come in an order that begins with the order.
            if payment.status not in OPEN and await _nothing_new(session, payment, digest):
                if event_id is not None:
                    await _handled(session, event_id)
                return
        async with runtime.db.transaction() as session:
            books = await locked(session, payment)
            if books.payment.checks != payment.checks and look < LOOKS - 1:
                continue  # whoever was quicker may have asked later than we did
            await _write(books, state)
            books.payment.digest = digest
            if event_id is not None:
                await _handled(session, event_id)
            return


def _digest(state: PaymentState) -> str:
    return hashlib.sha256(repr(state).encode()).hexdigest()


async def _nothing_new(session: AsyncSession, payment: Payment, digest: str) -> bool:
    """Whether this very answer was the last one settled; then it is only noted that we asked. When it is time to
    plan the next question, that is not enough."""
    same = await session.scalar(
        update(Payment)
        .where(
            Payment.id == payment.id,
            Payment.digest == digest,
            or_(Payment.next_check_at.is_(None), Payment.next_check_at > func.now() + 2 * CLAIM),
        )
        .values(checked_at=func.now())
        .returning(Payment.id)
        .execution_options(synchronize_session=False)
    )
    return same is not None


async def locked(session: AsyncSession, payment: Payment) -> Books:
    """The books of a payment: order, payment, refunds and disputes locked, in the order that everybody uses."""
    order = await orders.lock(session, payment.order_id)
    row = await session.execute(
        select(Payment, func.now())
        .where(Payment.id == payment.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    mine, now = row.one()
    return await Books.open(session, order, await orders.items(session, order.id), mine, now)


async def _handled(session: AsyncSession, event_id: int) -> None:
    await session.execute(
        update(ExternalEvent)
        .where(ExternalEvent.id == event_id, ExternalEvent.handled_at.is_(None))
        .values(handled_at=func.now(), outcome="settled")
    )


async def _write(books: Books, state: PaymentState) -> None:
    session, payment = books.session, books.payment
    await books.take_in(state)
    await _move(books, state)
    await session.flush()
    if payment.status == "succeeded":
        await _fulfil(books, state.currency)
        await _give_back(books)
        await set_rights(books)
    elif payment.status == "surplus":
        await _return_surplus(books)
    elif payment.status in OPEN and state.status == "open" and books.order.status != "pending":
        # Opened while the order was being given up: nobody should pay for it any more. One that a bank is deciding
        # about cannot be closed; asking again at once would go round in circles.
        await defer(session, "payments.close", payment_id=payment.id)
    if books.news:
        await earnings.post(session, books.order)
    payment.checks += 1
    payment.checked_at = books.now
    payment.next_check_at = _next_check(books)
    await session.flush()
    if books.news:
        await announce(session, orders.topic(books.order))


async def _move(books: Books, state: PaymentState) -> None:
    """The payment's own status. Money decides before words do: a checkout that was closed too late is paid."""
    payment = books.payment
    if payment.captured and payment.status not in CAPTURED:
        status = "succeeded" if await _first(books) else "surplus"
    elif payment.status in OPEN and state.status in ("failed", "expired"):
        status = state.status
    elif payment.status == "created":
        status = "open"
    else:
        return
    payment.status, books.news = status, True


async def _first(books: Books) -> bool:
    """Whether this payment is the one that pays the order. Another that is open still is given up for it."""
    session, payment = books.session, books.payment
    other = await session.scalar(
        select(Payment)
        .where(
            Payment.order_id == payment.order_id,
            Payment.id != payment.id,
            Payment.status.in_((*OPEN, "succeeded")),
        )
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if other is None:
        return True
    if other.status == "succeeded":
        return False
    other.status = "expired"
    await session.flush()
    await defer(session, "payments.close", payment_id=other.id)
    return True


async def _fulfil(books: Books, currency: str) -> None:
    """Enough money in the right currency: the order is paid, and its customer owns what was ordered."""
    session, order, payment = books.session, books.order, books.payment
    if payment.captured < order.total or currency != order.currency:
        payment.failure = "what was captured is not what the order costs"
        log.error("a payment does not fit its order", extra={"order": order.uid, "payment": payment.uid})
        return
    if await orders.mark_paid(session, order.id):
        baseless = await delivery.grant(session, order, books.items)
        parts = {key: books.gross[key] for key in baseless if books.gross[key]}
        if parts:
            await _send_back(books, sum(parts.values()), parts, NOTHING_TO_EXTEND)


async def _give_back(books: Books) -> None:
    """What refunds add up to: the order's figures, and the end of the right to what was given back whole."""
    session, given = books.session, books.given_back()
    if all(item.refunded == given.get(item.id, 0) for item in books.items):
        return
    more = sum(given.values()) > books.order.refunded
    order = await orders.set_refunds(session, books.order.id, given)
    if more:
        await delivery.notice_refund(session, order.id)


async def set_rights(books: Books) -> None:
    """Let the rights to what was ordered be what refunds and disputes leave of them, as they stand now: a refund that
    failed after all and a dispute that an appeal won give back what they had taken.

    Goodwill outweighs what ended a right before it was given, and is over once there is nothing to outweigh.
    """
    lost = [one for one in books.disputes.values() if disputes.takes_away(one.outcome, one.withdrawn)]
    held = any(disputes.holds_back(one.outcome, one.withdrawn) for one in books.disputes.values())
    back, kept = given_back_whole(books), books.kept()
    goodwill: dict[int, datetime | None] = {}
    rights: dict[int, str] = {}
    for item in books.items:
        since = item.goodwill_at
        if not lost and item.id not in back:
            since = None
        elif not lost and item.id in kept:
            since = since or books.now
        ended = item.id in back or bool(lost)
        covered = since is not None and all(one.closed_at and one.closed_at <= since for one in lost)
        goodwill[item.id] = since
        rights[item.id] = "revoked" if ended and not covered else "suspended" if held else "granted"
    await orders.set_goodwill(books.session, books.order.id, goodwill)
    await delivery.set_rights(books.session, books.order.id, rights)


def given_back_whole(books: Books) -> set[int]:
    """Items of which refunds left nothing."""
    given = books.given_back()
    if books.order.status == "refunded":
        return set(books.gross)
    return {key for key, gross in books.gross.items() if 0 < gross <= given.get(key, 0)}


async def _return_surplus(books: Books) -> None:
    """All of it goes back by itself, once; what becomes of that is for people to look at."""
    payment = books.payment
    amount = payment.captured - payment.refunded - payment.disputed
    if books.refunds or amount <= 0:
        return
    log.error("an order was paid twice", extra={"order": books.order.uid, "payment": payment.uid})
    await _send_back(books, amount, {}, PAID_TWICE)


async def _send_back(books: Books, amount: int, parts: Mapping[int, int], reason: str) -> None:
    """Money that should not have come. `parts`: how much of it belongs to which item."""
    session, payment = books.session, books.payment
    refund = Refund(
        uid=new_uid("refund"),
        payment_id=payment.id,
        order_id=books.order.id,
        gateway=payment.gateway,
        status="requested",
        currency=payment.currency,
        amount=amount,
        reason=reason,
    )
    session.add(refund)
    await session.flush()
    session.add_all(
        RefundItem(refund_id=refund.id, order_item_id=key, amount=part) for key, part in parts.items()
    )
    books.refunds.append(refund)
    books.parts[refund.id] = dict(parts)
    books.add_up()
    details = {"refund": refund.uid, "amount": amount, "currency": refund.currency, "reason": reason}
    await record(session, None, "refund:requested", books.order.uid, details=details)
    await defer(session, "payments.send_refund", refund_id=refund.id)


def _next_check(books: Books) -> datetime | None:
    """When to ask again without being told to. The pause doubles with the payment's age, so that watching one for
    half a year costs about sixteen questions."""
    payment = books.payment
    age = books.now - payment.created_at
    undecided = any(refund.status in RESERVED for refund in books.refunds) or any(
        dispute.outcome is None for dispute in books.disputes.values()
    )
    if payment.status in OPEN:
        return books.now + QUIET
    if undecided:
        return books.now + UNDECIDED
    if age > (WATCHED if payment.status in CAPTURED else LATE):
        return None
    return books.now + max(QUIET, age)
