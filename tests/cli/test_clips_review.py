"""`paletta admin clips pending | approve | reject`, as typed."""

from __future__ import annotations

import json

from tests.cli.conftest import Run
from tests.support.clips import Shelf
from tests.support.uploading import METADATA

TRAM, FERRY = "clip_tram22222222", "clip_ferry2222222"


async def test_what_waits_is_listed_for_admins_alone(shelf: Shelf, paletta: Run) -> None:
    nothing = await paletta("admin", "clips", "pending", as_="admin")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "no clips wait for review\n")
    await shelf.put("tram", stage="in_review")
    await shelf.put("ferry")
    waiting = await paletta("admin", "clips", "pending", as_="admin")
    assert waiting.code == 0
    assert waiting.out == f"{TRAM}\t{METADATA['title']}\t8.04\t1920\t1080\t21\ttransport\ttram.mov\n"
    assert waiting.err == "hint: `paletta clips show CLIP --open` plays one\n"
    as_json = json.loads((await paletta("admin", "clips", "pending", "--json", as_="admin")).out)
    assert [clip["id"] for clip in as_json] == [TRAM]
    refused = await paletta("admin", "clips", "pending")
    assert (refused.code, refused.out) == (4, "")


async def test_approved_clips_are_live(shelf: Shelf, paletta: Run) -> None:
    await shelf.put("tram", stage="in_review")
    await shelf.put("ferry", stage="in_review")
    approved = await paletta("admin", "clips", "approve", "tram22", FERRY, as_="admin")
    assert (approved.code, approved.err) == (0, "")
    assert approved.out == f"{TRAM} approved\n{FERRY} approved\n"
    assert {clip["stage"] for clip in (await shelf.up.call("GET", "/me/clips"))["items"]} == {"live"}


async def test_a_rejection_reaches_its_contributor(shelf: Shelf, paletta: Run) -> None:
    await shelf.put("tram", stage="in_review")
    rejected = await paletta("admin", "clips", "reject", "tram22", "--reason", "soft focus", as_="admin")
    assert (rejected.code, rejected.out, rejected.err) == (0, f"{TRAM} rejected\n", "")
    (clip,) = (await shelf.up.call("GET", "/me/clips"))["items"]
    assert (clip["stage"], clip["reason"]) == ("rejected", "soft focus")
    unsaid = await paletta("admin", "clips", "reject", "tram22", as_="admin")
    assert (unsaid.code, unsaid.out) == (2, "")
    short = await paletta("admin", "clips", "reject", "tram22", "--reason", " no ", as_="admin")
    assert (short.code, short.err.splitlines()[0]) == (2, "error: the reason must have 3 to 1,000 characters")


async def test_one_that_was_decided_does_not_keep_the_others(shelf: Shelf, paletta: Run) -> None:
    await shelf.put("kart")
    await shelf.put("tram", stage="in_review")
    done = await paletta("admin", "clips", "approve", "kart22", "tram22", "zebra2", "--json", as_="admin")
    assert done.code == 6
    answer = json.loads(done.out)
    assert answer["approved"] == [{"id": TRAM, "title": METADATA["title"], "stage": "live"}]
    assert [(one["clip"], one["code"]) for one in answer["failed"]] == [
        ("kart22", "not_in_review"),
        ("zebra2", "not_found"),
    ]
    assert done.err == (
        "error: `kart22`: this clip is approved, not waiting for review\n"
        "hint: it is in the shop already\n"
        "error: no clip `clip_zebra2`\n"
        "error: 2 of 3 clips were not approved\n"
    )
    alone = await paletta("admin", "clips", "approve", "kart22", as_="admin")
    assert (alone.code, alone.out) == (1, "")
    assert alone.err == (
        "error: this clip is approved, not waiting for review\nhint: it is in the shop already\n"
    )
    late = await paletta("admin", "clips", "reject", "kart22", "--reason", "soft focus", as_="admin")
    assert (late.code, late.out) == (1, "")
    assert late.err == (
        "error: this clip is approved, not waiting for review\n"
        "hint: it is in the shop; `paletta admin clips take-down` takes it out\n"
    )


async def test_a_contributor_is_refused_once_not_for_every_clip(shelf: Shelf, paletta: Run) -> None:
    await shelf.put("tram", stage="in_review")
    await shelf.put("ferry", stage="in_review")
    refused = await paletta("admin", "clips", "approve", "tram22", "ferry2")
    assert (refused.code, refused.out) == (4, "")
    assert refused.err.count("error: ") == 1
