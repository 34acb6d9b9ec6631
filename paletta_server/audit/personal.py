"""What the audit log holds on one person. Rows stay when a person is erased; the addresses they came from go."""

from sqlalchemy import delete, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.audit.models import AuditLog, AuditOrigin
from paletta_server.core.export import Sections


def sections(user_id: int, uid: str) -> Sections:
    """What they did, and what was done to their account by whomever."""
    rows = (
        select(
            AuditLog.at,
            AuditLog.action,
            AuditLog.object,
            AuditLog.details,
            AuditOrigin.ip,
            AuditLog.request_id,
        )
        .join(AuditOrigin, (AuditOrigin.log_id == AuditLog.id) & (AuditLog.user_id == user_id), isouter=True)
        .where(or_(AuditLog.user_id == user_id, AuditLog.object == uid))
    )
    return {"audit_log": rows.order_by(AuditLog.id)}


async def forget(session: AsyncSession, user_id: int) -> None:
    """Where they acted from. The rows keep a salted digest of it, which tells nobody anything without the salt."""
    own = select(AuditLog.id).where(AuditLog.user_id == user_id)
    await session.execute(
        delete(AuditOrigin).where(AuditOrigin.log_id.in_(own)).execution_options(synchronize_session=False)
    )
