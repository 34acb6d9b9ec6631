"""`paletta admin review` on a real terminal, of the smallest size and of a large one."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from paletta_server.core.runtime import Runtime
from tests.cli.conftest import PROGRAM
from tests.conftest import MakeUser, Person
from tests.support.clips import Shelf, jpeg
from tests.support.terminal import Terminal

TRAM, FERRY, KART = "clip_tram22222222", "clip_ferry2222222", "clip_kart22222222"
COMMAND = [*PROGRAM, "admin", "review"]
SMALL, LARGE = (80, 24), (200, 50)
CELLS = 10


@pytest.fixture
def environment(url: str, people: dict[str, Person], tmp_path: Path) -> dict[str, str]:
    ours = {name: os.environ[name] for name in ("PATH", "HOME", "VIRTUAL_ENV") if name in os.environ}
    return ours | {
        "PALETTA_URL": url,
        "PALETTA_TOKEN": people["admin"].token,
        "PALETTA_CONFIG_DIR": str(tmp_path / "config"),
        "PALETTA_STATE_DIR": str(tmp_path / "state"),
        "PYTHONIOENCODING": "utf-8",
        "LC_ALL": "C.UTF-8",
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
    }


Put = Callable[..., Awaitable[str]]


@pytest.fixture
def put(shelf: Shelf) -> Put:
    """A clip that waits, with posters and a storyboard."""

    async def make(name: str, **metadata: Any) -> str:
        uid = await shelf.put(name, stage="in_review", media=True, **metadata)
        cues = "".join(
            f"00:00:{n:02}.000 --> 00:00:{n + 1:02}.000\nstoryboard.jpg#xywh={160 * n},0,160,90\n\n"
            for n in range(CELLS)
        )
        board, vtt = f"media/{uid}/storyboard.jpg", f"media/{uid}/storyboard.vtt"
        await shelf._store(board, jpeg(160 * CELLS, 90, colour=(40, 160, 90)), "image/jpeg")
        await shelf._store(vtt, f"WEBVTT\n\n{cues}".encode(), "text/vtt")
        await shelf._rendition(uid, "storyboard", 1, board, "image/jpeg")
        await shelf._rendition(uid, "storyboard_vtt", 1, vtt, "text/vtt")
        return uid

    return make


async def stages(shelf: Shelf) -> dict[str, tuple[str, str | None]]:
    items = (await shelf.up.call("GET", "/me/clips"))["items"]
    return {clip["id"]: (clip["stage"], clip["reason"]) for clip in items}


def blocks(screen: Terminal, rows: range) -> int:
    """How many pixels of pictures there are in these rows."""
    return sum(line.count("▀") for line in screen.lines[rows.start : rows.stop])


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_the_whole_queue_by_keys(
    put: Put, shelf: Shelf, environment: dict[str, str], tmp_path: Path, size: tuple[int, int]
) -> None:
    await put("tram", title="A yellow tram climbs", description="Line 28 at the Graça stop.")
    await put("ferry", title="A ferry leaves the quay")
    await put("kart", title="A kart in the rain")
    columns, rows = size
    async with Terminal(COMMAND, columns, rows, environment, tmp_path) as terminal:
        await terminal.until("3 clips waiting, 0 decided", "A yellow tram climbs", "Line 28")
        pixels = (columns // 4, columns // 2)  # of the poster's and the frames' first line, at least
        strip = range(rows - 2 - max(4, min(9, rows // 5)), rows - 2)
        await terminal.when(lambda _: blocks(terminal, range(1, 2)) >= pixels[0], "no poster")
        shown = await terminal.when(lambda _: blocks(terminal, strip) >= pixels[1], "no frames")
        lines = shown.splitlines()
        assert lines[0].rstrip().endswith(f"{TRAM}  no. 1")
        assert "approve" in lines[-1]
        assert "quit" in lines[-1], "every key is told, also on the smallest terminal"
        for fact in ("tram, lisbon, street", "1920×1080, 8.0 s, 24 fps, h264", "0 approved, 0 rejected"):
            assert fact in " ".join(shown.split()) or size == SMALL, fact
        assert max(map(len, lines)) <= columns

        terminal.keys("a")
        await terminal.until(f"{TRAM} approved", "A ferry leaves the quay", "2 clips waiting, 1 decided")
        terminal.keys("r")
        await terminal.until("Reject: why?", "1 soft focus", "0 something else")
        terminal.keys("4")
        await terminal.until("The camera shakes")
        terminal.keys("From second three on.\r")
        await terminal.until(f"{FERRY} rejected", "A kart in the rain", "1 clip waiting, 2 decided")
        terminal.keys("c")
        await terminal.until("Ask for changes: which?")
        terminal.keys("\x1b")  # Escape
        await terminal.when(lambda text: "Ask for changes: which?" not in text, "the dialogue stays")
        terminal.keys("c")
        await terminal.until("Ask for changes: which?")
        terminal.keys("0\r")
        await terminal.until("say in your own words")
        terminal.keys("Name the track.\r")
        await terminal.until("the end of the queue", "Nothing waits for review")
        terminal.keys("\x1b[D")  # left: what was done last
        await terminal.until("A kart in the rain", "done: sent back for changes")
        terminal.keys("a")
        await terminal.until("this clip is done: sent back for changes")
        terminal.keys("q")
        assert await terminal.ended() == 0
        await terminal.until("1 approved, 1 rejected, 1 sent back for changes")
    shaky = "The camera shakes, jerks or drifts: stabilise the shot, or send a steadier take."
    assert await stages(shelf) == {
        TRAM: ("live", None),
        FERRY: ("rejected", f"{shaky} From second three on."),
        KART: ("changes_requested", "Name the track."),
    }


async def test_two_at_once_are_offered_different_clips_and_told_of_each_other(
    put: Put, shelf: Shelf, environment: dict[str, str], make_user: MakeUser, tmp_path: Path
) -> None:
    await put("tram", title="A yellow tram climbs")
    await put("ferry", title="A ferry leaves the quay")
    await put("kart", title="A kart in the rain")
    other = await make_user("admin")
    async with Terminal(COMMAND, *SMALL, environment, tmp_path) as mine:
        await mine.until("A yellow tram climbs")
        theirs = {**environment, "PALETTA_TOKEN": other.token}
        async with Terminal(COMMAND, *SMALL, theirs, tmp_path) as second:
            await second.until("A ferry leaves the quay")
            answer = await shelf.up.client.post(
                "/v1/admin/clips/decide",
                json={"clips": [TRAM], "verdict": "approved"},
                headers=other.headers,
            )
            assert answer.status_code == 200
            mine.keys("a")
            await mine.until("not decided: this clip is approved", "A kart in the rain", "0 decided")
            await shelf.up.call("DELETE", f"/clips/{KART}", 204)
            mine.keys("a")
            await mine.until("it was deleted meanwhile", "the end of the queue", "1 clip waiting")
            await shelf.up.call("PATCH", f"/clips/{FERRY}", json={"title": "A ferry in the fog"})
            second.keys("a")
            await second.until("its contributor has changed it meanwhile", "A ferry in the fog")
            second.keys("a")
            await second.until(f"{FERRY} approved")
            second.keys("q")
            assert await second.ended() == 0
        mine.keys("q")
        assert await mine.ended() == 0
    assert (await stages(shelf))[FERRY] == ("live", None)


async def test_a_skipped_clip_comes_again_and_quitting_gives_claims_back(
    put: Put, environment: dict[str, str], runtime: Runtime, tmp_path: Path
) -> None:
    await put("tram", title="A yellow tram climbs")
    async with Terminal(COMMAND, *SMALL, environment, tmp_path) as terminal:
        await terminal.until("A yellow tram climbs")
        terminal.keys("s")
        await terminal.until("skipped", "The end of the queue: 1 clip waiting")
        terminal.keys("g")
        await terminal.until("from the start of the queue", "A yellow tram climbs")
        terminal.keys("q")
        assert await terminal.ended() == 0
        await terminal.until("nothing was decided", "1 clip waiting")
    async with runtime.db.transaction() as session:
        assert await session.scalar(text("SELECT count(*) FROM review_claims")) == 0


async def test_without_a_terminal_or_the_right_it_says_so(
    put: Put, paletta: Any, environment: dict[str, str], people: dict[str, Person], tmp_path: Path
) -> None:
    refused = await paletta("admin", "review", as_="admin")
    assert (refused.code, refused.err.splitlines()[0]) == (2, "error: the review screen needs a terminal")
    theirs = {**environment, "PALETTA_TOKEN": people["contributor"].token}
    async with Terminal(COMMAND, *SMALL, theirs, tmp_path) as terminal:
        assert await terminal.ended() == 4
        await terminal.until("error: ")


@pytest.mark.skipif(
    shutil.which("tmux") is None, reason="tmux is not installed; the same is tested without it"
)
@pytest.mark.parametrize("size", [SMALL, LARGE], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_the_screen_in_tmux(
    put: Put, shelf: Shelf, environment: dict[str, str], tmp_path: Path, size: tuple[int, int]
) -> None:
    await put("tram", title="A yellow tram climbs")
    columns, rows = size
    socket = tmp_path / "tmux"

    async def tmux(*words: str) -> str:
        process = await asyncio.create_subprocess_exec(
            "tmux", "-S", str(socket), "-f", os.devnull, *words,
            stdout=asyncio.subprocess.PIPE, env={**environment, "TMUX_TMPDIR": str(tmp_path)}, cwd=tmp_path,
        )  # fmt: skip
        out, _ = await process.communicate()
        return out.decode()

    async def until(*words: str) -> str:
        for _ in range(300):
            shown = await tmux("capture-pane", "-p", "-t", "review")
            if all(word in shown for word in words):
                return shown
            await asyncio.sleep(0.1)  # tmux tells nobody that a pane has changed
        raise AssertionError(f"no {words} on the screen:\n{shown}")

    try:
        await tmux("new-session", "-d", "-s", "review", "-x", str(columns), "-y", str(rows), *COMMAND)
        await tmux("set-option", "-g", "status", "off")
        shown = await until("A yellow tram climbs", "1 clip waiting", "▀", "quit")
        assert max(map(len, shown.splitlines())) <= columns
        await tmux("send-keys", "-t", "review", "a")
        await until("Nothing waits for review", "1 decided")
        await tmux("send-keys", "-t", "review", "q")
    finally:
        await tmux("kill-server")
    assert (await stages(shelf))[TRAM] == ("live", None)
