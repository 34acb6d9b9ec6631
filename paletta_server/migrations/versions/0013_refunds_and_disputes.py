"""refunds that wait for a second person, goodwill, answers to disputes, and what operators have looked at

Revision: 0013, after 0012. It must suit the code of the revision before it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

TIME = postgresql.TIMESTAMP(timezone=True)
BEFORE = "status IN ('requested', 'pending', 'succeeded', 'failed')"
AFTER = "status IN ('awaiting_approval', 'rejected', 'requested', 'pending', 'succeeded', 'failed')"


def _statuses(allowed: str) -> None:
    op.drop_constraint(op.f("ck_refunds_status"), "refunds", type_="check")
    op.create_check_constraint(op.f("ck_refunds_status"), "refunds", allowed)


def upgrade() -> None:
    _statuses(AFTER)
    op.add_column("refunds", sa.Column("keeps_rights", sa.Boolean(), server_default="false", nullable=False))
    op.add_column("refunds", sa.Column("decided_by", sa.BigInteger(), nullable=True))
    op.add_column("refunds", sa.Column("decided_at", TIME, nullable=True))
    op.add_column("refunds", sa.Column("expires_at", TIME, nullable=True))
    op.create_foreign_key(op.f("fk_refunds_decided_by"), "refunds", "users", ["decided_by"], ["id"])
    op.create_index(
        "ix_refunds_awaiting_approval",
        "refunds",
        ["expires_at"],
        postgresql_where=sa.text("status = 'awaiting_approval'"),
    )
    op.add_column("order_items", sa.Column("goodwill_at", TIME, nullable=True))
    op.add_column("disputes", sa.Column("evidence", postgresql.JSONB(), server_default="{}", nullable=False))
    op.add_column("disputes", sa.Column("evidence_version", sa.Integer(), server_default="1", nullable=False))
    op.add_column("disputes", sa.Column("response", sa.Text(), server_default="none", nullable=False))
    op.add_column("disputes", sa.Column("responded_by", sa.BigInteger(), nullable=True))
    op.add_column("disputes", sa.Column("responded_at", TIME, nullable=True))
    op.add_column("disputes", sa.Column("response_key", sa.Text(), nullable=True))
    op.add_column("disputes", sa.Column("response_failure", sa.Text(), nullable=True))
    op.create_foreign_key(op.f("fk_disputes_responded_by"), "disputes", "users", ["responded_by"], ["id"])
    op.create_check_constraint(
        op.f("ck_disputes_response"),
        "disputes",
        "response IN ('none', 'submitting', 'submitted', 'accepting', 'accepted')",
    )
    op.create_index("ix_disputes_open", "disputes", ["due_by"], postgresql_where=sa.text("outcome IS NULL"))
    op.create_table(
        "dispute_files",
        sa.Column("dispute_id", sa.BigInteger(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("created_at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["dispute_id"], ["disputes.id"], name=op.f("fk_dispute_files_dispute_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dispute_files")),
        sa.UniqueConstraint("dispute_id", "field", name=op.f("uq_dispute_files_dispute_id_field")),
        sa.UniqueConstraint("key", name=op.f("uq_dispute_files_key")),
    )
    op.create_table(
        "attention_notes",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("by", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("created_at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["by"], ["users.id"], name=op.f("fk_attention_notes_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attention_notes")),
        sa.UniqueConstraint("subject", name=op.f("uq_attention_notes_subject")),
    )
    op.add_column(
        "sandbox_disputes", sa.Column("evidence", postgresql.JSONB(), server_default="{}", nullable=False)
    )
    op.add_column("sandbox_disputes", sa.Column("response_key", sa.Text(), nullable=True))
    op.create_table(
        "sandbox_files",
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("created_at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sandbox_files")),
        sa.UniqueConstraint("reference", name=op.f("uq_sandbox_files_reference")),
        sa.UniqueConstraint("key", name=op.f("uq_sandbox_files_key")),
    )


def downgrade() -> None:
    op.drop_table("sandbox_files")
    op.drop_column("sandbox_disputes", "response_key")
    op.drop_column("sandbox_disputes", "evidence")
    op.drop_table("attention_notes")
    op.drop_table("dispute_files")
    op.drop_index("ix_disputes_open", "disputes")
    for column in (
        "response_failure", "response_key", "responded_at", "responded_by", "response", "evidence_version", "evidence",
    ):  # fmt: skip
        op.drop_column("disputes", column)
    op.drop_column("order_items", "goodwill_at")
    op.drop_index("ix_refunds_awaiting_approval", "refunds")
    for column in ("expires_at", "decided_at", "decided_by", "keeps_rights"):
        op.drop_column("refunds", column)
    # The code before knows neither word: nobody approves what waits, and its money is free again.
    op.execute("UPDATE refunds SET status = 'failed' WHERE status IN ('awaiting_approval', 'rejected')")
    _statuses(BEFORE)
