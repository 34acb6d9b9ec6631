"""`paletta search`, `paletta clip` and `paletta collections`, as typed: exit code, stdout and stderr."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from fastapi import FastAPI

from tests.cli.conftest import Ran, Run
from tests.support.clips import COMP, Shelf
from tests.support.searching import caught_up
from tests.support.uploading import METADATA

TRAM, FERRY = "clip_tram22222222", "clip_ferry2222222"


@pytest.fixture
async def shop(shelf: Shelf, app: FastAPI) -> Shelf:
    await shelf.put("tram", media=True, shot={"move": "pan"}, description="Up the hill.")
    await shelf.put(
        "ferry", title="A ferry crosses the river \U0001f6a2 in the very early morning fog, in winter"
    )
    await shelf.put("kart", title="カートが曲がる" * 8, categories=["travel"])
    await shelf.put("secret", stage="in_review", title="Nobody sees this tram yet")
    await caught_up(app)
    return shelf


@pytest.fixture
def stranger(paletta: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Awaitable[Ran]]:
    """Somebody without an account."""

    async def run(*argv: str) -> Ran:
        setenv = monkeypatch.setenv
        monkeypatch.setattr(
            monkeypatch, "setenv", lambda name, value: setenv(name, "" if "TOKEN" in name else value)
        )
        try:
            return await paletta(*argv)
        finally:
            monkeypatch.setattr(monkeypatch, "setenv", setenv)

    return run


async def test_results_read_well_in_80_columns(shop: Shelf, on_a_terminal: Run) -> None:
    found = await on_a_terminal("search", "--sort", "duration", PALETTA_TOKEN="")
    assert found.code == 0
    lines = [line.rstrip() for line in found.out.splitlines()]
    assert lines[0].split() == ["clip", "title", "length", "size", "fps", "by"]
    assert [line.split()[0] for line in lines[1:]] == ["tram2222", "ferry222", "kart2222"]
    assert lines[2].startswith("ferry222  A ferry crosses the river \U0001f6a2…")
    assert "8.0 s  1920×1080   24" in lines[1]
    from rich.cells import cell_len

    assert max(cell_len(line) for line in lines) <= 80
    assert "secret" not in found.out


async def test_a_pipe_gets_whole_lines_and_json_everything(shop: Shelf, paletta: Run) -> None:
    found = await paletta("search", "tram", "steep")
    assert (found.code, found.err) == (0, "")
    row = found.out.rstrip("\n").split("\t")
    assert row[:8] == [TRAM, METADATA["title"], "8.04", "1920", "1080", "24.0", "", "transport"]
    whole = json.loads((await paletta("search", "trma", "--json", "--facets")).out)
    assert (whole["showing"], whole["total"], len(whole["items"])) == ("tram", 3, 3)
    assert whole["facets"]["shot_move"] == [{"value": "pan", "clips": 1}]


async def test_a_correction_is_said(shop: Shelf, paletta: Run) -> None:
    found = await paletta("search", "stepe")
    assert (found.code, found.err) == (0, "showing results for `steep`\n")
    nothing = await paletta("search", "xyzzyq")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "no clips found\n")


async def test_filters_reach_the_service(shop: Shelf, paletta: Run) -> None:
    async def ids(*options: str) -> list[str]:
        found = await paletta("search", "--json", *options)
        assert found.code == 0, found.err
        return [clip["id"].removeprefix("clip_")[:4] for clip in json.loads(found.out)["items"]]

    assert await ids("--category", "travel") == ["kart"]
    assert await ids("--shot", "pan") == ["tram"]
    assert await ids("--duration", "9..") == []
    assert await ids("--duration", "5..20", "--fps", "24", "--sort", "duration") == ["tram", "ferr", "kart"]
    assert await ids("river", "--without", "tram", "--without", "early morning") == []
    assert await ids("--min-res", "4k") == []
    assert await ids("--editorial") == []
    assert await ids("--tag", "tram", "--tag", "zebra") == []
    assert await ids("--since", "2026-05-15") == []
    assert len(await ids("--filmed", "2026-05-01..", "--limit", "2")) == 0
    assert len(await ids("--no-editorial", "--orientation", "landscape", "--tier", "hd", "--limit", "2")) == 2


async def test_what_cannot_be_meant_is_refused_before_asking(shop: Shelf, paletta: Run) -> None:
    for options, words in [
        (("--duration", "20..5"), "error: --duration: 20 is more than 5\n"),
        (("--duration", "5"), "error: --duration: `5` is not a range\nhint: write 5..20, 5.. or ..20\n"),
        (
            ("--fps", "x"),
            "error: --fps: `x` is not a range\nhint: write 5..20, 5.. or ..20, or a single number\n",
        ),
        (
            ("--filmed", "may"),
            "error: --filmed: `may` is not a range of days\nhint: write 2026-05-01..2026-05-31\n",
        ),
    ]:
        refused = await paletta("search", *options)
        assert (refused.code, refused.out, refused.err) == (2, "", words)
    shot = await paletta("search", "--shot", "tall")
    assert (shot.code, shot.err.splitlines()[0]) == (2, "error: `tall` is no kind of shot")
    size = await paletta("search", "--min-res", "huge")
    assert (size.code, size.err.splitlines()[0]) == (2, "error: --min-res: `huge` is not a resolution")
    size = await paletta("search", "--min-res", "4k", "--max-res", "4x")
    assert (size.code, size.err.splitlines()[0]) == (2, "error: --max-res: `4x` is not a resolution")


async def test_a_tag_that_is_not_there_is_told_apart_from_one_without_clips(
    shop: Shelf, paletta: Run
) -> None:
    for option in ("--tag", "--any-tag"):
        typo = await paletta("search", option, "lisbpn")
        assert (typo.code, typo.out) == (0, "")
        assert "hint: no tag is called `lisbpn` now; did you mean `lisbon`?\n" in typo.err
    unknown = await paletta("search", "--tag", "zeppelin")
    assert "zeppelin" not in unknown.err, "nothing to suggest, and it may be a former name"
    known = await paletta("search", "--tag", "lisbon", "--max-res", "720p")
    assert (known.out, known.err) == ("", "no clips found\n")


async def test_more_results_are_announced_and_fetched_page_by_page(
    shop: Shelf, paletta: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = await paletta("search", "--limit", "2")
    assert two.err == "2 of 3\nhint: --limit N shows more, --facets what there is\n"
    monkeypatch.setattr("paletta_cli.clips.finding.PER_PAGE", 1)
    three = await paletta("search", "--limit", "5")
    assert (len(three.out.splitlines()), three.err) == (3, "")


async def test_a_stranger_searches_and_looks(
    shop: Shelf, stranger: Callable[..., Awaitable[Ran]], tmp_path: Path
) -> None:
    assert TRAM in (await stranger("search", "steep")).out
    shown = await stranger("clip", "tram22")
    assert shown.code == 0, shown.err
    lines = [line.split("\t") for line in shown.out.splitlines()]
    facts = dict(lines)
    assert (facts["title"], facts["stage"], facts["description"]) == (
        METADATA["title"],
        "live",
        "Up the hill.",
    )
    assert not {"file", "sha-256", "views"} & set(facts)
    assert {text.split()[0] for label, text in lines if label == "like it"} == {FERRY, "clip_kart22222222"}
    saved = await stranger("clip", TRAM, "--preview", "tram.mp4")
    assert (saved.code, saved.err) == (0, "wrote `tram.mp4`: 38.1 KiB\n")
    assert (tmp_path / "tram.mp4").read_bytes() == COMP
    hidden = await stranger("clip", "clip_secret222222")
    assert (hidden.code, hidden.out) == (1, "")
    assert (await stranger("collections", "list")).code == 4


async def test_a_poster_is_drawn_where_the_terminal_can(shop: Shelf, on_a_terminal: Run) -> None:
    drawn = await on_a_terminal("clip", "tram22", TERM="xterm-kitty", PALETTA_TOKEN="")
    assert (drawn.code, "\x1b_G" in drawn.out) == (0, True)
    plain = await on_a_terminal("clip", "tram22", "--no-pictures", TERM="xterm-kitty")
    assert "\x1b_G" not in plain.out


async def test_lists_from_making_to_deleting(shop: Shelf, paletta: Run) -> None:
    made = await paletta("collections", "create", "Lisbon trip", "tram22")
    key = made.out.split()[0]
    assert (made.code, made.out) == (0, f"{key} `Lisbon trip` has 1 clip\n")
    added = await paletta("collections", "add", "lisbon TRIP", "ferry2")
    assert (added.code, added.out) == (0, f"{key} `Lisbon trip` has 2 clips\n")
    shown = await paletta("collections", "show", key)
    assert [line.split("\t")[0] for line in shown.out.splitlines()] == [TRAM, FERRY]
    removed = await paletta("collections", "remove", "Lisbon trip", "tram22", "zebra22")
    assert (removed.code, removed.out) == (6, f"{key} `Lisbon trip` has 1 clip\n")
    listed = await paletta("collections", "list")
    assert listed.out == f"Lisbon trip\t1\t{key}\n"
    again = await paletta("collections", "create", "LISBON TRIP")
    assert (again.code, again.err.splitlines()[0]) == (1, "error: you have a list `LISBON TRIP` already")
    asked = await paletta("collections", "delete", "Lisbon trip")
    assert asked.code == 2
    gone = await paletta("collections", "delete", "Lisbon trip", "--yes")
    assert (gone.code, gone.out) == (0, f"{key} deleted\n")
    assert (await paletta("collections", "list")).err == (
        "no lists yet: `paletta collections create NAME` makes one\n"
    )
