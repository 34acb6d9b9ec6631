"""Payments, what happened to them, refunds, disputes, and the inbox of gateways' events.

Totals of a payment are recomputed from its append-only events under the row's lock, never counted up. Locks are
taken in one order: order, then payment, then refunds and disputes.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    LargeBinary,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from paletta_server.core.database import Base, Row, Uid

EVENTS = (
    "captured", "failed", "refund_succeeded", "refund_failed", "dispute_withdrawn", "dispute_reinstated",
)  # fmt: skip


class Payment(Row, Base):
    """One way of paying an order: a gateway's checkout.

    status: created → open → succeeded | failed | expired. An order has at most one that is not over. `surplus`
    has money too, though another payment had paid the order: all of it goes back.
    """

    __tablename__ = "payments"
    __table_args__ = (
        CheckConstraint(
            "status IN ('created', 'open', 'succeeded', 'failed', 'expired', 'surplus')", name="status"
        ),
        CheckConstraint("captured >= 0 AND refunded >= 0 AND pending_refunds >= 0", name="positive"),
        CheckConstraint("refunded + pending_refunds <= captured", name="refunds"),
        Index("uq_payments_reference", "gateway", "reference", unique=True),
        Index("ix_payments_charge", "gateway", "charge"),
        Index("ix_payments_next_check_at", "next_check_at"),
        Index(
            "uq_payments_order_live",
            "order_id",
            unique=True,
            postgresql_where=text("status IN ('created', 'open', 'succeeded')"),
        ),
    )

    uid: Mapped[Uid]
    """Also the idempotency key of the request that opens the checkout."""
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), index=True)
    gateway: Mapped[str]
    request: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    """What the gateway is asked to open, frozen: the same key must always bring the same request."""
    reference: Mapped[str | None]
    """The gateway's own id of the checkout."""
    charge: Mapped[str | None]
    """The gateway's own id of the money movement, once there is one: what refunds and disputes name."""
    url: Mapped[str | None]
    """The gateway's hosted page."""
    status: Mapped[str] = mapped_column(server_default="created")
    currency: Mapped[str]
    amount: Mapped[int] = mapped_column(BigInteger)
    captured: Mapped[int] = mapped_column(BigInteger, server_default="0")
    refunded: Mapped[int] = mapped_column(BigInteger, server_default="0")
    pending_refunds: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """Reserved by refunds that are not decided; with `refunded` never more than `captured`."""
    disputed: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """Withdrawn by disputes and not reinstated."""
    checked_at: Mapped[datetime | None]
    """When the gateway was last asked."""
    checks: Mapped[int] = mapped_column(server_default="0")
    """How often its answer was settled: who asked before the last one settled has old news, and asks again."""
    digest: Mapped[str | None]
    """SHA-256 of the answer that was settled last: most events of a gateway bring nothing new."""
    next_check_at: Mapped[datetime | None] = mapped_column(server_default=func.now())
    """When the reconciler asks next, should no event come before; null when nothing is expected any more."""
    failure: Mapped[str | None]


class PaymentEvent(Row, Base):
    """Something that happened to a payment; rows are only ever added. `reference` is the gateway's id of it."""

    __tablename__ = "payment_events"
    __table_args__ = (
        UniqueConstraint("payment_id", "kind", "reference"),
        Index("ix_payment_events_created_at", "created_at"),
        CheckConstraint("amount >= 0", name="amount"),
        CheckConstraint(f"kind IN {EVENTS!r}", name="kind"),
    )

    payment_id: Mapped[int] = mapped_column(ForeignKey("payments.id"))
    kind: Mapped[str]
    reference: Mapped[str]
    amount: Mapped[int] = mapped_column(BigInteger)
    details: Mapped[dict[str, Any]] = mapped_column(server_default="{}")


class Refund(Row, Base):
    """Money on its way back. status: requested → pending → succeeded | failed; succeeded → failed can happen.

    A large one begins as awaiting_approval, which reserves the money: a second operator lets it be requested or
    rejects it, and so does its time (`expires_at`).
    """

    __tablename__ = "refunds"
    __table_args__ = (
        CheckConstraint(
            "status IN ('awaiting_approval', 'rejected', 'requested', 'pending', 'succeeded', 'failed')",
            name="status",
        ),
        CheckConstraint("amount > 0", name="amount"),
        Index(
            "ix_refunds_awaiting_approval",
            "expires_at",
            postgresql_where=text("status = 'awaiting_approval'"),
        ),
        Index("uq_refunds_reference", "gateway", "reference", unique=True),
        Index("uq_refunds_key", "order_id", "key", unique=True),
    )

    uid: Mapped[Uid]
    """Also the idempotency key of the request to the gateway, and in its metadata there."""
    payment_id: Mapped[int] = mapped_column(ForeignKey("payments.id"), index=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), index=True)
    gateway: Mapped[str]
    reference: Mapped[str | None]
    status: Mapped[str] = mapped_column(server_default="requested")
    currency: Mapped[str]
    amount: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[str]
    requested_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    """None: the service itself, or somebody at the gateway."""
    key: Mapped[str | None]
    """The caller's Idempotency-Key."""
    request_digest: Mapped[str | None]
    """SHA-256 of what was asked with it."""
    keeps_rights: Mapped[bool] = mapped_column(server_default="false")
    """Goodwill: what is given back whole by this one stays the customer's."""
    decided_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    """Who approved or rejected it, where it waited for that; None for its time that ran out."""
    decided_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    """Until when it may be approved."""
    failure: Mapped[str | None]


class RefundItem(Base):
    """How much of a refund belongs to which item of the order."""

    __tablename__ = "refund_items"
    __table_args__ = (CheckConstraint("amount > 0", name="amount"),)

    refund_id: Mapped[int] = mapped_column(ForeignKey("refunds.id"), primary_key=True)
    order_item_id: Mapped[int] = mapped_column(ForeignKey("order_items.id"), primary_key=True)
    amount: Mapped[int] = mapped_column(BigInteger)


class Dispute(Row, Base):
    """A customer's bank against us. `status` is the gateway's own word, unknown ones as they come; closed is
    sticky."""

    __tablename__ = "disputes"
    __table_args__ = (
        UniqueConstraint("gateway", "reference"),
        CheckConstraint("outcome IN ('won', 'lost', 'withdrawn')", name="outcome"),
        CheckConstraint(
            "response IN ('none', 'submitting', 'submitted', 'accepting', 'accepted')", name="response"
        ),
        Index("ix_disputes_open", "due_by", postgresql_where=text("outcome IS NULL")),
    )

    uid: Mapped[Uid]
    payment_id: Mapped[int] = mapped_column(ForeignKey("payments.id"), index=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), index=True)
    gateway: Mapped[str]
    reference: Mapped[str]
    status: Mapped[str]
    reason: Mapped[str | None]
    currency: Mapped[str]
    amount: Mapped[int] = mapped_column(BigInteger)
    withdrawn: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """What the bank took back and has not reinstated."""
    due_by: Mapped[datetime | None]
    outcome: Mapped[str | None]
    closed_at: Mapped[datetime | None]
    evidence: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    """What operators wrote in place of our draft, by field; from `submitting` on what is sent, whole."""
    written: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    """What of it operators had written when it was sent: the next round starts from that."""
    evidence_version: Mapped[int] = mapped_column(server_default="1")
    """Counts its changes, so that two who write at once do not undo each other's."""
    response: Mapped[str] = mapped_column(server_default="none")
    """Our answer: none → submitting → submitted, or none → accepting → accepted; back to none where it was refused,
    and with each round."""
    round: Mapped[int] = mapped_column(server_default="1")
    """Counts how often the bank asked (`rounds.py`)."""
    answers_before: Mapped[int] = mapped_column(server_default="0")
    """How often the gateway had evidence when the round began: its count goes on over all rounds."""
    responded_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    responded_at: Mapped[datetime | None]
    response_key: Mapped[str | None]
    """The idempotency key of the answer that is being given."""
    response_failure: Mapped[str | None]
    """Why the last one came to nothing."""


class DisputeAnswer(Row, Base):
    """The answer of a round that is over. `status`: the gateway's word when the next one began."""

    __tablename__ = "dispute_answers"
    __table_args__ = (UniqueConstraint("dispute_id", "round"),)

    dispute_id: Mapped[int] = mapped_column(ForeignKey("disputes.id"))
    round: Mapped[int]
    status: Mapped[str]
    response: Mapped[str]
    evidence: Mapped[dict[str, Any]]
    """What we sent, by field; empty where it was sent by hand, or nothing was."""
    responded_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    responded_at: Mapped[datetime | None]


class DisputeFile(Row, Base):
    """A file of a dispute's evidence; `field` says what it proves. One for each field in each round."""

    __tablename__ = "dispute_files"
    __table_args__ = (UniqueConstraint("dispute_id", "round", "field"),)

    dispute_id: Mapped[int] = mapped_column(ForeignKey("disputes.id"))
    round: Mapped[int] = mapped_column(server_default="1")
    field: Mapped[str]
    name: Mapped[str]
    content_type: Mapped[str]
    data: Mapped[bytes] = mapped_column(LargeBinary)
    key: Mapped[str] = mapped_column(unique=True)
    """The idempotency key of its way to the gateway."""
    reference: Mapped[str | None]
    """The gateway's own id of it, once it is there."""


class AttentionNote(Row, Base):
    """An operator looked at something that needed a person: it is off the list. `subject` as the list names it."""

    __tablename__ = "attention_notes"

    subject: Mapped[str] = mapped_column(unique=True)
    note: Mapped[str]
    by: Mapped[int] = mapped_column(ForeignKey("users.id"))


class ExternalEvent(Row, Base):
    """The webhook inbox: every verified event once, as it came. Unknown kinds are kept too."""

    __tablename__ = "external_events"
    __table_args__ = (
        UniqueConstraint("source", "external_id"),
        Index("ix_external_events_unhandled", "id", postgresql_where=text("handled_at IS NULL")),
    )

    source: Mapped[str]
    external_id: Mapped[str]
    kind: Mapped[str]
    payload: Mapped[dict[str, Any]]
    subject: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    """What it names of a payment: `reference`, `payment` (our id), `charge`."""
    handled_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    """What came of it, in a word or two."""


class Invoice(Row, Base):
    """What the invoice gateway knows of a checkout: a sum to arrive by bank. What arrived stands in its entries."""

    __tablename__ = "invoices"

    key: Mapped[str] = mapped_column(unique=True)
    reference: Mapped[str] = mapped_column(unique=True)
    currency: Mapped[str]
    amount: Mapped[int] = mapped_column(BigInteger)
    purchase_order: Mapped[str | None]
    expires_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]


class InvoiceEntry(Row, Base):
    """Money that an operator saw arrive for an invoice, or is to send back; rows are only ever added."""

    __tablename__ = "invoice_entries"
    __table_args__ = (
        CheckConstraint("kind IN ('received', 'returned')", name="kind"),
        CheckConstraint("amount > 0", name="amount"),
        Index(
            "uq_invoice_entries_received",
            "invoice_id",
            unique=True,
            postgresql_where=text("kind = 'received'"),
        ),
    )

    invoice_id: Mapped[int] = mapped_column(ForeignKey("invoices.id"), index=True)
    kind: Mapped[str]
    key: Mapped[str] = mapped_column(unique=True)
    amount: Mapped[int] = mapped_column(BigInteger)
    note: Mapped[str | None]
    """The bank's own reference of the transfer."""
    by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))


class InvoiceOutcome(Row, Base):
    """What an operator says of money that was to go back: that it was sent, or that it failed (also after it was sent,
    where the bank returned it); rows are only ever added."""

    __tablename__ = "invoice_outcomes"
    __table_args__ = (
        UniqueConstraint("entry_id", "kind"),
        CheckConstraint("kind IN ('sent', 'failed')", name="kind"),
    )

    entry_id: Mapped[int] = mapped_column(ForeignKey("invoice_entries.id"))
    kind: Mapped[str]
    note: Mapped[str]
    """The bank's own reference of the transfer, or why it failed."""
    by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    """None: counted as sent before operators had to say so."""
