"""A contributor's own clips: list, look, edit, apply, poster, delete; and review by a moderator."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from paletta_server.core.runtime import Runtime
from tests.conftest import MakeUser
from tests.support.uploading import METADATA, Uploader, item

RunJobs = Callable[[], Awaitable[None]]

READY = """
UPDATE clips SET processing = 'ready', review = :review, technical = '{}', duration = 4, width = 1920, height = 1080,
  fps = 24, codec = 'h264', poster_number = 1, listed_at = CASE WHEN :review = 'approved' THEN now() END;
UPDATE uploads SET state = 'verified', stage = CASE WHEN :review = 'approved' THEN 'live' ELSE 'in_review' END;
INSERT INTO renditions (clip_id, kind, number, key, content_type, size, sha256, width, height, at_seconds)
  SELECT id, 'poster', n, 'media/' || uid || '/p' || n, 'image/jpeg', 10, repeat('0', 64), 640, 360, n
  FROM clips, generate_series(1, 6) AS n;
"""


@pytest.fixture
async def moderator(client: httpx.AsyncClient, make_user: MakeUser) -> AsyncIterator[Uploader]:
    made = Uploader(client, (await make_user("admin")).headers)
    yield made
    await made.store.aclose()


async def finished(up: Uploader, runtime: Runtime, *, review: str = "approved", **metadata: Any) -> str:
    """A clip as ingest leaves it, without transcoding."""
    sent = await up.send(os.urandom(400), **metadata)
    async with runtime.db.transaction() as session:
        for statement in READY.strip().split(";"):
            if statement.strip():
                query = text(statement)
                await session.execute(query, {"review": review} if ":review" in statement else {})
    clip_id: str = sent["clip_id"]
    return clip_id


async def test_an_edit_changes_what_it_names_and_counts_versions(up: Uploader, runtime: Runtime) -> None:
    clip = await finished(up, runtime)
    edited = await up.call(
        "PATCH",
        f"/clips/{clip}",
        json={"title": "Red tram climbs", "keywords": ["Red", *METADATA["keywords"]]},
    )
    assert edited["title"] == "Red tram climbs"
    assert edited["keywords"] == ["red", *METADATA["keywords"]]
    assert edited["categories"] == ["transport"]
    assert edited["version"] == 2
    stale = {**up.headers, "If-Match": '"1"'}
    answer = await up.client.patch(f"/v1/clips/{clip}", headers=stale, json={"title": "Too late"})
    assert (answer.status_code, answer.json()["code"]) == (412, "changed_since")


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"title": "x"}, "invalid_metadata", "/metadata/title"),
        ({"colour": "red"}, "invalid_metadata", "colour"),
        ({"categories": ["travle"]}, "unknown_category", "travle"),
        ({"keywords": ["a,b", "c", "d", "e", "f"]}, "invalid_metadata", "comma"),
        ({"title": "Tram \u001b[31mred\u001b[0m"}, "invalid_metadata", "U+001B"),
    ],
)
async def test_a_bad_edit_says_why_and_changes_nothing(
    up: Uploader, runtime: Runtime, changes: dict[str, Any], code: str, words: str
) -> None:
    clip = await finished(up, runtime)
    problem = await up.call("PATCH", f"/clips/{clip}", 422, json=changes)
    assert problem["code"] == code
    assert words in problem["detail"]
    assert (await up.call("GET", f"/clips/{clip}"))["version"] == 1


async def test_a_changed_manifest_is_planned_and_applied_all_or_nothing(
    up: Uploader, runtime: Runtime
) -> None:
    clip = await finished(up, runtime)
    new = {"ref": "tram", "clip_id": clip, "metadata": {**METADATA, "title": "Green tram climbs"}}
    lost = {"ref": "lost", "file": "nowhere.mp4", "metadata": METADATA}
    bad = {"ref": "bad", "clip_id": clip, "metadata": {**METADATA, "title": ""}}
    plan = await up.call("POST", "/clips/apply", json={"items": [new, lost], "dry_run": True})
    assert plan["changes"][0]["changes"] == {"title": [METADATA["title"], "Green tram climbs"]}
    assert [one["ref"] for one in plan["unmatched"]] == ["lost"]
    assert plan["applied"] is False
    refused = await up.call("POST", "/clips/apply", json={"items": [new, bad]})
    assert (refused["applied"], refused["problems"][0]["ref"]) == (False, "bad")
    assert (await up.call("GET", f"/clips/{clip}"))["title"] == METADATA["title"]
    assert (await up.call("POST", "/clips/apply", json={"items": [new]}))["applied"] is True
    again = await up.call("POST", "/clips/apply", json={"items": [new]})
    assert again["changes"] == []


async def test_the_poster_is_one_of_the_candidates(up: Uploader, runtime: Runtime) -> None:
    clip = await finished(up, runtime)
    chosen = await up.call("PUT", f"/clips/{clip}/poster", json={"number": 4})
    assert [one["number"] for one in chosen["items"] if one["chosen"]] == [4]
    assert "/p4?" in (await up.call("GET", f"/clips/{clip}"))["media"]["poster"]
    await up.call("PUT", f"/clips/{clip}/poster", 404, json={"number": 99})


async def test_own_clips_are_found_by_stage_and_words(up: Uploader, runtime: Runtime) -> None:
    await finished(up, runtime, title="First of all clips")
    await up.send(os.urandom(300), title="Second of 100% clips")
    listed = await up.call("GET", "/me/clips")
    assert [clip["title"] for clip in listed["items"]] == ["Second of 100% clips", "First of all clips"]
    live = await up.call("GET", "/me/clips", params={"stage": "live"})
    assert [clip["title"] for clip in live["items"]] == ["First of all clips"]
    found = await up.call("GET", "/me/clips", params={"q": "100%"})
    assert [clip["title"] for clip in found["items"]] == ["Second of 100% clips"]
    first = await up.call("GET", "/me/clips", params={"limit": 1})
    rest = await up.call("GET", "/me/clips", params={"limit": 1, "cursor": first["next_cursor"]})
    assert [rest["items"][0]["title"], rest["next_cursor"]] == ["First of all clips", None]


async def test_ids_may_be_abbreviated_while_unambiguous(up: Uploader, runtime: Runtime) -> None:
    clip = await finished(up, runtime)
    assert (await up.call("GET", f"/clips/{clip[:11]}"))["id"] == clip
    assert (await up.call("GET", f"/clips/{clip.removeprefix('clip_')}"))["id"] == clip
    await up.call("GET", "/clips/clip_2", 404)
    async with runtime.db.transaction() as session:
        await session.execute(text("UPDATE clips SET uid = 'clip_7777aaaaaaaa'"))
    await up.send(os.urandom(300))
    async with runtime.db.transaction() as session:
        await session.execute(
            text("UPDATE clips SET uid = 'clip_7777bbbbbbbb' WHERE uid <> 'clip_7777aaaaaaaa'")
        )
    problem = await up.call("GET", "/clips/clip_7777", 409)
    assert problem["candidates"] == ["clip_7777aaaaaaaa", "clip_7777bbbbbbbb"]


async def test_what_is_not_listed_is_seen_by_its_owner_only(
    up: Uploader, moderator: Uploader, client: httpx.AsyncClient, make_user: MakeUser, runtime: Runtime
) -> None:
    clip = await finished(up, runtime, review="submitted")
    stranger = Uploader(client, (await make_user("contributor")).headers)
    nobody = Uploader(client, {})
    for person in (stranger, nobody):
        await person.call("GET", f"/clips/{clip}", 404)
    for method, path, body in [
        ("PATCH", f"/clips/{clip}", {"title": "Mine now"}),
        ("DELETE", f"/clips/{clip}", None),
        ("GET", f"/clips/{clip}/posters", None),
        ("PUT", f"/clips/{clip}/poster", {"number": 1}),
    ]:
        await stranger.call(method, path, 404, json=body)
        await moderator.call(method, path, 404, json=body)
    assert (await moderator.call("GET", f"/clips/{clip}"))["sha256"]
    await moderator.call("POST", f"/admin/clips/{clip}/approve")
    seen = await nobody.call("GET", f"/clips/{clip}")
    assert (seen["sha256"], seen["warnings"]) == (None, [])


async def test_review_is_decided_once_and_reported(
    up: Uploader, moderator: Uploader, runtime: Runtime
) -> None:
    clip = await finished(up, runtime, review="submitted")
    pending = await moderator.call("GET", "/admin/clips")
    assert [one["id"] for one in pending["items"]] == [clip]
    answers = await asyncio.gather(
        moderator.client.post(f"/v1/admin/clips/{clip}/approve", headers=moderator.headers),
        moderator.client.post(
            f"/v1/admin/clips/{clip}/reject", headers=moderator.headers, json={"reason": "soft focus"}
        ),
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    stage = (await up.call("GET", f"/clips/{clip}"))["stage"]
    assert stage == ("live" if answers[0].status_code == 200 else "rejected")
    async with runtime.db.transaction() as session:
        actions = list(
            await session.scalars(text("SELECT action FROM audit_logs WHERE action LIKE 'clip:%'"))
        )
    assert actions == ["clip:approved" if stage == "live" else "clip:rejected"]


async def test_a_deleted_clip_is_gone_and_its_objects_with_it(
    up: Uploader, runtime: Runtime, run_jobs: RunJobs
) -> None:
    clip = await finished(up, runtime)
    async with runtime.db.transaction() as session:
        key = await session.scalar(text("SELECT original_key FROM clips"))
    await up.call("DELETE", f"/clips/{clip}", 204)
    await up.call("DELETE", f"/clips/{clip}", 404)
    assert (await up.call("GET", "/me/clips"))["items"] == []
    await run_jobs()
    assert await runtime.store.head(key) is None


async def test_a_wished_second_moves_the_poster(up: Uploader, runtime: Runtime) -> None:
    clip = await finished(up, runtime)
    await up.call("PATCH", f"/clips/{clip}", json={"poster_at": 4.7})
    posters = (await up.call("GET", f"/clips/{clip}/posters"))["items"]
    assert [one["at"] for one in posters if one["chosen"]] == [5.0]


async def test_a_stranger_reads_nothing_of_the_contributors_own_business(
    up: Uploader, client: httpx.AsyncClient, runtime: Runtime
) -> None:
    private = {
        "releases": {"model": ["anna.pdf"], "property": []},
        "agencies": {"adobe": {"category": "20"}},
        "batch": "lisbon-01",
        "price": {"hd": "49.00"},
        "location": {"city": "Lisbon", "lat": 38.7, "lon": -9.1},
    }
    clip = await finished(up, runtime, **private)
    own = await up.call("GET", f"/clips/{clip}")
    assert own["releases"] == {"model": ["anna.pdf"], "property": []}
    seen = await Uploader(client, {}).call("GET", f"/clips/{clip}")
    hidden = ("releases", "agencies", "batch", "price", "poster_at", "file", "sha256", "reason")
    assert {name: seen[name] for name in hidden} == dict.fromkeys(hidden)
    assert seen["location"] == {"city": "Lisbon"}


async def test_failed_and_rejected_are_told_apart(up: Uploader, runtime: Runtime) -> None:
    for title, stage in (("Our side gave up here", "failed"), ("The gate said no here", "rejected")):
        await up.send(os.urandom(300), title=title)
        async with runtime.db.transaction() as session:
            await session.execute(
                text("UPDATE uploads SET stage = :stage WHERE id = (SELECT max(id) FROM uploads)"),
                {"stage": stage},
            )
            await session.execute(
                text("UPDATE clips SET processing = 'failed' WHERE id = (SELECT max(id) FROM clips)")
            )
    for stage, title in (("failed", "Our side gave up here"), ("rejected", "The gate said no here")):
        found = await up.call("GET", "/me/clips", params={"stage": stage})
        assert [clip["title"] for clip in found["items"]] == [title]


async def test_what_the_database_cannot_store_is_the_callers_mistake(up: Uploader) -> None:
    answer = await up.call("GET", "/me/clips", 422, params={"q": "a\x00b"})
    assert answer["code"] == "unstorable"


async def test_a_token_without_the_clips_sees_what_a_stranger_sees(
    up: Uploader, client: httpx.AsyncClient, runtime: Runtime
) -> None:
    hidden = await finished(up, runtime, review="submitted")
    made = await up.call(
        "POST", "/me/tokens", 201, json={"name": "for invoices", "scopes": ["orders"], "expires_in_days": 1}
    )
    narrow = Uploader(client, {"Authorization": f"Bearer {made['token']}"})
    assert (await narrow.call("GET", f"/clips/{hidden}", 404))["code"] == "not_found"
    async with runtime.db.transaction() as session:
        await session.execute(text("UPDATE clips SET review = 'approved'"))
    seen = await narrow.call("GET", f"/clips/{hidden}")
    assert (seen["file"], seen["sha256"]) == (None, None)
    assert (await up.call("GET", f"/clips/{hidden}"))["sha256"] is not None


@pytest.mark.parametrize("number", ["1e400", "-1e400", "NaN", "Infinity"])
async def test_numbers_without_end_are_no_numbers(up: Uploader, runtime: Runtime, number: str) -> None:
    """`1e400` is good JSON, and read as infinity."""
    clip = await finished(up, runtime)
    fields = {
        "poster_at": number,
        "location": f'{{"lat": {number}, "lon": {number}}}',
        "agencies": f'{{"adobe": {{"x": [{number}]}}}}',
    }
    headers = {**up.headers, "Content-Type": "application/json"}
    for name, value in fields.items():
        body = f'{{"{name}": {value}}}'
        answer = await up.client.patch(f"/v1/clips/{clip}", content=body, headers=headers)
        assert answer.status_code == 422, (name, answer.text)
    batch = await up.batch()
    described = json.dumps({"items": [item(os.urandom(300))]}).replace(
        '"metadata": {', f'"metadata": {{"poster_at": {number}, '
    )
    answer = await up.client.post(f"/v1/upload-batches/{batch}/items", content=described, headers=headers)
    [refused] = answer.json()["items"]
    assert refused["outcome"] == "invalid"
    assert [problem["pointer"] for problem in refused["problems"]] == ["/metadata/poster_at"]


async def test_a_character_that_cannot_be_stored_costs_only_its_own_file(up: Uploader) -> None:
    bad = item(os.urandom(300), "bad.mp4", agencies={"adobe": {"note": "a\0b"}})
    good = item(os.urandom(300), "good.mp4", agencies={"adobe": {"note": "\\u0000 as typed, 東京"}})
    answers = await up.register(await up.batch(), bad, good)
    assert [one["outcome"] for one in answers] == ["invalid", "created"]
    assert answers[0]["problems"][0]["pointer"] == "/metadata/agencies"


async def test_what_a_reviewer_saw_is_reviewed_again_when_it_changes(
    up: Uploader, moderator: Uploader, app: FastAPI, runtime: Runtime
) -> None:
    clip = await finished(up, runtime)
    assert (await up.call("PATCH", f"/clips/{clip}", json={"title": "A tram, reviewed by nobody"}))[
        "stage"
    ] == "live"
    app.state.runtime = replace(runtime, settings=runtime.settings.model_copy(update={"review": "manual"}))
    try:
        assert (await up.call("PATCH", f"/clips/{clip}", json={"batch": "spring"}))["stage"] == "live"
        changed = await up.call("PATCH", f"/clips/{clip}", json={"title": "Quite another thing"})
        assert changed["stage"] == "in_review"
        waiting = await moderator.call("GET", "/admin/clips")
        assert [one["id"] for one in waiting["items"]] == [clip]
        await moderator.call("POST", f"/admin/clips/{clip}/approve")
        entry = {"clip_id": clip, "metadata": {**METADATA, "description": "From a manifest."}}
        for dry_run in (True, False):
            answer = await up.call("POST", "/clips/apply", json={"items": [entry], "dry_run": dry_run})
            assert [change["stage"] for change in answer["changes"]] == [["live", "in_review"]]
        entry["metadata"]["description"] = "From another."
        answer = await up.call("POST", "/clips/apply", json={"items": [entry], "dry_run": True})
        assert [change["stage"] for change in answer["changes"]] == [None], "it waits already"
        assert (await up.call("GET", f"/clips/{clip}"))["stage"] == "in_review"
    finally:
        app.state.runtime = runtime
