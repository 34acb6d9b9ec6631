"""Mails that orders cause. Nobody looks for one that was never written, so their jobs insist."""

from paletta_server.core.jobs import INSISTENT, RETRIES, job
from paletta_server.core.runtime import Runtime
from paletta_server.delivery import announcing, restoring


@job("delivery.announce", queue="mail", retries=INSISTENT)
async def announce(runtime: Runtime, *, order_id: int) -> None:
    """Confirm a paid order to its customer, with the receipt and a link to the files."""
    async with runtime.db.transaction() as session:
        await announcing.confirm(session, runtime.settings, order_id)
    if runtime.settings.s3_originals_class in ("GLACIER", "DEEP_ARCHIVE"):
        await restoring.fetch_back(runtime, order_id)


@job("delivery.watch_restorations", cron="*/5 * * * *")
async def watch_restorations(runtime: Runtime) -> None:
    """See which archived files have come back, and tell who waits for them."""
    await restoring.watch(runtime)


@job("delivery.announce_restored", queue="mail", retries=INSISTENT)
async def announce_restored(runtime: Runtime, *, order_id: int, at: str) -> None:
    """Tell the customer that what was archived can be fetched now."""
    async with runtime.db.transaction() as session:
        await announcing.tell_restored(session, runtime.settings, order_id, at)


@job("delivery.announce_dispute", queue="mail", retries=INSISTENT)
async def announce_dispute(runtime: Runtime, *, order_id: int) -> None:
    """Tell the customer that their files are held back while the payment is disputed."""
    async with runtime.db.transaction() as session:
        await announcing.tell_dispute(session, runtime.settings, order_id)


@job("delivery.announce_return", queue="mail", retries=INSISTENT)
async def announce_return(runtime: Runtime, *, order_id: int, at: str) -> None:
    """Tell the customer that what was held back or had ended is theirs again."""
    async with runtime.db.transaction() as session:
        await announcing.tell_return(session, runtime.settings, order_id, at)


@job("delivery.announce_extension", queue="mail", retries=INSISTENT)
async def announce_extension(runtime: Runtime, *, order_id: int, base_id: int, status: str) -> None:
    """Tell the customer that an order rests or ended with the one that it extends."""
    async with runtime.db.transaction() as session:
        await announcing.tell_extension(session, runtime.settings, order_id, base_id, status)


@job("delivery.announce_refund", queue="mail", retries=INSISTENT)
async def announce_refund(runtime: Runtime, *, order_id: int) -> None:
    """Tell the customer what was given back."""
    async with runtime.db.transaction() as session:
        await announcing.tell_refund(session, runtime.settings, order_id)


@job("delivery.announce_sales", queue="mail", cron="10 6 * * *", retries=RETRIES)
async def announce_sales(runtime: Runtime) -> None:
    """Tell contributors what they sold yesterday."""
    async with runtime.db.transaction() as session:
        await announcing.tell_sales(session, runtime.settings, await announcing.today(session))
