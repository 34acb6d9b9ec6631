"""uploads: a stage for those whose clip its owner deleted after it was made

Revision: 0008, after 0007. It must suit the code of the revision before it.
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

TOLD_LATE = """
UPDATE uploads SET stage = 'deleted' FROM clips
  WHERE clips.id = uploads.clip_id AND clips.deleted_at IS NOT NULL
    AND uploads.stage IN ('in_review', 'live', 'taken_down')
"""


def upgrade() -> None:
    _stages(*STAGES, "deleted")
    op.execute(sa.text(TOLD_LATE))


def downgrade() -> None:
    # The revision before went on telling where a deleted clip had been last; the nearest to that is `cancelled`.
    op.execute(sa.text("UPDATE uploads SET stage = 'cancelled' WHERE stage = 'deleted'"))
    _stages(*STAGES)


def _stages(*names: str) -> None:
    op.drop_constraint(op.f("ck_uploads_stage"), "uploads")
    op.create_check_constraint(op.f("ck_uploads_stage"), "uploads", f"stage IN {names!r}")
