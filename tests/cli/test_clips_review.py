"""`paletta admin clips pending | approve | reject | ask-changes`, reports and standing, as typed."""

from __future__ import annotations

import json
import re

from tests.cli.conftest import Run
from tests.conftest import MakeUser, Person
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
    assert as_json[0]["standing"]["all_time"]["approved"] == 0
    assert as_json[0]["alike"] == []
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


async def test_changes_are_asked_for_with_a_published_reason(shelf: Shelf, paletta: Run) -> None:
    await shelf.put("tram", stage="in_review")
    codes = await paletta("admin", "clips", "reasons", as_="admin")
    assert [line.split("\t")[0] for line in codes.out.splitlines()][:2] == ["focus", "noise"]
    words = ("--reason-code", "keywords", "--reason", "Name the line.")
    asked = await paletta("admin", "clips", "ask-changes", "tram22", *words, as_="admin")
    assert (asked.code, asked.out, asked.err) == (0, f"{TRAM} sent back for changes\n", "")
    listed = await paletta("clips", "list", "--stage", "changes_requested")
    assert listed.out.startswith(f"{TRAM}\t")
    assert "Name the line." in listed.out
    shown = await paletta("clips", "show", "tram22")
    assert "stage\tchanges requested\n" in shown.out
    assert "say the same again and again. Name the line.\n" in shown.out
    edited = await paletta("clips", "edit", "tram22", "--title", "Line 28 climbs a steep street")
    assert edited.code == 0
    waiting = await paletta("admin", "clips", "pending", as_="admin")
    assert waiting.out.startswith(f"{TRAM}\tLine 28")
    unknown = await paletta("admin", "clips", "reject", "tram22", "--reason-code", "ugly", as_="admin")
    assert (unknown.code, unknown.err.splitlines()[0]) == (
        2, "error: --reason-code: there is no reason `ugly`",
    )  # fmt: skip


async def test_a_whole_batch_or_contributor_is_decided_after_a_question(
    shelf: Shelf, paletta: Run, on_a_terminal: Run, people: dict[str, Person]
) -> None:
    for name in ("tram", "ferry"):
        await shelf.put(name, stage="in_review")
    who = people["contributor"].email
    unasked = await paletta("admin", "clips", "approve", "--contributor", who, as_="admin")
    assert (unasked.code, unasked.out) == (2, "")
    assert "cannot ask without a terminal: approve 2 clips?" in unasked.err
    admin = {"PALETTA_TOKEN": people["admin"].token}
    refused = await on_a_terminal("admin", "clips", "approve", "--contributor", who, answer="n", **admin)
    assert (refused.code, refused.out.splitlines()[-1].endswith("nothing was decided")) == (1, True)
    (batch, *_) = (await shelf.up.call("GET", "/upload-batches"))["items"]
    one = await paletta("admin", "clips", "approve", "--batch", batch["id"], "--yes", as_="admin")
    assert (one.code, one.out) == (0, f"{FERRY} approved\n")
    rest = await paletta(
        "admin",
        "clips",
        "reject",
        "--contributor",
        who,
        "--reason-code",
        "focus",
        "--yes",
        "--json",
        as_="admin",
    )
    assert [clip["id"] for clip in json.loads(rest.out)["rejected"]] == [TRAM]
    none = await paletta("admin", "clips", "approve", "--contributor", who, "--yes", as_="admin")
    assert (none.code, none.out, none.err) == (0, "", "none of these clips waits for review\n")
    for words in ((), ("tram22", "--batch", "batch_x")):
        wrong = await paletta("admin", "clips", "approve", *words, as_="admin")
        assert (wrong.code, wrong.out) == (2, "")


async def test_what_is_edited_after_it_was_listed_waits_again(
    shelf: Shelf, on_a_terminal: Run, people: dict[str, Person]
) -> None:
    for name in ("tram", "ferry"):
        await shelf.put(name, stage="in_review")

    async def edit() -> None:
        await shelf.up.call("PATCH", f"/clips/{TRAM}", json={"title": "Buy followers here"})

    argv = ("admin", "clips", "approve", "--contributor", people["contributor"].email)
    done = await on_a_terminal(
        *argv, asked="approve 2 clips?", meanwhile=edit, answer="y", PALETTA_TOKEN=people["admin"].token
    )
    assert done.code == 6
    assert f"{FERRY} approved" in done.out
    stages = {one["id"]: one["stage"] for one in (await shelf.up.call("GET", "/me/clips"))["items"]}
    assert stages == {TRAM: "in_review", FERRY: "live"}


async def test_a_report_goes_from_whoever_sees_the_clip_to_the_operators(
    shelf: Shelf, paletta: Run, people: dict[str, Person], make_user: MakeUser
) -> None:
    await shelf.put("tram")
    people["customer"] = await make_user("customer")
    nothing = await paletta("admin", "reports", "list", as_="admin")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "no open reports\n")
    for reason, words in (
        ("tradmark", "error: --reason: there is no reason `tradmark`"),
        ("other", "error: --text: `other` says nothing by itself"),
    ):
        refused = await paletta("clip", "report", "tram22", "--reason", reason, as_="customer")
        assert (refused.code, refused.err.splitlines()[0]) == (2, words)
    filed = await paletta(
        "clip", "report", "tram22", "--reason", "trademark", "--text", "a logo\x1b[2J", as_="customer"
    )
    assert (filed.code, filed.out) == (0, f"{TRAM} reported\n")
    (line,) = (await paletta("admin", "reports", "list", as_="admin")).out.splitlines()
    uid, status, reason, clip, text = line.split("\t")
    assert (status, reason, clip, text) == ("open", "trademark", TRAM, "a logo[2J"), (
        "no escapes reach a terminal"
    )
    shown = await paletta("admin", "reports", "show", uid, as_="admin")
    assert f"by: {people['customer'].email}" in shown.out
    unsaid = await paletta("admin", "reports", "resolve", uid, "--take-down", as_="admin")
    assert (unsaid.code, unsaid.out) == (2, "")
    words = ("--take-down", "--reason", "A logo can be seen.", "--note", "agreed", "--yes")
    resolved = await paletta("admin", "reports", "resolve", uid, *words, as_="admin")
    assert (resolved.code, resolved.out) == (0, f"{uid} resolved\n{TRAM} taken down\n")
    closed = await paletta("admin", "reports", "dismiss", uid, as_="admin")
    assert (closed.code, closed.err) == (1, "error: this report was resolved before\n")
    who = people["contributor"].email
    standing = await paletta("admin", "contributors", "standing", who, as_="admin")
    assert standing.out.splitlines()[0] == f"{who}\tall\t0\t0\t0\t1\t1\t"
    everybody = json.loads((await paletta("admin", "contributors", "standing", "--json", as_="admin")).out)
    assert who in [one["contributor"]["email"] for one in everybody]


async def test_a_clip_without_a_verb_is_shown(shelf: Shelf, paletta: Run) -> None:
    await shelf.put("tram")
    plain = await paletta("clip", "tram22")
    assert plain.code == 0
    signed = re.compile(r"\?\S+")  # with the time of day in it
    shown = await paletta("clip", "show", "tram22")
    assert signed.sub("", shown.out) == signed.sub("", plain.out)
    assert (await paletta("clip", "--json", "tram22")).code == 0
    assert "report" in (await paletta("clip", "--help")).out
