"""`paletta clips list | show | edit | delete`, as typed: exit code, stdout and stderr."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tests.cli.conftest import Run
from tests.support.clips import COMP, Shelf
from tests.support.uploading import METADATA

TRAM, FERRY = "clip_tram22222222", "clip_ferry2222222"


# ---- list


async def test_a_list_reads_well_in_80_columns(shelf: Shelf, on_a_terminal: Run) -> None:
    await shelf.put("tram")
    await shelf.put(
        "ferry", stage="rejected", title="A ferry crosses the river in the early morning fog \U0001f6a2"
    )
    await shelf.put("kart", stage="processing", title="カートが曲がる" * 8)
    listed = await on_a_terminal("clips", "list")
    assert listed.code == 0
    assert [line.rstrip() for line in listed.out.splitlines()] == [
        "clip      title                          stage      length       size  category",
        "kart2222  カートが曲がるカートが曲がる…  uploading                     transport",
        "ferry222  A ferry crosses the river in…  rejected    8.0 s  1920×1080  transport",
        "tram2222  Yellow tram climbs a steep s…  live        8.0 s  1920×1080  transport",
        "ferry222  is 2.1 s long, at least 3 wanted",
    ]


async def test_a_pipe_gets_whole_ids_and_titles(shelf: Shelf, paletta: Run) -> None:
    await shelf.put("tram")
    listed = await paletta("clips", "list")
    row = [TRAM, METADATA["title"], "live", "8.04", "1920", "1080", "21", "transport", "tram.mov", ""]
    assert (listed.code, listed.out, listed.err) == (0, "\t".join(row) + "\n", "")


async def test_filters_reach_the_service(shelf: Shelf, paletta: Run) -> None:
    await shelf.put("tram", batch="lisbon")
    await shelf.put("ferry", stage="rejected", title="Ferry in the fog")

    async def ids(*options: str) -> list[str]:
        listed = await paletta("clips", "list", "--json", *options)
        assert listed.code == 0, listed.err
        return [clip["id"] for clip in json.loads(listed.out)]

    assert await ids() == [FERRY, TRAM]
    assert await ids("--stage", "rejected") == [FERRY]
    assert await ids("--query", "FOG") == [FERRY]
    assert await ids("--batch", "lisbon") == [TRAM]
    nothing = await paletta("clips", "list", "--stage", "in_review")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "no such clips\n")
    unknown = await paletta("clips", "list", "--stage", "sold")
    assert (unknown.code, unknown.out) == (2, "")


async def test_pages_are_followed_and_a_cut_list_says_so(shelf: Shelf, paletta: Run) -> None:
    for name in ("tram", "ferry", "kart"):
        await shelf.put(name)
    two = await paletta("clips", "list", "--limit", "2")
    assert [line.split("\t")[0] for line in two.out.splitlines()] == ["clip_kart22222222", FERRY]
    assert two.err == "the newest 2\nhint: --all shows all of them, --limit N more\n"
    three = await paletta("clips", "list", "--limit", "3")
    assert (len(three.out.splitlines()), three.err) == (3, "")


async def test_nobody_with_clips_is_told_how_to_begin(shelf: Shelf, paletta: Run) -> None:
    listed = await paletta("clips", "list")
    assert (listed.code, listed.out) == (0, "")
    assert listed.err == "no clips yet: `paletta upload FOLDER` sends some\n"


# ---- show


async def test_everything_about_a_clip(shelf: Shelf, paletta: Run) -> None:
    await shelf.put(
        "tram",
        description="On its way up.",
        location={"city": "Lisbon", "country": "PT"},
        mature=True,
        poster_at=2.5,
    )
    technical = {
        "container": "mov",
        "bit_rate": 14_200_000,
        "video": {"profile": "High", "pix_fmt": "yuv420p", "bit_depth": 8, "color_space": "bt709"},
        "audio": [{"codec": "aac", "channels": 2, "sample_rate": 48000}],
        "original_serves": [],
    }
    async with shelf.runtime.db.transaction() as session:
        await session.execute(
            text("UPDATE clips SET technical = :facts, warnings = '[\"is dark\"]'"),
            {"facts": json.dumps(technical)},
        )
    shown = await paletta("clips", "show", "tram22")
    lines = dict(line.split("\t") for line in shown.out.splitlines())
    assert (shown.code, shown.err) == (0, "")
    assert lines["title"] == METADATA["title"]
    assert (lines["clip"], lines["stage"], lines["warning"]) == (TRAM, "live", "is dark")
    assert lines["keywords"] == "tram, lisbon, street, yellow, hill"
    assert (lines["location"], lines["mature"], lines["poster_at"]) == (
        "{city: Lisbon, country: PT}",
        "yes",
        "2.5",
    )
    assert lines["picture"] == "1920×1080, 24 fps, h264 High, yuv420p, 8 bit, 14.2 Mbit/s"
    assert (lines["colour"], lines["sound"]) == ("bt709", "aac, 2 channels, 48 kHz")
    assert (lines["file"], lines["container"]) == ("tram.mov, 21 B", "mov")
    assert lines["tier"] in ("hd, 640×360, h264, 2.00 KiB", "original, 1920×1080, h264, 21 B")
    assert "description" in lines
    assert "editorial" not in lines
    assert lines["comp"].startswith("http://127.0.0.1")
    assert lines["poster"].partition("?")[0].endswith("poster-2.jpg")
    as_json = json.loads((await paletta("clips", "show", TRAM, "--json")).out)
    assert (as_json["id"], as_json["location"]) == (TRAM, {"city": "Lisbon", "country": "PT"})


async def test_a_terminal_is_spared_the_addresses(shelf: Shelf, on_a_terminal: Run) -> None:
    await shelf.put("tram")
    shown = await on_a_terminal("clips", "show", "tram22")
    assert shown.code == 0
    assert "http" not in shown.out
    assert ["previews", "comp,", "poster"] in [line.split() for line in shown.out.splitlines()]
    asked = await on_a_terminal("clips", "show", "tram22", "--addresses")
    assert "comp: http://127.0.0.1" in asked.out


async def test_the_preview_is_saved_whole_and_overwrites_nothing(
    shelf: Shelf, paletta: Run, tmp_path: Path
) -> None:
    await shelf.put("tram", media=True)
    saved = await paletta("clips", "show", TRAM, "--preview", "tram.mp4")
    assert (saved.code, saved.err) == (0, "wrote `tram.mp4`: 38.1 KiB\n")
    assert (tmp_path / "tram.mp4").read_bytes() == COMP
    (tmp_path / "tram.mp4").write_bytes(b"mine")
    taken = await paletta("clips", "show", TRAM, "--preview", "tram.mp4")
    assert (taken.code, taken.out) == (2, "")
    assert taken.err == "error: `tram.mp4` exists\nhint: name another file, or overwrite it with --force\n"
    assert (tmp_path / "tram.mp4").read_bytes() == b"mine"
    assert (await paletta("clips", "show", TRAM, "--preview", "tram.mp4", "--force")).code == 0
    assert (tmp_path / "tram.mp4").read_bytes() == COMP


async def test_a_symbolic_link_is_never_written_through(shelf: Shelf, paletta: Run, tmp_path: Path) -> None:
    await shelf.put("tram", media=True)
    (tmp_path / "link.mp4").symlink_to(tmp_path / "target")
    for force in ((), ("--force",)):
        refused = await paletta("clips", "show", TRAM, "--preview", "link.mp4", *force)
        assert refused.code == 2
        assert refused.err.startswith("error: `link.mp4` is a symbolic link\n")
    assert not (tmp_path / "target").exists()


async def test_a_preview_that_is_gone_leaves_no_file(shelf: Shelf, paletta: Run, tmp_path: Path) -> None:
    lost = await shelf.put("parted")
    gone = await paletta("clips", "show", lost, "--preview", "parted.mp4")
    assert gone.code == 1
    assert gone.err == "error: cannot fetch the preview: the store answered 404\n"
    assert [path.name for path in tmp_path.glob("*parted*")] == []
    early = await shelf.put("kart", stage="processing")
    none = await paletta("clips", "show", early, "--preview", "kart.mp4")
    assert (none.code, none.err.splitlines()[0]) == (1, f"error: `{early}` has no preview yet")


async def test_the_preview_is_opened_where_something_can_play_it(
    shelf: Shelf, on_a_terminal: Run, tmp_path: Path
) -> None:
    await shelf.put("tram")
    player = tmp_path / "player"
    player.write_text('#!/bin/sh\necho "$1" > opened\n', encoding="utf-8")
    player.chmod(0o755)
    opened = await on_a_terminal("clips", "show", TRAM, "--open", BROWSER=f"{player} %s")
    assert opened.code == 0
    assert "/comp.mp4?" in (tmp_path / "opened").read_text(encoding="utf-8")
    nothing = await on_a_terminal("clips", "show", TRAM, "--open", PATH="/nowhere")
    assert nothing.code == 1
    assert nothing.out.endswith("error: nothing here can open the preview\nhint: --preview FILE saves it\n")


async def test_an_id_that_fits_none_or_several(shelf: Shelf, paletta: Run) -> None:
    await shelf.put("tram")
    await shelf.put("trams")
    several = await paletta("clips", "show", "tram")
    assert (several.code, several.out) == (1, "")
    assert several.err == (
        "error: `clip_tram` fits more than one clip\n"
        "hint: add a letter or two: clip_tram22222222, clip_trams2222222\n"
    )
    for words in (("clips", "show"), ("clip",), ("clips", "delete", "--yes")):
        none = await paletta(*words, "clip_../../admin")
        assert (none.code, none.out) == (2, "")
        assert none.err == (
            "error: `clip_../../admin` is not a clip's id\n"
            "hint: ids are like `clip_7h3k9m2qxw4t`; the beginning is enough\n"
        )


async def test_foreign_words_cannot_drive_the_terminal(shelf: Shelf, on_a_terminal: Run) -> None:
    await shelf.put("tram", title="[bold red]Tram[/] :smile:")
    async with shelf.runtime.db.transaction() as session:
        await session.execute(
            text("UPDATE clips SET file_name = E'a\\x1b[31mb.mov', reason = E'\\x1b]0;x\\x07why'")
        )
    for argv in (("list",), ("show", TRAM)):
        shown = await on_a_terminal("clips", *argv)
        assert "[bold red]Tram[/] :smile:" in shown.out
        assert "\x1b" not in shown.out
        assert "\x07" not in shown.out


# ---- edit


async def test_an_edit_shows_what_changed(shelf: Shelf, paletta: Run) -> None:
    await shelf.put("tram", location={"city": "Lisbon", "country": "PT"})
    edited = await paletta(
        "clips", "edit", "tram22",
        "--title", "Green tram climbs a steep street",
        "--add-keyword", "Green", "--remove-keyword", "yellow",
        "--category", "travel", "--category", "transport",
        "--set", "location.city=Porto", "--set", "shot.size=wide", "--set", "people.count=2", "--set", "mature=yes",
        "--set", "price.hd=49.00",
    )  # fmt: skip
    assert (edited.code, edited.err) == (0, "")
    assert edited.out == (
        f"~ {TRAM} tram.mov\n"
        '    title: "Yellow tram climbs a steep street"\n'
        '         → "Green tram climbs a steep street"\n'
        "    keywords: + green, - yellow\n"
        "    categories: + travel\n"
        "    mature: false → true\n"
        '    location.city: "Lisbon" → "Porto"\n'
        '    price.hd: nothing → "49.00"\n'
        '    people.count: nothing → "2"\n'
        '    shot.size: nothing → "wide"\n'
    )
    clip = await shelf.up.call("GET", f"/clips/{TRAM}")
    assert clip["location"] == {"city": "Porto", "country": "PT"}
    assert clip["keywords"] == ["tram", "lisbon", "street", "hill", "green"]
    assert (clip["categories"], clip["version"]) == (["travel", "transport"], 2)
    again = await paletta("clips", "edit", TRAM, "--set", "location.city=Porto")
    assert (again.code, again.out, again.err) == (
        0,
        "",
        "nothing to change: that is what the clip says already\n",
    )


async def test_values_can_be_cleared(shelf: Shelf, paletta: Run) -> None:
    await shelf.put(
        "tram",
        description="Long.",
        location={"city": "Lisbon"},
        mature=True,
        source="FX3",
        shot={"size": "wide", "move": "pan"},
    )
    cleared = await paletta(
        "clips", "edit", TRAM, "--description", "", "--set", "location.city=", "--set", "mature=", "--set", "source=",
        "--set", "shot.size=", "--json",
    )  # fmt: skip
    assert (cleared.code, cleared.err) == (0, "")
    answer = json.loads(cleared.out)
    assert (answer["id"], answer["version"], answer["applied"]) == (TRAM, 2, True)
    assert answer["changes"] == {
        "description": ["Long.", ""],
        "mature": [True, False],
        "location": [{"city": "Lisbon"}, None],
        "source": ["FX3", None],
        "shot": [{"size": "wide", "move": "pan"}, {"move": "pan"}],
    }


BAD = [
    (("--set", "shot.size=wyde"), ("`wyde` is not a known `shot.size`", "did you mean `wide`?")),
    (("--set", "locaton.city=Porto"), ("unknown field `locaton`", "did you mean `location`?")),
    (("--set", "location.town=Porto"), ("unknown field `location.town`", "known here: city")),
    (("--set", "people=2"), ("`people` must be a mapping", "{count: …}")),
    (("--set", "file=x.mov"), ("a clip's file cannot be changed", "upload the other file")),
    (("--set", "shot.size"), ("does not say what to set", "write --set field=value")),
    (("--set", "releases.model=[a, b"), ("`releases.model`: ", "")),
    (("--title", "x"), ("`title` has 1 character, at least 5 wanted", "")),
    (("--title", ""), ("`title` cannot be empty", "")),
    (("--title", "Tram \x1b[31m"), ("`title`: contains the control character U+001B", "")),
    (("--keywords", "a,b"), ("`keywords` has 2 entries, at least 5 wanted", "")),
    (("--category", "transprt"), ("there is no category `transprt`", "did you mean `transport`?")),
    ((), ("nothing to change", "pass --title")),
]  # fmt: skip


async def test_a_bad_value_names_its_field_and_changes_nothing(shelf: Shelf, paletta: Run) -> None:
    await shelf.put("tram")
    for options, (error, hint) in BAD:
        refused = await paletta("clips", "edit", TRAM, *options)
        assert (refused.code, refused.out) == (2, ""), options
        assert refused.err.startswith("error: ")
        assert error in refused.err
        assert hint in refused.err
    assert (await shelf.up.call("GET", f"/clips/{TRAM}"))["version"] == 1


async def test_all_bad_values_are_named_at_once(shelf: Shelf, paletta: Run) -> None:
    await shelf.put("tram")
    refused = await paletta("clips", "edit", TRAM, "--title", "x", "--set", "shot.size=wyde")
    assert refused.code == 2
    assert [line.partition(":")[0] for line in refused.err.splitlines()] == [
        "error",
        "error",
        "hint",
        "error",
    ]
    assert refused.err.endswith("error: 2 values cannot be taken; nothing was changed\n")


async def test_a_dry_run_writes_nothing(shelf: Shelf, paletta: Run) -> None:
    await shelf.put("tram")
    planned = await paletta("clips", "edit", TRAM, "--set", "source=FX3", "--dry-run")
    assert (planned.code, planned.out) == (0, f'~ {TRAM} tram.mov  source: nothing → "FX3"\n')
    assert (await shelf.up.call("GET", f"/clips/{TRAM}"))["source"] is None


async def test_a_keyword_that_is_not_there_is_worth_a_word(shelf: Shelf, paletta: Run) -> None:
    await shelf.put("tram")
    edited = await paletta("clips", "edit", TRAM, "--remove-keyword", "lisbn", "--add-keyword", "TRAM, rail")
    assert (edited.code, edited.out) == (0, f"~ {TRAM} tram.mov  keywords: + rail\n")
    assert edited.err == "warning: `lisbn` is not among the keywords\nhint: did you mean `lisbon`?\n"


async def test_a_rival_change_between_reading_and_writing_stops_an_edit(
    shelf: Shelf, paletta: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rival comes while the rules are read, which is after the clip was read."""
    from paletta_cli.manifests import live

    await shelf.put("tram")
    fetch = live.fetch_rules

    def rival_first(service: Any) -> Any:
        service.patch(f"/v1/clips/{TRAM}", {"source": "the rival's"})
        return fetch(service)

    monkeypatch.setattr(live, "fetch_rules", rival_first)
    stopped = await paletta("clips", "edit", TRAM, "--set", "source=mine")
    assert (stopped.code, stopped.out) == (1, "")
    assert stopped.err == "error: the clip is at version 2\nhint: look at it again, then repeat the change\n"
    assert (await shelf.up.call("GET", f"/clips/{TRAM}"))["source"] == "the rival's"


# ---- delete


async def test_deleting_asks_and_needs_a_terminal_or_yes(
    shelf: Shelf, paletta: Run, on_a_terminal: Run
) -> None:
    await shelf.put("tram")
    await shelf.put("ferry")
    unasked = await paletta("clips", "delete", "tram22")
    assert (unasked.code, unasked.out) == (2, "")
    assert unasked.err == (
        f"{TRAM}  {METADATA['title']}  (live)\n"
        "error: cannot ask without a terminal: delete 1 clip?\nhint: pass --yes to go ahead\n"
    )
    declined = await on_a_terminal("clips", "delete", "tram22", answer="n")
    assert declined.code == 1
    assert declined.out.endswith("delete 1 clip? [y/N] nothing was deleted\n")
    agreed = await on_a_terminal("clips", "delete", "tram22", "tram222", answer="y")
    assert agreed.code == 0
    assert agreed.out.endswith(f"delete 1 clip? [y/N] {TRAM} deleted\n")
    assert [clip["id"] for clip in (await shelf.up.call("GET", "/me/clips"))["items"]] == [FERRY]


async def test_one_that_cannot_be_deleted_does_not_keep_the_others(shelf: Shelf, paletta: Run) -> None:
    await shelf.put("tram")
    await shelf.put("ferry")
    done = await paletta("clips", "delete", "ferry2", "zebra2", "tram22", "--yes", "--json")
    assert done.code == 6
    answer = json.loads(done.out)
    assert answer["deleted"] == [FERRY, TRAM]
    assert [one["clip"] for one in answer["failed"]] == ["zebra2"]
    assert "error: no clip `clip_zebra2`\n" in done.err
    assert done.err.endswith("error: 1 of 3 clips were not deleted\n")
    alone = await paletta("clips", "delete", "zebra2", "--yes")
    assert (alone.code, alone.out, alone.err) == (1, "", "error: no clip `clip_zebra2`\n")


async def test_a_foreign_clip_is_seen_but_not_to_be_changed(shelf: Shelf, paletta: Run) -> None:
    await shelf.put("tram")
    await shelf.put("ferry")
    assert (await paletta("clips", "show", TRAM, as_="admin")).code == 0
    for words in (("delete", TRAM), ("poster", TRAM), ("edit", TRAM, "--title", "Mine from now on")):
        refused = await paletta("clips", *words, as_="admin")
        assert (refused.code, refused.out, refused.err) == (1, "", f"error: no clip `{TRAM}`\n"), words
    both = await paletta("clips", "delete", TRAM, FERRY, "--yes", as_="admin")
    assert both.code == 6
    assert both.err.count("error: no clip") == 2
    assert len((await shelf.up.call("GET", "/me/clips"))["items"]) == 2
