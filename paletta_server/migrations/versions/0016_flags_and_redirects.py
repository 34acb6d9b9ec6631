"""flags, redirects of the taxonomy, what became of jobs, holds on the store; attempts that were forgiven stay

Revision: 0016, after 0015. It must suit the code of the revision before it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

TIME = postgresql.TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.create_table(
        "flags",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("set_at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("set_by", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "name IN ('read-only', 'no-uploads', 'no-checkout', 'no-downloads')", name=op.f("ck_flags_name")
        ),
        sa.ForeignKeyConstraint(["set_by"], ["users.id"], name=op.f("fk_flags_set_by")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_flags")),
    )
    op.create_table(
        "taxonomy_redirects",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("created_at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("word", sa.Text(), nullable=False),
        sa.Column("category_id", sa.BigInteger(), nullable=True),
        sa.Column("tag_id", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "(kind = 'category' AND category_id IS NOT NULL AND tag_id IS NULL)"
            " OR (kind = 'tag' AND tag_id IS NOT NULL AND category_id IS NULL)",
            name=op.f("ck_taxonomy_redirects_target"),
        ),
        sa.ForeignKeyConstraint(
            ["category_id"],
            ["categories.id"],
            name=op.f("fk_taxonomy_redirects_category_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tag_id"], ["tags.id"], name=op.f("fk_taxonomy_redirects_tag_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_taxonomy_redirects")),
        sa.UniqueConstraint("kind", "word", name=op.f("uq_taxonomy_redirects_kind_word")),
    )
    op.create_index("ix_taxonomy_redirects_category_id", "taxonomy_redirects", ["category_id"])
    op.create_index("ix_taxonomy_redirects_tag_id", "taxonomy_redirects", ["tag_id"])
    op.create_table(
        "job_tallies",
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("hour", TIME, nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("done", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("seconds", sa.Float(), server_default="0", nullable=False),
        sa.Column("last_at", TIME, nullable=False),
        sa.Column("last_outcome", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("task", "hour", name=op.f("pk_job_tallies")),
    )
    op.create_table(
        "job_failures",
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("told_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_job_failures")),
    )
    op.create_table(
        "storage_holds",
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("until", TIME, nullable=False),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_storage_holds")),
    )
    op.add_column("ingest_runs", sa.Column("forgiven", sa.Boolean(), server_default="false", nullable=False))


def downgrade() -> None:
    # The code before counts every attempt that it finds.
    op.execute("DELETE FROM ingest_runs WHERE forgiven")
    op.drop_column("ingest_runs", "forgiven")
    for table in ("storage_holds", "job_failures", "job_tallies", "taxonomy_redirects", "flags"):
        op.drop_table(table)
