"""`paletta upload` as typed, against a real service: exit code, stdout and stderr, and what is in the store."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import text

from paletta_cli import main as cli
from paletta_cli.api import Service
from paletta_cli.transfer.items import Item
from paletta_cli.transfer.journal import Journal
from paletta_cli.transfer.protocol import Limits, Protocol
from paletta_cli.transfer.uploader import Uploader
from paletta_cli.transfer.wire import UNREAD_BLOCK
from paletta_server.core.runtime import Runtime
from paletta_server.taxonomy import service as taxonomy
from tests.conftest import MakeUser
from tests.support import media
from tests.support.holding import Held, Line, line_to_the_store
from tests.support.serving import serving

MIB = 1024 * 1024
LARGE = 20 * MIB  # two parts
MIDST = LARGE // UNREAD_BLOCK - 1  # the blocks after which it is on its way, and not there
RARELY = 3600.0
"""Seconds after which how far an upload is is told: whether that is so depends on the machine, not on what is said."""
HEAD = """\
paletta: 1
defaults:
  keywords: [test, pattern, colour, moving, bars]
  categories: [technology]
clips:
"""


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


Paletta = Callable[..., Awaitable[Ran]]


@pytest.fixture
async def url(app: FastAPI, runtime: Runtime) -> AsyncIterator[str]:
    async with runtime.db.transaction() as session:
        await session.execute(text("INSERT INTO categories (slug, name) VALUES ('technology', 'Technology')"))
    async with serving(app) as address:
        yield address


@pytest.fixture
async def line(app: FastAPI) -> AsyncIterator[Line]:
    async with line_to_the_store(app) as made:
        yield made


@pytest.fixture
async def environment(url: str, make_user: MakeUser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    person = await make_user("contributor")
    monkeypatch.setenv("PALETTA_URL", url)
    monkeypatch.setenv("PALETTA_TOKEN", person.token)
    monkeypatch.setenv("PALETTA_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("PALETTA_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def paletta(
    environment: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Paletta:
    monkeypatch.setattr("paletta_cli.transfer.view._PLAIN_SECONDS", RARELY)

    async def run(*argv: str | Path) -> Ran:
        capsys.readouterr()
        code = await asyncio.to_thread(cli.main, [str(word) for word in argv])
        shown = capsys.readouterr()
        return Ran(code, shown.out, shown.err)

    return run


@pytest.fixture
def shoot(tmp_path: Path) -> Callable[..., Path]:
    """`shoot(name=size or bytes)`: a folder with such files (`.mov`) and their manifest."""

    def make(**files: int | bytes) -> Path:
        folder = tmp_path / "shoot"
        folder.mkdir(exist_ok=True)
        lines = [HEAD]
        for name, content in files.items():
            data = content if isinstance(content, bytes) else os.urandom(content)
            (folder / f"{name}.mov").write_bytes(data)
            lines.append(f"  - file: {name}.mov\n    title: The clip called {name}\n")
        (folder / "paletta.yaml").write_text("".join(lines))
        return folder

    return make


class Process:
    """`paletta …` in a process of its own, whose stderr can be waited for line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.err = ""

    @classmethod
    async def start(cls, *argv: str | Path, **extra: str) -> Process:
        code = (
            f"from paletta_cli.transfer import view; view._PLAIN_SECONDS = {RARELY};"
            " from paletta_cli.main import run; run()"
        )
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                code,
                *map(str, argv),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, **extra},
            )
        )

    async def says(self, words: str) -> None:
        """Wait until stderr has `words`."""
        assert self.process.stderr is not None
        while words not in self.err:
            line = await asyncio.wait_for(self.process.stderr.readline(), 60)
            assert line, f"ended without saying {words!r}: {self.err}"
            self.err += line.decode()

    async def ends(self) -> Ran:
        out, err = await asyncio.wait_for(self.process.communicate(), 90)
        assert self.process.returncode is not None
        return Ran(self.process.returncode, out.decode(), self.err + err.decode())


async def stored(runtime: Runtime) -> dict[str, tuple[str, int]]:
    """File name → (state, how many uploads of that name) of everything registered; stored bytes are compared."""
    async with runtime.db.transaction() as session:
        rows = (await session.execute(text("SELECT file_name, state, key, crc64nvme FROM uploads"))).all()
        clips = await session.scalar(text("SELECT count(*) FROM clips WHERE deleted_at IS NULL"))
    found: dict[str, tuple[str, int]] = {}
    for name, state, key, crc in rows:
        found[name] = (state, found.get(name, ("", 0))[1] + 1)
        if state == "stored":
            info = await runtime.store.head(key)
            assert info is not None
            assert info.crc64nvme == crc
    assert clips == sum(count for state, count in found.values() if state != "cancelled")
    return found


FAST = ("--no-check-media", "--until", "uploaded")


async def test_small_and_large_files_arrive_and_are_recognised(
    paletta: Paletta, shoot: Callable[..., Path], runtime: Runtime
) -> None:
    folder = shoot(a=1000, b=3 * MIB, large=LARGE)
    first = await paletta("upload", folder, *FAST)
    assert first.code == 0, first.err
    assert re.fullmatch(
        r"(?:[ab]|large)\.mov\tstored\tclip_\w+\tarrived; being made ready\n",
        first.out.splitlines()[0] + "\n",
    )
    assert first.err == "3 clips, 23.0 MiB\n3 new\n3 stored\n"
    assert await stored(runtime) == dict.fromkeys(("a.mov", "b.mov", "large.mov"), ("stored", 1))

    again = await paletta("upload", folder, *FAST, "--json")
    assert again.code == 0
    assert again.err == "3 clips, 23.0 MiB\n3 already yours\n3 stored\n"
    assert again.document["bytes_stored"] == 0
    assert again.document["bytes_skipped"] == LARGE + 3 * MIB + 1000
    assert [item["outcome"] for item in again.document["items"]] == ["already_yours"] * 3
    assert await stored(runtime) == dict.fromkeys(("a.mov", "b.mov", "large.mov"), ("stored", 1))


async def test_a_handful_of_calls_for_a_hundred_files(
    paletta: Paletta,
    shoot: Callable[..., Path],
    runtime: Runtime,
    app: FastAPI,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Whoever waits for company goes alone after a moment: how often that happens is for the machine's speed to say.
    for stage in ("intake", "delivery"):
        monkeypatch.setattr(f"paletta_cli.transfer.{stage}.GATHER_SECONDS", 60.0)
    monkeypatch.setattr("paletta_cli.transfer.intake.SHORT_SECONDS", 60.0)
    calls: list[str] = []

    async def counting(scope: Any, receive: Any, send: Any) -> None:
        calls.append(scope.get("path", ""))
        await app(scope, receive, send)

    folder = shoot(**{f"clip{n:03}": 2000 for n in range(100)})
    async with serving(counting) as address:  # type: ignore[arg-type]
        done = await paletta("upload", folder, *FAST, "--url", address)
    assert done.code == 0, done.err
    assert done.err.endswith("100 stored\n")
    assert len(calls) <= 15, calls


async def test_mistakes_are_all_shown_before_the_first_byte(
    paletta: Paletta, shoot: Callable[..., Path], runtime: Runtime
) -> None:
    folder = shoot(a=1000, b=1000)
    manifest = folder / "paletta.yaml"
    manifest.write_text(
        manifest.read_text().replace("[technology]", "[tecnology]").replace("file: b.mov", "file: c.mov")
    )
    refused = await paletta("upload", folder, *FAST)
    assert refused.code == 3
    assert refused.out == ""
    assert (
        f"{manifest}:4:16: error: unknown category `tecnology`\n  hint: did you mean `technology`?\n"
        in refused.err
    )
    assert f"{manifest}:8:11: error: " in refused.err
    assert refused.err.endswith("nothing was sent\nhint: mend them and run the same command again\n")
    assert await stored(runtime) == {}
    machine = await paletta("upload", folder, *FAST, "--json")
    assert machine.code == 3
    assert {problem["line"] for problem in machine.document["problems"]} >= {4, 8}


async def test_names_that_are_not_utf8(
    paletta: Paletta, shoot: Callable[..., Path], tmp_path: Path, runtime: Runtime
) -> None:
    folder = shoot(a=1000)
    name = os.fsdecode(b"caf\xe9.mov")
    (folder / name).write_bytes(b"x" * 1000)
    sidecar = folder / f"{name}.yaml"
    sidecar.write_text("paletta: 1\ntitle: The clip from an old disk\n")
    refused = await paletta("upload", folder, *FAST)
    assert refused.code == 3
    assert "error: the file name `caf\ufffd.mov` is not valid UTF-8\n  hint: rename it" in refused.err
    assert await stored(runtime) == {}
    sidecar.unlink()
    # A folder's name does not matter to the service.
    other = folder.rename(tmp_path / os.fsdecode(b"for\xeat"))
    done = await paletta("upload", other, *FAST, "--json")
    assert done.code == 0, done.err
    beside = shoot(b=2000)
    both = await paletta("upload", other, beside, *FAST, "--json")
    assert both.code == 0, both.err
    assert [item["file"] for item in both.document["items"]] == ["for\ufffdt/a.mov", "shoot/b.mov"]


async def test_a_rehearsal_registers_nothing(
    paletta: Paletta, shoot: Callable[..., Path], runtime: Runtime
) -> None:
    folder = shoot(a=1000, b=2000)
    assert (await paletta("upload", folder / "a.mov", *FAST)).code == 0
    rehearsed = await paletta("upload", folder, "--no-check-media", "--dry-run")
    assert rehearsed == Ran(
        0,
        "a.mov\talready yours\t1000 B\nb.mov\tnew\t1.95 KiB\n",
        "2 clips, 2.93 KiB\nnothing was sent: 1 new, 1 already yours\n",
    )
    assert await stored(runtime) == {"a.mov": ("stored", 1)}


async def test_a_rehearsal_knows_rejected_failed_and_half_sent_clips(
    paletta: Paletta, shoot: Callable[..., Path], runtime: Runtime, tmp_path: Path
) -> None:
    folder = shoot(rejected=1000, failed=2000, fine=3000)
    assert (await paletta("upload", folder, *FAST)).code == 0
    async with runtime.db.transaction() as session:
        for statement in (
            "UPDATE clips SET processing = 'ready', review = 'rejected' WHERE file_name = 'rejected.mov'",
            "UPDATE clips SET processing = 'failed' WHERE file_name = 'failed.mov'",
            "UPDATE uploads SET stage = 'failed' WHERE file_name = 'failed.mov'",
        ):
            await session.execute(text(statement))
    shoot(rejected=(folder / "rejected.mov").read_bytes(), failed=(folder / "failed.mov").read_bytes(),
          fine=(folder / "fine.mov").read_bytes(), half=LARGE, copy=(folder / "rejected.mov").read_bytes())  # fmt: skip
    killed = await Process.start(
        "upload", folder / "half.mov", *FAST,
        PALETTA_TEST_KILL_AT=f"part:{MIDST}", PALETTA_STATE_DIR=str(tmp_path / "another machine"),
    )  # fmt: skip
    assert (await killed.ends()).code == -signal.SIGKILL
    rehearsed = await paletta("upload", folder, "--no-check-media", "--dry-run", "--json")
    assert rehearsed.code == 0, rehearsed.err
    assert {entry["file"]: entry["outcome"] for entry in rehearsed.document} == {
        "rejected.mov": "created",
        "failed.mov": "resumed",
        "fine.mov": "already_yours",
        "half.mov": "resumed",
        "copy.mov": "already_yours",
    }
    done = await paletta("upload", folder, *FAST)
    # The first part of the half one may have arrived or not; the failed one's bytes are all there.
    there = r"(1\.95 K|16\.0 M)iB of 20\.0 MiB there"
    told = rf"1 new, 2 resumed \({there}\), 1 already yours, 1 with the same bytes as another\n"
    assert re.search(f"\n{told}", done.err), done.err


async def test_what_was_read_before_is_told_before_anything_is_sent(
    paletta: Paletta, shoot: Callable[..., Path], runtime: Runtime
) -> None:
    folder = shoot(a=1000)
    assert (await paletta("upload", folder, *FAST)).code == 0
    shoot(a=(folder / "a.mov").read_bytes(), b=2000)
    os.utime(folder / "a.mov", ns=(0, 0))  # not as it was read
    changed = await paletta("upload", folder / "a.mov", *FAST)
    assert changed.err == "1 clip, 1000 B\n1 already yours\n1 stored\n"
    plan = "2 clips, 2.93 KiB\n1 clip read before: 1 already yours; 1 clip, 1.95 KiB still to read\n"
    killed = await (await Process.start("upload", folder, *FAST, PALETTA_TEST_KILL_AT="fingerprint:1")).ends()
    assert (killed.code, killed.err) == (-signal.SIGKILL, plan)
    done = await paletta("upload", folder, *FAST)
    assert done.err == plan + "1 new, 1 already yours\n2 stored\n"


@pytest.mark.parametrize("typed", ["?limit=1", "../me", "upl/../../me"])
async def test_whatever_is_typed_is_one_id(paletta: Paletta, typed: str) -> None:
    for verb in (("show",), ("cancel", "--yes")):
        refused = await paletta("uploads", *verb, typed)
        assert (refused.code, refused.out) == (1, "")
        assert re.fullmatch("error: no (batch|address) `.*`\n", refused.err), refused.err


async def test_single_clips_and_several_folders(
    paletta: Paletta, shoot: Callable[..., Path], tmp_path: Path, runtime: Runtime
) -> None:
    folder = shoot(a=1000, b=2000)
    other = folder.rename(tmp_path / "other")
    folder = shoot(a=1000, c=3000)
    done = await paletta("upload", folder, other / "b.mov", other / "a.mov", *FAST, "--json")
    assert done.code == 0, done.err
    assert [item["file"] for item in done.document["items"]] == [
        "shoot/a.mov",
        "shoot/c.mov",
        "other/a.mov",
        "other/b.mov",
    ]
    assert await stored(runtime) == {"a.mov": ("stored", 2), "b.mov": ("stored", 1), "c.mov": ("stored", 1)}


async def test_the_same_bytes_under_two_names_are_one_clip(
    paletta: Paletta, shoot: Callable[..., Path], runtime: Runtime
) -> None:
    data = os.urandom(5000)
    done = await paletta("upload", shoot(a=data, b=data), *FAST, "--json")
    assert done.code == 0, done.err
    outcomes = {item["file"]: (item["outcome"], item["clip_id"]) for item in done.document["items"]}
    assert sorted(outcome for outcome, _ in outcomes.values()) == ["already_yours", "created"]
    assert done.document["counts"] == {"stored": 2}
    assert len({clip for _, clip in outcomes.values()}) == 1
    assert "\n1 new, 1 with the same bytes as another\n" in done.err
    names = {item["file"]: item["same_bytes_as"] for item in done.document["items"]}
    sent = next(name for name, other in names.items() if other is None)
    assert names == {sent: None, ({*names} - {sent}).pop(): sent}


async def test_a_rehearsal_names_the_twin(paletta: Paletta, shoot: Callable[..., Path]) -> None:
    data = os.urandom(5000)
    folder = shoot(a=data, b=data, c=1000)
    rehearsed = await paletta("upload", folder, "--no-check-media", "--dry-run")
    assert (
        rehearsed.out == "a.mov\tnew\t4.88 KiB\nb.mov\tsame bytes as `a.mov`\t4.88 KiB\nc.mov\tnew\t1000 B\n"
    )
    assert rehearsed.err.endswith("nothing was sent: 2 new, 1 with the same bytes as another\n")
    assert (await paletta("upload", folder / "b.mov", *FAST)).code == 0
    again = await paletta("upload", folder, *FAST)
    assert "1 new, 1 already yours, 1 with the same bytes as another\n" in again.err
    assert re.search(r"^a\.mov\tstored\tclip_\w+\twas already yours$", again.out, re.M), again.out
    assert re.search(r"^b\.mov\tstored\tclip_\w+\tthe same bytes as `a\.mov`$", again.out, re.M), again.out


async def test_what_the_manifest_says_anew_of_a_clip_that_is_there_is_not_lost_silently(
    paletta: Paletta, shoot: Callable[..., Path]
) -> None:
    folder = shoot(a=1000, b=2000)
    assert (await paletta("upload", folder, *FAST)).code == 0
    manifest = folder / "paletta.yaml"
    manifest.write_text(manifest.read_text().replace("The clip called a", "Another title of a"))
    told = (
        "1 clip is described otherwise than in the manifest, and is left as before\n"
        f"hint: `paletta clips apply {folder}` takes over what the manifest says\n"
    )
    rehearsed = await paletta("upload", folder, "--no-check-media", "--dry-run")
    assert (
        rehearsed.out == "a.mov\talready yours, described otherwise\t1000 B\nb.mov\talready yours\t1.95 KiB\n"
    )
    assert rehearsed.err.endswith(told)
    done = await paletta("upload", folder, *FAST, "--json")
    assert done.code == 0, done.err
    assert done.err.endswith(told)
    assert [item["differs"] for item in done.document["items"]] == [True, False]
    assert (await paletta("clips", "apply", folder, "--yes")).code == 0
    assert "hint" not in (await paletta("upload", folder, *FAST)).err


async def test_an_empty_and_a_vanished_file_do_not_hold_up_the_others(
    environment: None, url: str, shoot: Callable[..., Path], tmp_path: Path, runtime: Runtime
) -> None:
    folder = shoot(a=1000, empty=0)
    metadata = {
        "title": "A clip that is there",
        "keywords": ["test", "pattern", "colour", "moving", "bars"],
        "categories": ["technology"],
    }
    items = [Item(name, folder / name, 1000, metadata) for name in ("gone.mov", "empty.mov", "a.mov")]

    def transfer() -> None:
        with (
            Service(url, os.environ["PALETTA_TOKEN"]) as service,
            Journal(tmp_path / "journal.db", pytest.fail) as journal,
        ):
            protocol = Protocol(service, Limits())
            run = journal.begin(url, "me", [str(folder)], "shoot")
            uploader = Uploader(protocol, journal, run, protocol.open_batch(run)["id"], items)
            uploader.start()
            assert uploader.wait(60)

    await asyncio.to_thread(transfer)
    assert [(item.stage, item.reason) for item in items] == [
        ("failed", "cannot be read: No such file or directory"),
        ("invalid", "is empty"),
        ("stored", ""),
    ]


@pytest.mark.parametrize("state", ["fingerprint", "register", "sign", "part", "complete"])
async def test_killed_at_any_state_it_goes_on(
    state: str, paletta: Paletta, shoot: Callable[..., Path], runtime: Runtime
) -> None:
    folder = shoot(a=1000, b=2000, large=LARGE)
    # In the middle of things: the second time (after an answer came), or in the midst of a body.
    killed = await Process.start(
        "upload", folder, *FAST, PALETTA_TEST_KILL_AT=f"{state}:{MIDST if state == 'part' else 2}"
    )
    assert (await killed.ends()).code == -signal.SIGKILL
    before = await acknowledged(runtime)
    done = await paletta("upload", folder, *FAST, "--json")
    assert done.code == 0, done.err
    assert {item["stage"] for item in done.document["items"]} == {"stored"}
    # (A part whose last byte left just before the end may arrive after it, so there may be more.)
    assert done.document["bytes_skipped"] >= before, "what was acknowledged is not sent again"
    assert done.document["bytes_stored"] == done.document["bytes_total"] - done.document["bytes_skipped"]
    assert await stored(runtime) == dict.fromkeys(("a.mov", "b.mov", "large.mov"), ("stored", 1))


async def acknowledged(runtime: Runtime) -> int:
    """Bytes that the store holds of what is registered."""
    total = 0
    async with runtime.db.transaction() as session:
        rows = (await session.execute(text("SELECT key, multipart_id, state FROM uploads"))).all()
    for key, multipart, state in rows:
        if multipart and state not in ("stored", "completing"):
            with suppress(Exception):
                total += sum(part.size for part in await runtime.store.list_parts(key, multipart))
                continue
        info = await runtime.store.head(key)
        total += info.size if info else 0
    return total


async def test_ctrl_c_says_so_stops_and_goes_on(
    paletta: Paletta, shoot: Callable[..., Path], runtime: Runtime
) -> None:
    folder = shoot(a=1000, large=LARGE)
    # At this rate the large one takes minutes: it is far from its end however long the small one takes.
    process = await Process.start("upload", folder, *FAST, "--limit-rate", "64K")
    await process.says("2 new\n")
    async with asyncio.timeout(60):
        while (await stored(runtime)).get("a.mov") != ("stored", 1):  # noqa: ASYNC110 (another process's doing)
            await asyncio.sleep(0.02)
    process.process.send_signal(signal.SIGINT)
    stopped = await process.ends()
    assert stopped.code == 130
    assert stopped.out == ""
    assert stopped.err == (
        "2 clips, 20.0 MiB\n2 new\nstopping; finished parts stay there\ninterrupted\n"
        "hint: run the same command again to go on: finished parts are not sent again\n"
    )
    done = await paletta("upload", folder, *FAST, "--json")
    assert done.code == 0, done.err
    assert "resumed" in done.err
    assert await stored(runtime) == {"a.mov": ("stored", 1), "large.mov": ("stored", 1)}


async def test_on_a_slow_line_every_run_gets_on(
    paletta: Paletta, shoot: Callable[..., Path], runtime: Runtime, line: Line
) -> None:
    """Cut off by the bytes that left, not by the clock: 18 MiB of clips, and three runs of 9 MiB."""
    folder = shoot(**{f"clip{n}": 3 * MIB - n for n in range(6)})
    arrived = 0
    for _ in range(3):
        blocks = 9 * MIB // (256 * 1024)
        cut = await Process.start(
            "upload", folder, *FAST, "--limit-rate", "2M", PALETTA_TEST_KILL_AT=f"part:{blocks}"
        )
        assert (await cut.ends()).code in (-signal.SIGKILL, 0)
        await line.is_still()
        there = await acknowledged(runtime)
        if arrived < 15 * MIB:
            assert there >= arrived + 3 * MIB - 6, "this run was for nothing"
        arrived = there
    assert arrived >= 12 * MIB - 24, "most clips are there"
    rehearsed = await paletta("upload", folder, "--no-check-media", "--dry-run", "--json")
    figures = [(entry["bytes_there"], entry["size"]) for entry in rehearsed.document]
    assert sum(there for there, _ in figures) == arrived
    assert all(there in (0, size) for there, size in figures), figures
    done = await paletta("upload", folder, *FAST, "--json")
    assert done.code == 0, done.err
    assert done.document["bytes_skipped"] == arrived
    assert [item["bytes_there"] for item in done.document["items"]] == [there for there, _ in figures]


async def test_what_is_resumed_and_not_there_is_not_called_sent(
    paletta: Paletta, shoot: Callable[..., Path]
) -> None:
    folder = shoot(a=3 * MIB)
    cut = await Process.start("upload", folder, *FAST, PALETTA_TEST_KILL_AT="part:1")
    assert (await cut.ends()).code == -signal.SIGKILL
    rehearsed = await paletta("upload", folder, "--no-check-media", "--dry-run")
    assert rehearsed.out == "a.mov\tresumed, 0 B of 3.00 MiB are there\t3.00 MiB\n"
    assert rehearsed.err.endswith("nothing was sent: 1 resumed (0 B of 3.00 MiB there)\n")
    done = await paletta("upload", folder, *FAST)
    assert done.err == "1 clip, 3.00 MiB\n1 resumed (0 B of 3.00 MiB there)\n1 stored\n"


@pytest.mark.parametrize("patient", [True, False])
async def test_ctrl_c_lets_what_is_nearly_there_arrive_and_a_second_one_does_not(
    shoot: Callable[..., Path], environment: None, runtime: Runtime, line: Line, patient: bool
) -> None:
    folder = shoot(a=1000, b=2 * MIB)
    line.plan = held = Held(2 * MIB)
    # "Nearly" is within minutes here, whatever the machine.
    process = await Process.start("upload", folder, *FAST, PALETTA_TEST_HASTE="0.01")
    await held.has_one()
    while (await stored(runtime)).get("a.mov") != ("stored", 1):
        assert process.process.returncode is None
        await asyncio.sleep(0.05)
    process.process.send_signal(signal.SIGINT)
    await process.says("stopping: 1 part is nearly there, 250.0 s at most; Ctrl-C again ends it at once\n")
    if patient:
        held.free.set()
    else:
        process.process.send_signal(signal.SIGINT)
    ended = await process.ends()
    assert ended.code == 130
    assert ended.err.endswith(
        "interrupted\nhint: run the same command again to go on: finished parts are not sent again\n"
    )
    assert (await stored(runtime))["b.mov"] == (("stored", 1) if patient else ("uploading", 1))


async def test_two_at_once_end_well_with_each_clip_once(
    environment: None, shoot: Callable[..., Path], runtime: Runtime
) -> None:
    folder = shoot(**{f"s{n}": 300_000 for n in range(12)}, large=LARGE)
    both = await asyncio.gather(*(Process.start("upload", folder, *FAST) for _ in range(2)))
    for done in await asyncio.gather(*(process.ends() for process in both)):
        assert done.code == 0, done.err
        assert done.err.endswith("13 stored\n")
    assert set((await stored(runtime)).values()) == {("stored", 1)}


async def test_a_file_that_changes_meanwhile_is_set_aside(
    paletta: Paletta, shoot: Callable[..., Path], line: Line
) -> None:
    folder = shoot(a=1000, large=LARGE)
    line.plan = held = Held(MIB)
    process = await Process.start("upload", folder, *FAST, "--json")
    await process.says("2 new\n")
    await held.has_one()
    with (folder / "large.mov").open("r+b") as stream:
        stream.write(b"edited")
    held.free.set()
    done = await process.ends()
    assert done.code == 6, done.err
    stages = {item["file"]: (item["stage"], item["reason"]) for item in done.document["items"]}
    assert stages["a.mov"] == ("stored", None)
    assert stages["large.mov"] == ("changed", "changed while it was read, and was set aside")
    again = await paletta("upload", "--failed", "last", *FAST, "--json")
    assert again.code == 0, again.err
    assert [(item["file"], item["stage"]) for item in again.document["items"]] == [("large.mov", "stored")]


@pytest.mark.parametrize("resumed", [False, True])
async def test_who_relied_on_a_file_that_changes_is_sent_in_its_stead_or_told(
    paletta: Paletta, shoot: Callable[..., Path], runtime: Runtime, line: Line, resumed: bool
) -> None:
    """An upload that is resumed may be in another process's hands: it is not cancelled, so no other can begin."""
    data = os.urandom(LARGE)
    folder = shoot(a=1000, large=data)
    if resumed:
        line.plan = Held(MIB)
        earlier = await Process.start("upload", folder, *FAST)
        await earlier.says("2 new\n")
        earlier.process.kill()
        await earlier.ends()
    folder = shoot(a=1000, large=data, twin=data, third=data)
    line.plan = held = Held(MIB)
    process = await Process.start("upload", folder, *FAST, "--json")
    await process.says("2 with the same bytes as another\n")
    await held.has_one()
    async with runtime.db.transaction() as session:
        items = await session.execute(
            text(
                "SELECT ref FROM batch_items WHERE outcome <> 'already_yours' AND ref <> 'a.mov' ORDER BY batch_id"
            )
        )
        sender = items.scalars().all()[-1]
    with (folder / sender).open("r+b") as stream:
        stream.write(b"edited")
    held.free.set()
    done = await process.ends()
    assert done.code == 6, done.err
    found = {item["file"]: item for item in done.document["items"]}
    assert found.pop(sender)["stage"] == "changed"
    assert found.pop("a.mov")["stage"] == "stored"
    if resumed:
        reason = f"not sent: `{sender}`, which has the same bytes, changed meanwhile"
        assert {(item["stage"], item["reason"]) for item in found.values()} == {("failed", reason)}
    else:
        assert [item["stage"] for item in found.values()] == ["stored", "stored"]
        assert sorted(item["outcome"] for item in found.values()) == ["already_yours", "created"]
        assert len({item["clip_id"] for item in found.values()}) == 1
        assert done.document["bytes_skipped"] == LARGE
    again = await paletta("upload", "--failed", "last", *FAST, "--json")
    assert again.code == 0, again.err
    assert {item["stage"] for item in again.document["items"]} == {"stored"}


async def test_until_live(
    paletta: Paletta, tmp_path: Path, runtime: Runtime, shoot: Callable[..., Path]
) -> None:
    from paletta_server.core.jobs import run_worker

    folder = shoot(broken=5000)
    await asyncio.to_thread(media.clip, folder / "good.mov")
    with (folder / "paletta.yaml").open("a") as stream:
        stream.write("  - file: good.mov\n    title: A clip that is good\n")
    worker = asyncio.create_task(run_worker(runtime, name="test", concurrency=1, wait=True))
    try:
        done = await paletta("upload", folder, "--no-check-media", "--json")
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    assert done.code == 6, done.err
    items = {item["file"]: item for item in done.document["items"]}
    assert items["good.mov"]["stage"] == "live"
    assert items["broken.mov"]["stage"] == "rejected"
    assert items["broken.mov"]["reason"]
    assert done.document["counts"] == {"live": 1, "rejected": 1}
    assert f"hint: `paletta upload --failed {done.document['batch_id']}` tries those again alone" in done.err


async def verdict(runtime: Runtime, **stages: str) -> None:
    """Let files come to an end as ingest would: `verdict(runtime, a="rejected")` for `a.mov`."""
    from paletta_server.clips import service as clips
    from paletta_server.uploads import ingestion

    async with runtime.db.transaction() as session:
        for name, stage in stages.items():
            query = text("SELECT id, clip_id FROM uploads WHERE file_name = :name")
            upload, clip = (await session.execute(query, {"name": f"{name}.mov"})).one()
            if stage != "live":
                await clips.fail(session, clip, reason="not for us", hint=None)
            await ingestion.report(session, upload, stage, reason="not for us")


async def test_failed_asks_the_service_what_went_wrong(
    paletta: Paletta, shoot: Callable[..., Path], runtime: Runtime
) -> None:
    folder = shoot(a=1000, b=2000, c=3000)
    first = await paletta("upload", folder, *FAST, "--json")
    assert first.code == 0, first.err
    batch = first.document["batch_id"]
    early = await paletta("upload", "--failed", batch, *FAST)
    assert early == Ran(0, "", f"nothing failed in `{batch}` so far: 3 stored\n")
    await verdict(runtime, a="rejected", b="failed", c="live")  # after the command had ended well
    rehearsed = await paletta("upload", "--failed", batch, *FAST, "--dry-run", "--json")
    assert [item["file"] for item in json.loads(rehearsed.out)] == ["a.mov", "b.mov"]
    again = await paletta("upload", "--failed", batch[:12], *FAST, "--json")
    assert again.code == 0, again.err
    assert [(item["file"], item["stage"]) for item in again.document["items"]] == [
        ("a.mov", "stored"),
        ("b.mov", "stored"),
    ]


async def test_failed_on_another_machine_or_account(
    paletta: Paletta,
    shoot: Callable[..., Path],
    runtime: Runtime,
    make_user: MakeUser,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = shoot(a=1000, b=2000)
    batch = (await paletta("upload", folder, *FAST, "--json")).document["batch_id"]
    await verdict(runtime, a="rejected", b="live")
    monkeypatch.setenv("PALETTA_STATE_DIR", str(tmp_path / "elsewhere"))
    lost = await paletta("upload", "--failed", batch, *FAST)
    assert (lost.code, lost.out) == (2, "")
    assert lost.err == (
        f"error: `{batch}` was not sent from this machine: 1 clip to try again\n"
        f"hint: say where they are: `paletta upload --failed {batch} PATH…`\n"
    )
    wrong = await paletta("upload", "--failed", batch, folder / "b.mov", *FAST)
    assert wrong.code == 2
    assert f"error: `a.mov` of `{batch}` not found here\nhint: name their folders" in wrong.err
    moved = folder.rename(tmp_path / "moved")
    again = await paletta("upload", "--failed", batch, moved, *FAST, "--json")
    assert again.code == 0, again.err
    assert [(item["file"], item["stage"]) for item in again.document["items"]] == [("a.mov", "stored")]
    monkeypatch.setenv("PALETTA_TOKEN", (await make_user("contributor")).token)
    for word in ("last", batch):
        stranger = await paletta("upload", "--failed", word, *FAST)
        assert stranger.code == 1, word
        assert "error: this account has no " in stranger.err


async def test_what_the_service_finds_doubtful_is_told_once(
    paletta: Paletta, shoot: Callable[..., Path], runtime: Runtime
) -> None:
    async with runtime.db.transaction() as session:
        owner = await session.scalar(text("SELECT min(id) FROM users"))
        assert owner is not None
        await taxonomy.tags_for_uploads(session, [["lighthouse"]], owner)
    folder = shoot(a=1000, b=2000)
    manifest = folder / "paletta.yaml"
    manifest.write_text(manifest.read_text().replace("colour, ", "lighthuose, "))
    done = await paletta("upload", folder, *FAST, "--json")
    assert done.code == 0, done.err
    assert done.err == (
        "2 clips, 2.93 KiB\n2 new\n"
        f"{manifest}:3:29: warning: `lighthuose` is a new tag\n  hint: did you mean `lighthouse`?\n"
        "2 stored\n"
    )
    assert [item["warnings"] for item in done.document["items"]] == [["`lighthuose` is a new tag"]] * 2


async def test_keywords_that_become_their_tag_are_named_before_the_upload(
    paletta: Paletta, shoot: Callable[..., Path], runtime: Runtime
) -> None:
    async with runtime.db.transaction() as session:
        await session.execute(
            text("""INSERT INTO tags (name, synonyms) VALUES ('motion', '["moving"]'), ('bar', '["bars"]')""")
        )
    folder = shoot(a=1000, b=2000)
    told = "2 clips, 2.93 KiB\n2 keywords are taken as their tag: moving → motion, bars → bar\n"
    rehearsed = await paletta("upload", folder, "--no-check-media", "--dry-run")
    assert rehearsed.err.startswith(told)
    done = await paletta("upload", folder, *FAST, "--json")
    assert done.code == 0, done.err
    assert done.err == f"{told}2 new\n2 stored\n"
    assert done.document["keywords_as_tags"] == {"moving": "motion", "bars": "bar"}


async def test_uploads_list_show_and_cancel(
    paletta: Paletta, shoot: Callable[..., Path], runtime: Runtime
) -> None:
    assert await paletta("uploads", "list") == Ran(0, "", "no uploads yet\n")
    unknown = [
        ("uploads", "show", "last"),
        ("uploads", "show", "batch_zzzzzzzz"),
        ("uploads", "cancel", "batch_zzzzzzzz", "--yes"),
        ("upload", "--failed", "last"),
        ("upload", "--failed", "batch_zzzzzzzz"),
    ]
    assert [(await paletta(*words)).code for words in unknown] == [1] * 5, "not found, wherever it is named"
    done = await paletta("upload", shoot(a=1000), *FAST, "--json")
    batch = done.document["batch_id"]
    listed = await paletta("uploads", "list")
    assert re.fullmatch(
        rf"{batch}\tshoot \(.*\)\tsealed\t1 stored\t\d{{4}}-\d\d-\d\d \d\d:\d\d\n", listed.out
    )
    shown = await paletta("uploads", "show", batch[:10])
    assert shown.out.startswith("a.mov\tstored\t\tclip_")
    assert (await paletta("uploads", "show", "last")).out == shown.out
    upload = done.document["items"][0]["upload_id"]
    one = await paletta("uploads", "show", upload)
    assert f"upload: {upload}\nfile: a.mov\nsize: 1000 B\n" in one.out
    assert "parts: 1 of 1\n" in one.out
    refused = await paletta("uploads", "cancel", batch)
    assert refused.code == 2
    assert "hint: pass --yes to go ahead" in refused.err
    assert (await paletta("uploads", "cancel", batch, "--yes")).out == f"{batch} cancelled\n"
    assert "\t1 cancelled\t" in (await paletta("uploads", "list")).out
    # The same command then begins anew.
    anew = await paletta("upload", shoot(a=1000), *FAST, "--json")
    assert anew.code == 0
    assert anew.document["batch_id"] != batch


async def test_a_check_and_a_rehearsal_warn_of_what_the_upload_warns_of(
    paletta: Paletta, shoot: Callable[..., Path], runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with runtime.db.transaction() as session:
        owner = await session.scalar(text("SELECT min(id) FROM users"))
        assert owner is not None
        await taxonomy.tags_for_uploads(session, [["lighthouse"]], owner)
    folder = shoot(a=1000, b=2000)
    manifest = folder / "paletta.yaml"
    manifest.write_text(manifest.read_text().replace("colour, ", "Lighthuose, "))
    warning = f"{manifest}:3:29: warning: `Lighthuose` is a new tag\n  hint: did you mean `lighthouse`?\n"
    checked = await paletta("manifest", "check", folder, "--no-check-media")
    assert (checked.code, checked.out) == (0, warning)
    assert checked.err.endswith("2 clips, 0 errors, 1 warning\n")
    rehearsed = await paletta("upload", folder, "--no-check-media", "--dry-run")
    assert warning in rehearsed.err
    monkeypatch.delenv("PALETTA_TOKEN")
    unasked = await paletta("manifest", "check", folder, "--no-check-media")
    assert (unasked.code, unasked.out) == (0, "")
    assert "new tags were not compared with the service's: not logged in to " in unasked.err


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
async def test_who_may_not_upload_hears_so_before_anything_is_read(
    dry: tuple[str, ...],
    paletta: Paletta,
    shoot: Callable[..., Path],
    make_user: MakeUser,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = shoot(a=1000)
    (folder / "paletta.yaml").write_text("clips: nonsense\n")  # which nobody looks at
    monkeypatch.setenv("PALETTA_TOKEN", (await make_user("customer")).token)
    assert await paletta("upload", folder, "--no-check-media", *dry) == Ran(
        4,
        "",
        "error: this is for contributors\nhint: ask with `paletta profile become-contributor`\n",
    )
