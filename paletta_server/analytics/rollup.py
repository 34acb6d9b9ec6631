"""Adding up events by day, each exactly once.

A batch is marked as counted in the transaction that adds it to the sums: killed in between, both are undone; run
twice, the second finds it marked. Only batches that are committed are seen, so none is passed over because its
transaction was slow, and a day takes up events that come late. Marks, other than a position in the sequence of
transactions, neither wait for an unrelated transaction that is open for hours nor go wrong in a restored database.
"""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import delete, func, text
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.analytics.models import EventBatch, Salt, Visitor
from paletta_server.analytics.salts import KEPT_DAYS
from paletta_server.core.database import Database

MOST = 200_000
"""Events for one transaction: seconds of work, which is what a kill costs."""
LOCK = 0x70616C73746174
"""The advisory lock of whoever adds up events."""
VISITOR_DAYS = 3
"""An event that comes later than this counts its visitor again."""
PRUNED_AT_ONCE = 20_000

_DAY = "CAST(at AT TIME ZONE 'UTC' AS date)"

_TAKE = text(
    """
    WITH waiting AS (
      SELECT id, sum(events) OVER (ORDER BY id) - events AS before FROM analytics_batches WHERE counted_at IS NULL)
    UPDATE analytics_batches SET counted_at = now() FROM waiting
      WHERE analytics_batches.id = waiting.id AND waiting.before < :most AND counted_at IS NULL
    RETURNING analytics_batches.id
    """
)
_COUNT = text(
    f"""
    INSERT INTO analytics_counts (day, kind, times, items, empty)
      SELECT {_DAY}, kind, count(*), coalesce(sum(items), 0), count(*) FILTER (WHERE hits = 0)
        FROM analytics_events WHERE batch_id = ANY(:batches) GROUP BY 1, 2
    ON CONFLICT (day, kind) DO UPDATE SET times = analytics_counts.times + excluded.times,
      items = analytics_counts.items + excluded.items, empty = analytics_counts.empty + excluded.empty
    """  # noqa: S608 (a constant of ours)
)
_VISITORS = text(
    f"""
    WITH came AS (
      INSERT INTO analytics_visitors (day, kind, visitor)
        SELECT DISTINCT {_DAY}, kind, visitor FROM analytics_events WHERE batch_id = ANY(:batches)
        ON CONFLICT DO NOTHING RETURNING day, kind)
    UPDATE analytics_counts SET visitors = analytics_counts.visitors + fresh.visitors
      FROM (SELECT day, kind, count(*) AS visitors FROM came GROUP BY 1, 2) AS fresh
      WHERE (analytics_counts.day, analytics_counts.kind) = (fresh.day, fresh.kind)
    """  # noqa: S608
)
_QUERIES = text(
    f"""
    INSERT INTO analytics_queries (day, query, searches, empty, hits)
      SELECT {_DAY}, query, count(*), count(*) FILTER (WHERE hits = 0), coalesce(max(hits), 0)
        FROM analytics_events WHERE batch_id = ANY(:batches) AND query IS NOT NULL GROUP BY 1, 2
    ON CONFLICT (day, query) DO UPDATE SET searches = analytics_queries.searches + excluded.searches,
      empty = analytics_queries.empty + excluded.empty, hits = greatest(analytics_queries.hits, excluded.hits)
    """  # noqa: S608
)
_PRUNE = text(
    """
    WITH oldest AS (
      SELECT batch_id, number, at FROM analytics_events ORDER BY batch_id, number LIMIT :most)
    DELETE FROM analytics_events USING oldest
      WHERE (analytics_events.batch_id, analytics_events.number) = (oldest.batch_id, oldest.number)
        AND oldest.at < now() - make_interval(days => :days)
        AND NOT EXISTS (SELECT FROM analytics_batches WHERE id = oldest.batch_id AND counted_at IS NULL)
    """
)


async def roll_up(database: Database, *, most: int = MOST) -> int:
    """Add up every batch that waits, in transactions of about `most` events; how many batches there were."""
    counted = 0
    while True:
        async with database.transaction() as session:
            batches = await _step(session, most)
        if not batches:
            return counted
        counted += len(batches)


async def _step(session: AsyncSession, most: int) -> Sequence[int]:
    """Nothing where somebody else is at it: they see to what waits."""
    if not await session.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": LOCK}):
        return []
    batches = list(await session.scalars(_TAKE, {"most": most}))
    if batches:
        for statement in (_COUNT, _VISITORS, _QUERIES):
            await session.execute(statement, {"batches": batches})
    return batches


async def prune(database: Database, *, days: int, most: int = PRUNED_AT_ONCE) -> int:
    """Forget counted events older than `days`, the oldest first, a bounded number at a time; how many there were."""
    gone = 0
    while True:
        async with database.transaction() as session:
            done = await session.execute(_PRUNE, {"days": days, "most": most})
        some: int = done.rowcount  # type: ignore[attr-defined]
        gone += some
        if some < most:
            return gone


async def forget(session: AsyncSession) -> None:
    """Forget who was counted, the salts that digests were made with, and the names of batches."""
    today = func.current_date()
    await session.execute(delete(Visitor).where(Visitor.day < today - VISITOR_DAYS))
    await session.execute(delete(Salt).where(Salt.day <= today - KEPT_DAYS))
    await session.execute(delete(EventBatch).where(EventBatch.counted_at < func.now() - timedelta(days=1)))
