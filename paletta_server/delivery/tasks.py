"""Mails that orders cause."""

from paletta_server.core.jobs import RETRIES, job
from paletta_server.core.runtime import Runtime
from paletta_server.delivery import announcing


@job("delivery.announce", queue="mail")
async def announce(runtime: Runtime, *, order_id: int) -> None:
    """Confirm a paid order to its customer, with the receipt and a link to the files."""
    async with runtime.db.transaction() as session:
        await announcing.confirm(session, runtime.settings, order_id)


@job("delivery.announce_dispute", queue="mail")
async def announce_dispute(runtime: Runtime, *, order_id: int) -> None:
    """Tell the customer that their files are held back while the payment is disputed."""
    async with runtime.db.transaction() as session:
        await announcing.tell_dispute(session, runtime.settings, order_id)


@job("delivery.announce_refund", queue="mail")
async def announce_refund(runtime: Runtime, *, order_id: int) -> None:
    """Tell the customer what was given back."""
    async with runtime.db.transaction() as session:
        await announcing.tell_refund(session, runtime.settings, order_id)


@job("delivery.announce_sales", queue="mail", cron="10 6 * * *", retries=RETRIES)
async def announce_sales(runtime: Runtime) -> None:
    """Tell contributors what they sold yesterday."""
    async with runtime.db.transaction() as session:
        await announcing.tell_sales(session, runtime.settings, await announcing.today(session))
