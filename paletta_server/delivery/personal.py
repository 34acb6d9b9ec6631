"""What delivery holds on one person: figures, the export, and what erasing takes away.

Entitlements and the record of what was handed over stay: they are what a licence and its certificate stand on, and the
answer to a bank that asks whether anything was delivered. From where it was fetched goes.
"""

from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core.export import Sections
from paletta_server.delivery.models import DeliveryLink, DownloadGrant, Entitlement
from paletta_server.orders import personal as orders


async def summary(session: AsyncSession, user_id: int) -> dict[str, Any]:
    """Licences that they hold, and download addresses that they were given."""
    licences = select(func.count()).where(Entitlement.user_id == user_id, Entitlement.status != "revoked")
    given = select(func.count()).where(DownloadGrant.user_id == user_id)
    return {
        "licences": await session.scalar(licences) or 0,
        "downloads": await session.scalar(given) or 0,
    }


def sections(user_id: int) -> Sections:
    entitlements = select(
        Entitlement.uid.label("id"), Entitlement.tier, Entitlement.licence, Entitlement.status,
        Entitlement.certificate, Entitlement.created_at, Entitlement.ended_at,
    ).where(Entitlement.user_id == user_id)  # fmt: skip
    downloads = (
        select(
            Entitlement.uid.label("entitlement"), DownloadGrant.tier, DownloadGrant.via, DownloadGrant.ip,
            DownloadGrant.client, DownloadGrant.created_at,
        )
        .join(Entitlement, Entitlement.id == DownloadGrant.entitlement_id)
        .where(DownloadGrant.user_id == user_id)
    )  # fmt: skip
    return {
        "entitlements": entitlements.order_by(Entitlement.id),
        "downloads": downloads.order_by(DownloadGrant.id),
    }


async def forget(session: AsyncSession, user_id: int) -> None:
    """Where downloads went to, and every mailed link that still opens a page."""
    await session.execute(
        update(DownloadGrant).where(DownloadGrant.user_id == user_id).values(ip=None, client=None)
    )
    await session.execute(
        update(DeliveryLink)
        .where(DeliveryLink.order_id.in_(orders.keys_of(user_id)), DeliveryLink.withdrawn_at.is_(None))
        .values(withdrawn_at=func.now())
        .execution_options(synchronize_session=False)
    )
