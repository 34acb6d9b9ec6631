"""Statistics over a quarter of a busy shop: how fast events are added up, and how fast reports answer.

``python -m tests.benchmarks.stats [--events N] [--rounds N]``. The events of 90 days are made in the database: six of
ten are views, three searches, the rest carts and checkouts, by 20,000 visitors a day; words are of 50,000 by Zipf's
law (exponent 1), one in twenty of them is found nowhere. Beside them are 100,000 orders of two clips in two
currencies, 100,000 uploads and as many ingest runs. They are added up by the code of the job. Reports are asked of an
API process of its own over HTTP; the peer is the same question asked of the raw tables in SQL, in the same run,
without HTTP. Bar: no answer takes more than a second. Absolute times mean nothing on a shared machine; the ratio does.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

import httpx
import psycopg
from psycopg.conninfo import make_conninfo
from tqdm import tqdm

from paletta_server.accounts import service as accounts
from paletta_server.analytics import books, rollup
from paletta_server.core.database import Database
from paletta_server.core.settings import Settings
from tests.benchmarks.search import environment_of, grounds, serving
from tests.support.stack import make_database

DAYS = 90
BATCH = 5_000
BLOCK = 500_000
BAR_SECONDS = 1.0
ORDERS, UPLOADS, CLIPS, CONTRIBUTORS = 100_000, 100_000, 50_000, 500
SPANS = (30, 90)

_EVENTS = f"""
    INSERT INTO analytics_events (batch_id, number, at, kind, visitor, clip_id, items, query, filters, hits)
    SELECT 1 + n / {BATCH}, n %% {BATCH}, at, kind,
      hashint8extended(CAST(random() * 20000 AS bigint), CAST(extract(epoch FROM date_trunc('day', at)) AS bigint)),
      CASE kind WHEN 'view' THEN CAST(exp(random() * ln({CLIPS})) AS bigint) END,
      CASE kind WHEN 'cart' THEN 1 END,
      CASE kind WHEN 'search' THEN 'clips about ' || word END,
      CASE kind WHEN 'search' THEN 1 END,
      CASE kind WHEN 'search' THEN CASE WHEN word %% 20 = 0 THEN 0 ELSE 50000 / word END END
    FROM (
      SELECT n, now() - (1 - (n + 0.5) / %(all)s) * interval '{DAYS} days' AS at,
        CAST(exp(random() * ln(50000)) AS int) AS word,
        (ARRAY['view', 'view', 'view', 'view', 'view', 'view', 'search', 'search', 'search',
          CASE WHEN random() < 0.8 THEN 'cart' ELSE 'checkout' END])[1 + CAST(floor(random() * 10) AS int)] AS kind
      FROM generate_series(CAST(%(first)s AS bigint), %(last)s) AS n) AS made
"""
_BATCHES = """
    INSERT INTO analytics_batches (id, ref, events) OVERRIDING SYSTEM VALUE
    SELECT 1 + n / %(batch)s, gen_random_uuid(), count(*)
      FROM generate_series(0, %(all)s - 1) AS n GROUP BY n / %(batch)s
"""
_AGO = f"now() - random() * interval '{DAYS} days'"
_SHOP = f"""
    INSERT INTO users (id, uid, email, display_name, password_hash, role) OVERRIDING SYSTEM VALUE
      SELECT n, 'user_' || n, n || '@example.org', 'Contributor ' || n, 'x', 'contributor'
      FROM generate_series(1, {CONTRIBUTORS}) AS n;
    SELECT setval(pg_get_serial_sequence('users', 'id'), {CONTRIBUTORS});
    INSERT INTO clips (id, uid, owner_id, title, file_name, size, sha256, crc64nvme, original_key)
      OVERRIDING SYSTEM VALUE
      SELECT n, 'clip_' || n, 1 + n % {CONTRIBUTORS}, 'Clip ' || n, 'a.mov', 1, n::text, 'x', 'originals/' || n
      FROM generate_series(1, {CLIPS}) AS n;
    INSERT INTO orders (id, uid, number, user_id, status, gateway, licensee, currency, subtotal, tax, total,
        expires_at, price_book_id, created_at, paid_at) OVERRIDING SYSTEM VALUE
      SELECT n, 'order_' || n, n::text, 1 + n % 9000, CASE WHEN n % 10 > 0 THEN 'paid' ELSE 'expired' END, 'sandbox',
        'x', (ARRAY['USD', 'EUR'])[1 + n % 2], 9800, 0, 9800, now(), 1, at, CASE WHEN n % 10 > 0 THEN at END
      FROM (SELECT n, {_AGO} AS at FROM generate_series(1, {ORDERS}) AS n) AS made;
    INSERT INTO order_items (uid, order_id, clip_id, clip_uid, title, contributor_id, contributor, tier, licence,
        price, amount)
      SELECT 'item_' || n || '_' || place, n, clip, 'clip_' || clip, 'x', 1 + clip % {CONTRIBUTORS}, 'x', 'hd',
        'individual', 4900, 4900
      FROM (SELECT n, place, 2 * CAST(exp(random() * ln({CLIPS} / 2 - 1)) AS int) - place AS clip
        FROM generate_series(1, {ORDERS}) AS n, generate_series(0, 1) AS place) AS made;
    INSERT INTO uploads (id, uid, owner_id, clip_id, clip_uid, file_name, size, sha256, crc64nvme, part_size,
        part_count, key, state, expires_at, created_at) OVERRIDING SYSTEM VALUE
      SELECT n, 'upl_' || n, 1, 1, 'x', 'a.mov', 200000000, n::text, 'x', 1, 1, n::text,
        (ARRAY['verified', 'verified', 'verified', 'rejected', 'expired'])[1 + n % 5], now(), {_AGO}
      FROM generate_series(1, {UPLOADS}) AS n;
    INSERT INTO ingest_runs (uid, upload_id, clip_id, attempt, status, prefix, created_at, finished_at, figures)
      SELECT 'run_' || n, n, 1, 1, CASE WHEN n % 5 < 3 THEN 'done' ELSE 'failed' END, 'x', at,
        at + random() * interval '5 min', jsonb_build_object('transcode', random() * 200, 'probe', random() * 2)
      FROM (SELECT n, {_AGO} AS at FROM generate_series(1, {UPLOADS}) AS n) AS made;
    INSERT INTO analytics_changes (topic, day)
      SELECT topic, CAST(now() AS date) - n
      FROM unnest(ARRAY['orders', 'uploads', 'ingest']) AS topic, generate_series(0, {DAYS} + 1) AS n;
"""


def _since(column: str) -> str:
    return f"{column} >= CAST(CAST(now() AS date) - CAST(%(days)s AS int) + 1 AS timestamp)"


RAW = {
    "funnel": f"""
        SELECT kind, sum(events), sum(visitors) FROM (
          SELECT kind, CAST(at AS date), count(*) AS events, count(DISTINCT visitor) AS visitors
          FROM analytics_events WHERE {_since("at")} GROUP BY 1, 2) AS days GROUP BY 1
    """,
    "search": f"""
        SELECT query, count(*), count(*) FILTER (WHERE hits = 0) FROM analytics_events
        WHERE kind = 'search' AND {_since("at")} GROUP BY 1 ORDER BY 2 DESC LIMIT 10
    """,
    "sales": f"""
        SELECT CAST(paid_at AS date), currency, count(*), sum(total), sum(units) FROM orders,
          LATERAL (SELECT count(*) AS units FROM order_items WHERE order_id = orders.id) AS counted
        WHERE {_since("paid_at")} GROUP BY 1, 2
    """,
    "contributors": f"""
        SELECT order_items.contributor_id, currency, count(*), sum(amount)
        FROM orders JOIN order_items ON order_id = orders.id
        WHERE {_since("paid_at")} GROUP BY 1, 2 ORDER BY 4 DESC LIMIT 10
    """,
    "uploads": f"""
        SELECT percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY finished_at - created_at),
          percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY CAST(figures ->> 'transcode' AS float)),
          (SELECT count(*) FROM uploads WHERE state = 'verified' AND {_since("created_at")})
        FROM ingest_runs WHERE {_since("finished_at")}
    """,
}
REPORTS = ("overview", "sales", "contributors", "search", "uploads", "storage", "funnel")


def fill(stack: Any, url: str, events: int) -> None:
    """Make the rows without triggers and checks of keys."""
    conninfo = make_conninfo(stack.admin_url, dbname=url.partition("?")[0].rpartition("/")[2])
    with psycopg.connect(conninfo, autocommit=True) as db:
        db.execute("SET session_replication_role = replica")
        db.execute("SELECT setseed(0.5)")
        db.execute(_SHOP)
        db.execute(_BATCHES, {"batch": BATCH, "all": events})
        for first in tqdm(range(0, events, BLOCK), desc="events", unit="×500k"):
            db.execute(_EVENTS, {"first": first, "last": min(first + BLOCK, events) - 1, "all": events})
        db.execute("VACUUM ANALYZE")
        (size,) = db.execute("SELECT pg_total_relation_size('analytics_events')").fetchone() or (0,)
    print(f"raw: {events:,} events, {size / 1e9:.2f} GB")


async def add_up(settings: Settings, events: int) -> str:
    """What the job does, timed; an admin's token."""
    database = Database(settings)
    try:
        started = time.perf_counter()
        batches = await rollup.roll_up(database)
        took = time.perf_counter() - started
        print(f"roll-up: {batches:,} batches in {took:.0f} s ({events / took:,.0f} events/s)")
        started = time.perf_counter()
        days = await books.sum_up(database)
        print(f"books: {days} days in {time.perf_counter() - started:.1f} s")
        async with database.transaction() as session:
            await books.measure_storage(session)
            user = await accounts.create_user(
                session, email="olga@example.org", password="a long bench word", role="admin", verified=True
            )
            token, _ = await accounts.issue_token(session, user, scopes=())
        return token
    finally:
        await database.close()


def ask(address: str, token: str, report: str, days: int, rounds: int) -> list[float]:
    """Milliseconds of each answer."""
    found = []
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=address, trust_env=False, timeout=60, headers=headers) as client:
        today = client.get("/v1/admin/stats/overview").json()["until"]
        since = str(time.strftime("%Y-%m-%d", time.gmtime(time.time() - (days - 1) * 86_400)))
        for _ in range(rounds):
            started = time.perf_counter()
            reply = client.get(f"/v1/admin/stats/{report}", params={"from": since, "to": today})
            found.append((time.perf_counter() - started) * 1000)
            assert reply.status_code == 200, reply.text
    return found


def ask_raw(db: psycopg.Connection[Any], report: str, days: int) -> float | None:
    """Milliseconds of the better of two; None where the raw tables know no answer."""
    if report not in RAW:
        return None
    took = []
    for _ in range(2):
        started = time.perf_counter()
        db.execute(RAW[report], {"days": days}).fetchall()
        took.append((time.perf_counter() - started) * 1000)
    return min(took)


def report_on(url: str, address: str, token: str, rounds: int) -> None:
    worst = 0.0
    print(f"{'ms':<14}{'days':>5}{'p50':>9}{'max':>9}{'raw':>11}{'times':>8}")
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("SET statement_timeout = 0")
        for days in SPANS:
            for report in REPORTS:
                values = ask(address, token, report, days, rounds)
                worst = max(worst, *values)
                line = f"{report:<14}{days:>5}{statistics.median(values):>9.1f}{max(values):>9.1f}"
                raw = ask_raw(db, report, days)
                if raw is not None:
                    line += f"{raw:>11.1f}{raw / statistics.median(values):>8.1f}"
                print(line, flush=True)
    print(f"bar: no answer over {BAR_SECONDS:.0f} s: {'met' if worst <= BAR_SECONDS * 1000 else 'missed'}")


def run(stack: Any, folder: Path, events: int, rounds: int) -> None:
    url = make_database(stack, "paletta_bench")
    fill(stack, url, events)
    settings = Settings(_env_file=None, database_url=url)
    token = asyncio.run(add_up(settings, events))
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("SET statement_timeout = 0")
        db.execute("VACUUM ANALYZE")
        rows = db.execute(
            "SELECT (SELECT count(*) FROM analytics_queries), (SELECT count(*) FROM analytics_visitors)"
        ).fetchone()
        print("figures: {:,} rows of words by day, {:,} visitors of days".format(*(rows or (0, 0))))
    with serving(settings, environment_of(stack, url, folder / "search"), folder / "api.log") as (address, _):
        report_on(url, address, token, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with grounds() as (stack, folder):
        run(stack, folder, options.events, options.rounds)


if __name__ == "__main__":
    main()
