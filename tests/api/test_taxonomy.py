"""Categories and tags over HTTP: public lists, and what contributors create and delete."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from paletta_server.core.errors import Invalid
from paletta_server.core.runtime import Runtime
from paletta_server.taxonomy import service
from tests.conftest import MakeUser, Person
from tests.support.locks import blocked
from tests.support.taxonomy import make_clip

NOBODY = Person("", "", "", "", "")


async def call(
    client: httpx.AsyncClient, person: Person, method: str, path: str, expect: int, **kwargs: Any
) -> Any:
    headers = person.headers if person.token else {}
    answer = await client.request(method, f"/v1{path}", headers=headers, **kwargs)
    assert answer.status_code == expect, f"{method} {path}: {answer.status_code} {answer.text}"
    return answer.json() if answer.content else None


async def person_id(runtime: Runtime, person: Person) -> int:
    async with runtime.db.transaction() as session:
        found = await session.scalar(text("SELECT id FROM users WHERE uid = :uid"), {"uid": person.uid})
    assert isinstance(found, int)
    return found


async def clip(runtime: Runtime, person: Person, **labels: Any) -> int:
    async with runtime.db.transaction() as session:
        return await make_clip(session, person.uid, **labels)


async def test_lists_are_public_and_say_what_is_mine(
    client: httpx.AsyncClient, runtime: Runtime, make_user: MakeUser
) -> None:
    ana, admin = await make_user(), await make_user("admin")
    await call(client, admin, "POST", "/categories", 201, json={"name": "Travel", "description": "Far away"})
    await call(client, ana, "POST", "/categories", 201, json={"name": "Sea Life", "parent": "travel"})
    await call(client, admin, "POST", "/tags", 201, json={"name": "beach"})
    await call(client, ana, "POST", "/tags", 201, json={"name": "  Deep   Sea "})
    await clip(runtime, ana, categories=("sea-life",), tags=("beach", "deep sea"), listed=True)
    await clip(runtime, ana, categories=("sea-life",), tags=("beach",), listed=True, deleted=True)

    categories = await call(client, NOBODY, "GET", "/categories", 200)
    nothing = {"description": "", "parent": None, "clip_count": 0, "mine": False}
    assert categories == {
        "items": [
            {**nothing, "slug": "travel", "name": "Travel", "description": "Far away"},
            {**nothing, "slug": "sea-life", "name": "Sea Life", "parent": "travel", "clip_count": 1},
        ],
        "next_cursor": None,
    }
    tags = await call(client, ana, "GET", "/tags", 200)
    assert tags["items"] == [
        {"name": "beach", "synonyms": [], "clip_count": 1, "mine": False},
        {"name": "deep sea", "synonyms": [], "clip_count": 1, "mine": True},
    ]
    mine = await call(client, ana, "GET", "/tags?mine=true", 200)
    assert [one["name"] for one in mine["items"]] == ["deep sea"]
    await call(client, NOBODY, "GET", "/tags?mine=true", 401)


async def test_tags_are_paged_and_searched(
    client: httpx.AsyncClient, runtime: Runtime, make_user: MakeUser
) -> None:
    ana = await person_id(runtime, await make_user())
    names = [f"tag {letter}" for letter in "abcdefg"]
    async with runtime.db.transaction() as session:
        await service.tags_for_upload(session, names, ana)
        await session.execute(text("""UPDATE tags SET synonyms = '["100%_sure"]' WHERE name = 'tag c'"""))
    seen: list[str] = []
    cursor = ""
    while True:
        page = await call(client, NOBODY, "GET", f"/tags?limit=3{cursor}", 200)
        seen += [one["name"] for one in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == names
    for q, found in (("G D", ["tag d"]), ("%_", ["tag c"]), ("ag", names), ("zebra", [])):
        page = await call(client, NOBODY, "GET", "/tags", 200, params={"q": q})
        assert [one["name"] for one in page["items"]] == found, q
    for cursor in ("%25%25", "A", "_w"):
        assert (await call(client, NOBODY, "GET", f"/tags?cursor={cursor}", 422))["code"] == "bad_cursor"


async def test_what_no_database_can_hold_is_just_not_there(
    client: httpx.AsyncClient, make_user: MakeUser
) -> None:
    ana = await make_user()
    assert (await call(client, NOBODY, "GET", "/tags?q=%00", 200))["items"] == []
    await call(client, ana, "DELETE", "/tags/%00", 404)
    await call(client, ana, "DELETE", "/categories/%00", 404)
    await call(client, ana, "POST", "/categories", 404, json={"name": "x", "parent": "\x00"})


async def test_a_near_duplicate_is_asked_about(client: httpx.AsyncClient, make_user: MakeUser) -> None:
    ana, bo = await make_user(), await make_user()
    await call(client, ana, "POST", "/tags", 201, json={"name": "Beach"})
    assert (await call(client, bo, "POST", "/tags", 200, json={"name": " BEACH"}))["mine"] is False
    for typed in ("beaches", "beahc"):
        problem = await call(client, bo, "POST", "/tags", 409, json={"name": typed})
        assert problem["code"] == "near_duplicate"
        assert problem["did_you_mean"] == ["beach"]
        assert "did you mean `beach`" in problem["hint"]
    await call(client, bo, "POST", "/tags", 201, json={"name": "beahc", "force": True})
    for bad in ("a,b", "x" * 51, "\x1b[2J", "", "..", "a\u202eb"):
        assert (await call(client, bo, "POST", "/tags", 422, json={"name": bad}))["code"] == "invalid_tag"


async def test_a_synonym_is_the_tag_it_stands_for(
    client: httpx.AsyncClient, runtime: Runtime, make_user: MakeUser
) -> None:
    ana, admin = await make_user(), await make_user("admin")
    document = "paletta_taxonomy: 1\ntags: [{name: beach, synonyms: [seaside]}]"
    await call(client, admin, "POST", "/admin/taxonomy/apply", 200, json={"document": document})
    assert (await call(client, ana, "POST", "/tags", 200, json={"name": "Seaside"}))["name"] == "beach"
    near = await call(client, ana, "POST", "/tags", 409, json={"name": "sea-side"})
    assert near["did_you_mean"] == ["beach"]
    missing = await call(client, admin, "DELETE", "/tags/seaside", 404)
    assert "synonym of `beach`" in missing["hint"]


async def test_who_may_delete_what(client: httpx.AsyncClient, runtime: Runtime, make_user: MakeUser) -> None:
    ana, bo, admin = await make_user(), await make_user(), await make_user("admin")
    customer = await make_user("customer")
    for person, name in ((admin, "official"), (ana, "anas"), (ana, "anas other"), (ana, "24/7")):
        await call(client, person, "POST", "/tags", 201, json={"name": name, "force": True})
    await call(client, admin, "POST", "/categories", 201, json={"name": "Official"})
    await call(client, ana, "POST", "/categories", 201, json={"name": "Anas"})
    await call(client, ana, "POST", "/categories", 201, json={"name": "Below", "parent": "anas"})
    await clip(runtime, bo, tags=("anas",), categories=("anas",))
    gone = await clip(runtime, bo, tags=("anas other",), deleted=True)

    for path in ("/tags/anas", "/categories/anas"):
        await call(client, NOBODY, "DELETE", path, 401)
        assert (await call(client, customer, "DELETE", path, 403))["code"] == "not_a_contributor"
        problem = await call(client, bo, "DELETE", path, 403)
        assert problem["code"] == "not_yours"
        assert "another contributor" in problem["detail"]
    for path in ("/tags/official", "/categories/official"):
        assert "belongs to the operator" in (await call(client, ana, "DELETE", path, 403))["detail"]
    problem = await call(client, ana, "DELETE", "/tags/anas", 409)
    assert (problem["code"], problem["clips"]) == ("in_use", 1)
    assert "below" in (await call(client, ana, "DELETE", "/categories/anas", 409))["detail"]
    await call(client, ana, "DELETE", "/categories/below", 204)
    assert (await call(client, ana, "DELETE", "/categories/anas", 409))["clips"] == 1
    assert (await call(client, ana, "DELETE", "/categories/anos", 404))["hint"] == "did you mean `anas`?"

    await call(client, ana, "DELETE", "/tags/24%2F7", 204)
    await call(client, ana, "DELETE", "/tags/Anas%20Other", 204)  # only a deleted clip carries it
    async with runtime.db.transaction() as session:
        assert await service.tag_names(session, [gone]) == {gone: []}
    await call(client, admin, "DELETE", "/tags/official", 204)
    await call(client, admin, "DELETE", "/categories/official", 204)
    async with runtime.db.transaction() as session:
        actions = set(await session.scalars(text("SELECT action || ' ' || object FROM audit_logs")))
    assert {
        "tag:created anas",
        "tag:deleted 24/7",
        "category:created anas",
        "category:deleted below",
    } <= actions


async def test_making_categories(client: httpx.AsyncClient, make_user: MakeUser) -> None:
    ana = await make_user()
    made = await call(client, ana, "POST", "/categories", 201, json={"name": " Café & Bar "})
    assert made["slug"] == "cafe-bar"
    for body in ({"name": "café & bar", "slug": "other"}, {"name": "Other", "slug": "cafe-bar"}):
        problem = await call(client, ana, "POST", "/categories", 409, json=body)
        assert problem["code"] == "exists"
        assert "`cafe-bar`" in problem["detail"]
    assert (await call(client, ana, "POST", "/categories", 422, json={"name": "日本"}))[
        "code"
    ] == "invalid_slug"
    await call(client, ana, "POST", "/categories", 201, json={"name": "日本", "slug": "japan"})
    await call(client, ana, "POST", "/categories", 422, json={"name": "x", "slug": "Not A Slug"})
    await call(client, ana, "POST", "/categories", 422, json={"name": "x", "description": "\x1b]0;owned\x07"})
    await call(client, ana, "POST", "/categories", 422, json={"name": "\u202ex"})
    await call(client, ana, "POST", "/categories", 404, json={"name": "x", "parent": "nowhere"})


async def test_nobody_makes_categories_without_end(
    client: httpx.AsyncClient, runtime: Runtime, make_user: MakeUser
) -> None:
    ana, bo = await make_user(), await make_user()
    async with runtime.db.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO categories (slug, name, owner_id) SELECT 'own-' || n, 'Own ' || n, :owner"
                " FROM generate_series(2, :most) AS n"
            ),
            {"owner": await person_id(runtime, ana), "most": service.CATEGORIES_PER_PERSON},
        )
    await call(client, ana, "POST", "/categories", 201, json={"name": "one"})
    assert (await call(client, ana, "POST", "/categories", 409, json={"name": "three"}))["code"] == "too_many"
    await call(client, bo, "POST", "/categories", 201, json={"name": "three"})


async def test_the_public_counts_what_is_in_the_shop(
    client: httpx.AsyncClient, runtime: Runtime, make_user: MakeUser
) -> None:
    ana = await make_user()
    await call(client, ana, "POST", "/categories", 201, json={"name": "Transport"})
    await call(client, ana, "POST", "/tags", 201, json={"name": "tram"})
    async with runtime.db.transaction() as session:
        for _ in range(2):
            await make_clip(session, ana.uid, categories=("transport",), tags=("tram",))
        await make_clip(session, ana.uid, categories=("transport",), tags=("tram",), listed=True)
    for path in ("/categories", "/tags"):
        assert [one["clip_count"] for one in (await call(client, NOBODY, "GET", path, 200))["items"]] == [
            1
        ], path
    refused = await call(client, ana, "DELETE", "/tags/tram", 409)
    assert refused["clips"] == 3, "its owner is told of every one"


# -- what other domains call


async def test_tags_for_uploads(runtime: Runtime, make_user: MakeUser) -> None:
    ana, bo = await person_id(runtime, await make_user()), await person_id(runtime, await make_user())
    async with runtime.db.transaction() as session:
        first, warnings = await service.tags_for_upload(session, ["Beach", "sand", "BEACH ", "tram"], ana)
        assert warnings == []
    async with runtime.db.transaction() as session:
        await session.execute(text("""UPDATE tags SET synonyms = '["seaside"]' WHERE name = 'beach'"""))
        ids, warnings = await service.tags_for_upload(
            session, ["trams", "seaside", "beach", "sand", "new"], bo
        )
    assert len(first) == 3
    beach, sand, tram = first
    assert ids[1:3] == [beach, sand]
    assert len(set(ids)) == 4
    assert tram not in ids
    assert warnings == [service.Suggestion("trams", ["tram"])]
    async with runtime.db.transaction() as session:
        lists = await service.tags_for_uploads(session, [["tram", "new"], [], ["new", "tram", "newer"]], bo)
        owners = {
            row.name: row.owner_id for row in await session.execute(text("SELECT name, owner_id FROM tags"))
        }
        with pytest.raises(Invalid):
            await service.tags_for_uploads(session, [["a,b"]], bo)
    assert lists[0] == [tram, ids[3]]
    assert lists[1] == []
    assert lists[2][:2] == [ids[3], tram]
    assert owners == {"beach": ana, "sand": ana, "tram": ana, "trams": bo, "new": bo, "newer": bo}


async def test_labels_of_clips_keep_their_order(runtime: Runtime, make_user: MakeUser) -> None:
    ana = await make_user()
    async with runtime.db.transaction() as session:
        await service.tags_for_upload(session, ["a1", "b1", "c1"], await person_id(runtime, ana))
        await session.execute(text("INSERT INTO categories (slug, name) VALUES ('x', 'X'), ('y', 'Y')"))
        one = await make_clip(session, ana.uid, tags=("c1", "a1", "b1"), categories=("y", "x"))
        two = await make_clip(session, ana.uid)
        assert await service.tag_names(session, [one, two]) == {one: ["c1", "a1", "b1"], two: []}
        assert await service.category_slugs(session, [one, two]) == {one: ["y", "x"], two: []}
        assert (await service.categories_by_slug(session, ["x", "nope"])).keys() == {"x"}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("transport", "transport"),
        ("Transportation", "transport"),
        ("tranpsort", "transport"),
        ("Buildings and architecture", "architecture"),
        ("Nature", "environment"),
        ("qqqqqq", None),
        ("日本", None),
    ],
)
async def test_suggesting_a_category(
    client: httpx.AsyncClient,
    runtime: Runtime,
    make_user: MakeUser,
    repository: Any,
    typed: str,
    meant: str | None,
) -> None:
    document = (repository / "manifests" / "taxonomy.yaml").read_text(encoding="utf-8")
    admin = await make_user("admin")
    await call(client, admin, "POST", "/admin/taxonomy/apply", 200, json={"document": document})
    async with runtime.db.transaction() as session:
        assert await service.suggest_category(session, typed) == meant


# -- two at once


async def test_two_contributors_make_the_same_tags_at_once(runtime: Runtime, make_user: MakeUser) -> None:
    """Each transaction waits for the other where they meet; both end with the same rows."""
    people = [await person_id(runtime, await make_user()) for _ in range(4)]
    names = [f"tag {number}" for number in range(60)]

    async def upload(owner: int, turn: int) -> dict[str, int]:
        wanted = names[turn * 10 :] + names[: turn * 10]
        async with runtime.db.transaction() as session:
            ids, _ = await service.tags_for_upload(session, wanted, owner)
        return dict(zip(wanted, ids, strict=True))

    results = await asyncio.gather(*(upload(owner, turn) for turn, owner in enumerate(people)))
    assert all(result == results[0] for result in results)
    async with runtime.db.transaction() as session:
        assert await session.scalar(text("SELECT count(*) FROM tags")) == len(names)


async def test_a_tag_made_by_a_rival_meanwhile_is_used(runtime: Runtime, make_user: MakeUser) -> None:
    ana, bo = await person_id(runtime, await make_user()), await person_id(runtime, await make_user())
    async with runtime.db.transaction() as first:
        mine, _ = await service.tags_for_upload(first, ["beach"], ana)

        async def rival() -> list[int]:
            async with runtime.db.transaction() as second:
                return (await service.tags_for_upload(second, ["beach", "sand"], bo))[0]

        waiting = asyncio.create_task(rival())
        await blocked(runtime)
    assert (await waiting)[0] == mine[0]


async def test_a_tag_cannot_be_deleted_while_an_upload_links_it(
    client: httpx.AsyncClient, runtime: Runtime, make_user: MakeUser
) -> None:
    ana = await make_user()
    await call(client, ana, "POST", "/tags", 201, json={"name": "beach"})
    owner = await person_id(runtime, ana)
    async with runtime.db.transaction() as session:
        await service.tags_for_upload(session, ["beach"], owner)
        deleting = asyncio.create_task(call(client, ana, "DELETE", "/tags/beach", 409))
        await blocked(runtime)
        await make_clip(session, ana.uid, tags=("beach",))
    assert (await deleting)["code"] == "in_use"


async def test_tags_that_no_clip_uses_are_not_made_without_end(
    client: httpx.AsyncClient, runtime: Runtime, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "UNUSED_TAGS_PER_PERSON", 2)
    ana = await make_user()
    for name in ("tram", "lisbon"):
        await call(client, ana, "POST", "/tags", 201, json={"name": name})
    assert (await call(client, ana, "POST", "/tags", 409, json={"name": "ferry"}))["code"] == "too_many"
    await call(client, ana, "POST", "/tags", 200, json={"name": "tram"})
    async with runtime.db.transaction() as session:
        await make_clip(session, ana.uid, tags=("tram",))
    await call(client, ana, "POST", "/tags", 201, json={"name": "ferry"})
