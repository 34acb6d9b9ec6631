"""What needs a person: money that did not go where it should, events in vain, disputes near their end.

Each thing is on the list for as long as it is so, or until an operator notes what came of it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, and_, case, exists, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute, aliased

from paletta_server.accounts.security import Principal
from paletta_server.audit.service import record
from paletta_server.core import money
from paletta_server.core.database import Base
from paletta_server.core.errors import NotFound
from paletta_server.orders import service as orders
from paletta_server.payments.admin_schemas import AttentionItem, AttentionList
from paletta_server.payments.books import RESERVED, WAITING
from paletta_server.payments.gateway import SENT_BY_HAND
from paletta_server.payments.models import AttentionNote, Dispute, ExternalEvent, Payment, Refund

MOST = 100
"""Of each kind."""
STUCK = timedelta(hours=1)
"""A refund that was asked for so long ago, and an event that came then, should have been dealt with."""
NEAR = timedelta(days=7)
KEPT = timedelta(days=90)
"""Failures older than this are history."""
IN_VAIN = ("refused", "no such payment")


Model = TypeVar("Model", bound=Base)
Found = tuple[list[AttentionItem], bool]
"""What needs a person, and whether there is more of it than is listed."""


async def listed(session: AsyncSession) -> AttentionList:
    """Everything that needs a person now, the oldest of each kind first."""
    kinds = [
        await _disputes(session),
        await _answers(session),
        await _refunds(session),
        await _payments(session),
        await _events(session),
    ]
    return AttentionList(
        items=[item for items, _ in kinds for item in items], more=any(more for _, more in kinds)
    )


async def note(session: AsyncSession, user: Principal, subject: str, words: str) -> None:
    """An operator dealt with it; saying so again changes nothing. Raises `NotFound` for what is not on the list."""
    known = await session.scalar(select(AttentionNote.id).where(AttentionNote.subject == subject))
    if known is not None:
        return
    if all(item.subject != subject for item in (await listed(session)).items):
        raise NotFound(
            "thing that needs a person", subject, hint="`paletta admin orders attention` lists them"
        )
    made = await session.scalar(
        insert(AttentionNote)
        .values(subject=subject, note=words, by=user.user_id)
        .on_conflict_do_nothing()
        .returning(AttentionNote.id)
    )
    if made is not None:
        await record(session, user, "attention:looked_at", subject, details={"note": words})


def _unnoted(prefix: str, key: InstrumentedAttribute[str], *more: Any) -> ColumnElement[bool]:
    return ~exists().where(AttentionNote.subject == func.concat(prefix, ":", key, *more))


_ROUND = case((Dispute.round > 1, func.concat(":", Dispute.round)), else_="")
"""What was noted of a round says nothing of the next."""


def _about(dispute: Dispute) -> str:
    return dispute.uid + (f":{dispute.round}" if dispute.round > 1 else "")


async def _disputes(session: AsyncSession) -> Found:
    query = (
        select(Dispute)
        .where(
            Dispute.outcome.is_(None),
            Dispute.response == "none",
            or_(Dispute.due_by.is_(None), Dispute.due_by <= func.now() + NEAR),
            Dispute.status.in_(("needs_response", "warning_needs_response", "appeal_needs_response")),
            _unnoted("dispute_due", Dispute.uid, _ROUND),
        )
        .order_by(Dispute.due_by, Dispute.id)
    )
    rows, more = await _some(session, query)
    numbers = await _numbers(session, [one.order_id for one in rows])
    return [
        AttentionItem(
            subject=f"dispute_due:{_about(one)}",
            kind="dispute_due",
            order=numbers[one.order_id],
            since=one.created_at,
            words=f"a dispute over {_amount(one.amount, one.currency)} is not answered, due {_day(one.due_by)}",
            hint=f"paletta admin disputes show {one.uid}",
        )
        for one in rows
    ], more


async def _answers(session: AsyncSession) -> Found:
    query = (
        select(Dispute)
        .where(
            Dispute.outcome.is_(None),
            Dispute.response_failure.is_not(None),
            _unnoted("dispute_response_failed", Dispute.uid, _ROUND),
        )
        .order_by(Dispute.id)
    )
    rows, more = await _some(session, query)
    numbers = await _numbers(session, [one.order_id for one in rows])
    return [
        AttentionItem(
            subject=f"dispute_response_failed:{_about(one)}",
            kind="dispute_response_failed",
            order=numbers[one.order_id],
            since=one.responded_at or one.created_at,
            words=f"the answer to a dispute was refused: {one.response_failure}",
            hint=f"paletta admin disputes show {one.uid}",
        )
        for one in rows
    ], more


async def _refunds(session: AsyncSession) -> Found:
    later = aliased(Refund)
    tried_again = exists().where(
        later.order_id == Refund.order_id, later.id > Refund.id, later.status.not_in(("failed", "rejected"))
    )
    failed = and_(
        Refund.status == "failed",
        Refund.created_at > func.now() - KEPT,
        ~tried_again,
        _unnoted("refund_failed", Refund.uid),
    )
    stuck = and_(
        Refund.status == "requested",
        func.coalesce(Refund.decided_at, Refund.created_at) < func.now() - STUCK,
        _unnoted("refund_stuck", Refund.uid),
    )
    waits = and_(Refund.status == WAITING, _unnoted("refund_waits", Refund.uid))
    to_send = and_(
        Refund.status == "pending",
        Refund.gateway.in_(SENT_BY_HAND),
        _unnoted("refund_to_send", Refund.uid),
    )
    # What failed of a surplus is told with the payment.
    query = (
        select(Refund)
        .join(Payment, Payment.id == Refund.payment_id)
        .where(or_(and_(failed, Payment.status != "surplus"), stuck, waits, to_send))
        .order_by(Refund.id)
    )
    rows, more = await _some(session, query)
    numbers = await _numbers(session, [one.order_id for one in rows])
    return [_refund(one, numbers[one.order_id]) for one in rows], more


def _refund(one: Refund, number: str) -> AttentionItem:
    sum_ = _amount(one.amount, one.currency)
    if one.status == "failed":
        kind, words = (
            "refund_failed",
            f"a refund of {sum_} failed: {one.failure or 'the gateway does not say why'}",
        )
        hint = f"paletta admin refunds create {number} --amount {money.text(one.amount, one.currency)} --reason …"
    elif one.status == WAITING:
        kind, words = "refund_waits", f"a refund of {sum_} waits for a second operator"
        hint = f"paletta admin refunds approve {one.uid}"
    elif one.status == "pending":
        kind, words = "refund_to_send", f"{sum_} are to be sent back by bank: {one.reason}"
        hint = f"paletta admin refunds mark-sent {one.uid} --reference …"
    else:
        kind, words = "refund_stuck", f"a refund of {sum_} was asked for, and the gateway does not answer"
        hint = f"paletta admin reconcile --order {number} --fix"
    return AttentionItem(
        subject=f"{kind}:{one.uid}",
        kind=kind,
        order=number,
        since=one.created_at,
        words=words,
        hint=hint,
    )


async def _payments(session: AsyncSession) -> Found:
    going_back = exists().where(Refund.payment_id == Payment.id, Refund.status.in_(RESERVED))
    left = Payment.captured > Payment.refunded + Payment.disputed
    surplus = and_(Payment.status == "surplus", left, ~going_back, _unnoted("surplus_kept", Payment.uid))
    unfit = and_(
        Payment.status == "succeeded",
        left,
        Payment.failure.is_not(None),
        Payment.order_id.in_(orders.unpaid()),
        _unnoted("amount_differs", Payment.uid),
    )
    rows, more = await _some(session, select(Payment).where(or_(surplus, unfit)).order_by(Payment.id))
    numbers = await _numbers(session, [one.order_id for one in rows])
    return [_payment(one, numbers[one.order_id]) for one in rows], more


def _payment(one: Payment, number: str) -> AttentionItem:
    kept = _amount(one.captured - one.refunded - one.disputed, one.currency)
    surplus = one.status == "surplus"
    return AttentionItem(
        subject=f"{'surplus_kept' if surplus else 'amount_differs'}:{one.uid}",
        kind="surplus_kept" if surplus else "amount_differs",
        order=number,
        since=one.created_at,
        words=f"{kept} came for an order that was paid already, and did not go back"
        if surplus
        else f"{kept} came in, and it is not what the order costs",
        hint=f"give it back at the gateway: {one.gateway} {one.charge or one.reference or one.uid}",
    )


async def _events(session: AsyncSession) -> Found:
    waits = and_(ExternalEvent.handled_at.is_(None), ExternalEvent.created_at < func.now() - STUCK)
    query = (
        select(ExternalEvent)
        .where(
            or_(waits, ExternalEvent.outcome.in_(IN_VAIN)),
            ~exists().where(
                AttentionNote.subject
                == func.concat("event_unhandled:", ExternalEvent.source, ":", ExternalEvent.external_id)
            ),
        )
        .order_by(ExternalEvent.id)
    )
    rows, more = await _some(session, query)
    return [
        AttentionItem(
            subject=f"event_unhandled:{one.source}:{one.external_id}",
            kind="event_unhandled",
            order=None,
            since=one.created_at,
            words=f"an event of {one.source}, {one.kind}, came to nothing: {one.outcome or 'not handled yet'}",
            hint="paletta admin reconcile --since DATE finds what it was about",
        )
        for one in rows
    ], more


async def _some(session: AsyncSession, query: Select[Model]) -> tuple[list[Model], bool]:
    rows = list(await session.scalars(query.limit(MOST + 1)))
    return rows[:MOST], len(rows) > MOST


async def _numbers(session: AsyncSession, order_ids: Sequence[int]) -> dict[int, str]:
    found = await orders.by_key(session, set(order_ids))
    return {key: order.number for key, order in found.items()}


def _amount(minor: int, currency: str) -> str:
    return f"{money.text(minor, currency)} {currency}"


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC" if moment else "at an unknown time"
