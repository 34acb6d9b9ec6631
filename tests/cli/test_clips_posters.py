"""`paletta clips poster`, and pictures where a terminal can show them."""

from __future__ import annotations

import base64
import io
import json
import random
import re
from collections.abc import Mapping
from pathlib import Path

import av
import pytest

from paletta_cli import pictures
from tests.cli.conftest import Run
from tests.support.clips import POSTERS, Shelf, jpeg

TRAM = "clip_tram22222222"
HINT = f"hint: `paletta clips poster {TRAM} --pick N` chooses another\n"
BLOCKS = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}


class Stream(io.StringIO):
    """A terminal that says how it encodes."""

    def __init__(self, encoding: str = "UTF-8", *, terminal: bool = True) -> None:
        super().__init__()
        self._encoding, self._terminal = encoding, terminal

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return self._terminal


def png_pixels(data: bytes) -> tuple[int, int, list[tuple[int, ...]]]:
    """Width, height and the RGBA pixels of a PNG, by another reader than ours."""
    with av.open(io.BytesIO(data), format="png_pipe") as container:
        frame = next(container.decode(video=0))
        assert frame.format.name == "rgba"
        plane = frame.planes[0]
        raw = bytes(plane)
        rows = [
            raw[row * plane.line_size : row * plane.line_size + 4 * frame.width]
            for row in range(frame.height)
        ]
        flat = b"".join(rows)
        return frame.width, frame.height, [tuple(flat[at : at + 4]) for at in range(0, len(flat), 4)]


# ---- the command


async def test_candidates_are_numbered_and_one_is_picked(shelf: Shelf, paletta: Run) -> None:
    await shelf.put("tram")
    listed = await paletta("clips", "poster", "tram22")
    rows = [line.split("\t") for line in listed.out.splitlines()]
    assert (listed.code, listed.err) == (0, HINT)
    assert rows[:3] == [
        ["1", "0:01.2", "640", "360", ""],
        ["2", "0:02.5", "640", "360", "yes"],
        ["3", "0:03.8", "640", "360", ""],
    ]
    picked = await paletta("clips", "poster", "tram22", "--pick", "5")
    assert (picked.code, picked.out, picked.err) == (0, f"{TRAM} poster 5\n", "")
    answer = json.loads((await paletta("clips", "poster", "tram22", "--json")).out)
    assert (answer["id"], len(answer["posters"])) == (TRAM, POSTERS)
    assert [one["number"] for one in answer["posters"] if one["chosen"]] == [5]
    missing = await paletta("clips", "poster", "tram22", "--pick", "99")
    assert (missing.code, missing.out) == (1, "")
    assert missing.err == (
        f"error: no poster candidate `99`\nhint: see them with `paletta clips poster {TRAM}`\n"
    )


async def test_a_clip_without_posters_yet(shelf: Shelf, paletta: Run) -> None:
    early = await shelf.put("kart", stage="processing")
    none = await paletta("clips", "poster", early)
    assert (none.code, none.out) == (1, "")
    assert none.err == f"error: `{early}` has no posters yet\nhint: they come when the clip is processed\n"


async def test_candidates_are_saved_as_files(shelf: Shelf, paletta: Run, tmp_path: Path) -> None:
    await shelf.put("tram", media=True)
    saved = await paletta("clips", "poster", "tram22", "--save", "posters")
    assert saved.code == 0
    files = sorted(path.name for path in (tmp_path / "posters").iterdir())
    assert files == [f"{TRAM}-poster-{number}.jpg" for number in range(1, POSTERS + 1)]
    assert (tmp_path / "posters" / files[3]).read_bytes() == jpeg(colour=(120, 60, 200))
    again = await paletta("clips", "poster", "tram22", "--save", "posters")
    assert (again.code, again.out) == (2, "")
    assert again.err.startswith(f"error: `posters/{TRAM}-poster-1.jpg` exists\n")
    assert (await paletta("clips", "poster", "tram22", "--save", "posters", "--force")).code == 0


async def test_a_terminal_with_colours_shows_the_candidates(shelf: Shelf, on_a_terminal: Run) -> None:
    await shelf.put("tram", media=True)
    shown = await on_a_terminal("clips", "poster", "tram22", **BLOCKS)
    assert shown.code == 0
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown.out).splitlines()
    strip = "  ".join(["▀" * 25] * 3)
    assert plain[:8] == [strip] * 7 + ["1  0:01.2                  2  0:02.5  poster          3  0:03.8"]
    assert plain[15] == "4  0:05.0                  5  0:06.2                  6  0:07.5"
    words = await on_a_terminal("clips", "poster", "tram22", "--no-pictures", **BLOCKS)
    assert "▀" not in words.out
    assert "0:02.5" in words.out
    one = await on_a_terminal("clips", "show", "tram22", **BLOCKS)
    assert one.out.count("▀") == 40 * 11  # 64×36 pixels become 40×22, two rows to a line


async def test_pictures_that_do_not_come_are_no_error(shelf: Shelf, on_a_terminal: Run) -> None:
    lost = await shelf.put("parted")
    shown = await on_a_terminal("clips", "poster", lost, **BLOCKS)
    assert shown.code == 0
    assert "cannot fetch the preview: the store answered 404" in shown.out
    assert "0:02.5" in shown.out


async def test_kitty_and_iterm_get_a_real_png(shelf: Shelf, on_a_terminal: Run) -> None:
    await shelf.put("tram", media=True)
    kitty = await on_a_terminal("clips", "show", "tram22", TERM="xterm-kitty")
    sequences = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", kitty.out)
    assert sequences[0][0].startswith("a=T,f=100,c=40,q=2,m=")
    assert sequences[-1][0].endswith("m=0")
    png = base64.b64decode("".join(part for _, part in sequences))
    width, height, pixels = png_pixels(png)
    assert (width, height) == (400, 225)
    left, right = pixels[112 * width + 50], pixels[112 * width + 350]
    assert all(abs(seen - made) < 8 for seen, made in zip(left, (60, 60, 200, 255), strict=True))
    assert all(abs(seen - made) < 8 for seen, made in zip(right, (30, 30, 100, 255), strict=True))
    iterm = await on_a_terminal("clips", "show", "tram22", TERM="xterm-256color", TERM_PROGRAM="iTerm.app")
    found = re.search(
        r"\x1b\]1337;File=inline=1;size=(\d+);width=40;preserveAspectRatio=1:([^\x07]*)\x07", iterm.out
    )
    assert found is not None
    assert (base64.b64decode(found[2]), int(found[1])) == (png, len(png))


# ---- which terminals


@pytest.mark.parametrize(
    ("environment", "how"),
    [
        ({}, None),
        ({"TERM": "xterm-256color"}, None),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "blocks"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor", "NO_COLOR": "1"}, None),
        ({"TERM": "dumb", "COLORTERM": "truecolor"}, None),
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-kitty", "NO_COLOR": "1"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-ghostty", "TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1", "TERM_PROGRAM": "vscode"}, None),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1", "TMUX": "/tmp/t"}, None),
        ({"TERM": "tmux-256color", "TMUX": "/tmp/t", "COLORTERM": "truecolor", "LC_TERMINAL": "iTerm2"}, "blocks"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1", "TMUX": "/tmp/t"}, None),
        ({"TERM": "screen", "LC_TERMINAL": "iTerm2"}, None),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "iterm2"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm", "COLORTERM": "truecolor"}, "iterm2"),
        ({"WT_SESSION": "1"}, "blocks"),
    ],
)  # fmt: skip
def test_what_a_terminal_can_show(environment: Mapping[str, str], how: str | None) -> None:
    assert pictures.protocol(Stream(), environment) == how
    assert pictures.protocol(Stream(terminal=False), environment) is None


def test_half_blocks_need_a_terminal_that_can_write_them() -> None:
    assert pictures.protocol(Stream("latin-1"), {"TERM": "xterm", "COLORTERM": "truecolor"}) is None


# ---- drawing


def test_half_blocks_carry_two_pixels_each() -> None:
    lines = pictures.render([jpeg(32, 32, (200, 0, 0))], 8, "blocks").splitlines()
    assert len(lines) == 4
    for line in lines:
        cell = r"\x1b\[38;2;(\d+);\d+;\d+m\x1b\[48;2;(\d+);\d+;\d+m▀"
        first = re.match(cell, line)
        assert first is not None
        assert line.endswith("▀\x1b[0m")
        assert all(abs(int(red) - 200) < 12 for red in first.groups())
        assert all(abs(int(red) - 100) < 12 for red in re.findall(cell, line)[-1])


def test_a_large_picture_reaches_kitty_in_pieces() -> None:
    drawn = pictures.render([jpeg(640, 360, noise=random.Random(7))], 40, "kitty")
    sequences = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", drawn)
    assert len(sequences) > 10
    assert all(len(part) <= 4096 for _, part in sequences)
    assert [control[-3:] for control, _ in sequences] == ["m=1"] * (len(sequences) - 1) + ["m=0"]
    width, height, _ = png_pixels(base64.b64decode("".join(part for _, part in sequences)))
    assert (width, height) == (400, 225)


def test_pictures_of_several_heights_stand_in_one_row() -> None:
    wide, square = jpeg(64, 16), jpeg(32, 32)
    lines = pictures.render([wide, b"no picture", square], 8, "blocks").splitlines()
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    assert len(plain) == 4
    assert plain[0] == "▀" * 8 + " " * 12 + "▀" * 8
    assert "\x1b[39m\x1b[49m" in lines[3]  # below the wide one there is nothing to colour
    png = base64.b64decode(pictures.render([wide, square], 8, "iterm2").partition("=1:")[2].rstrip("\x07\n"))
    width, height, pixels = png_pixels(png)
    assert (width, height) == (180, 80)
    assert [pixels[79 * width + at][3] for at in (0, 90, 179)] == [0, 0, 255]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<svg/>",
        b"\xff\xd8",
        jpeg()[:40],
        jpeg(5000, 4000),  # 20 million pixels in a few bytes
        b"\xff\xd8\xff\xe0\xff\xff" + bytes(20),
        jpeg().ljust(pictures.MAX_BYTES + 1, b"\0"),
        b"#EXTM3U\n#EXT-X-TARGETDURATION:10\nfile:///etc/passwd\n",
    ],
)
def test_what_is_no_picture_is_left_out(data: bytes) -> None:
    assert pictures.decode(data, 10) is None
    assert pictures.render([data], 10, "kitty") == ""
