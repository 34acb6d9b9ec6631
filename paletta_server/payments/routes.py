"""Payments over HTTP: the webhook, operators' actions, and the sandbox's buttons without a browser."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request

from paletta_server.accounts.permissions import Permission
from paletta_server.accounts.security import Principal, require
from paletta_server.core.database import SessionDep
from paletta_server.core.errors import Conflict, Forbidden, Invalid, NotFound, Unauthorized, problems
from paletta_server.core.runtime import RuntimeDep
from paletta_server.orders import service as orders
from paletta_server.payments import inbox, invoices, operators, service
from paletta_server.payments.gateway import Forged
from paletta_server.payments.sandbox import desk
from paletta_server.payments.sandbox.pages import InUse
from paletta_server.payments.schemas import (
    AccountView,
    MarkPaid,
    Received,
    RefundIn,
    RefundsView,
    RefundView,
    SandboxAct,
    SandboxView,
)

router = APIRouter(prefix="/v1", tags=["payments"])
GUARDED = problems(Unauthorized, Forbidden, NotFound, Conflict, Invalid)
Customer = Annotated[Principal, Depends(require(Permission.BUY))]
Operator = Annotated[Principal, Depends(require(Permission.MANAGE_ORDERS))]
FreshOperator = Annotated[Principal, Depends(require(Permission.MANAGE_ORDERS, fresh=True))]
IdempotencyKey = Annotated[str | None, Header(max_length=100, pattern=r"^[\x21-\x7e]+$")]


@router.post("/webhooks/{gateway}", responses=problems(Forged, NotFound, Invalid))
async def receive_event(runtime: RuntimeDep, request: Request, gateway: str) -> Received:
    """For gateways: an event, signed. It is stored before the answer leaves, and handled afterwards."""
    await inbox.receive(runtime, gateway, await request.body(), request.headers)
    return Received()


@router.get("/admin/orders/{order}/account", responses=GUARDED)
async def show_account(user: Operator, session: SessionDep, order: str) -> AccountView:
    """An order's payments, refunds and disputes."""
    return await operators.account(session, await orders.find_any(session, order))


@router.post("/admin/orders/{order}/mark-paid", responses=GUARDED)
async def mark_paid(user: FreshOperator, runtime: RuntimeDep, order: str, paid: MarkPaid) -> AccountView:
    """The money for an order on invoice arrived."""
    return await invoices.mark_paid(runtime, user, order, reference=paid.reference)


@router.post("/admin/orders/{order}/refunds", status_code=201, responses=GUARDED)
async def refund_order(
    user: FreshOperator,
    runtime: RuntimeDep,
    order: str,
    wanted: RefundIn,
    idempotency_key: IdempotencyKey = None,
) -> RefundView:
    """Give money back: for some items, or all that is left of the order."""
    return await operators.give_back(runtime, user, order, wanted, key=idempotency_key)


@router.get("/orders/{order}/refunds", responses=GUARDED)
async def show_refunds(user: Customer, session: SessionDep, order: str) -> RefundsView:
    """What was given back of one of the caller's own orders, and how far it has come."""
    return RefundsView(items=await operators.refunds_of(session, await orders.find(session, user, order)))


@router.post("/orders/{order}/sandbox", responses=GUARDED, dependencies=[InUse])
async def press_sandbox(user: Customer, runtime: RuntimeDep, order: str, wanted: SandboxAct) -> SandboxView:
    """Test mode: press a button of the sandbox's page for one of the caller's own orders."""
    async with runtime.db.transaction() as session:
        found = await orders.find(session, user, order)
    reference = await service.sandbox_reference(runtime, found)
    how = desk.Telling(
        copies=wanted.copies,
        delay=wanted.delay,
        backwards=wanted.backwards,
        dispute_after=wanted.dispute_after,
        refunds_as=wanted.refunds_as,
    )
    async with runtime.db.transaction() as session:
        checkout = await desk.act(session, reference, wanted.action, how)
        return SandboxView(reference=reference, status=checkout.status, failure=checkout.failure)
