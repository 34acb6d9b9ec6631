"""One index in OpenSearch for all nodes: racing, dying, being overtaken, failing in part, and being replaced.

OpenSearch is the small one of `tests/support/fake_opensearch.py`, PostgreSQL the real one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from paletta_server.app import create_app
from paletta_server.commands.search import build_all
from paletta_server.core.errors import Unavailable
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.search import (
    opensearch_asking,
    opensearch_client,
    opensearch_index,
    opensearch_indexes,
    shared_follower,
)
from paletta_server.search.document import Document
from paletta_server.search.index import Query
from paletta_server.search.opensearch_client import Refused, connect
from paletta_server.search.opensearch_index import OpenSearchIndex
from paletta_server.search.opensearch_writing import Overtaken
from paletta_server.search.shared_follower import SharedFollower, rebuild
from tests.support import fake_opensearch
from tests.support.clips import Shelf
from tests.support.fake_opensearch import FakeOpenSearch
from tests.support.indexed import FERRY, FOREST, TRAM
from tests.support.locks import blocked
from tests.support.searching import SHOWS_SECONDS, standing_still

ALIAS = "paletta-clips"


@pytest.fixture
def opensearch(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpenSearch]:
    monkeypatch.setattr(shared_follower, "RETIRED_SECONDS", 0.0)
    with fake_opensearch.serving() as fake:
        yield fake


@pytest.fixture
def here(runtime: Runtime, opensearch: FakeOpenSearch) -> Settings:
    return runtime.settings.model_copy(
        update={"search_backend": "opensearch", "opensearch_url": SecretStr(opensearch.url)}
    )


@pytest.fixture
async def node(app: FastAPI, runtime: Runtime, here: Settings) -> AsyncIterator[Callable[[], SharedFollower]]:
    made: list[SharedFollower] = []

    def start() -> SharedFollower:
        made.append(SharedFollower(replace(runtime, settings=here)))
        return made[-1]

    async with standing_still(app):
        yield start
    for one in made:
        await one.close()


@pytest.fixture
def never_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question in a state of its own, for tests that look right after they wrote."""
    monkeypatch.setattr(opensearch_index, "SNAPSHOT_AGE", 0.0)


@pytest.fixture
def index(here: Settings, never_shared: None) -> Iterator[OpenSearchIndex]:
    client = connect(here)
    yield OpenSearchIndex(client, opensearch_indexes.create(client, ALIAS))
    client.close()


async def sql(runtime: Runtime, statement: str, **values: Any) -> None:
    async with runtime.db.transaction() as session:
        await session.execute(text(statement), values)


async def found(follower: SharedFollower, *words: str) -> list[int]:
    return list((await asyncio.to_thread(follower.index.search, Query(words=words), limit=50)).clip_ids)


async def over(runtime: Runtime) -> None:
    """Return once no change that was committed can be followed by one that is placed before it."""
    query = text("SELECT max(xid) < pg_snapshot_xmin(pg_current_snapshot())::text::bigint FROM clip_changes")
    async with asyncio.timeout(60):
        while True:
            async with runtime.db.transaction() as session:
                if await session.scalar(query):
                    return
            await asyncio.sleep(0.01)  # other tests' transactions, in the same cluster


async def even(runtime: Runtime, node: SharedFollower) -> None:
    """Let a node follow until its place is behind all changes. While a transaction is open elsewhere it takes up what
    came meanwhile ahead of its place, from which others, and itself after a build, take it up once more."""
    await node.catch_up()
    await over(runtime)
    await node.catch_up()


# ---- nodes


async def test_racing_nodes_lose_nothing_and_a_change_shows_by_itself(
    shelf: Shelf, runtime: Runtime, node: Callable[[], SharedFollower]
) -> None:
    await shelf.put("tram")
    nodes = [node() for _ in range(3)]
    await nodes[0].catch_up()
    tasks = [asyncio.create_task(one.run()) for one in nodes]
    try:
        for turn in range(12):
            word = f"word{'abcdefghijkl'[turn]}"
            for one in nodes:
                one.changed.clear()
            await sql(runtime, "UPDATE clips SET title = :title", title=f"A {word}")
            async with asyncio.timeout(SHOWS_SECONDS):
                while not await found(nodes[turn % 3], word):
                    waiting = [asyncio.create_task(one.changed.wait()) for one in nodes]
                    # What one writes another finds by a look of its own, twice a second.
                    await asyncio.wait(waiting, timeout=0.1, return_when=asyncio.FIRST_COMPLETED)
                    for one, wait in zip(nodes, waiting, strict=True):
                        wait.cancel()
                        one.changed.clear()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert [one.rebuilt for one in nodes] == [1, 0, 0]


async def test_who_dies_before_the_state_is_kept_repeats(
    shelf: Shelf, runtime: Runtime, node: Callable[[], SharedFollower], opensearch: FakeOpenSearch
) -> None:
    await shelf.put("tram")
    first, second = node(), node()
    await first.catch_up()
    await sql(runtime, "UPDATE clips SET title = 'Green bus'")
    for place in ("_bulk", "_refresh", "_doc/state"):
        opensearch.failures.append((place, 500))
        with pytest.raises(Unavailable):
            await first.catch_up()
    await even(runtime, second)
    assert len(await found(second, "bus")) == 1
    assert second.rebuilt == 0
    before = len(opensearch.requests)
    await second.catch_up()
    await first.catch_up()
    assert not [path for _, path in opensearch.requests[before:] if path.endswith("_bulk")]  # all is in


async def test_one_index_is_built_however_many_nodes_start(
    shelf: Shelf, node: Callable[[], SharedFollower], opensearch: FakeOpenSearch
) -> None:
    await shelf.put("tram")
    nodes = [node() for _ in range(3)]
    await asyncio.gather(*(one.catch_up() for one in nodes))
    await asyncio.gather(*(one.catch_up() for one in nodes))
    assert sum(one.rebuilt for one in nodes) == 1
    assert len(opensearch.indexes) == 1
    assert len(await found(nodes[2], "tram")) == 1


async def test_another_state_of_the_database_is_noticed(
    shelf: Shelf, runtime: Runtime, node: Callable[[], SharedFollower], opensearch: FakeOpenSearch
) -> None:
    await shelf.put("tram")
    one = node()
    await one.catch_up()
    before = set(opensearch.indexes)
    await sql(runtime, "UPDATE clip_changes SET at = at + interval '1 microsecond'")
    await one.catch_up()
    assert one.rebuilt == 2
    assert len(opensearch.indexes) == 1
    assert not before & set(opensearch.indexes)


async def test_an_older_version_leaves_the_index_to_a_newer_one(
    shelf: Shelf, node: Callable[[], SharedFollower], monkeypatch: pytest.MonkeyPatch
) -> None:
    await shelf.put("tram")
    await node().catch_up()
    monkeypatch.setattr(shared_follower, "FORMAT", 0)
    old = node()
    await old.catch_up()
    assert (old.rebuilt, len(await found(old, "tram"))) == (0, 1)
    monkeypatch.setattr(shared_follower, "FORMAT", 2)
    new = node()
    await new.catch_up()
    assert new.rebuilt == 1


@pytest.mark.parametrize("follows", ["a newer version", "who has the lock"])
async def test_who_leaves_following_to_others_is_as_even_as_what_they_follow(
    shelf: Shelf,
    runtime: Runtime,
    node: Callable[[], SharedFollower],
    monkeypatch: pytest.MonkeyPatch,
    follows: str,
) -> None:
    await shelf.put("tram")
    other = node()
    await even(runtime, other)
    onlooker = node()

    async def looks() -> bool:
        """Whether the node takes the index for even."""
        before = onlooker.even_at
        with monkeypatch.context() as older:
            if follows == "a newer version":
                older.setattr(shared_follower, "FORMAT", 0)
                await onlooker.catch_up()
            else:
                async with shared_follower._lock(runtime.db, shared_follower.LOCK_WRITING):
                    await onlooker.catch_up()
        return onlooker.even_at > before

    assert [await looks() for _ in range(2)] == [True, True]
    await sql(runtime, "UPDATE clips SET title = 'Green bus'")
    await over(runtime)
    assert [await looks() for _ in range(2)] == [False, False]  # nobody follows
    await other.catch_up()
    await sql(runtime, "UPDATE clips SET title = 'Red bus'")
    await over(runtime)
    assert await looks()  # there is something new again, but somebody moved on
    assert onlooker.rebuilt == 0


@pytest.mark.parametrize("lock", [shared_follower.LOCK_WRITING, shared_follower.LOCK_BUILDING])
@pytest.mark.parametrize("of", ["an older format", "another database"])
async def test_a_node_is_not_ready_before_the_index_is_fit(
    shelf: Shelf,
    runtime: Runtime,
    node: Callable[[], SharedFollower],
    monkeypatch: pytest.MonkeyPatch,
    lock: int,
    of: str,
) -> None:
    await shelf.put("tram")
    await node().catch_up()
    if of == "an older format":
        monkeypatch.setattr(shared_follower, "FORMAT", shared_follower.FORMAT + 1)
    else:
        await sql(runtime, "UPDATE clip_changes SET at = at + interval '1 microsecond'")
    new = node()
    async with shared_follower._lock(runtime.db, lock):  # of who builds, or is about to
        await new.catch_up()
        assert not new.ready
    await new.catch_up()
    assert (new.ready, new.rebuilt) == (True, 1)
    another = node()
    async with shared_follower._lock(runtime.db, shared_follower.LOCK_WRITING):
        await another.catch_up()
    assert another.ready  # it is fit, whoever follows it


async def test_the_lock_is_given_away_after_every_turn(
    shelf: Shelf,
    runtime: Runtime,
    node: Callable[[], SharedFollower],
    opensearch: FakeOpenSearch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(opensearch_client, "READ_SECONDS", 30)
    await shelf.put("tram")
    busy = node()
    await even(runtime, busy)
    monkeypatch.setattr(shared_follower, "PER_TURN", 2)
    monkeypatch.setattr(shared_follower, "WAIT_SECONDS", 60.0)
    await sql(runtime, "INSERT INTO clip_changes (clip_id) SELECT id FROM clips, generate_series(1, 10)")
    before = len(opensearch.requests)

    def turns() -> int:
        return sum(path.endswith("_bulk") for _, path in opensearch.requests[before:])

    async def waits() -> tuple[bool, int]:
        async with shared_follower._lock(runtime.db, shared_follower.LOCK_WRITING, wait=True) as mine:
            return mine, turns()

    opensearch.hanging.set()
    following = asyncio.create_task(busy.catch_up())
    assert await asyncio.to_thread(opensearch.hung.acquire, timeout=60)  # it has the lock
    waiting = asyncio.create_task(waits())
    await blocked(runtime)
    opensearch.hanging.clear()
    opensearch.free.set()
    assert await waiting == (True, 1)
    await following
    await busy.catch_up()
    assert turns() == 5


# ---- writing


def test_a_writer_that_was_overtaken_changes_nothing(index: OpenSearchIndex) -> None:
    index.apply([TRAM, FERRY], (), {"at": 1}, version=5)
    index.apply([replace(TRAM, title="Green bus")], [FERRY.id], {"at": 2}, version=9)
    with pytest.raises(Overtaken):
        index.apply([TRAM, FERRY, FOREST], (), {"at": 1}, version=7)
    assert index.state() == {"at": 2}
    assert index.search(Query(words=("bus",)), limit=5).clip_ids == [TRAM.id]
    assert index.search(Query(words=("ferry",)), limit=5).clip_ids == []


def test_busy_items_are_sent_again_and_refused_ones_are_taken_out(
    index: OpenSearchIndex, opensearch: FakeOpenSearch, caplog: pytest.LogCaptureFixture
) -> None:
    index.apply([TRAM, FERRY], (), {})
    opensearch.item_failures = {"2": [429, 503], "1": [400]}
    with caplog.at_level(logging.ERROR):
        index.apply([replace(one, title="New words") for one in (TRAM, FERRY, FOREST)], (), {"at": 2})
    assert sorted(index.search(Query(words=("words",)), limit=5).clip_ids) == [2, 3]
    assert index.count() == 2  # the refused clip's old state is not shown either
    told = [one.message for one in caplog.records if one.name.startswith("paletta_server.search")]
    assert told == ["a clip cannot be indexed"]
    opensearch.item_failures = {"2": [429] * 9}
    with pytest.raises(Unavailable):
        index.apply([FERRY], (), {"at": 3})
    assert index.state() == {"at": 2}


def test_an_index_that_is_gone_is_not_made_anew_by_writing(
    index: OpenSearchIndex, opensearch: FakeOpenSearch
) -> None:
    opensearch.indexes.clear()
    with pytest.raises(Unavailable):
        index.apply([TRAM], (), {"at": 1})
    assert opensearch.indexes == {}


# ---- reading


def test_pages_go_on_when_the_kept_state_is_gone(index: OpenSearchIndex, opensearch: FakeOpenSearch) -> None:
    index.apply([replace(TRAM, id=10 + number) for number in range(30)], (), {})
    told: list[int] = []
    cursor = None
    while True:
        page = index.search(Query(words=("tram",)), limit=7, cursor=cursor)
        told += page.clip_ids
        cursor = page.next_cursor
        opensearch.lose_points()
        if cursor is None:
            break
    assert told == sorted(range(10, 40), reverse=True)


def test_pages_by_relevance_keep_the_state_of_the_first(index: OpenSearchIndex) -> None:
    """What is rare counts most. Between two pages the rare word becomes the common one and all scores shift: two
    clips change places, and the second would never be told."""
    bare = {"tags": (), "synonyms": (), "category_names": (), "description": "", "places": ()}
    clips = [
        replace(TRAM, id=1, title="heron heron heron quay", **bare),  # type: ignore[arg-type]
        replace(TRAM, id=2, title="heron quay quay quay", **bare),  # type: ignore[arg-type]
    ]

    def more(first: int, title: str) -> list[Document]:
        return [replace(TRAM, id=first + n, title=title, **bare) for n in range(40)]  # type: ignore[arg-type]

    index.apply([*clips, *more(100, "quay")], (), {})
    query = Query(words=("heron", "quay"))
    page = index.search(query, limit=1)
    assert page.clip_ids == [1]
    index.apply(more(200, "heron") + more(300, "heron"), (), {})
    assert index.search(query, limit=2).clip_ids == [2, 1]
    assert index.search(query, limit=1, cursor=page.next_cursor).clip_ids == [2]


def points_asked_for(opensearch: FakeOpenSearch) -> int:
    return sum(path.endswith("point_in_time") for _, path in list(opensearch.requests))


def test_a_state_is_kept_however_many_others_are_made_and_whichever_node_ends(
    here: Settings, index: OpenSearchIndex
) -> None:
    bare = {"tags": (), "synonyms": (), "category_names": (), "description": "", "places": ()}
    clips = [replace(TRAM, id=number, title="heron", **bare) for number in (1, 2, 3)]  # type: ignore[arg-type]
    index.apply(clips, (), {})
    query = Query(words=("heron",))
    page = index.search(query, limit=1)
    assert page.clip_ids == [3]
    index.apply([], [1, 2, 3], {})
    for _ in range(150):  # each in a state of its own: more than a busy node makes in SNAPSHOT_SECONDS
        assert index.search(query, limit=1).clip_ids == []
    index.close()
    other = OpenSearchIndex(connect(here), index.name)
    assert other.search(query, limit=2, cursor=page.next_cursor).clip_ids == [2, 1]


def test_without_room_for_kept_states_search_goes_on(
    index: OpenSearchIndex, opensearch: FakeOpenSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.apply([TRAM, FERRY], (), {})
    monkeypatch.setattr(opensearch_index, "SNAPSHOT_AGE", 600.0)
    opensearch.failures.append(("point_in_time", 429))
    for _ in range(3):  # nor is there room a moment later
        assert len(index.search(Query(words=("tram",)), limit=5).clip_ids) == 2
    assert points_asked_for(opensearch) == 1


def test_one_asks_for_a_state_and_all_wait_for_it_no_longer_than_one(
    index: OpenSearchIndex, opensearch: FakeOpenSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.apply([TRAM], (), {})
    begun = threading.Barrier(8)
    before = len(opensearch.requests)

    def ask() -> list[int] | str:
        begun.wait()
        try:
            return list(index.search(Query(words=("tram",)), limit=5).clip_ids)
        except Unavailable as error:
            return error.code

    with ThreadPoolExecutor(8) as threads:
        opensearch.hanging.set()
        asked = [threads.submit(ask) for _ in range(8)]
        assert [one.result() for one in asked] == ["index_unavailable"] * 8
        assert [path.rpartition("/")[2] for _, path in opensearch.requests[before:]] == ["point_in_time"]
        opensearch.hanging.clear()
        opensearch.free.set()
        monkeypatch.setattr(opensearch_index, "SNAPSHOT_AGE", 600.0)
        asked = [threads.submit(ask) for _ in range(8)]
        assert [one.result() for one in asked] == [[TRAM.id]] * 8
        assert points_asked_for(opensearch) == 2


def test_no_answer_is_told_and_not_waited_for(
    here: Settings, index: OpenSearchIndex, opensearch: FakeOpenSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    opensearch.hanging.set()
    with monkeypatch.context() as hurry:
        hurry.setattr(opensearch_client, "READ_SECONDS", 0.3)
        hasty = OpenSearchIndex(connect(here), index.name)
        with pytest.raises(Unavailable, match="does not answer"):
            hasty.search(Query(words=("tram",)), limit=5)
    opensearch.hanging.clear()
    opensearch.free.set()
    nowhere = connect(here.model_copy(update={"opensearch_url": SecretStr("http://127.0.0.1:1")}))
    with pytest.raises(Unavailable, match="does not answer"):
        OpenSearchIndex(nowhere, "x").count()
    with pytest.raises(Unavailable, match="being built"):
        OpenSearchIndex(connect(here), "no-such-alias").search(Query(), limit=1)


# ---- asking


async def test_one_that_never_answers_costs_the_service_nothing_but_search(
    shelf: Shelf,
    runtime: Runtime,
    here: Settings,
    opensearch: FakeOpenSearch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clip = await shelf.put("tram")
    monkeypatch.setattr(opensearch_client, "READ_SECONDS", 6.0)
    monkeypatch.setattr(opensearch_asking, "PAUSE_SECONDS", 600.0)

    questions: list[object] = []
    timely = opensearch_asking._timely

    def counted(*what: Any) -> Any:
        questions.append(what)
        return timely(*what)

    monkeypatch.setattr(opensearch_asking, "_timely", counted)
    # Six connections for everybody: whoever had to wait for one would until questions have come to nothing.
    settings = here.model_copy(update={"database_pool_size": 1, "database_wait_seconds": 60.0})
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", timeout=60) as client,
    ):
        await app.state.search.follower.catch_up()
        opensearch.hanging.set()
        paths = (f"/v1/clips/{clip}", "/v1/clips?q=tram&category=rails&min_price=1")
        asked = [asyncio.create_task(client.get(path)) for _ in range(20) for path in paths]
        with ThreadPoolExecutor(1) as threads:
            for _ in range(10):  # more than asyncio has threads, or the pool connections
                assert await asyncio.wrap_future(threads.submit(opensearch.hung.acquire, timeout=60))
        answers = [await client.get(path) for path in ("/v1/categories", "/readyz")]
        assert [one.status_code for one in answers] == [200, 200]
        assert not any(one.done() for one in asked)
        pages = await asyncio.gather(*asked)
        assert {(one.status_code, len(one.json()["related"])) for one in pages[::2]} == {(200, 0)}
        assert {(one.status_code, one.json()["code"]) for one in pages[1::2]} == {(503, "index_unavailable")}
        places = app.state.search.follower._asking._places
        async with asyncio.timeout(60):
            while places._value < opensearch_asking.MOST:  # noqa: ASYNC110 (threads that nobody waits for any more)
                await asyncio.sleep(0.01)
        before = len(questions)
        for path in (*paths, "/v1/clips/suggest?q=tr"):
            assert (await client.get(path)).status_code == (200 if path == paths[0] else 503)
        assert len(questions) == before  # it was not even asked
        opensearch.hanging.clear()
        opensearch.free.set()


# ---- replacing


async def test_the_command_builds_beside_and_swaps(
    shelf: Shelf, here: Settings, node: Callable[[], SharedFollower], opensearch: FakeOpenSearch
) -> None:
    await shelf.put("tram")
    assert await build_all(here) == [{"replica": ALIAS, "clips": 1, "built": True}]
    (first,) = opensearch.indexes
    one = node()
    await one.catch_up()
    assert (one.rebuilt, len(await found(one, "tram"))) == (0, 1)
    other = replace(opensearch.indexes[first], aliases=set())  # somebody else's, named alike
    opensearch.indexes[f"{ALIAS}-other"] = other
    assert await build_all(here) == [{"replica": ALIAS, "clips": 1, "built": True}]
    assert first not in opensearch.indexes
    assert f"{ALIAS}-other" in opensearch.indexes
    assert len(await found(one, "tram")) == 1
    await one.catch_up()
    assert one.rebuilt == 0


async def test_a_build_that_dies_leaves_the_live_index(
    shelf: Shelf,
    runtime: Runtime,
    here: Settings,
    node: Callable[[], SharedFollower],
    opensearch: FakeOpenSearch,
) -> None:
    await shelf.put("tram")
    one = node()
    await one.catch_up()
    before = set(opensearch.indexes)

    def die(_done: int, _total: int) -> None:
        raise RuntimeError("power cut")

    client = connect(here)
    with pytest.raises(RuntimeError, match="power cut"):
        await rebuild(runtime.db, client, ALIAS, die)
    assert set(opensearch.indexes) == before
    opensearch_indexes.create(client, ALIAS)  # a build that could not even clean up
    assert await rebuild(runtime.db, client, ALIAS) is not None
    assert len(opensearch.indexes) == 1
    client.close()


async def test_an_index_that_became_the_live_one_stays_though_the_lock_was_lost_just_then(
    shelf: Shelf,
    runtime: Runtime,
    here: Settings,
    opensearch: FakeOpenSearch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await shelf.put("tram")
    published = opensearch_indexes.publish
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND database ="
        " (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND (classid::bigint << 32) + objid::bigint = %s"
    )

    def publish(*what: Any) -> None:
        published(*what)
        with psycopg.connect(runtime.settings.libpq_url, autocommit=True) as other:
            other.execute(cut, [shared_follower.LOCK_WRITING])

    monkeypatch.setattr(opensearch_indexes, "publish", publish)
    client = connect(here)
    with pytest.raises(OperationalError):
        await rebuild(runtime.db, client, ALIAS)
    assert [opensearch_indexes.live(client, ALIAS)] == list(opensearch.indexes)
    client.close()


HOLDER = """
import asyncio, sys
from paletta_server.core.database import Database
from paletta_server.core.settings import Settings
from paletta_server.search import shared_follower

async def hold(url, key):
    shared_follower.STILL_SECONDS = 8.0
    async with shared_follower._lock(Database(Settings(_env_file=None, database_url=url)), key) as mine:
        print("holds" if mine else "has it not", flush=True)
        await asyncio.Event().wait()

asyncio.run(hold(sys.argv[1], int(sys.argv[2])))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="nothing suspends a process there")
@pytest.mark.parametrize("lock", [shared_follower.LOCK_WRITING, shared_follower.LOCK_BUILDING])
async def test_a_node_that_stands_still_loses_its_lock(
    shelf: Shelf, runtime: Runtime, node: Callable[[], SharedFollower], lock: int
) -> None:
    """Its connection is open and answers on the network's level, so that nothing else would tell."""
    await shelf.put("tram")
    next_one = node()
    url = runtime.settings.libpq_url
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, url, str(lock), stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        assert await holder.stdout.readline() == b"holds\n"
        await next_one.catch_up()
        assert not next_one.ready
        holder.send_signal(signal.SIGSTOP)
        async with asyncio.timeout(60):
            while not next_one.ready:
                await asyncio.sleep(0.05)
                await next_one.catch_up()
    finally:
        holder.kill()
        await holder.wait()
    assert len(await found(next_one, "tram")) == 1


async def test_a_node_that_works_for_long_keeps_its_lock(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_follower, "STILL_SECONDS", 8.0)
    key = shared_follower.LOCK_BUILDING
    looking = (
        "SELECT state_change FROM pg_stat_activity JOIN pg_locks USING (pid) WHERE locktype = 'advisory' AND granted"
        " AND datname = current_database() AND (classid::bigint << 32) + objid::bigint = :key"
    )

    async def heard() -> Any:
        async with runtime.db.transaction() as session:
            return await session.scalar(text(looking), {"key": key})

    async with shared_follower._lock(runtime.db, key) as mine, asyncio.timeout(60):
        assert mine
        began = last = await heard()
        assert began is not None
        while (last - began).total_seconds() < 9:
            await asyncio.sleep(0.1)
            last = await heard()
            assert last is not None, "the lock is lost"


async def test_the_server_looks_whether_we_are_there(runtime: Runtime) -> None:
    """Of what a connection is told; through a socket of this machine it is of no use, and shows as 0."""
    async with runtime.db.transaction() as session:
        told = await session.execute(
            text("SELECT name, source, reset_val FROM pg_settings WHERE name ~ 'keepalives_i' ORDER BY name")
        )
        assert [tuple(row) for row in told] == [
            ("tcp_keepalives_idle", "client", "30"),
            ("tcp_keepalives_interval", "client", "10"),
        ]


async def test_a_build_that_is_ready_waits_for_a_busy_writer(
    shelf: Shelf,
    runtime: Runtime,
    here: Settings,
    node: Callable[[], SharedFollower],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(shared_follower, "WAIT_SECONDS", 0.05)
    caplog.set_level(logging.INFO, shared_follower.log.name)
    await shelf.put("tram")
    one = node()
    await one.catch_up()
    client = connect(here)
    async with shared_follower._lock(runtime.db, shared_follower.LOCK_WRITING):
        building = asyncio.create_task(rebuild(runtime.db, client, ALIAS))
        async with asyncio.timeout(60):
            while [record.message for record in caplog.records].count(
                "the new search index waits for its turn"
            ) < 3:
                assert not building.done(), building.result()
                await asyncio.sleep(0.01)
        await sql(runtime, "UPDATE clips SET title = 'Green bus'")
    assert await building == opensearch_indexes.live(client, ALIAS)
    assert len(await found(one, "bus")) == 1
    await one.catch_up()
    assert one.rebuilt == 1
    client.close()


async def test_a_foreign_alias_is_left_alone(
    node: Callable[[], SharedFollower], index: OpenSearchIndex, opensearch: FakeOpenSearch
) -> None:
    opensearch.indexes["theirs"] = opensearch.indexes.pop(index.name)
    opensearch.indexes["theirs"].aliases.add(ALIAS)
    with pytest.raises(Refused, match="we did not make"):
        await node().catch_up()
    assert set(opensearch.indexes) == {"theirs"}


# ---- through HTTP


async def test_the_service_searches_there_and_says_when_it_cannot(
    shelf: Shelf, here: Settings, opensearch: FakeOpenSearch, tmp_path: Path
) -> None:
    await shelf.put("tram")
    app = create_app(here.model_copy(update={"search_dir": tmp_path / "unused"}))
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        await app.state.search.follower.catch_up()
        answer = await client.get("/v1/clips", params={"q": "trma", "facets": True})
        assert (answer.json()["total"], answer.json()["showing"]) == (1, "tram")
        assert (await client.get("/v1/clips/suggest", params={"q": "tr"})).json()["items"][0] == "tram"
        clip = (await client.get(f"/v1/clips/{answer.json()['items'][0]['id']}")).json()
        assert clip["related"] == []
        opensearch.failures += [("_search", 503)] * 20
        away = await client.get("/v1/clips", params={"q": "tram"})
        assert (away.status_code, away.json()["code"]) == (503, "index_unavailable")
        assert (await client.get(f"/v1/clips/{clip['id']}")).status_code == 200  # a clip's page does without
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("opensearch:9200", "no address"),
        ("https://x.eu-west-1.aoss.amazonaws.com", "serverless"),
    ],
)
def test_an_address_that_cannot_do_is_refused(here: Settings, url: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        connect(here.model_copy(update={"opensearch_url": SecretStr(url)}))


def test_requests_to_amazon_are_signed_and_passwords_are_sent(
    here: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "a-test")
    domain = SecretStr("https://search-x.eu-west-3.es.amazonaws.com")
    connection = connect(here.model_copy(update={"opensearch_url": domain})).transport.get_connection()
    signed = connection.http_auth("GET", domain.get_secret_value() + "/_search", b"{}")
    assert "/eu-west-3/es/aws4_request" in signed["Authorization"]
    own = SecretStr("https://clerk:p%40ss@search.test")
    plain = connect(here.model_copy(update={"opensearch_url": own})).transport.get_connection()
    assert json.dumps(plain.headers["authorization"]) == '"Basic Y2xlcms6cEBzcw=="'
