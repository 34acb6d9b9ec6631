"""Files made to read what is not theirs, to exhaust us, or simply broken: each is refused, or comes out
right.

`PALETTA_TEST_MUTANTS` sets the number of random mutants (default 60), `PALETTA_TEST_SEED` their seed
(printed).
"""

import asyncio
import json
import os
import random
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from paletta_server.ingest import sandbox as sandbox_module
from paletta_server.ingest.errors import Rejected
from paletta_server.ingest.gate import judge
from paletta_server.ingest.plan import plan_outputs
from paletta_server.ingest.probe import MediaLimits, probe
from paletta_server.ingest.sandbox import SOURCE, RunLimits, Sandbox
from paletta_server.ingest.transcode import FfmpegTranscoder, TranscodeResult
from tests.support import hostile, media

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the engine runs on POSIX systems")

STRICT = MediaLimits()
LENIENT = MediaLimits(min_long_edge=16, min_seconds=0.1)
# The jail, and what is left of it where there can be none: the whitelists must hold by themselves.
MODES = ("prefer", "off")


@pytest.fixture(scope="module")
def laid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[hostile.Bait]:
    with hostile.bait(tmp_path_factory.mktemp("bait") / "private") as prepared:
        yield prepared


async def ingest(source: Path, sandbox: Sandbox, limits: MediaLimits, out: Path) -> TranscodeResult:
    """What the service does with a file; gate errors are raised like any other refusal."""
    found = await probe(source, sandbox, limits)
    for finding in judge(found, limits).errors:
        raise Rejected(finding.code, finding.reason, finding.hint)
    out.mkdir()
    return await FfmpegTranscoder(sandbox, limits, threads=2).run(
        source, found, plan_outputs(found), out, lambda _: None
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", hostile.corpus())
async def test_what_is_no_clip_is_rejected_and_reaches_nothing(
    name: str, mode: str, laid: hostile.Bait, tmp_path: Path
) -> None:
    file_name, make = hostile.corpus()[name]
    source = tmp_path / file_name
    source.write_bytes(make(tmp_path, laid))
    with pytest.raises(Rejected) as refused:
        await ingest(source, Sandbox.create(mode), STRICT, tmp_path / "out")
    assert refused.value.code
    assert refused.value.reason
    assert hostile.MARK not in refused.value.reason + refused.value.hint
    assert laid.hits == []
    assert not (tmp_path / "out").exists(), "the file got as far as the transcoder"


@pytest.mark.parametrize("mode", MODES)
async def test_an_alias_to_another_film_is_not_followed(
    mode: str, laid: hostile.Bait, tmp_path: Path
) -> None:
    chart = media.clip(tmp_path / "chart.mov", look="black", size=(320, 180), seconds=2, faststart=False)
    source = tmp_path / "clip.mov"
    source.write_bytes(hostile.references(chart, laid.film))
    try:
        result = await ingest(source, Sandbox.create(mode), LENIENT, tmp_path / "out")
    except Rejected:
        return
    # Read from itself, it is a black film; the other one is of a bright colour.
    from PIL import Image

    for poster in result.posters:
        with Image.open(poster.path) as picture:
            assert max(high for _, high in picture.convert("RGB").getextrema()) < 24  # type: ignore[misc]


MISCHIEF = """
import ctypes, json, os, socket, sys
bait, port = sys.argv[2], int(sys.argv[3])
def attempt(work):
    try:
        return str(work())
    except BaseException as error:
        return type(error).__name__
def connect():
    socket.create_connection(("127.0.0.1", port), timeout=2)
    return "connected"
def namespace():
    return ctypes.CDLL(None, use_errno=True).unshare(0x10000000)
print(json.dumps({
    "bait": attempt(lambda: open(bait).read(9)),
    "passwords": attempt(lambda: open("/etc/passwd").read(4)),
    "connect": attempt(connect),
    "fork": attempt(lambda: os.fork() or os._exit(0)),
    "symlink": attempt(lambda: os.symlink("/etc/passwd", "planted")),
    "link": attempt(lambda: os.link("/in/source", "planted")),
    "write": attempt(lambda: open("/usr/lib/planted", "w")),
    "source": attempt(lambda: open("/in/source", "ab")),
    "namespace": attempt(namespace),
    "environment": sorted(os.environ),
    "others": attempt(lambda: [p for p in os.listdir("/proc")]),
}))
"""


@pytest.mark.parametrize("filtered", [True, False])
async def test_who_breaks_out_of_a_decoder_is_still_in_jail(
    filtered: bool, laid: hostile.Bait, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs a program of the attacker's in the place of the probe, with the system-call filter and without it."""
    jail = Sandbox.create("prefer")
    if not filtered:
        jail = Sandbox(jail._jail, filtered=False)
    if jail.level != "bubblewrap":
        pytest.skip(f"no jail on this system: {jail.warnings}")
    script = tmp_path / "mischief.py"
    script.write_text(MISCHIEF)
    monkeypatch.setattr(sandbox_module, "_PROBE", script)
    (tmp_path / "out").mkdir()
    monkeypatch.setenv("PALETTA_S3_SECRET_KEY", hostile.MARK)
    port = laid.url.rpartition(":")[2]
    source = media.clip(tmp_path / "clip.mp4", size=(64, 64), seconds=1)
    done = await jail.run(
        [str(laid.text), port],
        source=source,
        out_dir=tmp_path / "out",
        limits=RunLimits(60, 20),
        program="probe",
    )
    assert done.status == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["bait"] == seen["passwords"] == seen["others"] == "FileNotFoundError"
    assert seen["connect"] == ("PermissionError" if filtered else "ConnectionRefusedError")
    if filtered:
        assert seen["fork"] == seen["symlink"] == seen["link"] == "PermissionError"
        assert list((tmp_path / "out").iterdir()) == []
    assert seen["write"] == seen["source"] == "OSError"  # read-only file system
    assert seen["namespace"] == "-1"
    assert hostile.MARK not in done.stdout
    assert set(seen["environment"]) <= {"LC_ALL", "LC_CTYPE", "PWD"}
    assert laid.hits == []


@pytest.mark.parametrize("mode", MODES)
async def test_ffmpeg_itself_cannot_reach_files_or_servers(
    mode: str, laid: hostile.Bait, tmp_path: Path
) -> None:
    """The options alone, on a playlist that ffmpeg is told to read as a film."""
    source = tmp_path / "clip.mp4"
    source.write_bytes(hostile.hls(str(laid.film)))
    options = ["-nostdin", "-v", "error", "-protocol_whitelist", "file", "-format_whitelist", "mov,mxf"]
    for demuxer in (["-f", "mov"], ["-f", "hls"], []):
        done = await Sandbox.create(mode).run(
            [*options, *demuxer, "-i", f"file:{SOURCE}", "-f", "null", "-"],
            source=source,
            out_dir=tmp_path,
            limits=RunLimits(60, 20),
        )
        assert done.status != 0
        assert hostile.MARK not in done.stderr
    assert laid.hits == []


async def test_memory_and_cpu_have_an_end(tmp_path: Path) -> None:
    jail = Sandbox.create("prefer")
    source = media.clip(tmp_path / "clip.mp4", size=media.HD, seconds=1)
    forever = ["-v", "error", "-f", "lavfi", "-i", "mandelbrot=s=1920x1080", "-f", "null", "-"]
    done = await jail.run(forever, source=source, out_dir=tmp_path, limits=RunLimits(60, 1))
    assert done.status != 0
    tight = RunLimits(60, 30, memory_bytes=256 * 1024**2)
    done = await jail.run(
        ["-i", f"file:{SOURCE}", "-f", "null", "-"], source=source, out_dir=tmp_path, limits=tight
    )
    assert done.status != 0
    small = RunLimits(60, 30, file_bytes=10_000)
    done = await jail.run(
        ["-i", f"file:{SOURCE}", "-c", "copy", "x.mov"], source=source, out_dir=tmp_path, limits=small
    )
    assert (tmp_path / "x.mov").stat().st_size <= 10_000
    assert done.status != 0


SEED = int(os.environ.get("PALETTA_TEST_SEED") or secrets.randbelow(2**32))
MUTANTS = int(os.environ.get("PALETTA_TEST_MUTANTS") or 60)


async def test_mutants_are_refused_or_come_out_right(tmp_path: Path) -> None:
    print(f"seed {SEED}, {MUTANTS} mutants")
    films = [
        media.clip(tmp_path / name, codec=codec, size=(320, 180), seconds=1, audio=codec == "h264")
        for name, codec in (
            ("h264.mp4", "h264"),
            ("hevc.mov", "hevc"),
            ("prores.mov", "prores"),
            ("jpeg.mov", "mjpeg"),
            ("dnxhr.mxf", "dnxhd"),
        )
    ]
    bodies = [(film.suffix, film.read_bytes()) for film in films]
    dice = random.Random(SEED)
    jobs = []
    for number in range(MUTANTS):
        suffix, body = bodies[number % len(bodies)]
        source = tmp_path / f"mutant-{number}{suffix}"
        source.write_bytes(media.mutant(body, dice))
        jobs.append(source)
    two_at_once = asyncio.Semaphore(2)
    jail = Sandbox.create("prefer")
    outcomes: dict[str, int] = {}

    async def one(source: Path) -> None:
        async with two_at_once:
            try:
                result = await ingest(source, jail, LENIENT, tmp_path / f"out-{source.name}")
            except Rejected as refused:
                code = refused.code
            except Exception as error:
                raise AssertionError(
                    f"{source.name} of seed {SEED}: {error!r} {getattr(error, 'detail', '')}"
                ) from error
            else:
                code = "ready"
                assert result.frames_decoded > 0
                assert result.comp.path.stat().st_size == result.comp.size > 0
                assert result.posters
        outcomes[code] = outcomes.get(code, 0) + 1

    await asyncio.gather(*(one(source) for source in jobs))
    print(outcomes)
    assert sum(outcomes.values()) == MUTANTS
