"""Who is told what, once for each event."""

from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core.settings import Settings


async def confirm(session: AsyncSession, settings: Settings, order_id: int) -> None:
    """Mail the customer that the order is paid."""


async def tell_dispute(session: AsyncSession, settings: Settings, order_id: int) -> None:
    """Mail the customer that the payment is disputed and the files are held back."""


async def tell_refund(session: AsyncSession, settings: Settings, order_id: int) -> None:
    """Mail the customer what was given back so far."""
