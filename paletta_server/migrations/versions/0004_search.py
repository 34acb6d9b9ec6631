"""search: when a clip changed, who looked at it, and a word to whoever follows

Revision: 0004, after 0005 (the chain is 0003 -> 0005 -> 0004 -> 0006). It must suit the code of the revision before it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0005"
branch_labels = None
depends_on = None

FUNCTIONS = """
CREATE FUNCTION announce_clip_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('paletta_changes', 'clips');
  RETURN NULL;
END $$;
CREATE TRIGGER announce AFTER INSERT ON clip_changes
  FOR EACH STATEMENT EXECUTE FUNCTION announce_clip_changes();

-- A clip is found under its contributor's name.
CREATE FUNCTION note_contributors() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO clip_changes (clip_id)
    SELECT clips.id FROM came JOIN gone ON gone.id = came.id JOIN clips ON clips.owner_id = came.id
      WHERE (came.display_name, came.username, came.institution)
        IS DISTINCT FROM (gone.display_name, gone.username, gone.institution);
  RETURN NULL;
END $$;
CREATE TRIGGER note_update AFTER UPDATE ON users REFERENCING OLD TABLE AS gone NEW TABLE AS came
  FOR EACH STATEMENT EXECUTE FUNCTION note_contributors();

-- A new price book moves every price.
CREATE FUNCTION note_prices() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO clip_changes (clip_id)
    SELECT id FROM clips WHERE processing = 'ready' AND review = 'approved' AND deleted_at IS NULL;
  RETURN NULL;
END $$;
CREATE TRIGGER note_prices AFTER INSERT ON price_book
  FOR EACH STATEMENT EXECUTE FUNCTION note_prices();
"""


def upgrade() -> None:
    op.add_column(
        "clip_changes",
        sa.Column(
            "at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
    )
    op.create_table(
        "clip_viewers",
        sa.Column("clip_id", sa.BigInteger(), nullable=False),
        sa.Column("viewer", sa.LargeBinary(), nullable=False),
        sa.Column("hour", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("clip_id", "viewer", "hour", name=op.f("pk_clip_viewers")),
        prefixes=["UNLOGGED"],
    )
    op.create_index("ix_clip_views_day", "clip_views", ["day"], unique=False)
    op.execute(FUNCTIONS)


def downgrade() -> None:
    op.execute("DROP TRIGGER note_prices ON price_book")
    op.execute("DROP TRIGGER note_update ON users")
    op.execute("DROP TRIGGER announce ON clip_changes")
    for function in ("note_prices", "note_contributors", "announce_clip_changes"):
        op.execute(f"DROP FUNCTION {function}()")
    op.drop_index("ix_clip_views_day", table_name="clip_views")
    op.drop_table("clip_viewers")
    op.drop_column("clip_changes", "at")
