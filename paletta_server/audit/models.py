"""The audit log: who did what to what, when and from where. Rows are only ever added, and chained by their hashes.

The database refuses to change, delete or truncate the log, its chain and its head. Whoever is above that (a superuser
who switches triggers off) is found out by `chain.verify`.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, LargeBinary, func
from sqlalchemy.orm import Mapped, mapped_column

from paletta_server.core.database import Base


class AuditLog(Base):
    __tablename__ = "audit_logs"
    __table_args__ = (
        Index("ix_audit_logs_object", "object", "id"),
        Index("ix_audit_logs_user_id", "user_id", "id"),
        Index("ix_audit_logs_at", "at"),
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
    """Written here and found in `audit_origins`: a trigger moves it, so that it can be erased."""
    request_id: Mapped[str | None]
    origin: Mapped[bytes | None] = mapped_column(LargeBinary)
    """SHA-256 of salt and address in `audit_origins`, by the same trigger."""


class AuditOrigin(Base):
    """From which address something was done. It goes when the person is erased; nobody can guess it then from the
    digest that stays, for the salt goes with it."""

    __tablename__ = "audit_origins"

    log_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    salt: Mapped[bytes] = mapped_column(LargeBinary)
    ip: Mapped[str]


class AuditPending(Base):
    """A row of the log that is not chained yet; a trigger notes it in the transaction that writes the row."""

    __tablename__ = "audit_pending"

    log_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)


class AuditChain(Base):
    """An entry of the chain. No foreign key: an entry whose row is gone is what has to be found."""

    __tablename__ = "audit_chain"

    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    """1, 2, 3 … without gaps."""
    log_id: Mapped[int] = mapped_column(BigInteger, unique=True)
    hash: Mapped[bytes] = mapped_column(LargeBinary)
    """SHA-256 of the entry before's hash and of the row, as `chain` writes it."""


class AuditHead(Base):
    """How far the chain has come, kept apart from it: a chain that was cut is shorter than its head says."""

    __tablename__ = "audit_head"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    entries: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[bytes] = mapped_column(LargeBinary)
    at: Mapped[datetime] = mapped_column(server_default=func.now())
