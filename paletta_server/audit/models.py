"""The audit log: who did what to what, when and from where. Rows are only ever added."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from paletta_server.core.database import Base


class AuditLog(Base):
    __tablename__ = "audit_logs"
    __table_args__ = (
        Index("ix_audit_logs_object", "object", "id"),
        Index("ix_audit_logs_user_id", "user_id", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    """Who acted; null for the service itself."""
    action: Mapped[str]
    """`subject:verb`, such as `clip:approved`."""
    object: Mapped[str]
    """Public id or key of what was acted on."""
    details: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    ip: Mapped[str | None]
    request_id: Mapped[str | None]
