"""What the audit log says of some things."""

from collections.abc import Collection, Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.audit.models import AuditLog


async def of_objects(session: AsyncSession, objects: Collection[str], *, most: int) -> Sequence[AuditLog]:
    """The newest entries about any of `objects` (public ids), oldest of them first."""
    found = await session.scalars(
        select(AuditLog).where(AuditLog.object.in_(objects)).order_by(AuditLog.id.desc()).limit(most)
    )
    return list(reversed(found.all()))
