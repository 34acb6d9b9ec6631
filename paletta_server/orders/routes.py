"""The shop over HTTP: prices, cart, checkout, orders."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Response

from paletta_server.accounts.permissions import Permission
from paletta_server.accounts.security import Principal, require
from paletta_server.analytics.collector import NoteDep
from paletta_server.core.database import SessionDep
from paletta_server.core.errors import Conflict, Forbidden, Invalid, NotFound, Unauthorized, problems
from paletta_server.core.pagination import Page, PageDep
from paletta_server.core.runtime import RuntimeDep
from paletta_server.flags.guard import unless
from paletta_server.flags.service import Switch
from paletta_server.orders import cart, checkout, prices, service
from paletta_server.orders.schemas import (
    CartView,
    CartWishes,
    CheckoutIn,
    LicenceView,
    OrderDetail,
    OrderStatus,
    OrderSummary,
    PayView,
    PriceBookView,
    PriceChange,
    PricesIn,
    PricesPlan,
)
from paletta_server.payments import service as payments

router = APIRouter(
    prefix="/v1", tags=["orders"], responses=problems(Unauthorized, Forbidden, NotFound, Conflict, Invalid)
)
Customer = Annotated[Principal, Depends(require(Permission.BUY))]
Operator = Annotated[Principal, Depends(require(Permission.MANAGE_PRICES))]
IdempotencyKey = Annotated[str | None, Header(max_length=100, pattern=r"^[\x21-\x7e]+$")]


# ---- prices


@router.get("/price-book", responses=problems(Conflict))
async def show_prices(session: SessionDep, runtime: RuntimeDep) -> PriceBookView:
    """What clips cost, the licences and their terms, and how one can pay."""
    book = (await prices.in_force(session)).book
    return PriceBookView(
        currency=book.currency,
        tax_name=book.tax_name,
        tax_rate=book.tax_rate,
        licences={
            name: LicenceView(name=one.name, seats=one.seats, terms=one.terms)
            for name, one in book.licences.items()
        },
        prices=book.prices,
        editorial=list(book.editorial),
        gateways=list(runtime.settings.gateways),
    )


@router.post("/admin/prices/plan")
async def plan_prices(user: Operator, session: SessionDep, body: PricesIn) -> PricesPlan:
    """What applying a price book would change."""
    book, changes = await prices.plan(session, body.document, filename=body.filename)
    return _plan(changes, book.digest(), applied=False)


@router.post("/admin/prices/apply")
async def apply_prices(user: Operator, session: SessionDep, body: PricesIn) -> PricesPlan:
    """Put a price book in force."""
    book, changes = await prices.apply(
        session, user, body.document, filename=body.filename, digest=body.digest
    )
    return _plan(changes, book.digest(), applied=True)


def _plan(changes: list[prices.Change], digest: str, *, applied: bool) -> PricesPlan:
    shown = [PriceChange(key=one.key, before=one.before, after=one.after) for one in changes]
    return PricesPlan(changes=shown, digest=digest, applied=applied)


# ---- the cart


@router.get("/cart")
async def show_cart(user: Customer, session: SessionDep) -> CartView:
    """What is in the caller's cart, at the prices of now."""
    return await cart.view(session, user)


@router.post("/cart/items")
async def add_to_cart(user: Customer, session: SessionDep, note: NoteDep, wanted: CartWishes) -> CartView:
    """Put clips into the cart, or choose another tier or licence for those that are there; all or nothing."""
    found = await cart.add(session, user, wanted.clips)
    note("cart", items=len(wanted.clips))
    return found


@router.delete("/cart/items/{clip}")
async def remove_from_cart(user: Customer, session: SessionDep, clip: str) -> CartView:
    """Take a clip out of the cart."""
    return await cart.remove(session, user, clip)


@router.delete("/cart", status_code=204)
async def clear_cart(user: Customer, session: SessionDep) -> None:
    """Take everything out of the cart."""
    await cart.clear(session, user)


@router.post("/cart/accept")
async def accept_cart(user: Customer, session: SessionDep, version: Annotated[int, Query()]) -> CartView:
    """Agree to new prices, and drop what is no longer for sale. `version` is the cart's that was shown."""
    return await cart.accept(session, user, version=version)


# ---- checkout and orders


@router.post("/checkout", status_code=201, dependencies=[unless(Switch.NO_CHECKOUT)])
async def check_out(
    user: Customer,
    runtime: RuntimeDep,
    wanted: CheckoutIn,
    note: NoteDep,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> PayView:
    """Make an order of the cart, and open the gateway's page for it."""
    made = await checkout.check_out(runtime, user, wanted, key=idempotency_key)
    note("checkout")
    response.headers["Location"] = f"/v1/orders/{made.order.id}"
    return made


@router.get("/orders")
async def list_orders(
    user: Customer, session: SessionDep, page: PageDep, status: OrderStatus | None = None
) -> Page[OrderSummary]:
    """The caller's orders, newest first."""
    items, cursor = await service.list_own(session, user, page, status=status)
    return Page(items=items, next_cursor=cursor)


@router.get("/orders/{order}")
async def show_order(user: Customer, session: SessionDep, order: str) -> OrderDetail:
    """One of the caller's orders in full."""
    return await service.view(session, await service.find(session, user, order))


@router.get("/orders/{order}/wait")
async def wait_for_order(
    user: Customer,
    runtime: RuntimeDep,
    order: str,
    status: OrderStatus = "pending",
    wait: Annotated[float, Query(ge=0, le=25)] = 25,
) -> OrderDetail:
    """The order as soon as its status is another than `status`, at the latest after `wait` seconds."""
    return await checkout.wait(runtime, user, order, status=status, wait_seconds=wait)


@router.post("/orders/{order}/pay", dependencies=[unless(Switch.NO_CHECKOUT)])
async def pay_order(user: Customer, runtime: RuntimeDep, order: str) -> PayView:
    """The gateway's page for an order that waits for its payment; asking again gives the same page."""
    async with runtime.db.transaction() as session:
        found = await service.find(session, user, order)
    return await payments.pay(runtime, user, found.id)


@router.post("/orders/{order}/cancel")
async def cancel_order(user: Customer, runtime: RuntimeDep, order: str) -> OrderDetail:
    """Give up an order that waits for its payment; its clips go back into the cart."""
    async with runtime.db.transaction() as session:
        found = await service.find(session, user, order)
    return await checkout.cancel(runtime, user, found)
