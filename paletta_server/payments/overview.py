"""Orders as operators see them: found by what somebody remembers of one, and everything about one."""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import directory
from paletta_server.audit import trail
from paletta_server.core import mail
from paletta_server.core.pagination import PageParams
from paletta_server.delivery import log
from paletta_server.orders import listing
from paletta_server.orders import service as orders
from paletta_server.orders.models import Order
from paletta_server.payments import operators
from paletta_server.payments.admin_schemas import (
    AdminItem,
    AdminOrder,
    AdminOrderSummary,
    DownloadView,
    MailView,
    TrailEntry,
)
from paletta_server.payments.models import Dispute

MOST = 100
"""Lines of each list on an order's page; what is older is in the audit log."""


async def listed(
    session: AsyncSession, wanted: listing.Filter, page: PageParams, *, disputed: bool = False
) -> tuple[list[AdminOrderSummary], str | None]:
    """A page of orders, newest first; `disputed`: only those of which a dispute is open."""
    if disputed:
        wanted = replace(wanted, among=select(Dispute.order_id).where(Dispute.outcome.is_(None)))
    found, cursor = await listing.listed(session, wanted, page)
    return await _summaries(session, found), cursor


async def _summaries(session: AsyncSession, found: Sequence[Order]) -> list[AdminOrderSummary]:
    emails = await directory.emails_of(session, {order.user_id for order in found})
    rows = await session.scalars(
        select(Dispute.order_id).where(
            Dispute.order_id.in_([order.id for order in found]), Dispute.outcome.is_(None)
        )
    )
    disputed = set(rows)
    plain = await orders.summaries(session, found)
    return [
        AdminOrderSummary(
            **one.model_dump(), email=emails.get(order.user_id, ""), disputed=order.id in disputed
        )
        for order, one in zip(found, plain, strict=True)
    ]


async def show(session: AsyncSession, text: str) -> AdminOrder:
    """Everything about an order. Raises `NotFound`."""
    order = await orders.find_any(session, text)
    [summary] = await _summaries(session, [order])
    account = await operators.account(session, order)
    items = await orders.items(session, order.id)
    uids = {item.id: item.uid for item in items}
    fetched = await log.fetches(session, order.id, most=MOST)
    mails = await mail.about(session, order.user_id, order.uid, most=MOST)
    return AdminOrder(
        **summary.model_dump(),
        items=await _items(session, order),
        payments=account.payments,
        refunds=account.refunds,
        disputes=account.disputes,
        downloads=[
            DownloadView(
                item_id=uids[one.item_id], tier=one.tier, at=one.at, via=one.via, ip=one.ip, client=one.client
            )
            for one in reversed(fetched)
        ],
        mails=[
            MailView(
                subject=one.subject,
                to=one.recipient,
                created_at=one.created_at,
                sent_at=one.sent_at,
                error=one.last_error,
            )
            for one in mails
        ],
        trail=await _trail(session, [order.uid, *(one.id for one in account.disputes)]),
    )


async def _items(session: AsyncSession, order: Order) -> list[AdminItem]:
    rows = await orders.items(session, order.id)
    detail = await orders.view(session, order)
    rights = await log.rights(session, order.id)
    bases = await orders.items_of(session, {row.upgrade_of for row in rows if row.upgrade_of is not None})
    numbers = await orders.by_key(session, {base.order_id for base in bases.values()})
    found = []
    for row, item in zip(rows, detail.items, strict=True):
        right, base = rights.get(row.id), bases.get(row.upgrade_of or 0)
        found.append(
            AdminItem(
                **item.model_dump(),
                right=right.status if right else None,
                certificate=right.certificate if right else None,
                ended_at=right.ended_at if right else None,
                goodwill_at=row.goodwill_at,
                upgrade_of=numbers[base.order_id].number if base else None,
                downloads=right.downloads if right else 0,
            )
        )
    return found


async def _trail(session: AsyncSession, objects: Sequence[str]) -> list[TrailEntry]:
    rows = await trail.of_objects(session, objects, most=MOST)
    emails = await directory.emails_of(session, {row.user_id for row in rows if row.user_id is not None})
    return [
        TrailEntry(
            at=row.at,
            action=row.action,
            by=emails.get(row.user_id or 0),
            object=row.object,
            details=row.details,
        )
        for row in rows
    ]
