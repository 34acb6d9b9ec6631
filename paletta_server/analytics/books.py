"""What other domains' tables say of a day, summed anew whenever they say something else.

The one module that reads their tables: in SQL, since what is summed is too much to pass through here, and without
writing to them. Triggers note the days that change (migration 0015). A day's notes are removed in the transaction
that sums it, and before: what is committed in between is in the sums, and its note waits for the next turn.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.analytics.buckets import GROWTH
from paletta_server.core.database import Database

DAYS = 31
"""Days that one transaction sums."""
LOCK = 0x70616C626F6F6B
"""The advisory lock of whoever sums the books."""
STEPS = ("total", "download", "probe", "transcode", "store")
"""What ingest times: the whole run, and its steps."""

_TAKE = text(
    """
    DELETE FROM analytics_changes
      WHERE (topic, day) IN (SELECT DISTINCT topic, day FROM analytics_changes ORDER BY 1, 2 LIMIT :days)
    RETURNING topic, day
    """
)


def _of_days(table: str, column: str) -> str:
    """`day` of the days asked for, with the rows whose time is in it, by an index on that time."""
    return (
        f"unnest(CAST(:days AS date[])) AS day"
        f" JOIN {table} ON {table}.{column} >= CAST(day AS timestamp) AT TIME ZONE 'UTC'"
        f" AND {table}.{column} < CAST(day + 1 AS timestamp) AT TIME ZONE 'UTC'"
    )


_PLACED = f"""
    INSERT INTO analytics_orders (day, placed, paid, customers)
      SELECT day, count(*), count(paid_at), count(DISTINCT user_id) FILTER (WHERE paid_at IS NOT NULL)
      FROM {_of_days("orders", "created_at")} GROUP BY day
"""  # noqa: S608

_MONEY = f"""
    INSERT INTO analytics_sales (day, currency, orders, units, revenue, tax, refunds, refunded, disputed)
    WITH told AS (
      SELECT day, payment_events.*, payments.currency FROM {_of_days("payment_events", "created_at")}
        JOIN payments ON payments.id = payment_events.payment_id AND payments.status <> 'surplus'),
    moved AS (
      SELECT day, currency, 1 AS orders, (SELECT count(*) FROM order_items WHERE order_id = orders.id) AS units,
          total AS revenue, tax, 0 AS refunds, 0 AS refunded, 0 AS disputed
        FROM {_of_days("orders", "paid_at")}
      UNION ALL SELECT day, currency, 0, 0, 0, 0, 1, amount, 0 FROM told WHERE kind = 'refund_succeeded'
      -- What was sent and did not arrive is undone on the day on which both is known.
      UNION ALL SELECT told.day, currency, 0, 0, 0, 0, -1,
          -CASE told.kind WHEN 'refund_failed' THEN other.amount ELSE told.amount END, 0
        FROM told JOIN payment_events AS other
          ON (other.payment_id, other.reference) = (told.payment_id, told.reference) AND other.id < told.id
          AND (told.kind, other.kind) IN (('refund_failed', 'refund_succeeded'), ('refund_succeeded', 'refund_failed'))
      UNION ALL SELECT day, currency, 0, 0, 0, 0, 0, 0, amount FROM told WHERE kind = 'dispute_withdrawn'
      UNION ALL SELECT day, currency, 0, 0, 0, 0, 0, 0, -amount FROM told WHERE kind = 'dispute_reinstated')
    SELECT day, currency, sum(orders), sum(units), sum(revenue), sum(tax), sum(refunds), sum(refunded), sum(disputed)
      FROM moved GROUP BY 1, 2
"""  # noqa: S608

_SOLD = f"""
    INSERT INTO analytics_sold (day, currency, clip_id, contributor_id, units, revenue, refunded)
      SELECT day, currency, clip_id, contributor_id, count(*), sum(order_items.amount + order_items.tax),
        sum(order_items.refunded)
      FROM {_of_days("orders", "paid_at")} JOIN order_items ON order_items.order_id = orders.id GROUP BY 1, 2, 3, 4
"""  # noqa: S608

_UPLOADS = f"""
    INSERT INTO analytics_uploads (day, state, uploads, bytes)
      SELECT day, state, count(*), sum(size) FROM {_of_days("uploads", "created_at")} GROUP BY 1, 2
"""  # noqa: S608

_TIMES = f"""
    INSERT INTO analytics_ingest_times (day, step, bucket, runs)
      SELECT day, step, floor(ln(greatest(seconds, 0.001)) / ln({GROWTH})), count(*)
      FROM {_of_days("ingest_runs", "finished_at")} CROSS JOIN LATERAL (
        SELECT 'total' AS step, CAST(extract(epoch FROM finished_at - created_at) AS float) AS seconds
        UNION ALL SELECT key, CAST(value AS float) FROM jsonb_each_text(figures) WHERE key = ANY(:steps)) AS timed
      WHERE status = 'done' GROUP BY 1, 2, 3
"""  # noqa: S608

_FAILURES = f"""
    INSERT INTO analytics_ingest_failures (day, reason, runs)
      SELECT day, CASE
          WHEN status = 'superseded' THEN 'interrupted'
          WHEN figures ? 'findings' THEN figures #>> '{{findings,0}}'
          WHEN error ~ '^[A-Z][A-Za-z]+:' THEN split_part(error, ':', 1)
          ELSE coalesce(left(regexp_replace(error, '[0-9.]+', '#', 'g'), 80), 'unknown') END, count(*)
      FROM {_of_days("ingest_runs", "finished_at")} WHERE status IN ('failed', 'superseded') GROUP BY 1, 2
"""  # noqa: S608

TOPICS: Mapping[str, Mapping[str, str]] = {
    "orders": {"analytics_orders": _PLACED, "analytics_sales": _MONEY, "analytics_sold": _SOLD},
    "uploads": {"analytics_uploads": _UPLOADS},
    "ingest": {"analytics_ingest_times": _TIMES, "analytics_ingest_failures": _FAILURES},
}
"""What is summed of each topic: a table of figures by day, and what fills it."""

_STORAGE = text(
    """
    INSERT INTO analytics_storage (day, kind, objects, bytes)
    SELECT current_date, kind, count(*), coalesce(sum(size), 0) FROM (
      SELECT DISTINCT 'originals' AS kind, uploads.key, uploads.size FROM uploads
        JOIN clips ON clips.id = uploads.clip_id AND clips.deleted_at IS NULL
        WHERE uploads.state IN ('stored', 'verified')
      UNION ALL SELECT CASE WHEN kind IN ('hd', 'uhd4k') THEN 'sale renditions' ELSE 'previews' END, key,
          renditions.size
        FROM renditions JOIN clips ON clips.id = renditions.clip_id AND clips.deleted_at IS NULL
      UNION ALL SELECT DISTINCT 'kept for buyers', key, order_item_files.size FROM order_item_files
        JOIN order_items ON order_items.id = order_item_files.order_item_id
        JOIN orders ON orders.id = order_items.order_id AND orders.status IN ('paid', 'partially_refunded')
        JOIN clips ON clips.id = order_items.clip_id AND clips.deleted_at IS NOT NULL
      UNION ALL SELECT 'unfinished uploads', key, size FROM uploads
        WHERE state IN ('created', 'uploading', 'completing')
    ) AS stored GROUP BY kind
    """
)


async def sum_up(database: Database, *, steps: int | None = None) -> int:
    """Sum the days that changed, some at a time and that at most `steps` times; how many there were."""
    done = 0
    while steps is None or steps > 0:
        async with database.transaction() as session:
            days = await _step(session)
        if not days:
            break
        done += days
        steps = None if steps is None else steps - 1
    return done


async def _step(session: AsyncSession) -> int:
    if not await session.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": LOCK}):
        return 0
    noted: dict[str, set[date]] = defaultdict(set)
    for topic, day in await session.execute(_TAKE, {"days": DAYS}):
        noted[topic].add(day)
    for topic, days in noted.items():
        await _sum(session, topic, sorted(days))
    return sum(len(days) for days in noted.values())


async def _sum(session: AsyncSession, topic: str, days: Sequence[date]) -> None:
    for table, statement in TOPICS[topic].items():
        await session.execute(text(f"DELETE FROM {table} WHERE day = ANY(:days)"), {"days": days})  # noqa: S608
        given = {"days": days, "steps": list(STEPS)} if ":steps" in statement else {"days": days}
        await session.execute(text(statement), given)


async def measure_storage(session: AsyncSession) -> None:
    """Count what the store holds now, as the figures of today."""
    await session.execute(text("DELETE FROM analytics_storage WHERE day = current_date"))
    await session.execute(_STORAGE)
