"""Paying an order: the gateway's page, and giving the order up."""

from paletta_server.accounts.security import Principal
from paletta_server.core.errors import Conflict
from paletta_server.core.runtime import Runtime
from paletta_server.orders import checkout, service
from paletta_server.orders.models import Order
from paletta_server.orders.schemas import OrderDetail, PayView
from paletta_server.payments import service as payments

_SETTLED = {"paid": "is paid already", "partially_refunded": "is paid already", "refunded": "was refunded"}


async def pay(runtime: Runtime, user: Principal, order: Order) -> PayView:
    """Where to pay an order that waits for it; asking again gives the same page.

    Raises `Conflict` (`order_not_pending`), `Unavailable` where the gateway does not answer: then the order
    stays, and asking again goes on.
    """
    if order.status != "pending":
        words = _SETTLED.get(order.status, f"is {order.status}")
        hint = (
            "fetch it with `paletta orders download`" if order.status in _SETTLED else "fill the cart again"
        )
        raise Conflict(f"order {order.number} {words}", code="order_not_pending", hint=hint)
    payment = await payments.begin(runtime, order.id)
    async with runtime.db.transaction() as session:
        found = await service.find(session, user, order.uid)
        detail = await service.view(session, found)
    invoiced = payment.gateway == "invoice"
    return PayView(
        order=detail,
        payment_id=payment.uid,
        gateway=payment.gateway,
        url=payment.url,
        message="the invoice comes by mail; the clips can be fetched when it is paid" if invoiced else None,
    )


async def cancel(runtime: Runtime, user: Principal, order: Order) -> OrderDetail:
    """Give up an order that waits for its payment: its page at the gateway closes first, so that nobody pays for
    it meanwhile.

    Raises `Conflict` (`order_not_pending`), also where it was paid at this very moment.
    """
    await payments.cancel(runtime, order.id)
    async with runtime.db.transaction() as session:
        found = await service.find(session, user, order.uid)
        await checkout.give_up(session, user, found)
        return await service.view(session, found)
