"""`paletta clips apply FOLDER`: a changed manifest against the clips that are there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import text

from paletta_cli.api import Service
from paletta_cli.transfer import fingerprint
from paletta_cli.transfer.journal import Journal
from paletta_server.core.runtime import Runtime
from tests.cli.conftest import Run
from tests.support.clips import Shelf
from tests.support.uploading import METADATA

TRAM, FERRY = "clip_tram22222222", "clip_ferry2222222"
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write(tram={"title": …}, …)`: the folder `shoot` with a manifest of these clips; the films need not be there."""

    def write(**clips: dict[str, Any]) -> Path:
        folder = tmp_path / "shoot"
        folder.mkdir(exist_ok=True)
        lines = ["paletta: 1", "defaults:", "  categories: [transport]", "clips:"]
        for name, fields in clips.items():
            lines.append(f"- file: {name}.mov")
            entry = {"title": METADATA["title"], "keywords": METADATA["keywords"], **fields}
            lines += [f"  {key}: {json.dumps(value, ensure_ascii=False)}" for key, value in entry.items()]
        (folder / "paletta.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return folder

    return write


def remember(folder: Path, state: Path, **films: bytes) -> None:
    """Put films into the folder, and their fingerprints into the journal as an upload does."""
    with Journal(state / "uploads.db", print) as journal:
        for name, data in films.items():
            path = folder / f"{name}.mov"
            path.write_bytes(data)
            journal.remember([(path.absolute(), fingerprint.take(path, 16 * 1024 * 1024))])


async def title_of(shelf: Shelf, clip: str) -> str:
    return str((await shelf.up.call("GET", f"/clips/{clip}"))["title"])


async def test_a_plan_is_shown_and_applied_after_yes(shelf: Shelf, paletta: Run, write: Write) -> None:
    await shelf.put("tram", source="FX3")
    await shelf.put("ferry")
    write(
        tram={"title": "Green tram climbs", "keywords": ["tram", "lisbon", "street", "hill", "green"]},
        ferry={},
    )
    plan = (
        f"~ {TRAM} tram.mov\n"
        '    title: "Yellow tram climbs a steep street" → "Green tram climbs"\n'
        "    keywords: + green, - yellow\n"
        '    source: "FX3" → nothing\n'
    )
    planned = await paletta("clips", "apply", "shoot", "--dry-run")
    assert (planned.code, planned.out, planned.err) == (0, plan, "1 clip to change, 1 as they are\n")
    assert await title_of(shelf, TRAM) == METADATA["title"]

    unasked = await paletta("clips", "apply", "shoot")
    assert (unasked.code, unasked.out) == (2, plan)
    assert unasked.err.endswith("change 1 clip?\nhint: pass --yes to go ahead\n")
    assert await title_of(shelf, TRAM) == METADATA["title"]

    applied = await paletta("clips", "apply", "shoot", "--yes")
    assert (applied.code, applied.out) == (0, plan)
    assert applied.err == "1 clip to change, 1 as they are\n1 clip changed\n"
    assert await title_of(shelf, TRAM) == "Green tram climbs"
    again = await paletta("clips", "apply", "shoot", "--yes")
    assert (again.code, again.out, again.err) == (0, "", "0 clips to change, 2 as they are\n")


async def test_a_person_is_asked(shelf: Shelf, on_a_terminal: Run, write: Write) -> None:
    await shelf.put("tram")
    write(tram={"source": "FX3"})
    declined = await on_a_terminal("clips", "apply", "shoot", answer="n")
    assert declined.code == 1
    assert declined.out == (
        f'~ {TRAM} tram.mov  source: nothing → "FX3"\n'
        "1 clip to change\nchange 1 clip? [y/N] nothing was changed\n"
    )
    agreed = await on_a_terminal("clips", "apply", "shoot", answer="y")
    assert (agreed.code, agreed.out.splitlines()[-1]) == (0, "change 1 clip? [y/N] 1 clip changed")


@pytest.fixture
def by_hand(app: FastAPI, runtime: Runtime) -> Iterator[None]:
    """Clips are reviewed by people, as with PALETTA_REVIEW=manual."""
    app.state.runtime = replace(runtime, settings=runtime.settings.model_copy(update={"review": "manual"}))
    yield
    app.state.runtime = runtime


@pytest.mark.usefixtures("by_hand")
async def test_who_changes_a_live_clip_is_told_that_it_leaves_the_shop_for_review(
    shelf: Shelf, paletta: Run, on_a_terminal: Run, write: Write
) -> None:
    await shelf.put("tram")
    await shelf.put("ferry")
    await shelf.put("kart", stage="in_review")
    write(tram={"title": "Green tram climbs"}, ferry={"source": "FX3"}, kart={"title": "A kart"})
    declined = await on_a_terminal("clips", "apply", "shoot", answer="n")
    assert declined.code == 1
    leaving = "    then waits for review, and is not for sale meanwhile\n"
    assert declined.out.count(leaving) == 1
    assert f'→ "Green tram climbs"\n{leaving}' in declined.out
    assert "3 clips to change, 1 of them not for sale until reviewed\nchange 3 clips?" in declined.out
    planned = json.loads((await paletta("clips", "apply", "shoot", "--dry-run", "--json")).out)
    assert {change["file"]: change["stage"] for change in planned["changes"]} == {
        "tram.mov": ["live", "in_review"], "ferry.mov": None, "kart.mov": None,
    }  # fmt: skip
    applied = await paletta("clips", "apply", "shoot", "--yes")
    assert applied.err.endswith("3 clips changed, 1 of them not for sale until reviewed\n")

    for argv, stage, words in (
        (("--set", "batch=spring"), None, None),
        (("--title", "A ferry", "--dry-run"), ["live", "in_review"], leaving),
        (("--title", "A ferry"), ["live", "in_review"], None),
        (("--title", "The ferry"), None, None),
    ):  # fmt: skip
        if argv[-1] == "--dry-run":
            told = await paletta("clips", "edit", FERRY, *argv)
            assert told.out.endswith(str(words)), told
        edited = await paletta("clips", "edit", FERRY, *argv, "--json")
        assert json.loads(edited.out)["stage"] == stage, argv
    told = await paletta("clips", "edit", TRAM, "--title", "Waits already")
    assert "review" not in told.out + told.err


async def test_an_unchanged_film_is_known_by_its_bytes_whatever_its_name(
    shelf: Shelf, paletta: Run, write: Write, tmp_path: Path
) -> None:
    """`tram.mov` was renamed to `kart.mov` here; a different `tram.mov` was put in its place."""
    await shelf.put("tram")
    folder = write(kart={"title": "Renamed tram climbs"}, tram={"title": "Another tram"})
    remember(folder, tmp_path / "state", kart=shelf.data["tram.mov"], tram=b"other bytes")
    planned = await paletta("clips", "apply", "shoot", "--dry-run")
    assert planned.code == 0
    assert planned.out.startswith(f"~ {TRAM} kart.mov\n")
    assert planned.out.count("~") == 1
    place = "shoot/paletta.yaml:8:3"
    assert planned.err == (
        f"{place}: warning: no clip of yours has this file: upload it first\n1 clip to change, 1 not found\n"
    )


async def test_a_film_that_changed_since_is_looked_for_by_name(
    shelf: Shelf, paletta: Run, write: Write, tmp_path: Path
) -> None:
    await shelf.put("tram")
    folder = write(tram={"title": "Green tram climbs"})
    remember(folder, tmp_path / "state", tram=b"what was uploaded by somebody else")
    (folder / "tram.mov").write_bytes(b"cut anew")
    planned = await paletta("clips", "apply", "shoot", "--dry-run")
    assert (planned.code, planned.out.split()[1]) == (0, TRAM)


async def test_the_same_film_twice_counts_once(
    shelf: Shelf, paletta: Run, write: Write, tmp_path: Path
) -> None:
    await shelf.put("tram")
    folder = write(tram={"title": "Green tram climbs"}, copy={"title": "A copy of the tram"})
    film = shelf.data["tram.mov"]
    remember(folder, tmp_path / "state", tram=film, copy=film)
    applied = await paletta("clips", "apply", "shoot", "--yes")
    assert applied.code == 0
    assert (
        "shoot/paletta.yaml:8:3: warning: the same bytes as `tram.mov`, which comes first: left out\n"
        in applied.err
    )
    assert await title_of(shelf, TRAM) == "Green tram climbs"


async def test_mistakes_are_placed_and_nothing_is_changed(shelf: Shelf, paletta: Run, write: Write) -> None:
    await shelf.put("tram")
    await shelf.put("ferry")
    write(tram={"title": "Green tram climbs"}, ferry={"title": "x", "categories": ["travle"]})
    for options in ((), ("--dry-run",), ("--yes",)):
        refused = await paletta("clips", "apply", "shoot", *options)
        assert (refused.code, refused.out) == (3, "")
        assert refused.err == (
            "shoot/paletta.yaml:9:10: error: `title` has 1 character, at least 5 wanted\n"
            "shoot/paletta.yaml:11:16: error: unknown category `travle`\n"
            "  hint: did you mean `travel`?\n"
            "error: 2 errors in the manifest: nothing was changed\n"
            "hint: mend them and run the same command again\n"
        )
    assert await title_of(shelf, TRAM) == METADATA["title"]


async def test_what_only_the_service_finds_wrong_is_placed_too(
    shelf: Shelf, paletta: Run, write: Write
) -> None:
    await shelf.put("tram")
    await shelf.put("ferry")
    write(tram={"title": "Green tram climbs"}, ferry={"agencies": {"x" * 60: {"a": "b"}}})
    refused = await paletta("clips", "apply", "shoot", "--yes", "--json")
    assert refused.code == 3
    answer = json.loads(refused.out)
    assert answer["applied"] is False
    (problem,) = answer["problems"]
    assert (problem["file"], problem["line"], problem["clip"]) == ("shoot/paletta.yaml", 11, "ferry.mov")
    assert problem["severity"] == "error"
    assert await title_of(shelf, TRAM) == METADATA["title"]


async def test_names_that_fit_no_clip_or_several_are_warnings(
    shelf: Shelf, paletta: Run, write: Write
) -> None:
    await shelf.put("tram")
    await shelf.put("ferry")
    await shelf.put("kart")
    async with shelf.runtime.db.transaction() as session:
        await session.execute(text("UPDATE clips SET file_name = 'ferry.mov' WHERE file_name = 'kart.mov'"))
    write(tram={"title": "Green tram climbs"}, ferry={}, gate={})
    applied = await paletta("clips", "apply", "shoot", "--yes")
    assert (applied.code, applied.out.splitlines()[0]) == (0, f"~ {TRAM} tram.mov")
    warnings = [line for line in applied.err.splitlines() if "warning" in line and "unique" not in line]
    assert warnings == [
        f"shoot/paletta.yaml:8:3: warning: 2 of your clips are named like this: clip_kart22222222, {FERRY}",
        "shoot/paletta.yaml:11:3: warning: no clip of yours has this file: upload it first",
    ]
    assert applied.err.endswith("1 clip to change, 2 not found\n1 clip changed\n")
    write(gate={})
    none = await paletta("clips", "apply", "shoot", "--yes")
    assert (none.code, none.out) == (1, "")
    assert none.err.endswith("error: none of these clips is there\nhint: `paletta upload shoot` sends them\n")


async def test_pages_are_all_planned_before_the_first_is_written(
    shelf: Shelf, paletta: Run, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With pages of one clip: the mistake of the last page keeps the first from being written."""
    monkeypatch.setattr("paletta_cli.clips.applying.PAGE", 1)
    await shelf.put("tram")
    await shelf.put("ferry")
    write(tram={"title": "Green tram climbs"}, ferry={"agencies": {"x" * 60: {"a": "b"}}})
    assert (await paletta("clips", "apply", "shoot", "--yes")).code == 3
    assert await title_of(shelf, TRAM) == METADATA["title"]
    write(tram={"title": "Green tram climbs"}, ferry={"title": "Ferry in the fog"})
    applied = await paletta("clips", "apply", "shoot", "--yes", "--json")
    assert (applied.code, applied.err) == (0, "2 clips to change\n2 clips changed\n")
    answer = json.loads(applied.out)
    assert [change["ref"] for change in answer["changes"]] == ["tram.mov", "ferry.mov"]
    assert answer["applied"] is True
    assert await title_of(shelf, FERRY) == "Ferry in the fog"


async def test_a_clip_that_goes_between_plan_and_apply_is_reported(
    shelf: Shelf, paletta: Run, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rival deletes the ferry after the plan was made, which is before the second call of `apply`."""
    await shelf.put("tram")
    await shelf.put("ferry")
    write(tram={"title": "Green tram climbs"}, ferry={"title": "Ferry in the fog"})
    post = Service.post

    def rival_first(service: Service, path: str, body: Any = None, **options: Any) -> Any:
        if path == "/v1/clips/apply" and not body.get("dry_run"):
            service.delete(f"/v1/clips/{FERRY}")
        return post(service, path, body, **options)

    monkeypatch.setattr(Service, "post", rival_first)
    applied = await paletta("clips", "apply", "shoot", "--yes")
    assert applied.code == 6
    assert f"shoot/paletta.yaml:8:3: warning: no clip `{FERRY}`\n" in applied.err
    assert applied.err.endswith("error: 1 of 2 clips are gone meanwhile\n")
    assert await title_of(shelf, TRAM) == "Green tram climbs"


async def test_a_poster_time_counts_at_once(shelf: Shelf, paletta: Run, write: Write) -> None:
    await shelf.put("tram")
    write(tram={"poster_at": 3.75})
    applied = await paletta("clips", "apply", "shoot", "--yes")
    assert (applied.code, applied.out) == (0, f"~ {TRAM} tram.mov  poster_at: nothing → 3.75\n")
    assert "hint:" not in applied.err
    shown = await shelf.up.call("GET", f"/clips/{TRAM}/posters")
    assert [one["at"] for one in shown["items"] if one["chosen"]] == [3.75]


async def test_a_folder_without_a_manifest(shelf: Shelf, paletta: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    nothing = await paletta("clips", "apply", "empty")
    assert (nothing.code, nothing.out) == (3, "")
    assert nothing.err.startswith("empty: error: no `paletta.yaml` and no sidecars here\n")
    missing = await paletta("clips", "apply", "nowhere")
    assert (missing.code, missing.err.splitlines()[0]) == (2, "error: `nowhere` does not exist")


async def test_a_synonym_is_no_change_of_its_tag(shelf: Shelf, paletta: Run, write: Write) -> None:
    async with shelf.runtime.db.transaction() as session:
        await session.execute(text("INSERT INTO tags (name, synonyms) VALUES ('rail', '[\"tram\"]')"))
    await shelf.put("tram")
    write(tram={})
    planned = await paletta("clips", "apply", "shoot", "--dry-run")
    assert (planned.code, planned.out, planned.err) == (0, "", "0 clips to change, 1 as they are\n")


async def test_a_keyword_that_cannot_be_a_tag_is_placed(shelf: Shelf, paletta: Run, write: Write) -> None:
    await shelf.put("tram")
    write(tram={"keywords": [*METADATA["keywords"], "\N{COMBINING ACUTE ACCENT}"]})
    refused = await paletta("clips", "apply", "shoot", "--yes")
    assert (refused.code, refused.out) == (3, "")
    assert refused.err.startswith(
        "shoot/paletta.yaml:7:60: error: a tag needs a letter, a digit or a symbol\n"
    )
