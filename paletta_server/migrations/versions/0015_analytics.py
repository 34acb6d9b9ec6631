"""analytics: events, figures by day, and a note of the days whose books changed

Revision: 0015, after 0014. It must suit the code of the revision before it, which only runs the triggers.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

BIG, TIME = sa.BigInteger(), postgresql.TIMESTAMP(timezone=True)

TRIGGERS = """
CREATE FUNCTION analytics_note(topic text, VARIADIC times timestamptz[]) RETURNS void LANGUAGE sql AS $$
  INSERT INTO analytics_changes (topic, day)
    SELECT DISTINCT topic, CAST(at AT TIME ZONE 'UTC' AS date) FROM unnest(times) AS at WHERE at IS NOT NULL
$$;

CREATE FUNCTION analytics_note_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    PERFORM analytics_note('orders', NEW.created_at, NEW.paid_at);
  ELSE
    PERFORM analytics_note('orders', NEW.created_at, OLD.paid_at, NEW.paid_at);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER analytics_insert AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION analytics_note_order();
CREATE TRIGGER analytics_update AFTER UPDATE ON orders FOR EACH ROW
  WHEN (OLD.paid_at IS DISTINCT FROM NEW.paid_at) EXECUTE FUNCTION analytics_note_order();

CREATE FUNCTION analytics_note_item() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM analytics_note('orders', paid_at) FROM orders WHERE id = NEW.order_id;
  RETURN NULL;
END $$;
CREATE TRIGGER analytics_update AFTER UPDATE ON order_items FOR EACH ROW
  WHEN (OLD.refunded IS DISTINCT FROM NEW.refunded) EXECUTE FUNCTION analytics_note_item();

CREATE FUNCTION analytics_note_payment() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM analytics_note('orders', NEW.created_at);
  RETURN NULL;
END $$;
CREATE TRIGGER analytics_insert AFTER INSERT ON payment_events FOR EACH ROW
  WHEN (NEW.kind NOT IN ('captured', 'failed')) EXECUTE FUNCTION analytics_note_payment();

CREATE FUNCTION analytics_note_uploads() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO analytics_changes (topic, day)
    SELECT DISTINCT 'uploads', CAST(created_at AT TIME ZONE 'UTC' AS date) FROM came;
  RETURN NULL;
END $$;
CREATE TRIGGER analytics_insert AFTER INSERT ON uploads REFERENCING NEW TABLE AS came
  FOR EACH STATEMENT EXECUTE FUNCTION analytics_note_uploads();

CREATE FUNCTION analytics_note_upload() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM analytics_note('uploads', NEW.created_at);
  RETURN NULL;
END $$;
CREATE TRIGGER analytics_update AFTER UPDATE ON uploads FOR EACH ROW
  WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION analytics_note_upload();

CREATE FUNCTION analytics_note_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    PERFORM analytics_note('ingest', OLD.finished_at);
  ELSE
    PERFORM analytics_note('ingest', OLD.finished_at, NEW.finished_at);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER analytics_update AFTER UPDATE ON ingest_runs FOR EACH ROW
  WHEN (OLD.finished_at IS DISTINCT FROM NEW.finished_at) EXECUTE FUNCTION analytics_note_run();
CREATE TRIGGER analytics_delete AFTER DELETE ON ingest_runs FOR EACH ROW EXECUTE FUNCTION analytics_note_run();
"""

BEFORE_NOW = """
INSERT INTO analytics_changes (topic, day)
  SELECT DISTINCT topic, CAST(at AT TIME ZONE 'UTC' AS date) FROM (
    SELECT 'orders' AS topic, created_at AS at FROM orders
    UNION ALL SELECT 'orders', paid_at FROM orders
    UNION ALL SELECT 'orders', created_at FROM payment_events
    UNION ALL SELECT 'uploads', created_at FROM uploads
    UNION ALL SELECT 'ingest', finished_at FROM ingest_runs
  ) AS told WHERE at IS NOT NULL
"""

TRIGGERED = (
    ("orders", "analytics_insert"), ("orders", "analytics_update"), ("order_items", "analytics_update"),
    ("payment_events", "analytics_insert"), ("uploads", "analytics_insert"), ("uploads", "analytics_update"),
    ("ingest_runs", "analytics_update"), ("ingest_runs", "analytics_delete"),
)  # fmt: skip
FUNCTIONS = ("order", "item", "payment", "uploads", "upload", "run")


def _daily(name: str, *columns: sa.Column[Any], key: tuple[str, ...] = ()) -> None:
    """A table of figures by day and `key`."""
    day = sa.Column("day", sa.Date(), nullable=False)
    op.create_table(name, day, *columns, sa.PrimaryKeyConstraint("day", *key, name=op.f(f"pk_{name}")))


def _text(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=False)


def _numbers(*names: str, big: bool = False) -> list[sa.Column[Any]]:
    return [sa.Column(name, BIG if big else sa.Integer(), nullable=False) for name in names]


def upgrade() -> None:
    op.create_table(
        "analytics_batches",
        sa.Column("id", BIG, sa.Identity(always=True), nullable=False),
        sa.Column("ref", sa.Uuid(), nullable=False),
        sa.Column("events", sa.Integer(), nullable=False),
        sa.Column("written_at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("counted_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_analytics_batches")),
        sa.UniqueConstraint("ref", name=op.f("uq_analytics_batches_ref")),
    )
    op.create_index(
        "ix_analytics_batches_waiting",
        "analytics_batches",
        ["id"],
        postgresql_where=sa.text("counted_at IS NULL"),
    )
    op.create_table(
        "analytics_events",
        *_numbers("batch_id", big=True),
        *_numbers("number"),
        sa.Column("at", TIME, nullable=False),
        _text("kind"),
        *_numbers("visitor", big=True),
        sa.Column("clip_id", BIG, nullable=True),
        sa.Column("items", sa.Integer(), nullable=True),
        sa.Column("query", sa.Text(), nullable=True),
        sa.Column("filters", sa.SmallInteger(), nullable=True),
        sa.Column("hits", BIG, nullable=True),
        sa.CheckConstraint(
            "kind IN ('search', 'view', 'cart', 'checkout')", name=op.f("ck_analytics_events_kind")
        ),
        sa.PrimaryKeyConstraint("batch_id", "number", name=op.f("pk_analytics_events")),
    )
    op.create_table(
        "analytics_changes",
        sa.Column("id", BIG, sa.Identity(always=True), nullable=False),
        _text("topic"),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_analytics_changes")),
    )
    _daily("analytics_salts", sa.Column("salt", sa.LargeBinary(), nullable=False))
    _daily("analytics_visitors", _text("kind"), *_numbers("visitor", big=True), key=("kind", "visitor"))
    _daily(
        "analytics_counts",
        _text("kind"),
        *_numbers("times", big=True),
        sa.Column("visitors", BIG, server_default="0", nullable=False),
        *_numbers("items", "empty", big=True),
        key=("kind",),
    )
    _daily(
        "analytics_queries", _text("query"), *_numbers("searches", "empty", "hits", big=True), key=("query",)
    )
    _daily("analytics_orders", *_numbers("placed", "paid", "customers"))
    _daily(
        "analytics_sales",
        _text("currency"),
        *_numbers("orders", "units"),
        *_numbers("revenue", "tax", big=True),
        *_numbers("refunds"),
        *_numbers("refunded", "disputed", big=True),
        key=("currency",),
    )
    _daily(
        "analytics_sold",
        _text("currency"),
        *_numbers("clip_id", "contributor_id", big=True),
        *_numbers("units"),
        *_numbers("revenue", "refunded", big=True),
        key=("currency", "clip_id", "contributor_id"),
    )
    _daily(
        "analytics_uploads",
        _text("state"),
        *_numbers("uploads"),
        *_numbers("bytes", big=True),
        key=("state",),
    )
    _daily("analytics_ingest_times", _text("step"), *_numbers("bucket", "runs"), key=("step", "bucket"))
    _daily("analytics_ingest_failures", _text("reason"), *_numbers("runs"), key=("reason",))
    _daily("analytics_storage", _text("kind"), *_numbers("objects", "bytes", big=True), key=("kind",))
    op.create_index("ix_orders_created_at", "orders", ["created_at"])
    op.create_index("ix_orders_paid_at", "orders", ["paid_at"])
    op.create_index("ix_payment_events_created_at", "payment_events", ["created_at"])
    op.create_index("ix_uploads_created_at", "uploads", ["created_at"])
    op.create_index("ix_ingest_runs_finished_at", "ingest_runs", ["finished_at"])
    op.execute(TRIGGERS)
    op.execute(BEFORE_NOW)


def downgrade() -> None:
    for table, trigger in TRIGGERED:
        op.execute(f"DROP TRIGGER {trigger} ON {table}")
    for name in FUNCTIONS:
        op.execute(f"DROP FUNCTION analytics_note_{name}()")
    op.execute("DROP FUNCTION analytics_note(text, timestamptz[])")
    op.drop_index("ix_ingest_runs_finished_at", table_name="ingest_runs")
    op.drop_index("ix_uploads_created_at", table_name="uploads")
    op.drop_index("ix_payment_events_created_at", table_name="payment_events")
    op.drop_index("ix_orders_paid_at", table_name="orders")
    op.drop_index("ix_orders_created_at", table_name="orders")
    for table in (
        "storage", "ingest_failures", "ingest_times", "uploads", "sold", "sales", "orders", "queries", "counts",
        "visitors", "salts", "changes", "events", "batches",
    ):  # fmt: skip
        op.drop_table(f"analytics_{table}")
