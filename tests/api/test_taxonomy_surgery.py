"""Merging, renaming and moving; former names go on working everywhere; rivals; and size."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from paletta_server.core.errors import Conflict
from paletta_server.core.runtime import Runtime
from paletta_server.taxonomy import apply, lock, service
from tests.conftest import Person
from tests.support.clips import Shelf
from tests.support.explained import listening
from tests.support.locks import blocked
from tests.support.searching import caught_up
from tests.support.uploading import Uploader, item

Operate = Callable[..., Awaitable[Any]]


@pytest.fixture
def operate(client: httpx.AsyncClient, admin: Person) -> Operate:
    """`await operate("merge", source=…, target=…)`: the answer; `expect` another status for its problem."""

    async def call(verb: str, expect: int = 200, **body: Any) -> Any:
        answer = await client.post(f"/v1/admin/taxonomy/{verb}", json=body, headers=admin.headers)
        assert answer.status_code == expect, answer.text
        return answer.json()

    return call


async def labels(runtime: Runtime, clip: str) -> tuple[list[str], list[str]]:
    """A clip's categories and tags."""
    async with runtime.db.transaction() as session:
        categories = await session.scalars(
            text(
                "SELECT slug FROM clip_categories JOIN categories c ON c.id = category_id"
                " JOIN clips ON clips.id = clip_id WHERE clips.uid = :uid ORDER BY clip_categories.position"
            ),
            {"uid": clip},
        )
        tags = await session.scalars(
            text(
                "SELECT name FROM clip_tags JOIN tags t ON t.id = tag_id JOIN clips ON clips.id = clip_id"
                " WHERE clips.uid = :uid ORDER BY clip_tags.position"
            ),
            {"uid": clip},
        )
        return list(categories), list(tags)


async def test_a_merged_category_brings_clips_children_and_former_names(
    operate: Operate, up: Uploader, runtime: Runtime, client: httpx.AsyncClient, admin: Person
) -> None:
    await client.post("/v1/categories", json={"name": "Trams", "parent": "transport"}, headers=admin.headers)
    [one] = await up.register(await up.batch(), item(b"a", categories=["transport"]))
    await operate("rename", source="transport", target="vehicles", name="Vehicles")
    done = await operate("merge", source="vehicles", target="travel")
    assert done == {"kind": "category", "source": "vehicles", "target": "travel", "clips": 1}
    assert (await labels(runtime, one["clip_id"]))[0] == ["travel"]
    listed = (await client.get("/v1/categories")).json()["items"]
    assert [(row["slug"], row["parent"]) for row in listed] == [("trams", "travel"), ("travel", None)]
    # Both former names go on working in manifests, also beside what they lead to.
    [two] = await up.register(await up.batch(), item(b"b", "b.mp4", categories=["transport", "vehicles"]))
    assert two["outcome"] == "created", two
    assert (await labels(runtime, two["clip_id"]))[0] == ["travel"]
    published = (await client.get("/v1/manifest-schema", headers=up.headers)).json()
    assert published["former_categories"] == {"transport": "travel", "vehicles": "travel"}
    refused = await client.delete("/v1/categories/vehicles", headers=admin.headers)
    assert refused.json()["hint"] == "it is `travel` now"
    async with runtime.db.transaction() as session:
        rows = await session.execute(
            text("SELECT action, object FROM audit_logs WHERE action ~ 'renamed|merged' ORDER BY id")
        )
        assert [tuple(row) for row in rows] == [
            ("category:renamed", "transport"), ("category:merged", "vehicles"),
        ]  # fmt: skip


async def test_a_tag_keeps_its_former_names(
    operate: Operate, up: Uploader, runtime: Runtime, client: httpx.AsyncClient
) -> None:
    words = ["tram", "street", "hill", "yellow", "lisbon"]
    [one] = await up.register(await up.batch(), item(b"a", keywords=[*words, "trolley"]))
    await operate("rename", source="tram", target="streetcar", kind="tag")
    assert await operate("merge", source="trolley", target="streetcar") == {
        "kind": "tag", "source": "trolley", "target": "streetcar", "clips": 1,
    }  # fmt: skip
    assert (await labels(runtime, one["clip_id"]))[1] == ["streetcar", *words[1:]]
    [two] = await up.register(await up.batch(), item(b"b", "b.mp4", keywords=[*words, "trolley"]))
    assert (await labels(runtime, two["clip_id"]))[1] == ["streetcar", *words[1:]]
    found = await client.get("/v1/tags", params={"q": "tr"})
    assert "tram" not in [one["name"] for one in found.json()["items"]]
    taken = await operate("rename", 409, source="hill", target="street")
    assert taken["code"] == "exists"


async def test_a_former_name_that_becomes_a_synonym_leads_there_only(
    operate: Operate, up: Uploader, runtime: Runtime
) -> None:
    words = ["tram", "street", "hill", "yellow", "lisbon"]
    await up.register(await up.batch(), item(b"a", keywords=words))
    await operate("rename", source="tram", target="streetcar", kind="tag")
    principal: Any = type("Admin", (), {"user_id": None})()
    document = "paletta_taxonomy: 1\ncategories: []\ntags:\n- {name: yellow, synonyms: [tram]}\n"
    async with runtime.db.transaction() as session:
        await apply.apply(session, principal, document, filename="tags.yaml")
    async with runtime.db.transaction() as session:
        assert await service.stored_names(session, ["tram"]) == ["yellow"]
        assert await service.current_names(session, "tag", ["tram"]) == ("tram",), "no redirect is left"


async def test_search_filters_take_former_names(
    app: FastAPI, operate: Operate, shelf: Shelf, client: httpx.AsyncClient
) -> None:
    await shelf.put("tram", keywords=["tram", "street", "hill", "yellow", "lisbon"])
    await operate("rename", source="transport", target="vehicles")
    await operate("rename", source="tram", target="streetcar", kind="tag")
    await caught_up(app)
    for query in ("category=vehicles", "category=transport", "tag=streetcar", "tag=tram", "any_tag=tram"):
        found = (await client.get(f"/v1/clips?{query}")).json()["items"]
        assert [one["id"] for one in found] == ["clip_tram22222222"], query
    assert (await client.get("/v1/clips?category=travel")).json()["items"] == []


async def test_renaming_back_and_taking_a_former_name(
    operate: Operate, up: Uploader, client: httpx.AsyncClient, admin: Person, runtime: Runtime
) -> None:
    await operate("rename", source="transport", target="vehicles")
    await operate("rename", source="vehicles", target="transport")
    published = (await client.get("/v1/manifest-schema", headers=up.headers)).json()
    assert published["former_categories"] == {"vehicles": "transport"}
    made = await client.post("/v1/categories", json={"name": "Vehicles"}, headers=admin.headers)
    assert made.status_code == 201, "what nobody uses any more may be used again"
    async with runtime.db.transaction() as session:
        assert await session.scalar(text("SELECT count(*) FROM taxonomy_redirects")) == 0


async def test_moving_a_category_and_clips(operate: Operate, up: Uploader, runtime: Runtime) -> None:
    assert (await operate("move", category="transport", parent="travel"))["target"] == "travel"
    loop = await operate("move", 409, category="travel", parent="transport")
    assert loop["code"] == "below_itself"
    assert (await operate("merge", source="travel", target="transport"))["clips"] == 0
    await operate("rename", source="transport", target="transport")
    async with runtime.db.transaction() as session:
        assert await session.scalar(text("SELECT parent_id FROM categories")) is None
        await session.execute(text("INSERT INTO categories (slug, name) VALUES ('sea', 'Sea')"))
    batch = await up.batch()
    one, two = await up.register(batch, item(b"a"), item(b"b", "b.mp4"))
    moved = await operate("move-clips", source="transport", target="sea", clips=[one["clip_id"]])
    assert moved["clips"] == 1
    assert (await labels(runtime, one["clip_id"]))[0] == ["sea"]
    assert (await labels(runtime, two["clip_id"]))[0] == ["transport"]
    assert (await operate("move-clips", source="transport", target="sea"))["clips"] == 1
    await operate("move-clips", 404, source="sea", target="transport", clips=["clip_zzzzzzzzzzzz"])
    await operate("merge", 404, source="nothing", target="sea")
    await operate("merge", 422, source="sea", target="sea")
    await operate("rename", 422, source="sea", target="Not A Slug")


async def test_deleted_clips_go_along_and_are_not_counted(
    operate: Operate, up: Uploader, runtime: Runtime
) -> None:
    one, gone = await up.register(await up.batch(), item(b"a"), item(b"b", "b.mp4"))
    async with runtime.db.transaction() as session:
        await session.execute(text("INSERT INTO categories (slug, name) VALUES ('sea', 'Sea')"))
        await session.execute(
            text("UPDATE clips SET deleted_at = now() WHERE uid = :uid"), {"uid": gone["clip_id"]}
        )
    named = [one["clip_id"]]
    assert (await operate("move-clips", source="transport", target="sea", clips=named))["clips"] == 1
    assert (await operate("move-clips", source="transport", target="sea"))["clips"] == 0, "it is not there"
    assert (await labels(runtime, gone["clip_id"]))[0] == ["sea"]


async def test_a_name_of_both_kinds_is_asked_about(operate: Operate, up: Uploader) -> None:
    keywords = ["travel", "street", "hill", "yellow", "lisbon"]
    await up.register(await up.batch(), item(b"a", keywords=keywords))
    asked = await operate("rename", 409, source="travel", target="journeys")
    assert asked["code"] == "ambiguous_kind"
    assert (await operate("rename", source="travel", target="journeys", kind="tag"))["kind"] == "tag"


async def test_a_file_that_renames_and_merges_leaves_former_names_as_well(
    up: Uploader, client: httpx.AsyncClient, admin: Person
) -> None:
    document = (
        "paletta_taxonomy: 1\ncategories:\n- {slug: vehicles, name: Vehicles, renamed_from: transport}\n"
        "- {slug: journeys, name: Journeys}\nmoves:\n  categories: {travel: journeys}\n"
    )
    for _ in range(2):
        answer = await client.post(
            "/v1/admin/taxonomy/apply", json={"document": document}, headers=admin.headers
        )
        assert answer.status_code == 200, answer.text
    published = (await client.get("/v1/manifest-schema", headers=up.headers)).json()
    assert published["former_categories"] == {"transport": "vehicles", "travel": "journeys"}
    renamed = "slug: vehicles, name: Vehicles, renamed_from: transport"
    again = {"document": document.replace(renamed, "slug: transport, name: Transport")}
    plan = (await client.post("/v1/admin/taxonomy/plan", json=again, headers=admin.headers)).json()
    expected = "category `transport` became `vehicles`; the file still names it, and makes it anew"
    assert expected in plan["warnings"]


# ---- rivals


async def test_of_two_applies_at_once_one_waits_and_neither_is_lost(
    runtime: Runtime, client: httpx.AsyncClient, admin: Person
) -> None:
    """On connections of their own. The second was planned before the first, and is told so by its digest."""
    first = "paletta_taxonomy: 1\ncategories:\n- {slug: sea, name: Sea}\n"
    second = "paletta_taxonomy: 1\ncategories:\n- {slug: air, name: Air}\n"
    async with runtime.db.transaction() as session:
        planned = await apply.plan(session, second, filename="b.yaml")
    principal: Any = type("Admin", (), {"user_id": None})()

    async def run(document: str, digest: str | None) -> None:
        async with runtime.db.transaction() as session:
            await apply.apply(session, principal, document, filename="a.yaml", digest=digest, prune=True)

    async with runtime.db.transaction() as holder:
        await lock.take(holder)
        rivals = [asyncio.create_task(run(first, None)), asyncio.create_task(run(second, None))]
        await blocked(runtime, 2)
    await asyncio.gather(*rivals)
    async with runtime.db.transaction() as session:
        assert len(list(await session.scalars(text("SELECT slug FROM categories")))) == 1
        await session.execute(text("UPDATE categories SET name = 'Changed'"))
    with pytest.raises(Conflict, match="changed since"):
        await run(second, planned.digest())


async def test_who_links_clips_waits_for_a_merge_and_lands_in_its_target(
    runtime: Runtime, up: Uploader, operate: Operate
) -> None:
    batch = await up.batch()
    async with runtime.db.transaction() as holder:
        await lock.take(holder)
        merging = asyncio.create_task(operate("merge", source="transport", target="travel"))
        await blocked(runtime, 1)
        registering = asyncio.create_task(up.register(batch, item(b"a", categories=["transport"])))
        await blocked(runtime, 2)
    await merging
    [one] = await registering
    assert one["outcome"] == "created", one
    assert (await labels(runtime, one["clip_id"]))[0] == ["travel"]


# ---- size


def big(renamed: bool = False) -> str:
    """1,000 categories in a tree and 10,000 tags, half of which have a synonym."""
    lines = ["paletta_taxonomy: 1", "categories:"]
    for n in range(1000):
        parent = f", parent: c{n // 10}" if n >= 10 else ""
        former = f", renamed_from: c{n}" if renamed and n >= 100 else ""
        slug = f"k{n}" if renamed and n >= 100 else f"c{n}"
        lines.append(f"- {{slug: {slug}, name: Category {n}{parent}{former}}}")
    lines.append("tags:")
    for n in range(10_000):
        former = f", renamed_from: tag number {n}" if renamed else ""
        name = f"label number {n}" if renamed else f"tag number {n}"
        synonyms = f", synonyms: [word {n}]" if n % 2 else ""
        lines.append(f"- {{name: {name}{synonyms}{former}}}")
    return "\n".join(lines) + "\n"


async def test_ten_thousand_tags_take_a_dozen_statements(runtime: Runtime) -> None:
    principal: Any = type("Admin", (), {"user_id": None})()
    for document in (big(), big(renamed=True)):
        began = time.monotonic()
        async with runtime.db.transaction() as session, listening(session) as heard:
            made = await apply.apply(session, principal, document, filename="big.yaml")
        print(f"{len(made.changes):,} changes in {time.monotonic() - began:.1f} s, {len(heard)} statements")
        assert 0 < len(heard) < 40
    async with runtime.db.transaction() as session:
        assert await session.scalar(text("SELECT count(*) FROM taxonomy_redirects")) == 10_900
        assert (await apply.plan(session, big(renamed=True), filename="big.yaml")).changes == []
        pruned = await apply.plan(session, "paletta_taxonomy: 1\n", filename="none.yaml", prune=True)
    assert len(pruned.changes) == 11_000
