"""From a cart to an order: prices and files are frozen before any gateway is asked."""

import asyncio
import hashlib
import time
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import service as accounts
from paletta_server.accounts.security import Principal
from paletta_server.audit.service import record
from paletta_server.core import money
from paletta_server.core.errors import Conflict, Invalid
from paletta_server.core.ids import new_uid
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.orders import cart, prices, service
from paletta_server.orders.models import TIERS, Order, OrderItem, OrderItemFile
from paletta_server.orders.quotes import Choice, Quote
from paletta_server.orders.schemas import CheckoutIn, OrderDetail, PayView
from paletta_server.payments import service as payments

RECHECK_SECONDS = 5.0
"""A notification can be lost with its connection; then a poll sees the change this much later."""


async def check_out(runtime: Runtime, user: Principal, wish: CheckoutIn, *, key: str | None) -> PayView:
    """Make an order of the cart and open the gateway's page for it. Raises as `place`, and `GatewayDown`: then the
    order is there, and can be paid later.
    """
    async with runtime.db.transaction() as session:
        order = await place(session, runtime.settings, user, wish, key=key)
        if order.status != "pending":  # a repeated request, and the order went on meanwhile
            detail = await service.view(session, order)
            return PayView(order=detail, payment_id=None, gateway=order.gateway, url=None)
    return await payments.pay(runtime, user, order.id)


async def place(
    session: AsyncSession, settings: Settings, user: Principal, wish: CheckoutIn, *, key: str | None
) -> Order:
    """Make an order of the cart and empty it. With a `key` that was used before: the order that it made, if the wish
    is the same.

    The cart's lock makes two checkouts of one cart come one after the other; the second finds it empty.
    Raises `Conflict` (`cart_empty`, `cart_changed`, `total_changed`, `key_reused`), `Invalid` (`no_such_gateway`).
    """
    gateway = _gateway(settings, wish)
    await cart.lock(session, user.user_id)
    if key is not None and (made := await _made_before(session, user, wish, key)) is not None:
        return made
    in_force = await prices.in_force(session)
    items = await cart.contents(session, user.user_id)
    if not items:
        raise await _empty(session, user)
    quotes = await cart.quoted(session, user.user_id, in_force.book, items, lock=True)
    entries = [cart.entry(item, now, in_force.book) for item, now in zip(items, quotes, strict=True)]
    if changed := [one for one in entries if one.problem is not None]:
        raise Conflict(
            "; ".join(f"`{one.clip_id}` {one.problem_text}" for one in changed),
            code="cart_changed",
            hint="look with `paletta cart`, then agree with `paletta cart accept`",
        )
    order = await _write(session, settings, user, wish, gateway, in_force, quotes, key)
    await cart.empty(session, user.user_id)
    details = {"total": order.total, "currency": order.currency, "items": len(quotes), "gateway": gateway}
    await record(session, user, "order:placed", order.uid, details=details)
    return order


def _gateway(settings: Settings, wish: CheckoutIn) -> str:
    gateway = wish.gateway or settings.gateways[0]
    if gateway not in settings.gateways:
        raise Invalid(
            f"this shop does not take payment by `{gateway}`",
            code="no_such_gateway",
            hint="there is " + ", ".join(f"`{name}`" for name in settings.gateways),
        )
    if wish.purchase_order and gateway != "invoice":
        raise Invalid("a purchase order number goes with `invoice`", code="no_purchase_order")
    if gateway == "invoice" and not wish.purchase_order:
        raise Invalid(
            "an invoice needs your purchase order number",
            code="purchase_order_missing",
            hint="add `--purchase-order NUMBER`",
        )
    return gateway


def _digest(wish: CheckoutIn) -> str:
    # Without defaults: a field that a later version adds changes no digest of before.
    return hashlib.sha256(wish.model_dump_json(exclude_defaults=True).encode()).hexdigest()


async def _made_before(session: AsyncSession, user: Principal, wish: CheckoutIn, key: str) -> Order | None:
    made = await session.scalar(
        select(Order).where(Order.user_id == user.user_id, Order.idempotency_key == key)
    )
    if made is not None and made.request_digest not in (_digest(wish), None):
        raise Conflict("this Idempotency-Key was used for another checkout", code="key_reused")
    return made


async def _empty(session: AsyncSession, user: Principal) -> Conflict:
    waiting = await session.scalar(
        select(Order)
        .where(Order.user_id == user.user_id, Order.status == "pending")
        .order_by(Order.id.desc())
        .limit(1)
    )
    hint = (
        f"order {waiting.number} waits for its payment: `paletta orders pay {waiting.number}`"
        if waiting
        else "put clips into it with `paletta cart add CLIP…`"
    )
    return Conflict("the cart is empty", code="cart_empty", hint=hint)


async def _write(
    session: AsyncSession,
    settings: Settings,
    user: Principal,
    wish: CheckoutIn,
    gateway: str,
    in_force: prices.InForce,
    quotes: Sequence[Quote],
    key: str | None,
) -> Order:
    book = in_force.book
    due = [one.due or 0 for one in quotes]
    subtotal = sum(due)
    tax = book.tax(subtotal)
    if wish.expected_total is not None and wish.expected_total != subtotal + tax:
        raise Conflict(
            f"the total is {money.text(subtotal + tax, book.currency)} {book.currency} now",
            code="total_changed",
            hint="look at it again with `paletta cart`",
        )
    patience = (
        timedelta(days=settings.invoice_days)
        if gateway == "invoice"
        else timedelta(minutes=settings.order_expiry_minutes)
    )
    order = Order(
        uid=new_uid("order"),
        number=await _number(session),
        user_id=user.user_id,
        gateway=gateway,
        purchase_order=wish.purchase_order,
        licensee=wish.licensee or await accounts.licensee_of(session, user.user_id),
        currency=book.currency,
        subtotal=subtotal,
        tax_name=book.tax_name,
        tax_rate=book.tax_rate,
        tax=tax,
        total=subtotal + tax,
        expires_at=func.now() + patience,
        idempotency_key=key,
        request_digest=_digest(wish),
        price_book_id=in_force.id,
    )
    session.add(order)
    await session.flush()
    for one, part in zip(quotes, split(tax, due), strict=True):
        await _write_item(session, order, one, tax=part)
    await session.refresh(order)
    return order


async def _number(session: AsyncSession) -> str:
    """`P-2026-000042`: unique and rising, with gaps where a checkout was rolled back."""
    query = text("SELECT to_char(now(), 'YYYY'), nextval('order_numbers')")
    year, serial = (await session.execute(query)).one()
    return f"P-{year}-{serial:06d}"


async def _write_item(session: AsyncSession, order: Order, one: Quote, *, tax: int) -> None:
    assert one.price is not None
    item = OrderItem(
        uid=new_uid("item"),
        order_id=order.id,
        clip_id=one.clip.id,
        clip_uid=one.clip.uid,
        title=one.clip.title,
        contributor_id=one.clip.owner_id,
        contributor=one.clip.contributor,
        exclusive=one.clip.exclusive,
        editorial=one.clip.editorial,
        tier=one.choice.tier,
        licence=one.choice.licence,
        price=one.price,
        credit=one.credit,
        upgrade_of=one.upgrade_of,
        amount=one.price - one.credit,
        tax=tax,
    )
    session.add(item)
    await session.flush()
    included = TIERS[: TIERS.index(one.choice.tier) + 1]
    session.add_all(
        OrderItemFile(
            order_item_id=item.id,
            tier=file.tier,
            key=file.key,
            size=file.size,
            sha256=file.sha256,
            content_type=file.content_type,
            extension=file.extension,
            width=file.width,
            height=file.height,
            codec=file.codec,
        )
        for file in one.clip.files
        if file.tier in included
    )
    await session.flush()


def split(amount: int, weights: Sequence[int]) -> list[int]:
    """`amount` in whole parts, in proportion to `weights`, that add up to it exactly (largest remainders first)."""
    total = sum(weights)
    if total == 0:
        return [0] * len(weights)
    parts = [amount * weight // total for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda n: (-(amount * weights[n] % total), n))
    for number in by_remainder[: amount - sum(parts)]:
        parts[number] += 1
    return parts


async def cancel(runtime: Runtime, user: Principal, order: Order) -> OrderDetail:
    """Give up an order that waits for its payment; its clips go back into its customer's cart.

    Its page at the gateway closes first, so that nobody pays for it meanwhile. Raises `Conflict`: `order_not_pending`,
    also where it was paid at this very moment, and `payment_undecided` while a bank may still pay. And `GatewayDown`.
    """
    await payments.cancel(runtime, order.id)
    async with runtime.db.transaction() as session:
        await cart.lock(session, order.user_id)
        order = await service.lock(session, order.id)
        if order.status == "pending" and await payments.undecided(session, order.id):
            raise Conflict(
                f"the payment of order {order.number} is under way: its bank has yet to decide",
                code="payment_undecided",
                hint=f"look again later: `paletta orders show {order.number}`",
            )
        if not await service.close_unpaid(session, order.id, "cancelled"):
            words = order.status.replace("_", " ")
            raise Conflict(f"order {order.number} is {words}", code="order_not_pending")
        items = await service.items(session, order.id)
        choices = [Choice(item.clip_id, item.tier, item.licence) for item in items]
        await cart.put_back(session, order.user_id, choices)
        await record(session, user, "order:cancelled", order.uid)
        return await service.view(session, order)


async def wait(
    runtime: Runtime, user: Principal, text: str, *, status: str, wait_seconds: float
) -> OrderDetail:
    """The order as soon as its status is another than `status`, or after `wait_seconds`. Holds no connection
    meanwhile."""
    async with runtime.db.transaction() as session:
        order = await service.find(session, user, text)
    if order.status == "pending":
        await payments.look_again(runtime, order.id)
    topic = service.topic(order)
    deadline = time.monotonic() + wait_seconds
    event = runtime.notify.subscribe(topic)
    try:
        while True:
            event.clear()
            async with runtime.db.transaction() as session:
                found = await service.find(session, user, order.uid)
                left = deadline - time.monotonic()
                if found.status != status or left <= 0 or runtime.notify.ending:
                    return await service.view(session, found)
            try:
                await asyncio.wait_for(event.wait(), min(left, RECHECK_SECONDS))
            except TimeoutError:
                continue
    finally:
        runtime.notify.unsubscribe(topic, event)
