"""Where a gateway's page sends customers back to. Looking settles the payment, should no event have come yet."""

from html import escape

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from paletta_server.core.pages import page
from paletta_server.core.runtime import RuntimeDep
from paletta_server.orders import service as orders
from paletta_server.orders.models import Order
from paletta_server.payments import service
from paletta_server.payments.gateway import GatewayDown
from paletta_server.payments.models import Payment

pages = APIRouter(prefix="/checkout", include_in_schema=False, default_response_class=HTMLResponse)


@pages.get("/return/{payment}")
async def come_back(runtime: RuntimeDep, payment: str) -> HTMLResponse:
    try:
        found = await service.refresh(runtime, payment)
    except GatewayDown:
        return page(
            "One moment",
            "<p>We have not heard from the payment service yet. You can close this page: the terminal tells you.</p>",
            status=503,
        )
    if found is None:
        return page("No such payment", "<p>This address is not one of ours, or was mistyped.</p>", status=404)
    async with runtime.db.transaction() as session:
        order = (await orders.by_key(session, [found.order_id]))[found.order_id]
    return _view(order, found)


def _view(order: Order, payment: Payment) -> HTMLResponse:
    """The address is all that a stranger needs to see this, so it says no more than how the payment stands."""
    number = escape(order.number)
    if order.paid_at is not None:
        return page(
            "Thank you",
            f"""<p>Order <b>{number}</b> is paid. You can close this page: the terminal goes on by itself.</p>
            <p>Fetch your clips there, now or in two years:</p>
            <p><code>paletta orders download {number}</code></p>""",
        )
    if payment.captured > payment.refunded:
        return page(
            "Somebody is looking into it",
            f"""<p>Money arrived for order <b>{number}</b>, and it is not what the order costs. Nothing is lost: we look
            into it and write to you.</p>""",
        )
    if order.status != "pending":
        return page(
            "This order is closed",
            f"""<p>Order <b>{number}</b> was given up or waited for too long. Nothing was charged.</p>
            <p>Begin again in the terminal:</p>
            <p><code>paletta cart</code></p>""",
        )
    why = f'<p class="problem" role="alert">{escape(payment.failure)}</p>' if payment.failure else ""
    again = f'<p><a href="{escape(payment.url)}">Back to the payment page</a></p>' if payment.url else ""
    return page(
        "Not paid yet",
        f"""<p>Order <b>{number}</b> waits for its payment.</p>{why}{again}
        <p>Or open the payment page again from the terminal:</p>
        <p><code>paletta orders pay {number}</code></p>""",
    )
