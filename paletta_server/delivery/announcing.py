"""Who is told what, once for each event."""

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta

from anyio.to_thread import run_sync
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import service as accounts
from paletta_server.core.mail import Attachment, asked_for
from paletta_server.core.settings import Settings
from paletta_server.delivery import links, mails, purchases, receipts
from paletta_server.delivery.models import Entitlement
from paletta_server.orders import service as orders
from paletta_server.orders.models import Order, OrderItem

DAYS_BACK = 7
"""How far back the daily digest looks for days that nobody was told of: a service may have been down."""


async def confirm(session: AsyncSession, settings: Settings, order_id: int) -> None:
    """Mail the customer that the order is paid, with the receipt and a download link."""
    order = await orders.lock(session, order_id)
    key = f"order-paid:{order.uid}"
    if await asked_for(session, key):  # a second run would send nothing, and leave a link that nobody has
        return
    items = await orders.items(session, order_id)
    to = await accounts.email_of(session, order.user_id)
    _, secret = await links.make(session, settings, order_id)
    receipt = await receipt_of(session, settings, order, items)
    mail = mails.confirmation(settings, order, items, links.address(settings, secret), receipt)
    await mails.send(session, to, mail, key)


async def tell_restored(session: AsyncSession, settings: Settings, order_id: int, at: str) -> None:
    """Mail the customer that everything is back from the archive, with a download link; once for each time `at`."""
    order = await orders.lock(session, order_id)
    key = f"order-restored:{order.uid}:{at}"
    bought = await purchases.of_order(session, order_id)
    if await asked_for(session, key) or all(purchases.barred(one) for one in bought):
        return  # told already, or nothing of it is theirs any more
    to = await accounts.email_of(session, order.user_id)
    _, secret = await links.make(session, settings, order_id)
    await mails.send(session, to, mails.restored(settings, order, links.address(settings, secret)), key)


async def tell_dispute(session: AsyncSession, settings: Settings, order_id: int) -> None:
    """Mail the customer that the payment is disputed and the files are held back; once for each order."""
    order = (await orders.by_key(session, [order_id]))[order_id]
    to = await accounts.email_of(session, order.user_id)
    await mails.send(session, to, mails.dispute(settings, order), f"order-disputed:{order.uid}")


async def tell_return(session: AsyncSession, settings: Settings, order_id: int, at: str) -> None:
    """Mail the customer that what was held back or had ended is theirs again; once for each time `at`."""
    order = (await orders.by_key(session, [order_id]))[order_id]
    to = await accounts.email_of(session, order.user_id)
    await mails.send(session, to, mails.returned(settings, order), f"order-returned:{order.uid}:{at}")


async def tell_extension(
    session: AsyncSession, settings: Settings, order_id: int, base_id: int, status: str
) -> None:
    """Mail the customer that an order rests or ended with the one that it extends; once for each status."""
    found = await orders.by_key(session, [order_id, base_id])
    order, base = found[order_id], found[base_id]
    to = await accounts.email_of(session, order.user_id)
    mail = mails.extension(settings, order, base, status)
    await mails.send(session, to, mail, f"order-extension:{order.uid}:{base.uid}:{status}")


async def tell_refund(session: AsyncSession, settings: Settings, order_id: int) -> None:
    """Mail the customer what was given back so far, once for each sum."""
    order = (await orders.by_key(session, [order_id]))[order_id]
    if not order.refunded:  # it failed after all
        return
    items = await orders.items(session, order_id)
    to = await accounts.email_of(session, order.user_id)
    receipt = await receipt_of(session, settings, order, items)
    mail = mails.refund(settings, order, items, receipt)
    await mails.send(session, to, mail, f"order-refunded:{order.uid}:{order.refunded}")


async def receipt_of(
    session: AsyncSession, settings: Settings, order: Order, items: list[OrderItem]
) -> Attachment:
    """The receipt as it stands now. Printing it is work: it is done in a thread."""
    email = await accounts.email_of(session, order.user_id)
    data = await run_sync(lambda: receipts.pdf(order, items, email=email, public_url=settings.public_url))
    return Attachment(receipts.file_name(order), "application/pdf", data)


async def tell_sales(session: AsyncSession, settings: Settings, today: date) -> None:
    """Mail each contributor what they sold on each of the last full days (UTC), once for each day."""
    for back in range(DAYS_BACK, 0, -1):
        day = today - timedelta(days=back)
        begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
        sold = list(
            await session.scalars(
                select(Entitlement)
                .where(Entitlement.created_at >= begin, Entitlement.created_at < begin + timedelta(days=1))
                .order_by(Entitlement.order_item_id)
            )
        )
        items = await orders.items_of(session, [row.order_item_id for row in sold])
        their = await orders.by_key(session, {row.order_id for row in sold})
        by_contributor: dict[int, list[tuple[OrderItem, str]]] = defaultdict(list)
        for row in sold:
            item = items[row.order_item_id]
            by_contributor[item.contributor_id].append((item, their[row.order_id].currency))
        for contributor, theirs in by_contributor.items():
            to = await accounts.email_of(session, contributor)
            await mails.send(session, to, mails.sales(settings, day, theirs), f"sales:{contributor}:{day}")


async def today(session: AsyncSession) -> date:
    """The database's day (UTC)."""
    now: datetime = (await session.execute(select(func.now()))).scalar_one()
    return now.astimezone(UTC).date()
