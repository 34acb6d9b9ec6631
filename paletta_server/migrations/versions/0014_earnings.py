"""earnings: royalties, the ledger, bank details and payouts

Revision: 0014, after 0013. It must suit the code of the revision before it. That code sells and refunds without
posting; `earnings.catch_up` posts what it left out, as it does for everything that was sold before.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

GUARDS = """
CREATE FUNCTION refuse_ledger_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the ledger is only ever added to: post the difference' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_transactions
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_ledger_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_entries
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_ledger_change();

CREATE FUNCTION check_ledger_balance() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF (SELECT sum(amount) FROM ledger_entries
      WHERE transaction_id = NEW.transaction_id AND currency = NEW.currency) <> 0 THEN
    RAISE EXCEPTION 'ledger transaction % does not sum to zero', NEW.transaction_id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER balanced AFTER INSERT ON ledger_entries DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION check_ledger_balance();
"""


def upgrade() -> None:
    op.create_table(
        "payout_accounts",
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("bic", sa.Text(), nullable=True),
        sa.Column("country", sa.Text(), nullable=False),
        sa.Column(
            "changed_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint("kind IN ('iban', 'account')", name=op.f("ck_payout_accounts_kind")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_payout_accounts_user_id")),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_payout_accounts")),
    )
    op.create_table(
        "payout_runs",
        sa.Column("uid", sa.Text(collation="C"), nullable=False),
        sa.Column("made_by", sa.BigInteger(), nullable=True),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.ForeignKeyConstraint(["made_by"], ["users.id"], name=op.f("fk_payout_runs_made_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payout_runs")),
        sa.UniqueConstraint("key", name=op.f("uq_payout_runs_key")),
        sa.UniqueConstraint("uid", name=op.f("uq_payout_runs_uid")),
    )
    op.create_table(
        "royalty_rates",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("rate", sa.Integer(), nullable=False),
        sa.Column("set_by", sa.BigInteger(), nullable=True),
        sa.Column(
            "set_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint("rate BETWEEN 0 AND 10000", name=op.f("ck_royalty_rates_rate")),
        sa.ForeignKeyConstraint(["set_by"], ["users.id"], name=op.f("fk_royalty_rates_set_by")),
        sa.PrimaryKeyConstraint("scope", name=op.f("pk_royalty_rates")),
    )
    op.create_table(
        "payouts",
        sa.Column("uid", sa.Text(collation="C"), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), server_default="in_transit", nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("bic", sa.Text(), nullable=True),
        sa.Column("country", sa.Text(), nullable=False),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("decided_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint("status IN ('in_transit', 'paid', 'failed')", name=op.f("ck_payouts_status")),
        sa.CheckConstraint("amount > 0", name=op.f("ck_payouts_amount")),
        sa.ForeignKeyConstraint(["run_id"], ["payout_runs.id"], name=op.f("fk_payouts_run_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_payouts_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payouts")),
        sa.UniqueConstraint("run_id", "user_id", "currency", name=op.f("uq_payouts_run_id_user_id_currency")),
        sa.UniqueConstraint("uid", name=op.f("uq_payouts_uid")),
    )
    op.create_index(op.f("ix_payouts_user_id"), "payouts", ["user_id"], unique=False)
    op.create_table(
        "ledger_transactions",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("order_id", sa.BigInteger(), nullable=True),
        sa.Column("order_item_id", sa.BigInteger(), nullable=True),
        sa.Column("payout_id", sa.BigInteger(), nullable=True),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint(
            "kind IN ('sale', 'refund', 'dispute', 'surplus', 'release', 'payout', 'payout_returned', 'payout_arrived')",
            name=op.f("ck_ledger_transactions_kind"),
        ),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_ledger_transactions_order_id")),
        sa.ForeignKeyConstraint(
            ["order_item_id"], ["order_items.id"], name=op.f("fk_ledger_transactions_order_item_id")
        ),
        sa.ForeignKeyConstraint(["payout_id"], ["payouts.id"], name=op.f("fk_ledger_transactions_payout_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_transactions")),
    )
    op.create_index(
        op.f("ix_ledger_transactions_order_id"), "ledger_transactions", ["order_id"], unique=False
    )
    op.create_index(
        op.f("ix_ledger_transactions_payout_id"), "ledger_transactions", ["payout_id"], unique=False
    )
    op.create_table(
        "royalties",
        sa.Column("order_item_id", sa.BigInteger(), nullable=False),
        sa.Column("order_id", sa.BigInteger(), nullable=False),
        sa.Column("contributor_id", sa.BigInteger(), nullable=False),
        sa.Column("rate", sa.Integer(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("sold_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("released_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("amount >= 0", name=op.f("ck_royalties_amount")),
        sa.CheckConstraint("rate BETWEEN 0 AND 10000", name=op.f("ck_royalties_rate")),
        sa.ForeignKeyConstraint(["contributor_id"], ["users.id"], name=op.f("fk_royalties_contributor_id")),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_royalties_order_id")),
        sa.ForeignKeyConstraint(
            ["order_item_id"], ["order_items.id"], name=op.f("fk_royalties_order_item_id")
        ),
        sa.PrimaryKeyConstraint("order_item_id", name=op.f("pk_royalties")),
    )
    op.create_index(op.f("ix_royalties_contributor_id"), "royalties", ["contributor_id"], unique=False)
    op.create_index(
        "ix_royalties_held",
        "royalties",
        ["sold_at"],
        unique=False,
        postgresql_where=sa.text("released_at IS NULL"),
    )
    op.create_index(op.f("ix_royalties_order_id"), "royalties", ["order_id"], unique=False)
    op.create_table(
        "ledger_entries",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("transaction_id", sa.BigInteger(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "(user_id IS NOT NULL) = (account IN ('pending', 'payable', 'in_transit', 'paid'))",
            name=op.f("ck_ledger_entries_user_id"),
        ),
        sa.CheckConstraint(
            "account IN ('pending', 'payable', 'in_transit', 'paid', 'customers', 'chargebacks', 'tax', 'platform', 'unallocated', 'losses')",
            name=op.f("ck_ledger_entries_account"),
        ),
        sa.CheckConstraint("amount <> 0", name=op.f("ck_ledger_entries_amount")),
        sa.ForeignKeyConstraint(
            ["transaction_id"], ["ledger_transactions.id"], name=op.f("fk_ledger_entries_transaction_id")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_ledger_entries_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_entries")),
    )
    op.create_index(
        op.f("ix_ledger_entries_transaction_id"), "ledger_entries", ["transaction_id"], unique=False
    )
    op.create_index(
        "ix_ledger_entries_user_id",
        "ledger_entries",
        ["user_id", "id"],
        unique=False,
        postgresql_where=sa.text("user_id IS NOT NULL"),
    )
    op.execute(GUARDS)


def downgrade() -> None:
    op.drop_index(
        "ix_ledger_entries_user_id",
        table_name="ledger_entries",
        postgresql_where=sa.text("user_id IS NOT NULL"),
    )
    op.drop_index(op.f("ix_ledger_entries_transaction_id"), table_name="ledger_entries")
    op.drop_table("ledger_entries")
    op.drop_index(op.f("ix_royalties_order_id"), table_name="royalties")
    op.drop_index(
        "ix_royalties_held", table_name="royalties", postgresql_where=sa.text("released_at IS NULL")
    )
    op.drop_index(op.f("ix_royalties_contributor_id"), table_name="royalties")
    op.drop_table("royalties")
    op.drop_index(op.f("ix_ledger_transactions_payout_id"), table_name="ledger_transactions")
    op.drop_index(op.f("ix_ledger_transactions_order_id"), table_name="ledger_transactions")
    op.drop_table("ledger_transactions")
    op.drop_index(op.f("ix_payouts_user_id"), table_name="payouts")
    op.drop_table("payouts")
    op.drop_table("royalty_rates")
    op.drop_table("payout_runs")
    op.drop_table("payout_accounts")
    for function in ("check_ledger_balance", "refuse_ledger_change"):
        op.execute(f"DROP FUNCTION {function}()")
