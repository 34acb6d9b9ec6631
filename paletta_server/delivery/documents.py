"""Papers on demand: licence certificates of purchases."""

from collections.abc import Sequence

from anyio.to_thread import run_sync
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core.settings import Settings
from paletta_server.delivery import certificates, purchases
from paletta_server.delivery.purchases import Bought
from paletta_server.orders import prices


async def certificates_of(
    session: AsyncSession, settings: Settings, bought: Sequence[Bought]
) -> list[tuple[str, bytes]]:
    """Name and PDF of each purchase's certificate. Printing them is work: it is done in a thread."""
    books = {
        book_id: await prices.as_sold(session, book_id)
        for book_id in {one.order.price_book_id for one in bought}
    }

    def print_all() -> list[tuple[str, bytes]]:
        return [
            (
                certificates.file_name(one),
                certificates.pdf(
                    one,
                    books[one.order.price_book_id].licences[one.item.licence],
                    public_url=settings.public_url,
                    barred=purchases.barred(one),
                ),
            )
            for one in bought
        ]

    return await run_sync(print_all)
