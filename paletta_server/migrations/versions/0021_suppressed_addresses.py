"""addresses that get no mail any more, and the reports that said so

Revision: 0021, after 0020. It must suit the code of the revision before it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

TIME = postgresql.TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.create_table(
        "suppressed_addresses",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("created_at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("suppressed_at", TIME, nullable=True),
        sa.Column("transient_bounces", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_bounce_at", TIME, nullable=True),
        sa.CheckConstraint("reason IN ('bounce', 'complaint')", name=op.f("ck_suppressed_addresses_reason")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_suppressed_addresses")),
        sa.UniqueConstraint("address", name=op.f("uq_suppressed_addresses_address")),
    )
    op.create_table(
        "mail_reports",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("created_at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("report_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mail_reports")),
        sa.UniqueConstraint("report_id", name=op.f("uq_mail_reports_report_id")),
    )


def downgrade() -> None:
    op.drop_table("mail_reports")
    op.drop_table("suppressed_addresses")
