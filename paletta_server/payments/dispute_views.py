"""Disputes as operators see them."""

import base64
import binascii

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import directory
from paletta_server.core.errors import Invalid
from paletta_server.core.pagination import PageParams, newest_first
from paletta_server.core.runtime import Runtime
from paletta_server.orders import service as orders
from paletta_server.payments import evidence, gateways, rounds
from paletta_server.payments.admin_schemas import (
    AdminDispute,
    AdminDisputeSummary,
    EarlierAnswer,
    EvidenceField,
    EvidenceFileView,
)
from paletta_server.payments.disputes import wants_answer
from paletta_server.payments.gateway import GatewayDown
from paletta_server.payments.models import Dispute
from paletta_server.payments.schemas import DisputeView


async def listed(
    session: AsyncSession, page: PageParams, *, open_: bool | None, order: str | None
) -> tuple[list[AdminDisputeSummary], str | None]:
    """A page of everybody's disputes, newest first; `open_`: only those that are open, or that are not. Raises
    `NotFound` for an unknown order."""
    query = select(Dispute)
    if open_ is not None:
        query = query.where(Dispute.outcome.is_(None) if open_ else Dispute.outcome.is_not(None))
    if order is not None:
        query = query.where(Dispute.order_id == (await orders.find_any(session, order)).id)
    rows, cursor = await newest_first(session, query, Dispute.id, page)
    found = [dispute for (dispute,) in rows]
    their = await orders.by_key(session, {one.order_id for one in found})
    return [
        AdminDisputeSummary(
            **plain(one).model_dump(),
            order=their[one.order_id].number,
            gateway=one.gateway,
            can_answer=can_answer(one),
        )
        for one in found
    ], cursor


async def show(session: AsyncSession, runtime: Runtime, dispute: Dispute) -> AdminDispute:
    """One dispute, with the evidence as it would be sent now, or as it was."""
    order = (await orders.by_key(session, [dispute.order_id]))[dispute.order_id]
    before = await rounds.earlier(session, dispute)
    answered = {dispute.responded_by, *(one.answer.responded_by for one in before)}
    people = {order.user_id, *(key for key in answered if key is not None)}
    emails = await directory.emails_of(session, people)
    source = "operator" if dispute.response == "none" else "sent"
    return AdminDispute(
        **plain(dispute).model_dump(),
        order=order.number,
        order_id=order.uid,
        gateway=dispute.gateway,
        email=emails.get(order.user_id, ""),
        responded_by=emails.get(dispute.responded_by or 0),
        can_answer=can_answer(dispute),
        takes_files=_takes_files(runtime, dispute),
        round=dispute.round,
        fields=dict(evidence.TEXTS),
        file_fields=dict(evidence.FILES),
        version=dispute.evidence_version,
        evidence={
            name: EvidenceField(text=one.text, source=one.source)
            for name, one in (await evidence.texts(session, dispute)).items()
        },
        files=[
            EvidenceFileView(
                field=one.field,
                name=one.name,
                content_type=one.content_type,
                size=len(one.data),
                source=source,
            )
            for one in await rounds.files(session, dispute)
        ],
        earlier=[
            EarlierAnswer(
                round=one.answer.round,
                status=one.answer.status,
                response=one.answer.response,
                responded_by=emails.get(one.answer.responded_by or 0),
                responded_at=one.answer.responded_at,
                evidence=one.answer.evidence,
                files=[
                    EvidenceFileView(field=field, name=name, content_type=kind, size=size, source="sent")
                    for field, name, kind, size in one.files
                ],
            )
            for one in before
        ],
    )


def _takes_files(runtime: Runtime, dispute: Dispute) -> bool:
    try:
        return gateways.of(runtime, dispute.gateway).takes_files
    except GatewayDown:  # it is not configured any more
        return False


def plain(dispute: Dispute) -> DisputeView:
    """A dispute without what belongs to it."""
    names = set(DisputeView.model_fields) - {"id"}
    return DisputeView(id=dispute.uid, **{name: getattr(dispute, name) for name in names})


def can_answer(dispute: Dispute) -> bool:
    """Whether the bank waits for evidence, and none was sent since it asked."""
    return dispute.outcome is None and dispute.response == "none" and wants_answer(dispute.status)


def decoded(data: str) -> bytes:
    """A file from base64. Raises `Invalid` (`bad_file`)."""
    try:
        return base64.b64decode(data, validate=True)
    except (ValueError, binascii.Error) as error:
        raise Invalid("the file is not base64", code="bad_file", pointer="/data") from error
