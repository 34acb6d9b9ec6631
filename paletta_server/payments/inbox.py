"""The webhook inbox: verified, stored once, acknowledged, then handled by a job that looks again.

An event is a hint. Whatever it says, handling it means to `settle` the payment that it names; so events may come
twice, late, in any order, or never (the reconciler finds out).
"""

import logging
from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core.errors import Invalid
from paletta_server.core.jobs import defer
from paletta_server.core.runtime import Runtime
from paletta_server.payments import gateways
from paletta_server.payments.gateway import Refused
from paletta_server.payments.models import ExternalEvent, Payment
from paletta_server.payments.settling import settle

log = logging.getLogger(__name__)

BODY_MAX = 512 * 1024
"""Stripe's events are a few kilobytes."""
KEPT = timedelta(days=30)
"""As long as Stripe keeps events for looking up."""
TRIES = 6
"""How often an event of a payment that we do not know is tried: over 3 + 9 + 27 + 81 + 243 seconds."""


async def receive(runtime: Runtime, name: str, body: bytes, headers: Mapping[str, str]) -> None:
    """Take in an event. When this returns it is stored for good, with the job that handles it.

    Raises `NotFound` where no secret could verify it, `Invalid` (`body_too_large`) and `Forged`.
    """
    gateway = gateways.with_events(runtime, name)
    if len(body) > BODY_MAX:
        raise Invalid(f"an event is {BODY_MAX:,} bytes at most", code="body_too_large")
    event = gateway.parse_event(body, headers)
    named = {"reference": event.reference, "payment": event.payment, "charge": event.charge}
    async with runtime.db.transaction() as session:
        row_id = await session.scalar(
            insert(ExternalEvent)
            .values(
                source=name,
                external_id=event.id,
                kind=event.kind,
                payload=event.payload,
                subject={key: value for key, value in named.items() if value},
            )
            .on_conflict_do_nothing(index_elements=["source", "external_id"])
            .returning(ExternalEvent.id)
        )
        if row_id is not None:
            await defer(session, "payments.handle_event", event_id=row_id, attempt=1)


async def handle(runtime: Runtime, event_id: int, *, attempt: int) -> None:
    """Handle a stored event: settle the payment that it names. One of a payment that we do not know yet is tried
    again a few times, since an event can be quicker than the transaction it is about; then it is only kept."""
    async with runtime.db.transaction() as session:
        event = await session.scalar(
            select(ExternalEvent)
            .where(ExternalEvent.id == event_id, ExternalEvent.handled_at.is_(None))
            .with_for_update()
        )
        if event is None:
            return
        if not event.subject:
            await _mark(session, event_id, "kept")
            return
        payment_id = await _payment(session, event)
        if payment_id is None:
            if attempt < TRIES:
                await defer(
                    session,
                    "payments.handle_event",
                    delay_seconds=3**attempt,
                    event_id=event_id,
                    attempt=attempt + 1,
                )
            else:
                log.warning("an event names no payment of ours", extra={"event": event.external_id})
                await _mark(session, event_id, "no such payment")
            return
    try:
        await settle(runtime, payment_id, event_id=event_id)
    except Refused as error:
        log.error("a payment cannot be looked up", extra={"event": event.external_id, "why": error.detail})
        async with runtime.db.transaction() as session:
            await _mark(session, event_id, "refused")


async def _payment(session: AsyncSession, event: ExternalEvent) -> int | None:
    """The payment that an event names. Where it carries our own id, we may learn the gateway's from it."""
    named = event.subject
    ways: list[ColumnElement[bool]] = []
    if "reference" in named:
        ways.append(Payment.reference == named["reference"])
    if "payment" in named:
        ways.append(Payment.uid == named["payment"])
    if "charge" in named:
        ways.append(Payment.charge == named["charge"])
    payment = await session.scalar(
        select(Payment).where(and_(Payment.gateway == event.source, or_(*ways))).order_by(Payment.id).limit(1)
    )
    if payment is None:
        return None
    if payment.reference is None:
        if "reference" not in named:
            return None  # not opened as far as we know; its checkout's own event, or closing it, will tell
        await session.execute(
            update(Payment)
            .where(Payment.id == payment.id, Payment.reference.is_(None))
            .values(reference=named["reference"])
        )
    return payment.id


async def _mark(session: AsyncSession, event_id: int, outcome: str) -> None:
    await session.execute(
        update(ExternalEvent)
        .where(ExternalEvent.id == event_id, ExternalEvent.handled_at.is_(None))
        .values(handled_at=func.now(), outcome=outcome)
    )


async def left_over(session: AsyncSession) -> int:
    """Events of yesterday and before that were never handled: an operator has to look."""
    found = await session.scalar(
        select(func.count()).where(
            ExternalEvent.handled_at.is_(None), ExternalEvent.created_at < func.now() - timedelta(days=1)
        )
    )
    return found or 0


async def prune(session: AsyncSession) -> int:
    """Drop events that were handled long ago; how many."""
    gone = await session.scalars(
        delete(ExternalEvent).where(ExternalEvent.handled_at < func.now() - KEPT).returning(ExternalEvent.id)
    )
    return len(gone.all())
