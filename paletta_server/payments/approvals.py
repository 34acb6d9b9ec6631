"""Refunds that wait for a second operator: approved, rejected, or over with their time.

The money is reserved meanwhile. Whoever decides holds the order's lock, so that of two decisions one counts.
"""

import logging
from contextlib import suppress

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts.security import Principal
from paletta_server.audit.service import Actor, record
from paletta_server.core.errors import Conflict, Forbidden
from paletta_server.core.ids import resolve
from paletta_server.core.jobs import defer
from paletta_server.core.notify import announce
from paletta_server.core.runtime import Runtime
from paletta_server.orders import service as orders
from paletta_server.payments.books import RESERVED, WAITING, Books
from paletta_server.payments.gateway import GatewayDown
from paletta_server.payments.models import Payment, Refund
from paletta_server.payments.refunds import AGAIN_SECONDS, not_disputed, nothing_extends, send
from paletta_server.payments.settling import locked

log = logging.getLogger(__name__)

NOBODY = "nobody approved it in time"
AT_ONCE = 100


async def find(session: AsyncSession, text: str) -> Refund:
    """A refund by (the beginning of) its id. Raises `NotFound`."""
    return await resolve(session, Refund, text, kind="refund")


async def approve(runtime: Runtime, user: Principal, text: str) -> Refund:
    """Let a refund go ahead. Asked again by the same operator: the refund as it is now.

    Raises `Forbidden` (`own_refund`), `Conflict` (`not_waiting`, `expired`, and what may have come in between:
    `disputed`, `extended`, `over_refund`).
    """
    async with runtime.db.transaction() as session:
        refund, books = await _locked(session, text)
        if refund.decided_by == user.user_id and refund.status not in (WAITING, "rejected"):
            return refund
        _waiting(refund)
        if refund.requested_by == user.user_id:
            raise Forbidden(
                "a refund of this size needs a second operator, and you asked for it",
                code="own_refund",
                hint="have another admin approve it, or withdraw it: `paletta admin refunds reject`",
            )
        if refund.expires_at is not None and refund.expires_at <= books.now:
            raise Conflict(NOBODY, code="expired", hint="ask for the refund again")
        not_disputed(books)
        await nothing_extends(session, books.parts[refund.id])
        _still_fits(books)
        refund.status, refund.decided_by, refund.decided_at = "requested", user.user_id, books.now
        details = {"refund": refund.uid, "amount": refund.amount, "currency": refund.currency}
        await record(session, user, "refund:approved", books.order.uid, details=details)
        await defer(session, "payments.send_refund", delay_seconds=AGAIN_SECONDS, refund_id=refund.id)
    with suppress(GatewayDown):
        await send(runtime, refund.id)
    async with runtime.db.transaction() as session:
        return await session.get_one(Refund, refund.id)


async def reject(runtime: Runtime, user: Principal, text: str, *, reason: str) -> Refund:
    """Give a refund up before it was asked for; whoever asked for it may withdraw it so. Asked again by the same
    operator: the refund as it is. Raises `Conflict` (`not_waiting`)."""
    async with runtime.db.transaction() as session:
        refund, books = await _locked(session, text)
        if refund.status == "rejected" and refund.decided_by == user.user_id:
            return refund
        _waiting(refund)
        await _end(refund, books, user, reason)
        return refund


async def expire(runtime: Runtime) -> None:
    """End those that nobody decided about in time."""
    async with runtime.db.transaction() as session:
        overdue = await session.scalars(
            select(Refund.uid)
            .where(Refund.status == WAITING, Refund.expires_at <= func.now())
            .order_by(Refund.expires_at)
            .limit(AT_ONCE)
        )
        uids = list(overdue)
    for uid in uids:
        async with runtime.db.transaction() as session:
            refund, books = await _locked(session, uid)
            if refund.status == WAITING:
                log.warning("a refund was not approved in time", extra={"refund": refund.uid})
                await _end(refund, books, None, NOBODY)


async def _end(refund: Refund, books: Books, actor: Actor | None, why: str) -> None:
    refund.status, refund.failure = "rejected", why
    refund.decided_by, refund.decided_at = actor.user_id if actor else None, books.now
    books.add_up()
    details = {"refund": refund.uid, "amount": refund.amount, "currency": refund.currency, "reason": why}
    await record(books.session, actor, "refund:rejected", books.order.uid, details=details)
    await announce(books.session, orders.topic(books.order))


async def _locked(session: AsyncSession, text: str) -> tuple[Refund, Books]:
    asked = await find(session, text)
    books = await locked(session, await session.get_one(Payment, asked.payment_id))
    (refund,) = (one for one in books.refunds if one.id == asked.id)
    return refund, books


def _waiting(refund: Refund) -> None:
    if refund.status != WAITING:
        state = (
            "was never in need of approval" if refund.expires_at is None else f"is {refund.status} already"
        )
        raise Conflict(f"refund `{refund.uid}` {state}", code="not_waiting")


def _still_fits(books: Books) -> None:
    """A refund made at the gateway by hand may have taken what this one had reserved."""
    payment, reserved = books.payment, sum(one.amount for one in books.refunds if one.status in RESERVED)
    if payment.refunded + payment.disputed + reserved > payment.captured:
        raise Conflict(
            "other refunds have taken what this one was to give back",
            code="over_refund",
            hint="reject it, and ask for what is left",
        )
