"""clips: what a take-down keeps, and the stage that uploads show for it

Revision: 0006, after 0004. It must suit the code of the revision before it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0004"
branch_labels = None
depends_on = None

STAGES = (
    "waiting", "uploading", "stored", "verifying", "probing", "transcoding", "publishing",
    "in_review", "live", "rejected", "failed", "cancelled", "expired",
)  # fmt: skip


def upgrade() -> None:
    op.add_column("clips", sa.Column("review_before", sa.Text(), nullable=True))
    op.add_column("clips", sa.Column("taken_down_for", sa.Text(), nullable=True))
    op.add_column("clips", sa.Column("sold_withheld", sa.Boolean(), server_default="false", nullable=False))
    op.create_check_constraint(
        op.f("ck_clips_review_before"), "clips", "review_before IN ('submitted', 'approved', 'rejected')"
    )
    op.create_check_constraint(
        op.f("ck_clips_sold_withheld"), "clips", "NOT sold_withheld OR review = 'taken_down'"
    )
    _stages(*STAGES, "taken_down")


def downgrade() -> None:
    # The clips stay taken down, which the revision before knows as well; their uploads never said so there.
    op.execute("UPDATE uploads SET stage = 'rejected' WHERE stage = 'taken_down'")
    _stages(*STAGES)
    op.drop_constraint(op.f("ck_clips_sold_withheld"), "clips")
    op.drop_constraint(op.f("ck_clips_review_before"), "clips")
    op.drop_column("clips", "sold_withheld")
    op.drop_column("clips", "taken_down_for")
    op.drop_column("clips", "review_before")


def _stages(*names: str) -> None:
    op.drop_constraint(op.f("ck_uploads_stage"), "uploads")
    op.create_check_constraint(op.f("ck_uploads_stage"), "uploads", f"stage IN {names!r}")
