"""whose mails are; what somebody gives up; addresses of requests that the service itself acted in

Revision: 0018, after 0017. It must suit the code of the revision before it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

KINDS = "'sale', 'refund', 'dispute', 'surplus', 'release', 'payout', 'payout_returned', 'payout_arrived'"


def upgrade() -> None:
    op.add_column("outbox_emails", sa.Column("user_id", sa.BigInteger(), nullable=True))
    op.execute("UPDATE outbox_emails m SET user_id = u.id FROM users u WHERE u.email = m.recipient")
    op.create_index(op.f("ix_outbox_emails_user_id"), "outbox_emails", ["user_id"])
    op.execute("DELETE FROM audit_origins o USING audit_logs l WHERE l.id = o.log_id AND l.user_id IS NULL")
    _kinds(f"{KINDS}, 'waived'")


def downgrade() -> None:
    _kinds(KINDS, of_all=False)  # what was waived stays: nothing leaves the ledger
    op.drop_column("outbox_emails", "user_id")


def _kinds(allowed: str, *, of_all: bool = True) -> None:
    op.drop_constraint(op.f("ck_ledger_transactions_kind"), "ledger_transactions", type_="check")
    op.create_check_constraint(
        op.f("ck_ledger_transactions_kind"),
        "ledger_transactions",
        f"kind IN ({allowed})",
        postgresql_not_valid=not of_all,
    )
