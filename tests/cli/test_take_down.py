"""`paletta admin clips take-down | taken-down | restore` as typed, and what buyers and contributors see of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from paletta_server.core.runtime import Runtime
from tests.cli.conftest import Ran, Run
from tests.conftest import MakeUser, Person
from tests.support.clips import Shelf
from tests.support.orders import Sold, Till, Wanted
from tests.support.uploading import METADATA

TRAM, FERRY = "clip_tram22222222", "clip_ferry2222222"
TITLE = METADATA["title"]
FILES = {"hd": b"an hd file" * 500, "original": b"the original file" * 5000}
WHY = "the museum asks for it"
WITHHELD = f"`{TRAM}` of order {{order}} is withheld for legal reasons: the shop had to take the clip down"


@pytest.fixture
async def people(make_user: MakeUser) -> dict[str, Person]:
    return {role: await make_user(role) for role in ("customer", "contributor", "admin")}


@pytest.fixture
async def till(runtime: Runtime, people: dict[str, Person]) -> Till:
    return await Till.of(runtime, people["customer"].email, people["contributor"].email)


@pytest.fixture
def admin(paletta: Run) -> Run:
    async def run(*argv: str) -> Ran:
        return await paletta("admin", "clips", *argv, as_="admin")

    return run


async def sell(runtime: Runtime, till: Till, *clips: str) -> Sold:
    async with runtime.db.transaction() as session:
        rows: Any = await session.execute(text("SELECT uid, id FROM clips"))
        keys: dict[str, int] = dict(rows.all())
    names = {TRAM: "Tram", FERRY: "Ferry"}
    return await till.sell(*(Wanted(names[clip], files=FILES, clip_id=keys[clip]) for clip in clips))


# ---- operators


async def test_clips_are_taken_down_listed_and_restored(
    shelf: Shelf, admin: Run, till: Till, runtime: Runtime
) -> None:
    await shelf.put("tram")
    await shelf.put("ferry", stage="in_review")
    await sell(runtime, till, TRAM)
    gone = await admin("take-down", "tram22", FERRY, "--reason", WHY, "--yes")
    assert (gone.code, gone.out) == (0, f"{TRAM} taken down\n{FERRY} taken down\n")
    assert gone.err == (
        f"{TRAM}  {TITLE}  (live, 1 paid item)\n{FERRY}  {TITLE}  (in review)\n"
        "1 paid item stays with its buyer; nothing was refunded\n"
    )
    listed = await admin("taken-down")
    assert (listed.code, listed.err) == (0, "hint: `paletta admin clips restore CLIP` lifts it\n")
    assert [line.split("\t")[0::9] for line in listed.out.splitlines()] == [[FERRY, WHY], [TRAM, WHY]]
    back = await admin("restore", "tram22", "ferry2")
    assert (back.code, back.err) == (0, "")
    assert back.out == f"{TRAM} restored, live\n{FERRY} restored, in review\n"
    nothing = await admin("taken-down")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "no clips are taken down\n")


async def test_a_legal_take_down_withholds_unless_told_otherwise(
    shelf: Shelf, admin: Run, till: Till, runtime: Runtime
) -> None:
    await shelf.put("tram")
    await shelf.put("ferry")
    await sell(runtime, till, TRAM, FERRY)
    gone = await admin("take-down", TRAM, "--reason", WHY, "--legal", "--yes", "--json")
    assert json.loads(gone.out) == {
        "taken_down": [
            {
                "id": TRAM, "title": TITLE, "stage": "taken_down", "withheld": True, "paid_items": 1,
                "paid_orders": 1,
            }
        ],
        "failed": [],
    }  # fmt: skip
    assert gone.err.endswith("1 paid item cannot be fetched by its buyer now; nothing was refunded\n")
    kept = await admin("take-down", FERRY, "--reason", WHY, "--legal", "--keep-sold", "--yes", "--json")
    assert json.loads(kept.out)["taken_down"][0]["withheld"] is False
    assert kept.err.endswith("1 paid item stays with its buyer; nothing was refunded\n")


async def test_what_somebody_paid_for_is_not_withheld_at_will(shelf: Shelf, admin: Run) -> None:
    await shelf.put("tram")
    refused = await admin("take-down", TRAM, "--reason", WHY, "--withhold-sold", "--yes")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("error: --withhold-sold needs --legal: ")
    for argv, words in (
        (("--yes",), "--reason"),
        (("--reason", " x ", "--yes"), "the reason must have 3 to 1,000 characters"),
        (("--reason", WHY), "cannot ask without a terminal: take down 1 clip?"),
        (("--reason", WHY, "--legal"), "take down 1 clip and withhold what was sold?"),
    ):
        ran = await admin("take-down", TRAM, *argv)
        assert (ran.code, ran.out, words in ran.err) == (2, "", True), ran
    assert (await shelf.up.call("GET", f"/clips/{TRAM}"))["stage"] == "live"


@pytest.mark.parametrize(("answer", "stage", "code"), [("n", "live", 1), ("y", "taken_down", 0)])
async def test_it_asks_before(
    shelf: Shelf, on_a_terminal: Run, people: dict[str, Person], answer: str, stage: str, code: int
) -> None:
    await shelf.put("tram")
    token = people["admin"].token
    argv = ("admin", "clips", "take-down", "tram22", "--reason", WHY)
    ran = await on_a_terminal(*argv, answer=answer, PALETTA_TOKEN=token)
    assert (ran.code, "take down 1 clip? [y/N]" in ran.out) == (code, True), ran
    assert ("nothing was taken down" in ran.out) == (code == 1)
    assert (await shelf.up.call("GET", f"/clips/{TRAM}"))["stage"] == stage


async def test_one_that_cannot_be_decided_does_not_keep_the_others(shelf: Shelf, admin: Run) -> None:
    await shelf.put("tram")
    await shelf.put("ferry")
    assert (await admin("take-down", FERRY, "--reason", WHY, "--yes")).code == 0
    some = await admin("take-down", "ferry2", "tram22", "zebra2", "--reason", WHY, "--yes", "--json")
    assert some.code == 6
    answer = json.loads(some.out)
    assert [one["id"] for one in answer["taken_down"]] == [TRAM]
    assert [(one["clip"], one["code"]) for one in answer["failed"]] == [
        ("ferry2", "already_taken_down"),
        ("zebra2", "not_found"),
    ]
    assert some.err == (
        "error: `ferry2`: this clip was taken down before\n"
        "hint: `--legal` withholds what was sold of it as well\n"
        "error: no clip `clip_zebra2`\n"
        f"{TRAM}  {TITLE}  (live)\n"
        "nothing of it was sold\n"
        "error: 2 of 3 clips were not taken down\n"
    )
    alone = await admin("take-down", "zebra2", "--reason", WHY, "--yes")
    assert (alone.code, alone.out, alone.err) == (1, "", "error: no clip `clip_zebra2`\n")
    both = await admin("restore", TRAM, "zebra2")
    assert (both.code, both.out) == (6, f"{TRAM} restored, live\n")
    late = await admin("restore", TRAM)
    assert (late.code, late.err) == (1, "error: this clip is approved, not taken down\n")


async def test_a_contributor_takes_nothing_down(shelf: Shelf, paletta: Run) -> None:
    await shelf.put("tram")
    for argv in (("take-down", TRAM, "--reason", WHY, "--yes"), ("restore", TRAM), ("taken-down",)):
        refused = await paletta("admin", "clips", *argv)
        assert (refused.code, refused.out) == (4, ""), refused


# ---- contributors


async def test_the_contributor_sees_why_and_cannot_send_it_again(
    shelf: Shelf, admin: Run, paletta: Run, tmp_path: Path
) -> None:
    await shelf.put("tram")
    await admin("take-down", TRAM, "--reason", WHY, "--yes")
    shown = await paletta("clips", "list", "--stage", "taken_down")
    assert (shown.code, WHY in shown.out, "taken_down" in shown.out) == (0, True, True), shown
    one = await paletta("clips", "show", "tram22")
    assert (WHY in one.out, "taken down" in one.out) == (True, True), one
    folder = tmp_path / "shoot"
    folder.mkdir()
    (folder / "tram.mov").write_bytes(shelf.data["tram.mov"])
    words = "".join(f"    - {word}\n" for word in METADATA["keywords"])
    (folder / "paletta.yaml").write_text(
        f"paletta: 1\nclips:\n- file: tram.mov\n  title: {TITLE}\n  keywords:\n{words}"
        "  categories: [transport]\n"
    )
    sent = await paletta("upload", "shoot", "--no-check-media", "--json")
    (item,) = json.loads(sent.out)["items"]
    assert (sent.code, item["stage"]) == (6, "invalid"), sent
    assert item["reason"] == f"this film is `{TRAM}`, which was taken down: {WHY}"


# ---- buyers


async def test_a_download_goes_on_with_the_others(
    shelf: Shelf, admin: Run, paletta: Run, till: Till, runtime: Runtime, tmp_path: Path
) -> None:
    await shelf.put("tram")
    await shelf.put("ferry")
    sold = await sell(runtime, till, TRAM, FERRY)
    await admin("take-down", TRAM, "--reason", WHY, "--legal", "--yes")
    number = sold.order.number
    shown = await paletta("orders", "show", number, as_="customer")
    assert (shown.code, "withheld" in shown.out) == (0, True), shown
    assert f"warning: `{TRAM}` is withheld for legal reasons" in shown.err
    ran = await paletta("orders", "download", number, "--to", "films", as_="customer")
    assert ran.code == 6, ran
    assert WITHHELD.format(order=number) in ran.err
    assert ran.err.splitlines()[-1] == "1 downloaded, 1 withheld for legal reasons"
    assert [path.name for path in (tmp_path / "films").rglob("*.mov")] == [f"{FERRY}-Ferry.mov"]
    as_json = await paletta("orders", "download", number, "--to", "films", "--json", as_="customer")
    document = json.loads(as_json.out)
    assert (document["exit_code"], document["held"]) == (6, [sold.items[0].uid])
    alone = await paletta("orders", "download", "--clip", TRAM, "--to", "films", as_="customer")
    assert (alone.code, alone.err.splitlines()[-1]) == (6, "error: nothing of this can be downloaded")
    await admin("restore", TRAM)
    ran = await paletta("orders", "download", number, "--to", "films", as_="customer")
    assert (ran.code, ran.err.splitlines()[-1]) == (0, "1 downloaded, 1 already there")


async def test_a_synchronised_folder_keeps_what_is_withheld(
    shelf: Shelf, admin: Run, paletta: Run, till: Till, runtime: Runtime, tmp_path: Path
) -> None:
    await shelf.put("tram")
    await shelf.put("ferry")
    sold = await sell(runtime, till, TRAM)
    assert (await paletta("orders", "sync", "films", as_="customer")).code == 0
    film = tmp_path / "films" / sold.order.number / f"{TRAM}-Tram.mov"
    entry = locked(tmp_path)[0]
    await admin("take-down", TRAM, "--reason", WHY, "--legal", "--yes")
    await sell(runtime, till, FERRY)
    for more in ((), ("--prune",), ("--verify",)):
        ran = await paletta("orders", "sync", "films", *more, as_="customer")
        assert (ran.code, WITHHELD.format(order=sold.order.number) in ran.err) == (0, True), ran
        assert "not licensed to you any more" not in ran.err
        assert film.read_bytes() == FILES["original"]
        assert [one["clip"] for one in locked(tmp_path)] == [TRAM, FERRY]
        assert locked(tmp_path)[0] == entry
    film.unlink()
    assert (await paletta("orders", "sync", "films", as_="customer")).code == 0
    assert not film.exists()
    await admin("restore", TRAM)
    assert (await paletta("orders", "sync", "films", as_="customer")).code == 0
    assert film.read_bytes() == FILES["original"]


def locked(tmp_path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((tmp_path / "films" / "paletta.lock").read_text())["files"]
    return found
