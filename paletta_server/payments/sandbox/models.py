"""The sandbox's own books. Nothing of the shop refers to them, nor they to it; amounts are minor units."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from paletta_server.core.database import Base, Row


class SandboxCheckout(Row, Base):
    """A hosted page. status: open → complete | expired; `authenticating` is open with the bank's question asked."""

    __tablename__ = "sandbox_checkouts"
    __table_args__ = (
        CheckConstraint("status IN ('open', 'authenticating', 'complete', 'expired')", name="status"),
        CheckConstraint("captured IN (0, amount)", name="captured"),
        Index("ix_sandbox_checkouts_open", "expires_at", postgresql_where=text("status <> 'complete'")),
    )

    reference: Mapped[str] = mapped_column(unique=True)
    key: Mapped[str] = mapped_column(unique=True)
    """The idempotency key of the request that opened it; also the shop's name for the payment."""
    request: Mapped[dict[str, Any]]
    """As it was asked for: the same key with another request is refused."""
    status: Mapped[str] = mapped_column(server_default="open")
    currency: Mapped[str]
    amount: Mapped[int] = mapped_column(BigInteger)
    captured: Mapped[int] = mapped_column(BigInteger, server_default="0")
    charge: Mapped[str | None]
    failure: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(server_default="0")
    """Payments that were declined."""
    refunds_as: Mapped[str] = mapped_column(server_default="succeeded")
    """How refunds of it end: `succeeded`, `pending` or `failed`."""
    expires_at: Mapped[datetime]


class SandboxRefund(Row, Base):
    """Money given back."""

    __tablename__ = "sandbox_refunds"

    reference: Mapped[str] = mapped_column(unique=True)
    key: Mapped[str] = mapped_column(unique=True)
    checkout_id: Mapped[int] = mapped_column(ForeignKey("sandbox_checkouts.id"), index=True)
    amount: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[str]


class SandboxDispute(Row, Base):
    """A customer's pretended quarrel. status as Stripe's: needs_response → under_review → won | lost."""

    __tablename__ = "sandbox_disputes"

    reference: Mapped[str] = mapped_column(unique=True)
    checkout_id: Mapped[int] = mapped_column(ForeignKey("sandbox_checkouts.id"), index=True)
    amount: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="needs_response")
    reinstated: Mapped[bool] = mapped_column(server_default="false")
    due_by: Mapped[datetime]
    evidence: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    """As the shop sent it, by field."""
    response_key: Mapped[str | None]
    """The idempotency key of the shop's answer."""


class SandboxFile(Row, Base):
    """A file that the shop sent as evidence; what is in it nobody reads."""

    __tablename__ = "sandbox_files"

    reference: Mapped[str] = mapped_column(unique=True)
    key: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)


class SandboxEvent(Row, Base):
    """An event to deliver, as its body."""

    __tablename__ = "sandbox_events"

    event_id: Mapped[str] = mapped_column(unique=True)
    checkout_id: Mapped[int] = mapped_column(ForeignKey("sandbox_checkouts.id"), index=True)
    body: Mapped[str]
    delivered_at: Mapped[datetime | None]
