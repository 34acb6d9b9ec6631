"""Search through HTTP over a synthetic catalogue, beside PostgreSQL's full text on the same rows in the same run.

``python -m tests.benchmarks.search [--clips N] [--rounds N] [--skip-peer]``. Clips have 36 words each, drawn from
50,000 by Zipf's law (exponent 1), six of them tags, one of 40 categories under eight, and the facts that filters
ask for. Ours is a request to an API process of its own on one kept-alive connection, every answer read; the peer is
asked without HTTP, on one connection, for keys alone: a tsvector with weights under GIN, ranked by ts_rank_cd.
Printed are percentiles per kind of question, the rate at which the index was built, and its size. Bars over a
million clips: p50 <= 10 ms, p99 <= 50 ms. Absolute times mean nothing on a shared machine; the ratio does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psycopg
from psycopg.conninfo import make_conninfo
from tqdm import tqdm

from paletta_server.core.database import Database
from paletta_server.core.settings import Settings
from paletta_server.search.build import build
from paletta_server.search.replica import Replica
from tests.benchmarks.measure import cpu_of
from tests.support.stack import TestStack, make_database

BARS = {"p50": 10.0, "p99": 50.0}
VOCABULARY = 50_000
TITLE, TAGS, TEXT = 6, 6, 24
CATEGORIES, PARENTS = 40, 8
PAGE = 24
KINDS = ("common word", "two common", "rare word", "filtered", "with facets", "newest first", "no words")

WARMING = 21


def word(rank: int) -> str:
    """A word that can be said and that no stemmer touches; no two ranks share one."""
    found, number = "", rank + 1_000
    while number:
        number, rest = divmod(number, 60)
        found += "bdfgklmnprvz"[rest // 5] + "aeiou"[rest % 5]
    return f"{found}k"


def clip_uid(number: int) -> str:
    """The public id of a clip, in the letters of ids."""
    return "clip_" + f"{number:012}".translate(str.maketrans("0123456789", "abcdefghjk"))


class Words:
    """Draws words by Zipf's law, a block at a time."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        weights = 1 / np.arange(1, VOCABULARY + 1)
        self._heap = np.cumsum(weights / weights.sum())
        self.all = [word(rank) for rank in range(VOCABULARY)]

    def ranks(self, rows: int) -> Any:
        return np.searchsorted(self._heap, self._random.random((rows, TITLE + TAGS + TEXT)))


@dataclass
class Catalogue:
    """Where the rows are, and what the words are called."""

    url: str
    clips: int
    words: list[str]


def fill(stack: Any, url: str, clips: int) -> Catalogue:
    """Write the rows as fast as PostgreSQL takes them: triggers and checks of keys are off."""
    words = Words(7)
    names = words.all
    conninfo = make_conninfo(stack.admin_url, dbname=url.partition("?")[0].rpartition("/")[2])
    with psycopg.connect(conninfo, autocommit=True) as db:
        db.execute("SET session_replication_role = replica")
        db.execute(
            "INSERT INTO users (uid, email, display_name, password_hash, role)"
            " SELECT 'user_' || n, n || '@example.org', 'Contributor ' || n, 'x', 'contributor'"
            " FROM generate_series(1, 200) AS n"
        )
        db.execute(
            "INSERT INTO categories (slug, name) SELECT 'top-' || n, 'Top ' || n FROM generate_series(0, %s) AS n",
            [PARENTS - 1],
        )
        db.execute(
            "INSERT INTO categories (slug, name, parent_id) SELECT 'cat-' || n, 'Cat ' || n,"
            " (SELECT id FROM categories WHERE slug = 'top-' || n %% %s) FROM generate_series(0, %s) AS n",
            [PARENTS, CATEGORIES - 1],
        )
        with db.cursor() as cursor, cursor.copy("COPY tags (name) FROM STDIN") as copy:
            for name in names:
                copy.write_row([name])
        (tag,) = db.execute("SELECT min(id) FROM tags").fetchone() or (0,)
        (category,) = db.execute("SELECT id FROM categories WHERE slug = 'cat-0'").fetchone() or (0,)
        (owner,) = db.execute("SELECT min(id) FROM users").fetchone() or (0,)
        for start in tqdm(range(0, clips, 10_000), desc="rows", unit="×10k"):
            _block(db, words, start, min(10_000, clips - start), tag, category, owner)
        db.execute("ANALYZE")
    return Catalogue(url, clips, names)


_CLIPS = (
    "COPY clips (id, uid, owner_id, title, description, location, people, shot, file_name, size, sha256, crc64nvme,"
    " original_key, processing, review, technical, duration, width, height, fps, codec, listed_at) FROM STDIN"
)
_SIZES = ((1280, 720), (1920, 1080), (3840, 2160), (1080, 1920))
_PLACES = tuple(f'{{"city": "City {n}", "country": "C{n % 40}"}}' for n in range(200))
_SHOTS = tuple(
    f'{{"size": "{size}", "move": "{move}", "speed": "normal"}}'
    for size in ("wide", "medium", "close-up")
    for move in ("static", "pan", "drone")
)


def _block(db: Any, words: Words, start: int, rows: int, tag: int, category: int, owner: int) -> None:
    noise = random.Random(start)
    ranks = words.ranks(rows)
    names = words.all
    with db.cursor() as cursor:
        with cursor.copy(_CLIPS) as copy:
            for n, row in enumerate(ranks, start + 1):
                said = [names[rank] for rank in row]
                width, height = noise.choice(_SIZES)
                copy.write_row(
                    [n, clip_uid(n), owner + n % 200, " ".join(said[:TITLE]), " ".join(said[TITLE + TAGS :]),
                     noise.choice(_PLACES), f'{{"count": "{noise.randrange(4)}"}}', noise.choice(_SHOTS), "a.mov", 1,
                     f"{n:064x}", "x", f"originals/{n}", "ready", "approved", '{"original_serves": []}',
                     3 + noise.random() * 57, width, height, noise.choice((24, 25, 30, 60)), "h264",
                     f"2026-01-01 00:00:00+00:{n % 60:02}"]
                )  # fmt: skip
        with cursor.copy("COPY clip_tags (clip_id, tag_id, position) FROM STDIN") as copy:
            for n, row in enumerate(ranks, start + 1):
                for position, rank in enumerate(dict.fromkeys(row[TITLE : TITLE + TAGS])):
                    copy.write_row([n, tag + int(rank), position])
        with cursor.copy("COPY clip_categories (clip_id, category_id, position) FROM STDIN") as copy:
            for n in range(start + 1, start + rows + 1):
                copy.write_row([n, category + n % CATEGORIES, 0])


# ---- what is asked


@dataclass(frozen=True)
class Question:
    kind: str
    words: tuple[str, ...]

    @property
    def params(self) -> dict[str, Any]:
        more: dict[str, Any] = {
            "filtered": {"category": "top-3", "min_res": "4k", "min_duration": 5, "max_duration": 20},
            "with facets": {"facets": True},
            "newest first": {"sort": "newest"},
        }.get(self.kind, {})
        return {"q": " ".join(self.words), "limit": PAGE, **more}

    def sql(self) -> tuple[str, list[Any]] | None:
        """The same for the peer; None where full text has no part in it."""
        asked = " & ".join(self.words)
        found = "FROM peer WHERE tsv @@ to_tsquery('simple', %s)"
        ranked = f"ORDER BY ts_rank_cd(tsv, to_tsquery('simple', %s)) DESC LIMIT {PAGE}"
        match self.kind:
            case "no words":
                return None
            case "newest first":
                return f"SELECT id {found} ORDER BY listed_at DESC, id DESC LIMIT {PAGE}", [asked]
            case "filtered":
                narrow = "AND top = 3 AND long_edge >= 3840 AND duration BETWEEN 5 AND 20"
                return f"SELECT id {found} {narrow} {ranked}", [asked, asked]
            case "with facets":
                facets = f"SELECT category, long_edge, fps, count(*) {found} GROUP BY GROUPING SETS (1, 2, 3)"
                both = f"(SELECT id {found} {ranked}) UNION ALL SELECT count FROM ({facets}) AS counted"
                return both, [asked, asked, asked]
        return f"SELECT id {found} {ranked}", [asked, asked]


def questions(words: Sequence[str], rounds: int) -> Iterator[Question]:
    """`rounds` of each kind, mixed, with words of that kind drawn anew."""
    noise = random.Random(3)
    made = []
    for _ in range(rounds):
        for kind in KINDS:
            if kind == "no words":
                asked: tuple[str, ...] = ()
            elif kind == "two common":
                asked = tuple(words[rank] for rank in noise.sample(range(20), 2))
            elif kind == "rare word":
                asked = (words[noise.randrange(10_000, 40_000)],)
            else:
                asked = (words[noise.randrange(10)],)
            made.append(Question(kind, asked))
    noise.shuffle(made)
    yield from made


def timed(asked: Iterator[Question], answer: Callable[[Question], None]) -> dict[str, list[float]]:
    """Milliseconds per kind."""
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for question in asked:
        started = time.perf_counter()
        answer(question)
        found[question.kind].append((time.perf_counter() - started) * 1000)
    return found


# ---- ours


@contextlib.contextmanager
def serving(settings: Settings, environment: dict[str, str], log: Path) -> Iterator[tuple[str, int]]:
    """An API process of its own; its address and pid once it has adopted the index."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "paletta_server.cli", "api", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=output, stderr=output)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{address}/v1/clips", trust_env=False).status_code == 200:
                    break
            if process.poll() is not None:
                raise SystemExit(f"the API ended with {process.returncode}:\n{log.read_text()[-2000:]}")
            time.sleep(0.1)
        else:
            raise SystemExit("the API did not get ready")
        yield address, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def ask_ours(address: str, asked: Iterator[Question]) -> dict[str, list[float]]:
    with httpx.Client(base_url=address, trust_env=False, timeout=60) as client:

        def answer(question: Question) -> None:
            reply = client.get("/v1/clips", params=question.params)
            assert reply.status_code == 200, reply.text
            assert reply.json()["items"], question

        warming = list(asked)
        for question in warming[:WARMING]:
            answer(question)
        return timed(iter(warming), answer)


# ---- the peer


def prepare_peer(url: str) -> tuple[float, float]:
    """Full text on the same rows; seconds and GB."""
    started = time.perf_counter()
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("SET statement_timeout = 0")
        db.execute(
            """
            CREATE TABLE peer AS SELECT clips.id, listed_at, duration, fps, greatest(width, height) AS long_edge,
              category_id AS category, substr(slug, 5)::int % 8 AS top,
              setweight(to_tsvector('simple', title), 'A') || setweight(to_tsvector('simple', labels.names), 'B')
                || setweight(to_tsvector('simple', clips.description), 'D') AS tsv
            FROM clips JOIN clip_categories ON clip_categories.clip_id = clips.id
              JOIN categories ON categories.id = category_id
              JOIN (SELECT clip_id, string_agg(name, ' ') AS names FROM clip_tags JOIN tags ON tags.id = tag_id
                    GROUP BY clip_id) AS labels ON labels.clip_id = clips.id
            """
        )
        db.execute("CREATE INDEX ON peer USING gin (tsv)")
        db.execute("CREATE INDEX ON peer (listed_at DESC, id DESC)")
        db.execute("VACUUM ANALYZE peer")
        (size,) = db.execute("SELECT pg_total_relation_size('peer')").fetchone() or (0,)
    return time.perf_counter() - started, size / 1e9


def ask_peer(url: str, asked: Iterator[Question]) -> dict[str, list[float]]:
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("SET statement_timeout = 0")

        def answer(question: Question) -> None:
            statement = question.sql()
            if statement is not None:
                db.execute(statement[0], statement[1]).fetchall()

        return timed(asked, answer)


# ---- the report


def percentile(values: Sequence[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))] if values else float("nan")


def report(ours: dict[str, list[float]], theirs: dict[str, list[float]] | None) -> None:
    print(f"{'ms':<14}{'p50':>9}{'p95':>9}{'p99':>9}{'peer p50':>11}{'times':>8}")
    everything = [value for values in ours.values() for value in values]
    for kind, values in [*ours.items(), ("all", everything)]:
        line = f"{kind:<14}" + "".join(f"{percentile(values, part):>9.2f}" for part in (0.5, 0.95, 0.99))
        peer = theirs.get(kind, []) if theirs is not None and kind != "no words" else []
        if peer:
            line += f"{percentile(peer, 0.5):>11.2f}{percentile(peer, 0.5) / percentile(values, 0.5):>8.1f}"
        print(line)
    for name, part in (("p50", 0.5), ("p99", 0.99)):
        met = "met" if percentile(everything, part) <= BARS[name] else "missed"
        print(f"bar {name} <= {BARS[name]:.0f} ms over all: {met}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=150, help="questions of each kind")
    parser.add_argument("--peer-rounds", type=int, default=5)
    parser.add_argument("--skip-peer", action="store_true")
    options = parser.parse_args()
    with grounds() as (stack, folder):
        run(stack, options, folder)


@contextlib.contextmanager
def grounds() -> Iterator[tuple[Any, Path]]:
    """PostgreSQL and an object store of this run's own, and a folder for what else it needs."""
    servers = TestStack()
    stack = servers.start()
    try:
        with tempfile.TemporaryDirectory(prefix="paletta-bench-") as folder:
            yield stack, Path(folder)
    finally:
        servers.stop()


def environment_of(stack: Any, url: str, search_dir: Path) -> dict[str, str]:
    """What an API process on them is told."""
    return {
        "PALETTA_DATABASE_URL": url,
        "PALETTA_SEARCH_DIR": str(search_dir),
        "PALETTA_S3_ENDPOINT": stack.endpoint,
        "PALETTA_S3_ACCESS_KEY": stack.access_key,
        "PALETTA_S3_SECRET_KEY": stack.secret_key,
        "PALETTA_LOG_LEVEL": "WARNING",
    }


def run(stack: Any, options: argparse.Namespace, folder: Path) -> None:
    url = make_database(stack, "paletta_bench")
    catalogue = fill(stack, url, options.clips)
    settings = Settings(
        _env_file=None,
        database_url=url,
        search_dir=folder / "search",
        s3_endpoint=stack.endpoint,
        s3_access_key=stack.access_key,
        s3_secret_key=stack.secret_key,
    )
    started = time.perf_counter()
    index = asyncio.run(_build(settings, options.clips))
    took = time.perf_counter() - started
    size = sum(path.stat().st_size for path in index.rglob("*") if path.is_file())
    print(
        f"index: {options.clips:,} clips in {took:.0f} s ({options.clips / took:,.0f}/s, the database's part included),"
        f" {size / 1e9:.2f} GB"
    )
    environment = environment_of(stack, url, settings.search_dir)
    with serving(settings, environment, folder / "api.log") as (address, pid):
        before = cpu_of(pid)
        ours = ask_ours(address, questions(catalogue.words, options.rounds))
        used = (cpu_of(pid) - before) * 1000 / (options.rounds * len(KINDS) + WARMING)
        print(f"api: {used:.1f} ms of CPU for a request")
    theirs = None
    if not options.skip_peer:
        seconds, gigabytes = prepare_peer(url)
        print(f"peer: {options.clips:,} rows in {seconds:.0f} s, {gigabytes:.2f} GB")
        theirs = ask_peer(url, questions(catalogue.words, options.peer_rounds))
    report(ours, theirs)


def _advance(bar: Any, done: int) -> None:
    bar.update(done - bar.n)


async def _build(settings: Settings, clips: int) -> Path:
    database = Database(settings)
    try:
        with tqdm(total=clips, desc="index", unit=" clips", unit_scale=True) as bar:
            folder = await build(
                database, Replica(settings.search_dir / "replica-0"), lambda done, _: _advance(bar, done)
            )
        assert folder is not None
        return folder
    finally:
        await database.close()


if __name__ == "__main__":
    main()
