"""Writing the audit log."""

from typing import Any, Protocol

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.audit.models import AuditLog


class Actor(Protocol):
    @property
    def user_id(self) -> int: ...


async def record(
    session: AsyncSession,
    actor: Actor | None,
    action: str,
    obj: str,
    *,
    details: dict[str, Any] | None = None,
) -> None:
    """Note, in the caller's transaction, that `actor` (None: the service itself) did `action` to `obj`.

    `action` is `subject:verb`; address and request id come from the request being served.
    """
    context = structlog.contextvars.get_contextvars()
    session.add(
        AuditLog(
            user_id=actor.user_id if actor else None,
            action=action,
            object=obj,
            details=details or {},
            # What the service did of itself came from nowhere, whoever's request happened to set it off.
            ip=context.get("ip") if actor else None,
            request_id=context.get("request_id"),
        )
    )
