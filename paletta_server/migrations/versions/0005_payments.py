"""payments: when to ask a gateway again, surplus money, the sandbox's and the invoices' own books

Revision: 0005, after 0003 (the chain is 0003 -> 0005 -> 0004 -> 0006). It must suit the code of the revision before it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0003"
branch_labels = None
depends_on = None

STATUSES = ("created", "open", "succeeded", "failed", "expired")


def upgrade() -> None:
    op.create_table(
        "invoices",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("purchase_order", sa.Text(), nullable=True),
        sa.Column("expires_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("closed_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invoices")),
        sa.UniqueConstraint("key", name=op.f("uq_invoices_key")),
        sa.UniqueConstraint("reference", name=op.f("uq_invoices_reference")),
    )
    op.create_table(
        "sandbox_checkouts",
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("status", sa.Text(), server_default="open", nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("captured", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("charge", sa.Text(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("refunds_as", sa.Text(), server_default="succeeded", nullable=False),
        sa.Column("expires_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint(
            "status IN ('open', 'authenticating', 'complete', 'expired')",
            name=op.f("ck_sandbox_checkouts_status"),
        ),
        sa.CheckConstraint("captured IN (0, amount)", name=op.f("ck_sandbox_checkouts_captured")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sandbox_checkouts")),
        sa.UniqueConstraint("key", name=op.f("uq_sandbox_checkouts_key")),
        sa.UniqueConstraint("reference", name=op.f("uq_sandbox_checkouts_reference")),
    )
    op.create_index(
        "ix_sandbox_checkouts_open",
        "sandbox_checkouts",
        ["expires_at"],
        unique=False,
        postgresql_where=sa.text("status <> 'complete'"),
    )
    op.create_table(
        "invoice_entries",
        sa.Column("invoice_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("by", sa.BigInteger(), nullable=True),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint("kind IN ('received', 'returned')", name=op.f("ck_invoice_entries_kind")),
        sa.CheckConstraint("amount > 0", name=op.f("ck_invoice_entries_amount")),
        sa.ForeignKeyConstraint(["by"], ["users.id"], name=op.f("fk_invoice_entries_by")),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoices.id"], name=op.f("fk_invoice_entries_invoice_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invoice_entries")),
        sa.UniqueConstraint("key", name=op.f("uq_invoice_entries_key")),
    )
    op.create_index(op.f("ix_invoice_entries_invoice_id"), "invoice_entries", ["invoice_id"], unique=False)
    op.create_index(
        "uq_invoice_entries_received",
        "invoice_entries",
        ["invoice_id"],
        unique=True,
        postgresql_where=sa.text("kind = 'received'"),
    )
    op.create_table(
        "sandbox_disputes",
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("checkout_id", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="needs_response", nullable=False),
        sa.Column("reinstated", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("due_by", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["checkout_id"], ["sandbox_checkouts.id"], name=op.f("fk_sandbox_disputes_checkout_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sandbox_disputes")),
        sa.UniqueConstraint("reference", name=op.f("uq_sandbox_disputes_reference")),
    )
    op.create_index(
        op.f("ix_sandbox_disputes_checkout_id"), "sandbox_disputes", ["checkout_id"], unique=False
    )
    op.create_table(
        "sandbox_events",
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("checkout_id", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("delivered_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["checkout_id"], ["sandbox_checkouts.id"], name=op.f("fk_sandbox_events_checkout_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sandbox_events")),
        sa.UniqueConstraint("event_id", name=op.f("uq_sandbox_events_event_id")),
    )
    op.create_index(op.f("ix_sandbox_events_checkout_id"), "sandbox_events", ["checkout_id"], unique=False)
    op.create_table(
        "sandbox_refunds",
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("checkout_id", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["checkout_id"], ["sandbox_checkouts.id"], name=op.f("fk_sandbox_refunds_checkout_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sandbox_refunds")),
        sa.UniqueConstraint("key", name=op.f("uq_sandbox_refunds_key")),
        sa.UniqueConstraint("reference", name=op.f("uq_sandbox_refunds_reference")),
    )
    op.create_index(op.f("ix_sandbox_refunds_checkout_id"), "sandbox_refunds", ["checkout_id"], unique=False)
    op.add_column("disputes", sa.Column("withdrawn", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column(
        "external_events",
        sa.Column("subject", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
    )
    op.add_column(
        "payments",
        sa.Column("request", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
    )
    op.add_column("payments", sa.Column("digest", sa.Text(), nullable=True))
    op.add_column("payments", sa.Column("checks", sa.Integer(), server_default="0", nullable=False))
    op.add_column(
        "payments",
        sa.Column(
            "next_check_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=True,
        ),
    )
    op.create_index("ix_payments_charge", "payments", ["gateway", "charge"], unique=False)
    op.create_index("ix_payments_next_check_at", "payments", ["next_check_at"], unique=False)
    op.add_column("refunds", sa.Column("key", sa.Text(), nullable=True))
    op.create_index("uq_refunds_key", "refunds", ["order_id", "key"], unique=True)
    _statuses(*STATUSES, "surplus")
    op.execute(
        "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON invoice_entries"
        " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )


def downgrade() -> None:
    op.execute("UPDATE payments SET status = 'failed' WHERE status = 'surplus'")
    _statuses(*STATUSES)
    op.drop_index("uq_refunds_key", table_name="refunds")
    op.drop_column("refunds", "key")
    op.drop_index("ix_payments_next_check_at", table_name="payments")
    op.drop_index("ix_payments_charge", table_name="payments")
    op.drop_column("payments", "next_check_at")
    op.drop_column("payments", "checks")
    op.drop_column("payments", "digest")
    op.drop_column("payments", "request")
    op.drop_column("external_events", "subject")
    op.drop_column("disputes", "withdrawn")
    op.drop_index(op.f("ix_sandbox_refunds_checkout_id"), table_name="sandbox_refunds")
    op.drop_table("sandbox_refunds")
    op.drop_index(op.f("ix_sandbox_events_checkout_id"), table_name="sandbox_events")
    op.drop_table("sandbox_events")
    op.drop_index(op.f("ix_sandbox_disputes_checkout_id"), table_name="sandbox_disputes")
    op.drop_table("sandbox_disputes")
    op.drop_index(
        "uq_invoice_entries_received",
        table_name="invoice_entries",
        postgresql_where=sa.text("kind = 'received'"),
    )
    op.drop_index(op.f("ix_invoice_entries_invoice_id"), table_name="invoice_entries")
    op.drop_table("invoice_entries")
    op.drop_index(
        "ix_sandbox_checkouts_open",
        table_name="sandbox_checkouts",
        postgresql_where=sa.text("status <> 'complete'"),
    )
    op.drop_table("sandbox_checkouts")
    op.drop_table("invoices")


def _statuses(*names: str) -> None:
    op.drop_constraint(op.f("ck_payments_status"), "payments")
    op.create_check_constraint(op.f("ck_payments_status"), "payments", f"status IN {names!r}")
