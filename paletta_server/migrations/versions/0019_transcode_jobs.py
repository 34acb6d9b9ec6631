"""attempts at MediaConvert, and the inbox of its events

Revision: 0019, after 0018. It must suit the code of the revision before it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

TIME = postgresql.TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.create_table(
        "transcode_jobs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("created_at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("clip_id", sa.BigInteger(), nullable=False),
        sa.Column("plan_digest", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("order", postgresql.JSONB(), nullable=False),
        sa.Column("status", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("submissions", sa.Integer(), server_default="0", nullable=False),
        sa.Column("submission", sa.Integer(), nullable=True),
        sa.Column("submitted_at", TIME, nullable=True),
        sa.Column("not_before", TIME, nullable=True),
        sa.Column("put_off", sa.Integer(), server_default="0", nullable=False),
        sa.Column("heard_at", TIME, nullable=True),
        sa.Column("checked_at", TIME, nullable=True),
        sa.Column("checks", sa.Integer(), server_default="0", nullable=False),
        sa.Column("progress", sa.Float(), server_default="0", nullable=False),
        sa.Column("error_code", sa.Integer(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("finishers", postgresql.JSONB(), server_default="[]", nullable=False),
        sa.CheckConstraint(
            "status IN ('waiting', 'submitting', 'submitted', 'progressing', 'complete', 'error', 'canceled',"
            " 'dropped')",
            name=op.f("ck_transcode_jobs_status"),
        ),
        sa.ForeignKeyConstraint(["run_id"], ["ingest_runs.id"], name=op.f("fk_transcode_jobs_run_id")),
        sa.ForeignKeyConstraint(["clip_id"], ["clips.id"], name=op.f("fk_transcode_jobs_clip_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transcode_jobs")),
        sa.UniqueConstraint("run_id", name=op.f("uq_transcode_jobs_run_id")),
        sa.UniqueConstraint("job_id", name=op.f("uq_transcode_jobs_job_id")),
        sa.UniqueConstraint(
            "clip_id", "plan_digest", "attempt", name=op.f("uq_transcode_jobs_clip_id_plan_digest_attempt")
        ),
    )
    op.create_index(
        "ix_transcode_jobs_open",
        "transcode_jobs",
        ["created_at"],
        postgresql_where=sa.text("status IN ('waiting', 'submitting', 'submitted', 'progressing')"),
    )
    op.create_table(
        "transcode_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("created_at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), server_default="received", nullable=False),
        sa.Column("payload", postgresql.JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transcode_events")),
        sa.UniqueConstraint("external_id", name=op.f("uq_transcode_events_external_id")),
    )
    op.create_index("ix_transcode_events_created_at", "transcode_events", ["created_at"])


def downgrade() -> None:
    for table in ("transcode_events", "transcode_jobs"):
        op.drop_table(table)
