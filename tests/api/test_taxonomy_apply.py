"""The operator's file over HTTP: plan, apply, export; all or nothing, and again without a change."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, event, text

from paletta_server.core.runtime import Runtime
from paletta_server.taxonomy import apply, lock, service
from paletta_server.taxonomy.document import parse
from tests.api.test_taxonomy import blocked, call, clip, person_id
from tests.conftest import MakeUser, Person
from tests.support.taxonomy import make_clip

HEAD = "paletta_taxonomy: 1\n"


@pytest.fixture
async def admin(make_user: MakeUser) -> Person:
    return await make_user("admin")


@pytest.fixture
def operate(client: httpx.AsyncClient, admin: Person) -> Any:
    """`await operate("plan"|"apply", text, expect, **options)`: one call, the answer."""

    async def run(verb: str, document: str, expect: int = 200, **options: Any) -> Any:
        body = {"document": HEAD + document, **options}
        return await call(client, admin, "POST", f"/admin/taxonomy/{verb}", expect, json=body)

    return run


def lines(plan: Any) -> list[str]:
    return [
        f"{one['op']} {one['kind']} {one['key']} {one['clips']}"
        + (f" ({one['blocked']})" if one["blocked"] else "")
        for one in plan["changes"]
    ]


async def rows(runtime: Runtime, query: str) -> list[Any]:
    async with runtime.db.transaction() as session:
        return [tuple(row) for row in await session.execute(text(query))]


async def test_the_shipped_file_goes_in_twice_and_comes_out_again(
    client: httpx.AsyncClient, runtime: Runtime, admin: Person, repository: Path
) -> None:
    document = (repository / "manifests" / "taxonomy.yaml").read_text(encoding="utf-8")
    body = {"document": document, "filename": "manifests/taxonomy.yaml"}
    planned = await call(client, admin, "POST", "/admin/taxonomy/plan", 200, json=body)
    assert not planned["applied"]
    assert await rows(runtime, "SELECT 1 FROM categories UNION ALL SELECT 1 FROM tags") == []

    body["digest"] = planned["digest"]
    applied = await call(client, admin, "POST", "/admin/taxonomy/apply", 200, json=body)
    assert applied == planned | {"applied": True}
    listed = (await call(client, admin, "GET", "/categories", 200))["items"]
    assert [one["slug"] for one in listed] == list(parse(document).categories)

    del body["digest"]
    again = await call(client, admin, "POST", "/admin/taxonomy/apply", 200, json={**body, "prune": True})
    assert again["changes"] == []
    exported = (await call(client, admin, "GET", "/admin/taxonomy", 200))["document"]
    back = await call(
        client, admin, "POST", "/admin/taxonomy/plan", 200, json={"document": exported, "prune": True}
    )
    assert back["changes"] == []
    audited = await rows(runtime, "SELECT object, details FROM audit_logs WHERE action = 'taxonomy:applied'")
    assert [(key, one["file"], one["changes"]["category:create"]) for key, one in audited] == [
        ("taxonomy", "manifests/taxonomy.yaml", 26)
    ]


async def test_export_writes_what_apply_reads(client: httpx.AsyncClient, operate: Any, admin: Person) -> None:
    document = """\
categories:
- {slug: yes, name: "no: # 'quoted' \\"twice\\"", description: "- [a] {b} & *c ! | > % @ `"}
- {slug: on, name: "日本", parent: yes}
- {slug: a1, name: "true", agencies: {x: "1.5", y: " z ", a1: "007", b: "~"}}
tags: [no, "2024", "0x10", "1e3", "- dash", "a: b", "#hash", "🌊", "null", ".5", "c++", "b&w", "tag?",
  "a\\"b", "what's up"]
"""
    assert (await operate("apply", document))["changes"]
    exported = (await call(client, admin, "GET", "/admin/taxonomy", 200))["document"]
    body = {"document": exported, "prune": True}
    assert (await call(client, admin, "POST", "/admin/taxonomy/plan", 200, json=body))["changes"] == []


async def test_contributors_entries_stay_out_of_it(
    client: httpx.AsyncClient, runtime: Runtime, operate: Any, admin: Person, make_user: MakeUser
) -> None:
    ana = await make_user()
    await call(client, ana, "POST", "/categories", 201, json={"name": "Hers"})
    for name in ("hers", "wanted"):
        await call(client, ana, "POST", "/tags", 201, json={"name": name})
    plan = await operate("apply", "tags: [wanted, beach]", prune=True)
    assert lines(plan) == ["create tag beach 0", "change tag wanted 0"]
    owned = await rows(runtime, "SELECT name, owner_id IS NULL FROM tags ORDER BY name")
    assert owned == [("beach", True), ("hers", False), ("wanted", True)]
    assert "hers" not in (await call(client, admin, "GET", "/admin/taxonomy", 200))["document"]


async def test_a_plan_counts_clips_and_a_rename_keeps_them(
    runtime: Runtime, operate: Any, make_user: MakeUser
) -> None:
    ana = await make_user()
    await operate("apply", "categories: [{slug: sea, name: Sea}]\ntags: [beach]")
    one = await clip(runtime, ana, categories=("sea",), tags=("beach",))
    await clip(runtime, ana, categories=("sea",), deleted=True)
    document = "categories: [{slug: ocean, name: Ocean, renamed_from: sea}]\ntags: [{name: shore, renamed_from: beach}]"
    plan = await operate("apply", document)
    assert lines(plan) == ["rename category sea 1", "rename tag beach 1"]
    assert plan["changes"][0]["before"] == {"slug": "sea", "name": "Sea"}
    async with runtime.db.transaction() as session:
        assert await service.category_slugs(session, [one]) == {one: ["ocean"]}
        assert await service.tag_names(session, [one]) == {one: ["shore"]}
        assert (await service.suggest_tags(session, ["shores"]))[0].did_you_mean == ["shore"]
    assert (await operate("apply", document))["changes"] == []


async def test_what_clips_use_goes_only_with_a_place_to_go(
    runtime: Runtime, operate: Any, make_user: MakeUser
) -> None:
    ana = await make_user()
    await operate(
        "apply", "categories: [{slug: sea, name: Sea}, {slug: sand, name: Sand}]\ntags: [old, mid, beach]"
    )
    one = await clip(runtime, ana, categories=("sand", "sea"), tags=("mid", "old"))
    two = await clip(runtime, ana, categories=("sea",), tags=("old", "mid", "beach"))
    document = "categories: [{slug: sand, name: Sand}]\ntags: [mid, beach]"
    assert (await operate("plan", document))["warnings"] == [
        "1 category of the operator not in the file: prune deletes what the file does not name",
        "1 tag of the operator not in the file: prune deletes what the file does not name",
    ]
    plan = await operate("plan", document, prune=True)
    assert lines(plan) == ["delete category sea 2 (2 clips use it)", "delete tag old 2 (2 clips use it)"]
    refused = await operate("apply", document, 409, prune=True)
    assert refused["code"] == "taxonomy_blocked"
    assert "category `sea` cannot be deleted: 2 clips use it (and 1 more)" in refused["detail"]
    assert "--move OLD=NEW" in refused["hint"]

    moves = [{"old": "sea", "new": "sand"}, {"kind": "tag", "old": "OLD ", "new": "beach"}]
    plan = await operate("apply", document, prune=True, moves=moves)
    assert lines(plan) == ["move category sea 2", "move tag old 2"]
    async with runtime.db.transaction() as session:
        assert await service.category_slugs(session, [one, two]) == {one: ["sand"], two: ["sand"]}
        assert await service.tag_names(session, [one, two]) == {one: ["mid", "beach"], two: ["beach", "mid"]}
    assert (await operate("apply", document, prune=True))["changes"] == []


async def test_moves_in_the_file_can_stay_there(runtime: Runtime, operate: Any, make_user: MakeUser) -> None:
    ana = await make_user()
    async with runtime.db.transaction() as session:
        await service.tags_for_upload(session, ["seaside", "shore"], await person_id(runtime, ana))
    one = await clip(runtime, ana, tags=("seaside", "shore"))
    document = "tags: [{name: beach, synonyms: [seaside]}]\nmoves: {tags: {shore: beach}}"
    assert lines(await operate("apply", document)) == [
        "create tag beach 0",
        "move tag shore 1",
        "move tag seaside 1",
    ]
    async with runtime.db.transaction() as session:
        assert await service.tag_names(session, [one]) == {one: ["beach"]}
    assert (await operate("apply", document))["changes"] == []


async def test_parents_follow(
    client: httpx.AsyncClient, operate: Any, admin: Person, make_user: MakeUser
) -> None:
    ana = await make_user()
    await operate(
        "apply",
        "categories: [{slug: reef, name: Reef, parent: sea}, {slug: sea, name: Sea}, {slug: salt, name: Salt}]",
    )
    await call(client, ana, "POST", "/categories", 201, json={"name": "Wreck", "parent": "sea"})
    document = "categories: [{slug: salt, name: Salt, renamed_from: sea}, {slug: reef, name: Reef}]"
    await operate("apply", document)
    listed = (await call(client, ana, "GET", "/categories", 200))["items"]
    assert [(one["slug"], one["parent"]) for one in listed] == [
        ("salt", None),
        ("reef", None),
        ("wreck", "salt"),
    ]
    assert (await operate("apply", document))["changes"] == []


async def test_all_or_nothing(runtime: Runtime, operate: Any, make_user: MakeUser) -> None:
    await operate("apply", "tags: [a, b]")
    await clip(runtime, await make_user(), tags=("b",))
    before = await rows(runtime, "SELECT * FROM tags ORDER BY id")
    await operate(
        "apply", "categories: [{slug: new, name: New}]\ntags: [{name: a, synonyms: [c]}]", 409, prune=True
    )
    assert await rows(runtime, "SELECT * FROM tags ORDER BY id") == before
    assert await rows(runtime, "SELECT * FROM categories") == []


async def test_errors_name_file_line_and_column(operate: Any) -> None:
    refused = await operate(
        "plan",
        "categories:\n- {slug: a, name: A, parent: b}\n- {slug: sea, nmae: Sea}",
        422,
        filename="../t.yaml",
    )
    assert refused["code"] == "taxonomy_invalid"
    assert refused["problems"] == [
        {"file": "../t.yaml", "line": 4, "column": 3, "message": "a category needs a `name`", "hint": None},
        {
            "file": "../t.yaml",
            "line": 4,
            "column": 15,
            "message": "unknown key `nmae` in a category",
            "hint": "did you mean `name`?",
        },
    ]
    refused = await operate("apply", "categories:\n- {slug: a, name: A, parent: b}", 422)
    assert [(one["line"], one["column"]) for one in refused["problems"]] == [(3, 30)]
    refused = await operate("plan", "", 422, moves=[{"old": "x", "new": "y"}])
    assert refused["problems"][0]["message"] == "no category or tag `x` to move"
    refused = await operate("plan", "tags: [" + "'a,b', " * 500 + "]", 422)
    assert (len(refused["problems"]), refused["problem_count"]) == (200, 500)


async def test_a_plan_that_is_no_longer_true_is_not_applied(operate: Any) -> None:
    planned = await operate("plan", "tags: [a, b]")
    await operate("apply", "tags: [a]")
    refused = await operate("apply", "tags: [a, b]", 409, digest=planned["digest"])
    assert refused["code"] == "plan_changed"


async def test_only_operators(client: httpx.AsyncClient, make_user: MakeUser) -> None:
    ana = await make_user()
    await call(client, ana, "GET", "/admin/taxonomy", 403)
    for verb in ("plan", "apply"):
        await call(client, ana, "POST", f"/admin/taxonomy/{verb}", 403, json={"document": HEAD})


async def test_two_applies_take_turns(runtime: Runtime, operate: Any) -> None:
    """The second computes its plan after the first is done: neither mixes with the other."""
    planned = await operate("plan", "tags: [a, b]")
    async with runtime.db.transaction() as session:
        await lock.take(session)
        first = asyncio.create_task(operate("apply", "tags: [a, b]", 200))
        await blocked(runtime)
        second = asyncio.create_task(operate("apply", "tags: [a, b]", 409, digest="0" * 32))
        third = asyncio.create_task(operate("apply", "tags: [a, b]", 200))
    answers = await asyncio.gather(first, second, third)
    assert answers[1]["code"] == "plan_changed"
    changes = sorted((answers[0]["changes"], answers[2]["changes"]), key=len)
    assert changes == [[], planned["changes"]]


async def test_nothing_is_linked_under_an_applys_feet(
    runtime: Runtime, operate: Any, admin: Person, make_user: MakeUser
) -> None:
    """An upload that found a tag finishes before an apply may delete it, and then the apply sees its clip."""
    ana = await make_user()
    await operate("apply", "tags: [a, b]")
    owner = await person_id(runtime, ana)
    async with runtime.db.transaction() as session:
        await service.tags_for_upload(session, ["b"], owner)
        applying = asyncio.create_task(operate("apply", "tags: [a]", 409, prune=True))
        await blocked(runtime)
        await make_clip(session, ana.uid, tags=("b",))
    assert (await applying)["code"] == "taxonomy_blocked"


async def test_an_upload_waits_for_an_apply(runtime: Runtime, make_user: MakeUser) -> None:
    """A word that becomes a synonym while an upload waits is that synonym's tag."""
    ana, root = await make_user(), await make_user("admin")
    owner, root_id = await person_id(runtime, ana), await person_id(runtime, root)

    class Root:
        user_id = root_id

    async def upload() -> list[int]:
        async with runtime.db.transaction() as session:
            return (await service.tags_for_upload(session, ["seaside"], owner))[0]

    async with runtime.db.transaction() as session:
        document = HEAD + "tags: [{name: beach, synonyms: [seaside]}]"
        await apply.apply(session, Root(), document, filename="t.yaml")  # type: ignore[arg-type]
        waiting = asyncio.create_task(upload())
        await blocked(runtime)
    (beach,) = await waiting
    assert await rows(runtime, "SELECT id, name FROM tags") == [(beach, "beach")]


async def test_ten_thousand_tags_and_a_thousand_categories(
    operate: Any, runtime: Runtime, make_user: MakeUser
) -> None:
    """Set-based all the way: the number of statements does not depend on the number of entries."""
    categories = "".join(
        f"- {{slug: c{n}, name: C {n}, description: about c{n}, parent: c{n // 10}, agencies: {{adobe: '1'}}}}\n"
        if n
        else "- {slug: c0, name: C 0}\n"
        for n in range(1000)
    )
    tags = "".join(f"- {{name: tag number {n}, synonyms: [syn {n}, word {n}]}}\n" for n in range(10_000))
    document = f"categories:\n{categories}tags:\n{tags}"
    started = time.perf_counter()
    with counted_statements(runtime) as statements:
        plan = await operate("apply", document)
    print(f"apply of 11,000 new entries: {time.perf_counter() - started:.2f} s")
    assert len(plan["changes"]) == 11_000
    assert 0 < max(statements.values()) < 40
    started = time.perf_counter()
    again = document.replace("syn ", "synonym ").replace("about", "on")
    assert len((await operate("apply", again))["changes"]) == 11_000 - 1
    print(f"apply of 10,999 changed entries: {time.perf_counter() - started:.2f} s")
    started = time.perf_counter()
    assert len((await operate("apply", "", prune=True))["changes"]) == 11_000
    print(f"prune of 11,000 entries: {time.perf_counter() - started:.2f} s")


@contextmanager
def counted_statements(runtime: Runtime) -> Iterator[Counter[Connection]]:
    """How many are sent to the database in the block, by connection: what follows the taxonomy has its own."""
    engine = runtime.db.engine.sync_engine
    seen: Counter[Connection] = Counter()

    def note(connection: Connection, *_rest: Any) -> None:
        seen[connection] += 1

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)
