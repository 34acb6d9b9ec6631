"""How the index keeps in step with the database: at once, after a crash, after a restore, through a rebuild."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import text

from paletta_server.commands.search import build_all
from paletta_server.core.runtime import Runtime
from paletta_server.search import changes
from paletta_server.search.build import build
from paletta_server.search.follower import POLL_SECONDS, Follower
from paletta_server.search.index import Query
from paletta_server.search.replica import Replica
from tests.conftest import Person
from tests.support.clips import Shelf
from tests.support.searching import standing_still, until
from tests.support.shop import priced, set_prices

TRAM = "clip_tram22222222"


@pytest.fixture
async def follower(
    app: FastAPI, runtime: Runtime, tmp_path: Path
) -> AsyncIterator[Callable[[], Awaitable[Follower]]]:
    """Another node's replica, in a folder of its own, and the only one that follows; called again, the same node after
    a restart."""
    here = Runtime(
        runtime.settings.model_copy(update={"search_dir": tmp_path / "node"}),
        runtime.db,
        runtime.store,
        runtime.notify,
    )
    made: list[Follower] = []

    async def start() -> Follower:
        for old in made:
            await old.close()
        made.append(Follower(here))
        return made[-1]

    async with standing_still(app):
        yield start
    for old in made:
        await old.close()


async def sql(runtime: Runtime, statement: str, **values: Any) -> None:
    async with runtime.db.transaction() as session:
        await session.execute(text(statement), values)


def found(follower: Follower, *words: str) -> list[int]:
    return sorted(follower.index.search(Query(words=words), limit=100).clip_ids)


async def settled(node: Follower) -> None:
    """Catch up until no transaction anywhere in the cluster (other tests have some) holds the position back."""
    async with asyncio.timeout(60):
        await node.catch_up()
        while node._live is None or node._live.reader.seen:
            await asyncio.sleep(0.01)  # nothing announces the end of another database's transaction
            await node.catch_up()


# ---- at once


async def test_a_change_shows_by_itself(
    shelf: Shelf, app: FastAPI, client: httpx.AsyncClient, runtime: Runtime
) -> None:
    assert POLL_SECONDS <= 1, "also where the word of it was lost, within the two seconds that are promised"
    await shelf.put("tram")
    await until(app, client, lambda answer: answer["total"] == 1, q="tram")
    edit = await client.patch(
        f"/v1/clips/{TRAM}", json={"title": "Green bus in the rain"}, headers=shelf.up.headers
    )
    assert edit.status_code == 200
    await until(app, client, lambda answer: answer["total"] == 1, q="bus")
    await sql(runtime, "UPDATE tags SET synonyms = '[\"streetcar\"]' WHERE name = 'tram'")
    await until(app, client, lambda answer: answer["total"] == 1, q="streetcar")
    await sql(runtime, "UPDATE categories SET name = 'Vehicles' WHERE slug = 'transport'")
    await until(app, client, lambda answer: answer["total"] == 1, q="vehicles")
    await sql(runtime, "UPDATE users SET display_name = 'Bo Ek' WHERE role = 'contributor'")
    await until(app, client, lambda answer: answer["total"] == 1, contributor="bo ek")
    await client.delete(f"/v1/clips/{TRAM}", headers=shelf.up.headers)
    await until(app, client, lambda answer: answer["total"] == 0)


async def test_a_new_price_book_moves_prices(
    shelf: Shelf, app: FastAPI, client: httpx.AsyncClient, admin: Person
) -> None:
    await shelf.put("tram")
    await set_prices(client, admin)
    await until(app, client, lambda answer: answer["total"] == 1, min_price="49", max_price="49")
    await set_prices(client, admin, priced("hd", "individual", "19.00"))
    await until(app, client, lambda answer: answer["total"] == 1, max_price="19")


async def test_a_long_transaction_elsewhere_delays_nothing_and_hides_nothing(
    shelf: Shelf, app: FastAPI, client: httpx.AsyncClient, database_url: str
) -> None:
    await shelf.put("tram")
    await until(app, client, lambda answer: answer["total"] == 1)
    async with await psycopg.AsyncConnection.connect(database_url) as slow:
        # Its change has the earlier place in the sequence and is committed last.
        await slow.execute("UPDATE clips SET title = 'Slow lorry' WHERE uid = %s", [TRAM])
        await shelf.put(
            "kart", title="Fast kart on a track", keywords=["kart", "race", "track", "fast", "noise"]
        )
        await until(app, client, lambda answer: answer["total"] == 1, q="kart")
        await slow.commit()
    await until(app, client, lambda answer: answer["total"] == 1, q="lorry")


# ---- crashes


async def test_nothing_is_lost_whenever_a_node_dies(
    shelf: Shelf,
    runtime: Runtime,
    follower: Callable[[], Awaitable[Follower]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await shelf.put("tram")
    node = await follower()
    await node.catch_up()
    assert len(found(node, "tram")) == 1
    await sql(runtime, "UPDATE clips SET title = 'Green bus' WHERE uid = :uid", uid=TRAM)
    # Dies with the change written and not committed: the position is where it was, and so is the document.
    live = node._live
    assert live is not None
    before = live.index.state()
    live.index.add([], [])
    await node.close()
    node = await follower()
    await settled(node)
    assert (node.rebuilt, len(found(node, "bus"))) == (0, 1)
    # Dies after the commit, before it remembers: the commit has the position.
    assert node._live is not None
    after = node._live.index.state()
    assert (after["xid"], after["seq"]) > (before["xid"], before["seq"])
    node = await follower()
    await node.catch_up()
    assert node._live is not None
    assert (node.rebuilt, node._live.index.state(), len(found(node, "bus"))) == (0, after, 1)


async def test_a_change_that_is_repeated_does_no_harm(
    shelf: Shelf, runtime: Runtime, follower: Callable[[], Awaitable[Follower]]
) -> None:
    await shelf.put("tram")
    node = await follower()
    await node.catch_up()
    assert node._live is not None
    state = node._live.index.state()
    for _ in range(2):
        await sql(runtime, "UPDATE clips SET title = title || ' again' WHERE uid = :uid", uid=TRAM)
        await node.catch_up()
    node._live.index.apply([], [], state)  # an old position: everything since comes again
    node = await follower()
    await node.catch_up()
    assert (node.rebuilt, node.index.count(), len(found(node, "again"))) == (0, 1, 1)


# ---- another database


async def test_another_state_of_the_database_is_noticed(
    shelf: Shelf, runtime: Runtime, follower: Callable[[], Awaitable[Follower]]
) -> None:
    """A backup was restored: the changes that this node has followed never were, and others have their numbers."""
    await shelf.put("tram")
    node = await follower()
    await node.catch_up()
    await sql(runtime, "UPDATE clip_changes SET at = at + interval '1 microsecond'")
    await sql(runtime, "DELETE FROM clip_changes WHERE clip_id = 0")
    await sql(runtime, "ALTER TABLE clips DISABLE TRIGGER USER")
    await sql(runtime, "UPDATE clips SET title = 'Restored lorry' WHERE uid = :uid", uid=TRAM)
    await sql(runtime, "ALTER TABLE clips ENABLE TRIGGER USER")
    await node.catch_up()
    assert (node.rebuilt, len(found(node, "lorry"))) == (2, 1)


async def test_pruning_keeps_what_an_idle_node_holds_on_to(
    shelf: Shelf, runtime: Runtime, follower: Callable[[], Awaitable[Follower]]
) -> None:
    await shelf.put("tram")
    node = await follower()
    await node.catch_up()
    await sql(runtime, "UPDATE clips SET title = 'Green bus' WHERE uid = :uid", uid=TRAM)
    await settled(node)
    async with runtime.db.transaction() as session:
        assert await changes.prune(session, days=0) > 0
    await node.catch_up()
    assert node.rebuilt == 1
    async with runtime.db.transaction() as session:
        await changes.mark(session)
        await session.execute(
            text("DELETE FROM clip_changes WHERE seq < (SELECT max(seq) FROM clip_changes)")
        )
    await node.catch_up()  # away for longer than changes are kept
    assert (node.rebuilt, len(found(node, "bus"))) == (2, 1)


# ---- rebuilds


async def test_a_reindex_beside_the_live_index_is_taken_up(
    shelf: Shelf, runtime: Runtime, follower: Callable[[], Awaitable[Follower]], tmp_path: Path
) -> None:
    await shelf.put("tram")
    node = await follower()
    await node.catch_up()
    before = node.index
    replica = Replica.all_of(tmp_path / "node")[0]
    told: list[tuple[int, int]] = []
    folder = await build(runtime.db, replica, lambda done, total: told.append((done, total)))
    assert folder is not None
    assert told == [(1, 1)]
    await sql(runtime, "UPDATE clips SET title = 'Green bus' WHERE uid = :uid", uid=TRAM)
    assert found(node, "tram") != []  # the old one answers until the new one has caught up
    await node.catch_up()
    assert node.index is not before
    assert (node.rebuilt, len(found(node, "bus"))) == (1, 1)
    assert [path.name for path in (tmp_path / "node" / "replica-0").glob("index-*")] == [folder.name]


async def test_the_command_builds_every_replica_of_the_machine(
    shelf: Shelf, runtime: Runtime, follower: Callable[[], Awaitable[Follower]], tmp_path: Path
) -> None:
    await shelf.put("tram")
    node = await follower()
    await node.catch_up()
    before = node.index
    settings = runtime.settings.model_copy(update={"search_dir": tmp_path / "node"})
    assert await build_all(settings) == [{"replica": "replica-0", "clips": 1, "built": True}]
    await node.catch_up()
    assert node.index is not before
    empty = runtime.settings.model_copy(update={"search_dir": tmp_path / "none"})
    assert await build_all(empty) == [
        {"replica": "replica-0", "clips": 1, "built": True}
    ]  # before the first start


async def test_a_build_that_dies_leaves_the_live_index(
    shelf: Shelf, runtime: Runtime, follower: Callable[[], Awaitable[Follower]], tmp_path: Path
) -> None:
    await shelf.put("tram")
    node = await follower()
    await node.catch_up()
    replica = Replica.all_of(tmp_path / "node")[0]

    def die(_done: int, _total: int) -> None:
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        await build(runtime.db, replica, die)
    with replica.building() as folder, replica.building() as second:
        assert folder is not None
        assert second is None  # one at a time
    node = await follower()
    await node.catch_up()
    assert (node.rebuilt, len(found(node, "tram"))) == (0, 1)


async def test_a_damaged_index_is_built_anew(
    shelf: Shelf, follower: Callable[[], Awaitable[Follower]], tmp_path: Path
) -> None:
    await shelf.put("tram")
    node = await follower()
    await node.catch_up()
    await node.close()
    for path in (tmp_path / "node").rglob("meta.json"):
        path.write_text("{")
    node = await follower()
    await node.catch_up()
    assert (node.rebuilt, len(found(node, "tram"))) == (1, 1)


async def test_every_process_of_a_machine_has_a_replica(tmp_path: Path) -> None:
    first, second = Replica.claim(tmp_path), Replica.claim(tmp_path)
    assert [first.folder.name, second.folder.name] == ["replica-0", "replica-1"]
    first.release()
    third = Replica.claim(tmp_path)
    assert third.folder.name == "replica-0"
    second.release()
    third.release()


# ---- agreement

EDITS = st.lists(
    st.tuples(
        st.sampled_from(("title", "hide", "list", "delete", "category", "tag", "rename", "look", "restart")),
        st.integers(0, 4),
        st.integers(0, 5),
    ),
    min_size=1,
    max_size=12,
)
STATEMENTS = {
    "title": "UPDATE clips SET title = 'Word' || :value WHERE id = :clip",
    "hide": "UPDATE clips SET review = 'taken_down' WHERE id = :clip",
    "list": "UPDATE clips SET review = 'approved', deleted_at = NULL WHERE id = :clip",
    "delete": "UPDATE clips SET deleted_at = now() WHERE id = :clip",
    "category": "UPDATE categories SET parent_id = NULLIF(:first + :value % 3, id) WHERE id = :first + 3",
    "tag": "INSERT INTO clip_tags (clip_id, tag_id, position) SELECT :clip, id, 9 FROM tags"
    " WHERE name = 'tag' || :value ON CONFLICT DO NOTHING",
    "rename": "UPDATE tags SET synonyms = jsonb_build_array('syn' || :value || '-' || id) WHERE name = 'tag' || :value",
}


@pytest.fixture
async def catalogue(shelf: Shelf, runtime: Runtime) -> tuple[list[int], int]:
    """Keys of five listed clips, and the first of four categories."""
    for number in range(5):
        await shelf.put(f"many{'abcde'[number]}", title=f"Clip number {number}")
    async with runtime.db.transaction() as session:
        await session.execute(
            text("INSERT INTO tags (name) SELECT 'tag' || n FROM generate_series(0, 5) AS n")
        )
        await session.execute(
            text(
                "INSERT INTO categories (slug, name) SELECT 'cat' || n, 'Cat' || n FROM generate_series(0, 3) AS n"
            )
        )
        first = await session.scalar(text("SELECT id FROM categories WHERE slug = 'cat0'"))
        clips = list(await session.scalars(text("SELECT id FROM clips ORDER BY id")))
        await session.execute(
            text("UPDATE clip_categories SET category_id = :key"), {"key": (first or 0) + 3}
        )
    return clips, first or 0


async def test_index_and_database_agree_after_any_edits(
    catalogue: tuple[list[int], int],
    runtime: Runtime,
    follower: Callable[[], Awaitable[Follower]],
    tmp_path: Path,
) -> None:
    clips, first = catalogue
    loop = asyncio.get_running_loop()
    node = await follower()

    async def run(edits: list[tuple[str, int, int]]) -> None:
        nonlocal node
        for what, which, value in edits:
            if what == "look":
                await node.catch_up()
            elif what == "restart":
                node = await follower()
            else:
                values = {"clip": clips[which], "value": value, "first": first}
                wanted = {name: key for name, key in values.items() if f":{name}" in STATEMENTS[what]}
                await sql(runtime, STATEMENTS[what], **wanted)
        await node.catch_up()
        await agree(node)

    async def agree(node: Follower) -> None:
        """A replica that followed answers as one that was built just now."""
        other = Replica(tmp_path / f"fresh-{random.random()}")
        folder = await build(runtime.db, other)
        assert folder is not None
        fresh = await asyncio.to_thread(type(node.index).open, folder)
        questions = [Query(), Query(sort="duration")]
        questions += [Query(words=(f"word{n}",)) for n in range(6)]
        questions += [Query(tags=(f"tag{n}",)) for n in range(6)]
        questions += [Query(categories=(f"cat{n}",)) for n in range(4)]
        for question in questions:
            ours, theirs = (index.search(question, limit=50, facets=True) for index in (node.index, fresh))
            assert sorted(ours.clip_ids) == sorted(theirs.clip_ids), question
            assert (ours.total, ours.facets) == (theirs.total, theirs.facets), question
        async with runtime.db.transaction() as session:
            listed = set(
                await session.scalars(
                    text("SELECT id FROM clips WHERE review = 'approved' AND deleted_at IS NULL")
                )
            )
        assert set(node.index.search(Query(), limit=50).clip_ids) == listed
        await asyncio.to_thread(fresh.close)

    @hypothesis_settings(
        max_examples=15,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(EDITS)
    def check(edits: list[tuple[str, int, int]]) -> None:
        asyncio.run_coroutine_threadsafe(run(edits), loop).result(120)

    await asyncio.to_thread(check)


async def test_what_a_replica_lost_or_kept_is_right_again_within_a_month(
    follower: Callable[[], Awaitable[Follower]], shelf: Shelf, runtime: Runtime
) -> None:
    """By no change that anybody made, as after a bad disk or a fault of ours."""
    await shelf.put("tram")
    node = await follower()
    await settled(node)
    [tram] = found(node, "tram")
    index = node.index
    await asyncio.to_thread(index.apply, [], [tram], index.state())
    await settled(node)
    assert found(node, "tram") == []
    async with runtime.db.transaction() as session:
        looked = [await changes.look_again(session, night) for night in range(changes.PARTS)]
        assert sum(looked) == await session.scalar(text("SELECT count(*) FROM clips"))
    await settled(node)
    assert found(node, "tram") == [tram]
