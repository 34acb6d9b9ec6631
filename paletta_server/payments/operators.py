"""Giving money back as operators do it, by item as they name them, and an order's account as they see it."""

from collections.abc import Collection, Sequence
from typing import Literal, TypeVar

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import directory
from paletta_server.accounts.security import Principal
from paletta_server.core.errors import Conflict, Invalid, NotFound
from paletta_server.core.ids import SHORTEST
from paletta_server.core.pagination import PageParams, newest_first
from paletta_server.core.runtime import Runtime
from paletta_server.delivery import log
from paletta_server.orders import service as orders
from paletta_server.orders.models import Order
from paletta_server.payments.books import WAITING, parts_of
from paletta_server.payments.gateway import SENT_BY_HAND
from paletta_server.payments.models import Dispute, Payment, Refund
from paletta_server.payments.refunds import Wish, plan, refund
from paletta_server.payments.schemas import (
    AccountView,
    DisputeView,
    MoneyBack,
    PaymentView,
    PlannedItem,
    RefundIn,
    RefundPlan,
    RefundView,
)

View = TypeVar("View", PaymentView, DisputeView)


async def give_back(
    runtime: Runtime, user: Principal, text: str, wanted: RefundIn, *, key: str | None
) -> RefundView:
    """Give money back for some items or for all. Raises as `refunds.refund`."""
    async with runtime.db.transaction() as session:
        order = await orders.find_any(session, text)
        amounts = await _amounts(session, order, wanted)
    made = await refund(
        runtime, order.id, amounts, wanted.reason, user, amount=wanted.amount, keep=wanted.keep, key=key
    )
    async with runtime.db.transaction() as session:
        return (await refund_views(session, [made]))[0]


async def plan_refund(runtime: Runtime, user: Principal, text: str, wanted: RefundIn) -> RefundPlan:
    """What `give_back` would do. Raises as it does, and changes nothing."""
    async with runtime.db.transaction() as session:
        order = await orders.find_any(session, text)
        amounts = await _amounts(session, order, wanted)
        wish = Wish(amounts, wanted.amount, wanted.keep, wanted.reason)
        planned = await plan(session, runtime.settings, order.id, wish, user)
        rights = await log.rights(session, order.id)
        room = planned.books.room()
        return RefundPlan(
            order=order.number,
            currency=order.currency,
            amount=planned.total,
            approval=planned.approval,
            items=[
                PlannedItem(
                    id=item.uid,
                    clip_id=item.clip_uid,
                    title=item.title,
                    amount=planned.parts[item.id],
                    left=room[item.id] - planned.parts[item.id],
                    right=_right(
                        rights.get(item.id), room[item.id] == planned.parts[item.id], keep=wanted.keep
                    ),
                    downloads=rights[item.id].downloads if item.id in rights else 0,
                )
                for item in planned.books.items
                if item.id in planned.parts
            ],
        )


def _right(
    now: log.Right | None, whole: bool, *, keep: bool
) -> Literal["stays", "ends", "goodwill", "has ended"]:
    """None: there never was one, for the payment does not fit its order."""
    if now is None or now.status == "revoked":
        return "has ended"
    if not whole:
        return "stays"
    return "goodwill" if keep else "ends"


async def _amounts(session: AsyncSession, order: Order, wanted: RefundIn) -> dict[int, int | None] | None:
    if wanted.items is None:
        return None
    keys = await item_keys(session, order, wanted.items)
    return {keys[text]: amount for text, amount in wanted.items.items()}


async def item_keys(session: AsyncSession, order: Order, texts: Collection[str]) -> dict[str, int]:
    """Keys of an order's items, by what they were called: an item's or a clip's id, or its beginning.

    Raises `NotFound`, `Conflict` (`ambiguous_id`), and `Invalid` (`same_item`) where two mean one.
    """
    items = await orders.items(session, order.id)
    keys: dict[str, int] = {}
    for text in texts:
        exact = [item for item in items if text in (item.uid, item.clip_uid)]
        fitting = exact or [
            item for item in items if len(text) >= SHORTEST and _begins(text, item.uid, item.clip_uid)
        ]
        if not fitting:
            raise NotFound("item", text[:40], hint=f"`paletta admin orders show {order.number}` lists them")
        if len(fitting) > 1:
            raise Conflict(
                f"`{text[:40]}` fits more than one item of order {order.number}",
                code="ambiguous_id",
                hint="add a letter or two: " + ", ".join(item.uid for item in fitting),
            )
        if fitting[0].id in keys.values():
            raise Invalid(f"`{text[:40]}` means an item that was named already", code="same_item")
        keys[text] = fitting[0].id
    return keys


def _begins(text: str, *uids: str) -> bool:
    return any(uid.startswith(text) or uid.partition("_")[2].startswith(text) for uid in uids)


async def account(session: AsyncSession, order: Order) -> AccountView:
    """Payments, refunds and disputes of an order, oldest first."""
    payments = await session.scalars(select(Payment).where(Payment.order_id == order.id).order_by(Payment.id))
    disputes = await session.scalars(select(Dispute).where(Dispute.order_id == order.id).order_by(Dispute.id))
    return AccountView(
        order=order.uid,
        number=order.number,
        status=order.status,
        currency=order.currency,
        total=order.total,
        refunded=order.refunded,
        payments=[_view(PaymentView, row) for row in payments],
        refunds=await refund_views(session, await _refunds(session, order)),
        disputes=[_view(DisputeView, row) for row in disputes],
    )


async def refunds_of(session: AsyncSession, order: Order) -> list[MoneyBack]:
    """The refunds of an order for its customer, oldest first: those that nobody has to agree to any more."""
    found = [one for one in await _refunds(session, order) if one.status not in (WAITING, "rejected")]
    return [
        MoneyBack.model_validate(one.model_dump(include=set(MoneyBack.model_fields)))
        for one in await refund_views(session, found)
    ]


async def list_refunds(
    session: AsyncSession, page: PageParams, *, status: str | None, order: str | None
) -> tuple[list[RefundView], str | None]:
    """A page of everybody's refunds, newest first. Raises `NotFound` for an unknown order."""
    query = select(Refund)
    if status is not None:
        query = query.where(Refund.status == status)
    if order is not None:
        query = query.where(Refund.order_id == (await orders.find_any(session, order)).id)
    rows, cursor = await newest_first(session, query, Refund.id, page)
    return await refund_views(session, [refund for (refund,) in rows]), cursor


async def _refunds(session: AsyncSession, order: Order) -> list[Refund]:
    found = await session.scalars(select(Refund).where(Refund.order_id == order.id).order_by(Refund.id))
    return list(found)


def _view(kind: type[View], row: Payment | Dispute) -> View:
    names = set(kind.model_fields) - {"id"}
    return kind(id=row.uid, **{name: getattr(row, name) for name in names})


async def refund_views(session: AsyncSession, refunds: Sequence[Refund]) -> list[RefundView]:
    """Refunds of any orders, as operators see them."""
    parts = await parts_of(session, refunds)
    items = await orders.items_of(session, {key for mine in parts.values() for key in mine})
    their = await orders.by_key(session, {row.order_id for row in refunds})
    people = {key for row in refunds for key in (row.requested_by, row.decided_by) if key is not None}
    emails = await directory.emails_of(session, people)
    return [
        RefundView(
            id=row.uid,
            order=their[row.order_id].number,
            status=row.status,
            currency=row.currency,
            amount=row.amount,
            reason=row.reason,
            items={items[key].uid: part for key, part in parts[row.id].items()},
            keep=row.keeps_rights,
            requested_by=emails.get(row.requested_by or 0),
            decided_by=emails.get(row.decided_by or 0),
            decided_at=row.decided_at,
            expires_at=row.expires_at,
            gateway=row.gateway,
            by_hand=row.gateway in SENT_BY_HAND,
            reference=row.reference,
            failure=row.failure,
            created_at=row.created_at,
        )
        for row in refunds
    ]
