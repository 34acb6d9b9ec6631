"""What became of an order's rights, and who fetched what from where: for operators, and for the bank in a dispute."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.delivery.models import DownloadGrant, Entitlement


@dataclass(frozen=True, slots=True)
class Right:
    """The right to an item. `own_status` is what its own order's money says, `status` what counts."""

    status: str
    own_status: str
    certificate: str
    ended_at: datetime | None
    downloads: int


@dataclass(frozen=True, slots=True)
class Fetch:
    """An address given out: for which item (its key) and tier, when, by which way, from where, to what program."""

    item_id: int
    tier: str
    at: datetime
    via: str
    ip: str | None
    client: str | None


async def rights(session: AsyncSession, order_id: int) -> dict[int, Right]:
    """The rights that an order gave, by item."""
    fetched = (
        select(func.count())
        .where(DownloadGrant.entitlement_id == Entitlement.id)
        .correlate(Entitlement)
        .scalar_subquery()
    )
    rows = await session.execute(
        select(Entitlement, fetched)
        .where(Entitlement.order_id == order_id)
        .execution_options(populate_existing=True)
    )
    return {
        row.order_item_id: Right(row.status, row.own_status, row.certificate, row.ended_at, count)
        for row, count in rows
    }


async def fetches(session: AsyncSession, order_id: int, *, most: int) -> list[Fetch]:
    """The newest downloads of an order, newest first."""
    rows = await session.execute(
        select(
            Entitlement.order_item_id,
            DownloadGrant.tier,
            DownloadGrant.created_at,
            DownloadGrant.via,
            DownloadGrant.ip,
            DownloadGrant.client,
        )
        .join(Entitlement, Entitlement.id == DownloadGrant.entitlement_id)
        .where(Entitlement.order_id == order_id)
        .order_by(DownloadGrant.id.desc())
        .limit(most)
    )
    return [Fetch(*row) for row in rows]
