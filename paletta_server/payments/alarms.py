"""Mails to operators: a refund wants a second person, or to be sent; a dispute was opened, wants another answer, ends
soon, or is over."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import directory
from paletta_server.core import money
from paletta_server.core.mail import send_mail
from paletta_server.core.settings import Settings
from paletta_server.orders import service as orders
from paletta_server.payments.books import WAITING
from paletta_server.payments.disputes import wants_answer
from paletta_server.payments.gateway import SENT_BY_HAND
from paletta_server.payments.models import Dispute, Refund

DAYS = (1, 2, 7)
"""How long before a dispute's deadline operators are reminded."""


async def tell_approval(session: AsyncSession, settings: Settings, refund_id: int) -> None:
    """A refund waits for a second operator; once for each."""
    refund = await session.get_one(Refund, refund_id)
    if refund.status != WAITING:
        return
    order = (await orders.by_key(session, [refund.order_id]))[refund.order_id]
    emails = await directory.emails_of(session, {refund.requested_by or 0})
    who, sum_ = emails.get(refund.requested_by or 0, "an operator"), _amount(refund.amount, refund.currency)
    lines = [
        f"{who} wants to give back {sum_} of order {order.number}, because: {refund.reason}",
        f"Somebody else has to agree until {_moment(refund.expires_at)}; then the money is free again.",
        f"  paletta admin refunds show {refund.uid}\n  paletta admin refunds approve {refund.uid}",
    ]
    await _tell(
        session, settings, f"Order {order.number}: a refund waits", lines, f"refund-waits:{refund.uid}"
    )


async def tell_to_send(session: AsyncSession, settings: Settings, refund_id: int) -> None:
    """An operator is to send a refund by bank; once for each."""
    refund = await session.get_one(Refund, refund_id)
    if refund.status != "pending":
        return
    number = (await orders.by_key(session, [refund.order_id]))[refund.order_id].number
    sum_ = _amount(refund.amount, refund.currency)
    lines = [
        f"{sum_} of order {number} are to go back by bank transfer, because: {refund.reason}",
        "The order's customer hears of it when you say that it was sent:",
        _how_to_send(refund),
    ]
    await _tell(session, settings, f"Order {number}: send a refund", lines, f"refund-to-send:{refund.uid}")


async def remind_to_send(session: AsyncSession, settings: Settings, *, now: datetime | None = None) -> None:
    """Name the refunds that are still to be sent, after one and three days and then each week. `now`: as of then
    rather than by the database's clock."""
    now = now or (await session.execute(select(func.now()))).scalar_one()
    rows = await session.scalars(
        select(Refund)
        .where(
            Refund.status == "pending",
            Refund.gateway.in_(SENT_BY_HAND),
            func.coalesce(Refund.decided_at, Refund.created_at) <= now - timedelta(days=1),
        )
        .order_by(Refund.id)
    )
    for refund in rows.all():
        days = (now - (refund.decided_at or refund.created_at)).days
        days = days - days % 7 if days >= 7 else 3 if days >= 3 else 1
        number = (await orders.by_key(session, [refund.order_id]))[refund.order_id].number
        lines = [
            f"Nobody has sent the {_amount(refund.amount, refund.currency)} that are to go back for order {number}.",
            _how_to_send(refund),
        ]
        key = f"refund-to-send:{refund.uid}:{days}"
        await _tell(session, settings, f"Order {number}: a refund was not sent yet", lines, key)


def _how_to_send(refund: Refund) -> str:
    return (
        f"  paletta admin refunds show {refund.uid}\n"
        f"  paletta admin refunds mark-sent {refund.uid} --reference TRANSFER\n"
        f"  paletta admin refunds mark-failed {refund.uid} --reason TEXT"
    )


async def tell_dispute(session: AsyncSession, settings: Settings, dispute_id: int, at: str | None) -> None:
    """A dispute was opened, or closed `at` a time; once for each."""
    dispute = await session.get_one(Dispute, dispute_id)
    number = (await orders.by_key(session, [dispute.order_id]))[dispute.order_id].number
    sum_ = _amount(dispute.amount, dispute.currency)
    if at is None:
        lines = [
            f"The bank of order {number}'s customer disputes {sum_}: {dispute.reason or 'no reason given'}.",
            *([f"An answer is due by {_moment(dispute.due_by)}."] if dispute.due_by else []),
            _how(dispute),
        ]
        subject, key = f"Order {number}: disputed", f"dispute-opened:{dispute.uid}"
    else:
        ended = {"won": "was won", "lost": "was lost", "withdrawn": "is over without a decision"}
        if dispute.outcome is None:
            return
        lines = [f"The dispute over {sum_} of order {number} {ended[dispute.outcome]}."]
        subject = f"Order {number}: the dispute {ended[dispute.outcome]}"
        key = f"dispute-closed:{dispute.uid}:{dispute.outcome}:{at}"
    await _tell(session, settings, subject, lines, key)


async def tell_round(session: AsyncSession, settings: Settings, dispute_id: int, number: int) -> None:
    """The bank wants evidence again, in round `number` of a dispute; once for each."""
    dispute = await session.get_one(Dispute, dispute_id)
    if dispute.round != number or not wants_answer(dispute.status):
        return
    order = (await orders.by_key(session, [dispute.order_id]))[dispute.order_id].number
    sum_, asks = _amount(dispute.amount, dispute.currency), dispute.status.replace("_", " ")
    lines = [
        f"The bank of order {order}'s customer wants an answer again, over {sum_}: {asks}.",
        "What was sent before does not count any more, and is kept with the dispute.",
        *([f"An answer is due by {_moment(dispute.due_by)}."] if dispute.due_by else []),
        _how(dispute),
    ]
    key = f"dispute-asked:{dispute.uid}:{number}"
    await _tell(session, settings, f"Order {order}: the bank asks again", lines, key)


async def remind(session: AsyncSession, settings: Settings, *, now: datetime | None = None) -> None:
    """Name the disputes that end unanswered in seven, two or one days, each once for each of these. `now`: as of then
    rather than by the database's clock."""
    now = now or (await session.execute(select(func.now()))).scalar_one()
    rows = await session.scalars(
        select(Dispute)
        .where(
            Dispute.outcome.is_(None),
            Dispute.response == "none",
            Dispute.due_by > now,
            Dispute.due_by <= now + timedelta(days=max(DAYS)),
        )
        .order_by(Dispute.id)
    )
    for dispute in rows.all():
        if wants_answer(dispute.status):
            await _remind(session, settings, dispute, now)


async def _remind(session: AsyncSession, settings: Settings, dispute: Dispute, now: datetime) -> None:
    assert dispute.due_by is not None
    left = dispute.due_by - now
    days = min(days for days in DAYS if left <= timedelta(days=days))
    number = (await orders.by_key(session, [dispute.order_id]))[dispute.order_id].number
    lines = [
        f"Nobody has answered the dispute over {_amount(dispute.amount, dispute.currency)} of order {number}.",
        f"Without an answer it is lost at {_moment(dispute.due_by)}.",
        _how(dispute),
    ]
    when = "a day" if days == 1 else f"{days} days"
    again = f":{dispute.round}" if dispute.round > 1 else ""
    key = f"dispute-due:{dispute.uid}:{dispute.due_by:%Y-%m-%dT%H:%M}:{days}{again}"
    await _tell(session, settings, f"Order {number}: the dispute ends in {when}", lines, key)


def _how(dispute: Dispute) -> str:
    return (
        f"  paletta admin disputes show {dispute.uid}\n"
        f"  paletta admin disputes evidence {dispute.uid} --edit\n"
        f"  paletta admin disputes submit {dispute.uid}"
    )


async def _tell(
    session: AsyncSession, settings: Settings, subject: str, lines: Sequence[str], key: str
) -> None:
    for address in settings.operator_emails:
        await send_mail(
            session,
            to=address,
            subject=subject,
            text="\n\n".join(lines) + f"\n\n-- \nPaletta\n{settings.public_url}\n",
            dedup_key=f"{key}:{address}",
        )


def _amount(minor: int, currency: str) -> str:
    return f"{money.text(minor, currency)} {currency}"


def _moment(moment: datetime | None) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if moment else "an unknown time"
