"""upload_batches: when their client was last heard of, which is not when anything of them last changed

Revision: 0007, after 0006. It must suit the code of the revision before it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Batches that are there get the time of now: a grace that ends nothing too early.
    op.add_column(
        "upload_batches",
        sa.Column(
            "heard_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
    )


def downgrade() -> None:
    op.drop_column("upload_batches", "heard_at")
