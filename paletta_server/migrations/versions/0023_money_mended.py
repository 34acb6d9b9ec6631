"""disputes asked about again, refunds sent by hand, payout runs that know their plan, ledgers that cannot be emptied

Revision: 0023, after 0022. It must suit the code of the revision before it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

EMPTIED = {
    "ledger_entries": "refuse_ledger_change",
    "ledger_transactions": "refuse_ledger_change",
    "payment_events": "refuse_change",
    "invoice_entries": "refuse_change",
    "price_book": "refuse_change",
}
"""What is only ever added to, and the function that says so."""
TIME = postgresql.TIMESTAMP(timezone=True)
FILES = "uq_dispute_files_dispute_id_round_field"
FILES_BEFORE = "uq_dispute_files_dispute_id_field"


def upgrade() -> None:
    _rounds()
    _outcomes()
    op.add_column("payout_runs", sa.Column("digest", sa.Text(), nullable=True))
    for table, function in EMPTIED.items():
        op.execute(
            f"CREATE TRIGGER never_emptied BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
        )


def _rounds() -> None:
    op.add_column("disputes", sa.Column("written", postgresql.JSONB(), server_default="{}", nullable=False))
    op.add_column("disputes", sa.Column("round", sa.Integer(), server_default="1", nullable=False))
    op.add_column("disputes", sa.Column("answers_before", sa.Integer(), server_default="0", nullable=False))
    op.add_column("dispute_files", sa.Column("round", sa.Integer(), server_default="1", nullable=False))
    op.drop_constraint(op.f(FILES_BEFORE), "dispute_files", type_="unique")
    op.create_unique_constraint(op.f(FILES), "dispute_files", ["dispute_id", "round", "field"])
    op.create_table(
        "dispute_answers",
        sa.Column("dispute_id", sa.BigInteger(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("response", sa.Text(), nullable=False),
        sa.Column("evidence", postgresql.JSONB(), nullable=False),
        sa.Column("responded_by", sa.BigInteger(), nullable=True),
        sa.Column("responded_at", TIME, nullable=True),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("created_at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["dispute_id"], ["disputes.id"], name=op.f("fk_dispute_answers_dispute_id")),
        sa.ForeignKeyConstraint(["responded_by"], ["users.id"], name=op.f("fk_dispute_answers_responded_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dispute_answers")),
        sa.UniqueConstraint("dispute_id", "round", name=op.f("uq_dispute_answers_dispute_id_round")),
    )


def _outcomes() -> None:
    op.create_table(
        "invoice_outcomes",
        sa.Column("entry_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("by", sa.BigInteger(), nullable=True),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("created_at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("kind IN ('sent', 'failed')", name=op.f("ck_invoice_outcomes_kind")),
        sa.ForeignKeyConstraint(["by"], ["users.id"], name=op.f("fk_invoice_outcomes_by")),
        sa.ForeignKeyConstraint(
            ["entry_id"], ["invoice_entries.id"], name=op.f("fk_invoice_outcomes_entry_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invoice_outcomes")),
        sa.UniqueConstraint("entry_id", "kind", name=op.f("uq_invoice_outcomes_entry_id_kind")),
    )
    # The code before counted what was to go back as gone, and told the customers so.
    op.execute(
        "INSERT INTO invoice_outcomes (entry_id, kind, note)"
        " SELECT id, 'sent', 'counted as sent when it was asked for' FROM invoice_entries WHERE kind = 'returned'"
    )
    op.execute(
        "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON invoice_outcomes"
        " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )


def downgrade() -> None:
    for table in EMPTIED:
        op.execute(f"DROP TRIGGER never_emptied ON {table}")
    op.drop_column("payout_runs", "digest")
    op.drop_table("invoice_outcomes")
    op.drop_table("dispute_answers")
    # The code before knows one answer and its files: those of the last round.
    op.execute(
        "DELETE FROM dispute_files f USING disputes d WHERE d.id = f.dispute_id AND f.round <> d.round"
    )
    op.drop_constraint(op.f(FILES), "dispute_files", type_="unique")
    op.create_unique_constraint(op.f(FILES_BEFORE), "dispute_files", ["dispute_id", "field"])
    op.drop_column("dispute_files", "round")
    for column in ("answers_before", "round", "written"):
        op.drop_column("disputes", column)
