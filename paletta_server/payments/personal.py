"""What payments hold on one person: the export, what is not settled yet, and what erasing takes away.

Payments, refunds and disputes are records of money and stay. What goes of them is the address that a gateway's page was
to show, and what was said of the person to their bank: nobody is erased while a dispute is open. Gateways' own messages
go by themselves after 30 days (`inbox.KEPT`).
"""

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core.export import Sections
from paletta_server.core.mail import NOBODY
from paletta_server.orders import personal as orders
from paletta_server.payments.books import RESERVED
from paletta_server.payments.models import Dispute, DisputeAnswer, DisputeFile, Payment, Refund
from paletta_server.payments.sandbox import personal as sandbox


async def unsettled(session: AsyncSession, user_id: int) -> int:
    """How many payments, refunds and disputes of theirs are still on their way."""
    theirs = orders.keys_of(user_id)
    open_ones = (
        select(func.count()).where(Payment.order_id.in_(theirs), Payment.status.in_(("created", "open"))),
        select(func.count()).where(Refund.order_id.in_(theirs), Refund.status.in_(RESERVED)),
        select(func.count()).where(Dispute.order_id.in_(theirs), Dispute.closed_at.is_(None)),
    )
    return sum([await session.scalar(query) or 0 for query in open_ones])


def sections(user_id: int) -> Sections:
    theirs = orders.keys_of(user_id)
    payments = select(
        Payment.uid.label("id"), Payment.gateway, Payment.reference, Payment.status, Payment.currency, Payment.amount,
        Payment.captured, Payment.refunded, Payment.disputed, Payment.failure, Payment.created_at,
    ).where(Payment.order_id.in_(theirs))  # fmt: skip
    refunds = select(
        Refund.uid.label("id"),
        Refund.status,
        Refund.currency,
        Refund.amount,
        Refund.reason,
        Refund.created_at,
    ).where(or_(Refund.order_id.in_(theirs), Refund.requested_by == user_id))
    disputes = select(
        Dispute.uid.label("id"), Dispute.gateway, Dispute.reference, Dispute.status, Dispute.reason, Dispute.currency,
        Dispute.amount, Dispute.outcome, Dispute.evidence, Dispute.created_at, Dispute.closed_at,
    ).where(Dispute.order_id.in_(theirs))  # fmt: skip
    files = (
        select(
            Dispute.uid.label("dispute"),
            DisputeFile.round,
            DisputeFile.field,
            DisputeFile.name,
            DisputeFile.content_type,
        )
        .join(Dispute, Dispute.id == DisputeFile.dispute_id)
        .where(Dispute.order_id.in_(theirs))
    )
    answers = (
        select(
            Dispute.uid.label("dispute"), DisputeAnswer.round, DisputeAnswer.response, DisputeAnswer.evidence,
            DisputeAnswer.responded_at,
        )
        .join(Dispute, Dispute.id == DisputeAnswer.dispute_id)
        .where(Dispute.order_id.in_(theirs))
    )  # fmt: skip
    return {
        "payments": payments.order_by(Payment.id),
        "refunds": refunds.order_by(Refund.id),
        "disputes": disputes.order_by(Dispute.id),
        "dispute_answers": answers.order_by(DisputeAnswer.id),
        "dispute_files": files.order_by(DisputeFile.id),
    }


async def forget(session: AsyncSession, user_id: int) -> None:
    """Take the address out of what gateways were asked (one that may still be asked has to be asked the same again),
    and the person out of what their banks were told."""
    theirs = orders.keys_of(user_id)
    await sandbox.forget(session, select(Payment.reference).where(Payment.order_id.in_(theirs)))
    closed = select(Dispute.id).where(Dispute.order_id.in_(theirs), Dispute.closed_at.is_not(None))
    await session.execute(
        delete(DisputeFile)
        .where(DisputeFile.dispute_id.in_(closed))
        .execution_options(synchronize_session=False)
    )
    await session.execute(
        update(Dispute)
        .where(Dispute.id.in_(closed))
        .values(evidence={}, written={})
        .execution_options(synchronize_session=False)
    )
    await session.execute(
        update(DisputeAnswer)
        .where(DisputeAnswer.dispute_id.in_(closed))
        .values(evidence={})
        .execution_options(synchronize_session=False)
    )
    await session.execute(
        update(Payment)
        .where(
            Payment.order_id.in_(theirs),
            Payment.status.not_in(("created", "open")),
            Payment.request.has_key("email"),
        )
        .values(request=Payment.request.op("||")({"email": NOBODY}))
        .execution_options(synchronize_session=False)
    )
