"""The operators' desk over HTTP: everybody's orders, refunds that wait for a second person, restoring."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from paletta_server.accounts.permissions import Permission
from paletta_server.accounts.security import Principal, check_fresh, require
from paletta_server.audit.service import record
from paletta_server.core.database import SessionDep
from paletta_server.core.errors import Conflict, Forbidden, Invalid, NotFound, Unauthorized, problems
from paletta_server.core.pagination import Page, PageDep, PageParams
from paletta_server.core.runtime import RuntimeDep
from paletta_server.delivery import links
from paletta_server.delivery.schemas import MailedLink
from paletta_server.orders import checkout
from paletta_server.orders import service as orders
from paletta_server.orders.listing import Filter
from paletta_server.orders.schemas import GatewayName, OrderDetail, OrderStatus
from paletta_server.payments import (
    approvals,
    attention,
    comparing,
    elsewhere,
    invoices,
    operators,
    overview,
    restoring,
)
from paletta_server.payments.admin_schemas import (
    AdminOrder,
    AdminOrderSummary,
    AttentionDone,
    AttentionList,
    Comparable,
    Decision,
    DifferenceView,
    LedgersIn,
    ListedIn,
    MarkSent,
    Reconciled,
    ReconcileIn,
)
from paletta_server.payments.schemas import AccountView, RefundIn, RefundPlan, RefundView, RestoreIn

router = APIRouter(
    prefix="/v1/admin",
    tags=["operators"],
    responses=problems(Unauthorized, Forbidden, NotFound, Conflict, Invalid),
)
Operator = Annotated[Principal, Depends(require(Permission.MANAGE_ORDERS))]
FreshOperator = Annotated[Principal, Depends(require(Permission.MANAGE_ORDERS, fresh=True))]


async def _filter(
    status: OrderStatus | None = None,
    email: Annotated[
        str | None, Query(max_length=100, description="a part of the customer's address")
    ] = None,
    gateway: GatewayName | None = None,
    number: Annotated[str | None, Query(max_length=40, description="how the number begins")] = None,
    since: datetime | None = None,
    until: datetime | None = None,
    unpaid: bool = False,
) -> Filter:
    return Filter(status, email, gateway, number, since, until, unpaid)


Wanted = Annotated[Filter, Depends(_filter)]


# ---- orders


@router.get("/orders")
async def list_orders(
    user: Operator, session: SessionDep, page: PageDep, wanted: Wanted, disputed: bool = False
) -> Page[AdminOrderSummary]:
    """Everybody's orders, newest first."""
    items, cursor = await overview.listed(session, wanted, page, disputed=disputed)
    return Page(items=items, next_cursor=cursor)


@router.get("/orders/{order}")
async def show_order(user: Operator, session: SessionDep, order: str) -> AdminOrder:
    """Everything about one order: items and rights, payments, refunds, disputes, downloads, mails, the trail."""
    return await overview.show(session, order)


@router.post("/orders/{order}/cancel")
async def cancel_order(user: Operator, runtime: RuntimeDep, order: str) -> OrderDetail:
    """Give up an unpaid order for its customer; its clips go back into their cart."""
    async with runtime.db.transaction() as session:
        found = await orders.find_any(session, order)
    return await checkout.cancel(runtime, user, found)


@router.post("/orders/{order}/resend", status_code=202)
async def resend_link(user: Operator, session: SessionDep, runtime: RuntimeDep, order: str) -> MailedLink:
    """Mail the customer a new link to the order's download page."""
    found = await orders.find_any(session, order)
    sent = await links.mail_again(session, runtime.settings, found)
    await record(session, user, "order:link_resent", found.uid)
    return sent


@router.post("/orders/{order}/restore")
async def restore_order(
    user: FreshOperator, runtime: RuntimeDep, order: str, wanted: RestoreIn
) -> AccountView:
    """Leave items to their customer although their money went back."""
    return await restoring.restore(runtime, user, order, wanted)


# ---- refunds


@router.post("/orders/{order}/refunds/plan")
async def plan_refund(user: Operator, runtime: RuntimeDep, order: str, wanted: RefundIn) -> RefundPlan:
    """What a refund would give back and end. Changes nothing."""
    return await operators.plan_refund(runtime, user, order, wanted)


@router.get("/refunds")
async def list_refunds(
    user: Operator,
    session: SessionDep,
    page: PageDep,
    status: Annotated[str | None, Query(max_length=40)] = None,
    order: Annotated[str | None, Query(max_length=100)] = None,
) -> Page[RefundView]:
    """Everybody's refunds, newest first."""
    items, cursor = await operators.list_refunds(session, page, status=status, order=order)
    return Page(items=items, next_cursor=cursor)


@router.get("/refunds/{refund}")
async def show_refund(user: Operator, session: SessionDep, refund: str) -> RefundView:
    """One refund."""
    return (await operators.refund_views(session, [await approvals.find(session, refund)]))[0]


@router.post("/refunds/{refund}/approve")
async def approve_refund(user: FreshOperator, runtime: RuntimeDep, refund: str) -> RefundView:
    """Let a refund go ahead that another operator asked for."""
    made = await approvals.approve(runtime, user, refund)
    async with runtime.db.transaction() as session:
        return (await operators.refund_views(session, [made]))[0]


@router.post("/refunds/{refund}/reject")
async def reject_refund(
    user: FreshOperator, runtime: RuntimeDep, refund: str, decision: Decision
) -> RefundView:
    """Give up a refund that waits for approval; its money is free again."""
    made = await approvals.reject(runtime, user, refund, reason=decision.reason)
    async with runtime.db.transaction() as session:
        return (await operators.refund_views(session, [made]))[0]


@router.post("/refunds/{refund}/mark-sent")
async def mark_refund_sent(
    user: FreshOperator, runtime: RuntimeDep, refund: str, sent: MarkSent
) -> RefundView:
    """The money of a refund that no gateway sends went out by bank."""
    made = await invoices.mark_sent(runtime, user, refund, reference=sent.reference)
    async with runtime.db.transaction() as session:
        return (await operators.refund_views(session, [made]))[0]


@router.post("/refunds/{refund}/mark-failed")
async def mark_refund_failed(
    user: FreshOperator, runtime: RuntimeDep, refund: str, decision: Decision
) -> RefundView:
    """Such money cannot be sent, or came back from the bank: it is not given back after all."""
    made = await invoices.mark_failed(runtime, user, refund, reason=decision.reason)
    async with runtime.db.transaction() as session:
        return (await operators.refund_views(session, [made]))[0]


# ---- what needs a person, and whether the books agree


@router.get("/attention")
async def list_attention(user: Operator, session: SessionDep) -> AttentionList:
    """What needs a person now."""
    return await attention.listed(session)


@router.post("/attention", status_code=204)
async def look_at(user: Operator, session: SessionDep, done: AttentionDone) -> None:
    """Note what came of something: it is off the list."""
    await attention.note(session, user, done.subject, done.note)


@router.get("/reconcile")
async def show_comparable(user: Operator, runtime: RuntimeDep) -> Comparable:
    """What can be compared with our books."""
    return Comparable(gateways=elsewhere.listable(runtime))


@router.post("/reconcile/payments")
async def reconcile_payments(user: Operator, runtime: RuntimeDep, wanted: ReconcileIn) -> Reconciled:
    """Compare a page of payments with their gateways; with `fix`, which needs a fresh login, settle what differs."""
    if wanted.fix:
        check_fresh(user)
    page = PageParams(limit=wanted.limit, cursor=wanted.cursor)
    found = await comparing.payments(
        runtime, since=wanted.since, order=wanted.order, fix=wanted.fix, page=page
    )
    return await _reconciled(runtime, user, found, fix=wanted.fix)


@router.post("/reconcile/listing")
async def reconcile_listing(user: Operator, runtime: RuntimeDep, wanted: ListedIn) -> Reconciled:
    """Compare a page of a gateway's own list of checkouts with ours; `fix` as above."""
    if wanted.fix:
        check_fresh(user)
    found = await elsewhere.listing(
        runtime, wanted.gateway, since=wanted.since, cursor=wanted.cursor, fix=wanted.fix
    )
    return await _reconciled(runtime, user, found, fix=wanted.fix)


@router.post("/reconcile/ledgers")
async def reconcile_ledgers(user: Operator, session: SessionDep, wanted: LedgersIn) -> Reconciled:
    """Compare a page of the shop's ledgers with what payments and orders say."""
    return _view(
        await elsewhere.ledgers(session, since=wanted.since, cursor=wanted.cursor, most=wanted.limit)
    )


async def _reconciled(
    runtime: RuntimeDep, user: Principal, found: comparing.Comparison, *, fix: bool
) -> Reconciled:
    if fix and found.differences:
        async with runtime.db.transaction() as session:
            for one in found.differences:
                details = {"what": one.what, "ours": one.ours, "theirs": one.theirs, "fixed": one.fixed}
                about = one.payment or one.order or one.gateway
                await record(session, user, "payment:reconciled", about, details=details)
    return _view(found)


def _view(found: comparing.Comparison) -> Reconciled:
    return Reconciled(
        compared=found.compared,
        differences=[DifferenceView(**asdict(one)) for one in found.differences],
        next_cursor=found.cursor,
    )
