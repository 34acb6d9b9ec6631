"""api_tokens: when the password was last given with a token, which money, roles and erasure ask for

Revision: 0009, after 0008. It must suit the code of the revision before it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # None of those that are there counts as fresh: whoever needs it gives the password once more.
    op.add_column(
        "api_tokens", sa.Column("authenticated_at", postgresql.TIMESTAMP(timezone=True), nullable=True)
    )


def downgrade() -> None:
    op.drop_column("api_tokens", "authenticated_at")
