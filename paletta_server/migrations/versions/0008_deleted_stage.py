"""uploads: a stage for those whose clip its owner deleted after it was made

Revision: 0008, after 0007. It must suit the code of the revision before it. That code does not know that `deleted` is
an end: it may leave a sealed batch unsettled, which the next sweep of this version's mends, and queue jobs for such
clips, which find nothing to do. What was deleted before keeps its old stage, so that neither happens at scale.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

STAGES = (
    "waiting", "uploading", "stored", "verifying", "probing", "transcoding", "publishing",
    "in_review", "live", "taken_down", "rejected", "failed", "cancelled", "expired",
)  # fmt: skip


def upgrade() -> None:
    _stages(*STAGES, "deleted")


def downgrade() -> None:
    # The revision before went on telling where a deleted clip had been last; the nearest to that is `cancelled`.
    op.execute(sa.text("UPDATE uploads SET stage = 'cancelled' WHERE stage = 'deleted'"))
    _stages(*STAGES)


def _stages(*names: str) -> None:
    op.drop_constraint(op.f("ck_uploads_stage"), "uploads")
    op.create_check_constraint(op.f("ck_uploads_stage"), "uploads", f"stage IN {names!r}")
