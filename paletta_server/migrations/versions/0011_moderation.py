"""moderation: changes asked for, decisions, claims, reports, and what clips look like

Revision: 0011, after 0010. It must suit the code of the revision before it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

STAGES = (
    "waiting", "uploading", "stored", "verifying", "probing", "transcoding", "publishing",
    "in_review", "live", "taken_down", "rejected", "failed", "cancelled", "expired", "deleted",
)  # fmt: skip
REVIEWS = ("draft", "submitted", "approved", "rejected", "taken_down")
BEFORE = ("submitted", "approved", "rejected")
STANDS = ("draft", "submitted", "approved")
ASKED = "changes_requested"
TIME = postgresql.TIMESTAMP(timezone=True)
NOW = sa.text("now()")


def upgrade() -> None:
    _check("uploads", "stage", *STAGES, ASKED)
    _check("clips", "review", *REVIEWS, ASKED)
    _check("clips", "review_before", *BEFORE, ASKED)
    # Code of the revision before infers this index from its own, narrower condition.
    _standing(*STANDS, ASKED)
    op.add_column("upload_batches", sa.Column("untold_since", TIME, nullable=True))
    _decisions()
    _claims()
    _reports()
    _looks()
    # What was decided before counts as well. A decision that the log has no moderator of was made by the database's.
    op.execute(
        "INSERT INTO review_decisions (created_at, clip_id, owner_id, moderator_id, verdict, reason)"
        " SELECT log.at, clips.id, clips.owner_id, log.user_id, split_part(log.action, ':', 2),"
        " log.details ->> 'reason' FROM audit_logs log JOIN clips ON clips.uid = log.object"
        " WHERE log.action IN ('clip:approved', 'clip:rejected', 'clip:taken_down', 'clip:restored') ORDER BY log.id"
    )


def downgrade() -> None:
    # Whose clip waits for changes is told by the reason, and may send it again, as rejected clips always could.
    op.execute("UPDATE uploads SET stage = 'rejected' WHERE stage = 'changes_requested'")
    op.execute("UPDATE clips SET review = 'rejected' WHERE review = 'changes_requested'")
    op.execute("UPDATE clips SET review_before = 'rejected' WHERE review_before = 'changes_requested'")
    for table in (
        "likenesses",
        "hashed_clips",
        "frame_hashes",
        "clip_reports",
        "review_claims",
        "review_decisions",
    ):
        op.drop_table(table)
    op.drop_column("upload_batches", "untold_since")
    _standing(*STANDS)
    _check("clips", "review_before", *BEFORE)
    _check("clips", "review", *REVIEWS)
    _check("uploads", "stage", *STAGES)


def _check(table: str, column: str, *names: str) -> None:
    op.drop_constraint(op.f(f"ck_{table}_{column}"), table)
    op.create_check_constraint(op.f(f"ck_{table}_{column}"), table, f"{column} IN {names!r}")


def _standing(*reviews: str) -> None:
    op.drop_index("uq_clips_standing_sha256", "clips")
    op.create_index(
        "uq_clips_standing_sha256",
        "clips",
        ["owner_id", "sha256"],
        unique=True,
        postgresql_where=sa.text(
            f"deleted_at IS NULL AND processing IN ('pending', 'processing', 'ready') AND review IN {reviews!r}"
        ),
    )


def _of(table: str, column: str, target: str, *, goes: bool = False) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_{column}_{target}")
    return sa.ForeignKeyConstraint(
        [column], [f"{target}.id"], name=name, ondelete="CASCADE" if goes else None
    )


def _row() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
    )


def _decisions() -> None:
    op.create_table(
        "review_decisions",
        sa.Column("clip_id", sa.BigInteger(), nullable=False),
        sa.Column("owner_id", sa.BigInteger(), nullable=False),
        sa.Column("moderator_id", sa.BigInteger(), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("reason_code", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        *_row(),
        sa.CheckConstraint(
            "verdict IN ('approved', 'rejected', 'changes_requested', 'taken_down', 'restored')",
            name=op.f("ck_review_decisions_verdict"),
        ),
        _of("review_decisions", "clip_id", "clips", goes=True),
        _of("review_decisions", "moderator_id", "users"),
        _of("review_decisions", "owner_id", "users"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review_decisions")),
    )
    op.create_index("ix_review_decisions_clip_id", "review_decisions", ["clip_id", "id"])
    op.create_index("ix_review_decisions_owner_id", "review_decisions", ["owner_id", "created_at"])


def _claims() -> None:
    op.create_table(
        "review_claims",
        sa.Column("clip_id", sa.BigInteger(), nullable=False),
        sa.Column("moderator_id", sa.BigInteger(), nullable=False),
        sa.Column("until", TIME, nullable=False),
        _of("review_claims", "clip_id", "clips", goes=True),
        _of("review_claims", "moderator_id", "users"),
        sa.PrimaryKeyConstraint("clip_id", name=op.f("pk_review_claims")),
    )
    op.create_index(op.f("ix_review_claims_moderator_id"), "review_claims", ["moderator_id"])


def _reports() -> None:
    op.create_table(
        "clip_reports",
        sa.Column("uid", sa.Text(collation="C"), nullable=False),
        sa.Column("clip_id", sa.BigInteger(), nullable=False),
        sa.Column("owner_id", sa.BigInteger(), nullable=False),
        sa.Column("reporter_id", sa.BigInteger(), nullable=False),
        sa.Column("reason_code", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), server_default="", nullable=False),
        sa.Column("status", sa.Text(), server_default="open", nullable=False),
        sa.Column("handled_by", sa.BigInteger(), nullable=True),
        sa.Column("handled_at", TIME, nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        *_row(),
        sa.CheckConstraint(
            "status IN ('open', 'resolved', 'dismissed')", name=op.f("ck_clip_reports_status")
        ),
        sa.CheckConstraint("(status = 'open') = (handled_at IS NULL)", name=op.f("ck_clip_reports_handled")),
        _of("clip_reports", "clip_id", "clips", goes=True),
        _of("clip_reports", "handled_by", "users"),
        _of("clip_reports", "owner_id", "users"),
        _of("clip_reports", "reporter_id", "users"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clip_reports")),
        sa.UniqueConstraint("uid", name=op.f("uq_clip_reports_uid")),
    )
    open_ = sa.text("status = 'open'")
    op.create_index(
        "uq_clip_reports_open",
        "clip_reports",
        ["reporter_id", "clip_id"],
        unique=True,
        postgresql_where=open_,
    )
    op.create_index("ix_clip_reports_open", "clip_reports", ["id"], postgresql_where=open_)
    op.create_index(op.f("ix_clip_reports_clip_id"), "clip_reports", ["clip_id"])
    op.create_index(op.f("ix_clip_reports_owner_id"), "clip_reports", ["owner_id"])


def _looks() -> None:
    bands = [f"band_{number}" for number in range(4)]
    op.create_table(
        "frame_hashes",
        sa.Column("clip_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.SmallInteger(), nullable=False),
        sa.Column("hash", sa.BigInteger(), nullable=False),
        *(sa.Column(band, sa.SmallInteger(), nullable=False) for band in bands),
        _of("frame_hashes", "clip_id", "clips", goes=True),
        sa.PrimaryKeyConstraint("clip_id", "number", name=op.f("pk_frame_hashes")),
    )
    for band in bands:
        op.create_index(
            f"ix_frame_hashes_{band}", "frame_hashes", [band], postgresql_include=["hash", "clip_id"]
        )
    op.create_table(
        "hashed_clips",
        sa.Column("clip_id", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.SmallInteger(), nullable=False),
        sa.Column("hashed_at", TIME, server_default=NOW, nullable=False),
        _of("hashed_clips", "clip_id", "clips", goes=True),
        sa.PrimaryKeyConstraint("clip_id", name=op.f("pk_hashed_clips")),
    )
    op.create_table(
        "likenesses",
        sa.Column("clip_id", sa.BigInteger(), nullable=False),
        sa.Column("other_id", sa.BigInteger(), nullable=False),
        sa.Column("frames", sa.SmallInteger(), nullable=False),
        sa.Column("kept", sa.SmallInteger(), nullable=False),
        sa.Column("distance", sa.SmallInteger(), nullable=False),
        sa.Column("found_at", TIME, server_default=NOW, nullable=False),
        _of("likenesses", "clip_id", "clips", goes=True),
        _of("likenesses", "other_id", "clips", goes=True),
        sa.PrimaryKeyConstraint("clip_id", "other_id", name=op.f("pk_likenesses")),
    )
    op.create_index(op.f("ix_likenesses_other_id"), "likenesses", ["other_id"])
