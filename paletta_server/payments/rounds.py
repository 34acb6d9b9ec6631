"""A bank may ask more than once in one dispute: an inquiry becomes a chargeback, a lost one is appealed.

Each time is a round. It begins unanswered, whatever was sent before: that stays as history, and what operators wrote
or added themselves is where the next answer starts from.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core.ids import new_uid
from paletta_server.payments.disputes import wants_answer
from paletta_server.payments.models import Dispute, DisputeAnswer, DisputeFile


def asks_again(before: str, after: str) -> bool:
    """Whether a move of the gateway's word means that evidence is wanted anew.

    Also from one word that wants it to another: what came between may never have been seen.
    """
    return after != before and wants_answer(after)


def frozen(dispute: Dispute) -> bool:
    """Whether `evidence` is what we sent, or are about to: not what was sent by hand or given up."""
    return dispute.response_key is not None and dispute.response in ("submitting", "submitted")


async def begin(session: AsyncSession, dispute: Dispute, *, answers: int) -> None:
    """Begin a round of a locked dispute. `answers`: how often the gateway had evidence before it."""
    if dispute.response == "none":
        await session.execute(
            update(DisputeFile)
            .where(DisputeFile.dispute_id == dispute.id, DisputeFile.round == dispute.round)
            .values(round=dispute.round + 1)
        )
    else:
        await _keep(session, dispute)
    dispute.round += 1
    dispute.evidence_version += 1
    dispute.answers_before = answers
    dispute.response, dispute.response_key, dispute.response_failure = "none", None, None
    dispute.responded_by = dispute.responded_at = None
    await session.flush()


async def _keep(session: AsyncSession, dispute: Dispute) -> None:
    session.add(
        DisputeAnswer(
            dispute_id=dispute.id,
            round=dispute.round,
            status=dispute.status,
            response=dispute.response,
            evidence=dispute.evidence if frozen(dispute) else {},
            responded_by=dispute.responded_by,
            responded_at=dispute.responded_at,
        )
    )
    if frozen(dispute):
        dispute.evidence = dict(dispute.written)
    # A gateway takes a key for one request alone, so the copies have keys of their own, and are not there yet.
    session.add_all(
        DisputeFile(
            dispute_id=dispute.id,
            round=dispute.round + 1,
            field=one.field,
            name=one.name,
            content_type=one.content_type,
            data=one.data,
            key=new_uid("evidence"),
        )
        for one in await files(session, dispute)
    )


async def files(session: AsyncSession, dispute: Dispute) -> list[DisputeFile]:
    """The files of the present round: those that operators added, or that were sent."""
    found = await session.scalars(
        select(DisputeFile)
        .where(DisputeFile.dispute_id == dispute.id, DisputeFile.round == dispute.round)
        .order_by(DisputeFile.id)
    )
    return list(found)


@dataclass(frozen=True, slots=True)
class Earlier:
    """An answer of a round before, and its files (without their bytes)."""

    answer: DisputeAnswer
    files: Sequence[tuple[str, str, str, int]]
    """Field, name, content type and size."""


async def earlier(session: AsyncSession, dispute: Dispute) -> list[Earlier]:
    """The answers of the rounds before, oldest first."""
    answers = await session.scalars(
        select(DisputeAnswer).where(DisputeAnswer.dispute_id == dispute.id).order_by(DisputeAnswer.round)
    )
    rows = await session.execute(
        select(
            DisputeFile.round,
            DisputeFile.field,
            DisputeFile.name,
            DisputeFile.content_type,
            func.octet_length(DisputeFile.data),
        )
        .where(DisputeFile.dispute_id == dispute.id, DisputeFile.round < dispute.round)
        .order_by(DisputeFile.id)
    )
    attached: dict[int, list[tuple[str, str, str, int]]] = defaultdict(list)
    for round_, *file in rows:
        attached[round_].append(tuple(file))
    return [Earlier(one, attached[one.round]) for one in answers]
