"""Asking the tables of figures by day. Every answer is a list of rows, as dictionaries."""

from collections import defaultdict
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.analytics.books import STEPS
from paletta_server.analytics.buckets import quantile
from paletta_server.analytics.periods import Span

Rows = list[dict[str, Any]]

AS_OF = """
    SELECT least(now(), (SELECT min(written_at) FROM analytics_batches WHERE counted_at IS NULL),
      (SELECT min(at) FROM analytics_changes))
"""
_WITHIN = "day BETWEEN :since AND :until"
_PERIOD = "CAST(date_trunc(:by, CAST(day AS timestamp)) AS date) AS period"
_MONEY = (
    "sum(orders) AS orders, sum(units) AS units, sum(revenue) AS revenue, sum(tax) AS tax, sum(refunds) AS refunds,"
    " sum(refunded) AS refunded, sum(disputed) AS disputed"
)


async def _ask(session: AsyncSession, query: str, span: Span, **more: object) -> Rows:
    values: dict[str, object] = {"since": span.since, "until": span.until, **more}
    if ":by" in query:
        values["by"] = span.by
    return [dict(row) for row in (await session.execute(text(query), values)).mappings()]


async def sales(session: AsyncSession, span: Span) -> Rows:
    query = f"SELECT {_PERIOD}, currency, {_MONEY} FROM analytics_sales WHERE {_WITHIN} GROUP BY 1, 2"  # noqa: S608
    return await _ask(session, query, span)


async def sales_totals(session: AsyncSession, span: Span) -> Rows:
    query = f"SELECT currency, {_MONEY} FROM analytics_sales WHERE {_WITHIN} GROUP BY 1 ORDER BY 1"  # noqa: S608
    return await _ask(session, query, span)


async def clips(session: AsyncSession, span: Span, top: int) -> Rows:
    """The clips that earned most in each currency; `contributor` is an account's key."""
    query = f"""
        SELECT clips.uid AS clip_id, clips.title, contributor_id AS contributor, currency, units, revenue, refunded
        FROM ({_ranked("clip_id, contributor_id")}) AS best JOIN clips ON clips.id = best.clip_id
        WHERE place <= :top ORDER BY currency, place
    """  # noqa: S608
    return await _ask(session, query, span, top=top)


async def contributors(session: AsyncSession, span: Span, top: int) -> Rows:
    """Whose clips earned most in each currency; `contributor` is an account's key."""
    query = f"""
        SELECT users.uid AS contributor_id, users.id AS contributor, currency, clips, units, revenue, refunded
        FROM ({_ranked("contributor_id", "count(DISTINCT clip_id) AS clips,")}) AS best
          JOIN users ON users.id = best.contributor_id
        WHERE place <= :top ORDER BY currency, place
    """  # noqa: S608
    return await _ask(session, query, span, top=top)


def _ranked(key: str, more: str = "") -> str:
    return f"""
        SELECT currency, {key}, {more} sum(units) AS units, sum(revenue) AS revenue,
          sum(refunded) AS refunded,
          row_number() OVER (PARTITION BY currency ORDER BY sum(revenue) DESC, sum(units) DESC, {key}) AS place
        FROM analytics_sold WHERE {_WITHIN} GROUP BY currency, {key}
    """  # noqa: S608


async def searches(session: AsyncSession, span: Span) -> Rows:
    query = f"""
        SELECT {_PERIOD}, sum(times) AS searches, sum(empty) AS empty, sum(visitors) AS visitors
        FROM analytics_counts WHERE {_WITHIN} AND kind = 'search' GROUP BY 1
    """  # noqa: S608
    return await _ask(session, query, span)


async def queries(session: AsyncSession, span: Span, top: int) -> Rows:
    return await _ask(session, _queries("true", "searches"), span, top=top)


async def unanswered(session: AsyncSession, span: Span, top: int) -> Rows:
    return await _ask(session, _queries("empty > 0", "empty"), span, top=top)


def _queries(where: str, order: str) -> str:
    """`hits` and `searches` are of the days that count; a query that is answered since shows by its hits."""
    return f"""
        SELECT query, sum(searches) AS searches, sum(empty) AS empty, max(hits) AS hits
        FROM analytics_queries WHERE {_WITHIN} AND {where}
        GROUP BY query ORDER BY sum({order}) DESC, query LIMIT :top
    """  # noqa: S608


async def uploads(session: AsyncSession, span: Span) -> Rows:
    def of(*states: str) -> str:
        listed = ", ".join(f"'{state}'" for state in states)
        return f"coalesce(sum(uploads) FILTER (WHERE state IN ({listed})), 0)"

    query = f"""
        SELECT {_PERIOD}, sum(uploads) AS uploads, sum(bytes) AS bytes, {of("verified")} AS verified,
          {of("rejected")} AS rejected, {of("cancelled", "expired")} AS given_up,
          {of("created", "uploading", "completing", "stored")} AS unfinished
        FROM analytics_uploads WHERE {_WITHIN} GROUP BY 1
    """  # noqa: S608
    return await _ask(session, query, span)


async def upload_states(session: AsyncSession, span: Span) -> Rows:
    query = f"""
        SELECT state, sum(uploads) AS uploads, sum(bytes) AS bytes FROM analytics_uploads
        WHERE {_WITHIN} GROUP BY 1 ORDER BY 2 DESC, 1
    """  # noqa: S608
    return await _ask(session, query, span)


async def ingest_times(session: AsyncSession, span: Span) -> Rows:
    query = f"""
        SELECT step, bucket, sum(runs) AS runs FROM analytics_ingest_times WHERE {_WITHIN} GROUP BY 1, 2
    """  # noqa: S608
    runs: dict[str, dict[int, int]] = defaultdict(dict)
    for row in await _ask(session, query, span):
        runs[row["step"]][row["bucket"]] = int(row["runs"])
    return [
        {"step": step, "runs": sum(runs[step].values()), **_quantiles(runs[step])}
        for step in STEPS
        if step in runs
    ]


def _quantiles(runs: dict[int, int]) -> dict[str, float | None]:
    return {"p50": quantile(runs, 0.5), "p95": quantile(runs, 0.95)}


async def ingest_failures(session: AsyncSession, span: Span, top: int) -> Rows:
    query = f"""
        SELECT reason, sum(runs) AS runs FROM analytics_ingest_failures
        WHERE {_WITHIN} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT :top
    """  # noqa: S608
    return await _ask(session, query, span, top=top)


async def stored_by_period(session: AsyncSession, span: Span) -> Rows:
    query = f"""
        SELECT period, kind, objects, bytes FROM (
          SELECT {_PERIOD}, kind, objects, bytes, day,
            max(day) OVER (PARTITION BY date_trunc(:by, CAST(day AS timestamp))) AS last
          FROM analytics_storage WHERE {_WITHIN}) AS counted
        WHERE day = last ORDER BY period, kind
    """  # noqa: S608
    return await _ask(session, query, span)


async def stored(session: AsyncSession, span: Span) -> Rows:
    """As last counted."""
    query = f"""
        SELECT kind, objects, bytes FROM analytics_storage
        WHERE day = (SELECT max(day) FROM analytics_storage WHERE {_WITHIN}) ORDER BY bytes DESC, kind
    """  # noqa: S608
    return await _ask(session, query, span)


_REACHED = f"""
    SELECT day, kind AS step, times, visitors FROM analytics_counts WHERE {_WITHIN}
    UNION ALL SELECT day, 'paid', paid, customers FROM analytics_orders WHERE {_WITHIN}
"""  # noqa: S608


async def steps(session: AsyncSession, span: Span) -> Rows:
    query = (
        f"SELECT step, sum(times) AS times, sum(visitors) AS visitors FROM ({_REACHED}) AS reached GROUP BY 1"  # noqa: S608
    )
    return await _ask(session, query, span)


async def visitors(session: AsyncSession, span: Span) -> Rows:
    """Visitors by period, one column for each step."""
    columns = ", ".join(
        f"coalesce(sum(visitors) FILTER (WHERE step = '{step}'), 0) AS {step}"
        for step in ("search", "view", "cart", "checkout", "paid")
    )
    query = f"SELECT {_PERIOD}, {columns} FROM ({_REACHED}) AS reached GROUP BY 1"  # noqa: S608
    return await _ask(session, query, span)
