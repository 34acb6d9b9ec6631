"""What every transcoder must do with honest films, damaged films, and being stopped.

Runs on ffmpeg in the jail, and on MediaConvert as the simulator has it (`tests.support.mediaconvert`): our requests are
held to Amazon's model and carried out with ffmpeg. Not run here: the real MediaConvert, so nothing is said of its rates
and its looks. Limits of time and stopping in the middle are the ffmpeg transcoder's alone: no process of ours waits for
MediaConvert, and what becomes of its jobs is in `tests/faults/test_mediaconvert.py`.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import psutil
import pytest
from PIL import Image

from paletta_server.core.settings import Settings
from paletta_server.core.storage import ObjectStore
from paletta_server.ingest.errors import EngineFailed, Rejected
from paletta_server.ingest.gate import judge
from paletta_server.ingest.plan import OutputPlan, plan_outputs
from paletta_server.ingest.probe import MediaLimits, Probe, probe
from paletta_server.ingest.sandbox import Sandbox
from paletta_server.ingest.transcode import FfmpegTranscoder, Transcoder, TranscodeResult
from tests.support import media
from tests.support.mediaconvert.bench import Bench

LIMITS = MediaLimits(min_long_edge=160, min_seconds=1)
SMALL = (640, 360)


@pytest.fixture(params=["prefer", "off"])
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    return Sandbox.create(request.param)


Build = Callable[..., Transcoder]


@pytest.fixture(params=["ffmpeg", "mediaconvert"])
async def build(
    request: pytest.FixtureRequest, session_settings: Settings, tmp_path: Path
) -> AsyncIterator[Build]:
    """`build(sandbox)`: a transcoder of each kind."""
    if request.param == "ffmpeg":
        yield lambda sandbox, **options: FfmpegTranscoder(sandbox, LIMITS, **options)
        return
    async with ObjectStore(session_settings) as store:
        yield lambda sandbox, **_: Bench(store, session_settings, sandbox, LIMITS, tmp_path)


async def make(
    source: Path, sandbox: Sandbox, transcoder: Transcoder, out: Path, *, poster_at: float | None = None
) -> tuple[Probe, OutputPlan, TranscodeResult, list[float]]:
    found = await probe(source, sandbox, LIMITS)
    assert judge(found, LIMITS).errors == ()
    plan = plan_outputs(found, poster_at=poster_at)
    out.mkdir()
    progress: list[float] = []
    result = await transcoder.run(source, found, plan, out, progress.append)
    return found, plan, result, progress


def look(path: Path) -> dict[str, Any]:
    """Our outputs as a player sees them, every frame decoded."""
    with av.open(str(path)) as film:
        video = film.streams.video[0]
        context = video.codec_context
        seen = {
            "size": (context.width, context.height),
            "codec": context.name,
            "pix_fmt": context.pix_fmt,
            "primaries": context.color_primaries,
            "sar": video.sample_aspect_ratio,
            "audio": [track.codec_context.name for track in film.streams.audio],
            "metadata": {
                key
                for key in film.metadata
                if key not in ("major_brand", "minor_version", "compatible_brands")
            },
            "duration": float((film.duration or 0) / 1e6),
        }
        frames = list(film.decode(video))
    return {**seen, "frames": len(frames), "rotation": frames[0].rotation}


def mean_colour(path: Path) -> tuple[float, float, float]:
    with Image.open(path) as picture:
        red, green, blue = picture.convert("RGB").resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))  # type: ignore[misc]
    return red, green, blue


FILMS: dict[str, tuple[str, dict[str, Any]]] = {
    "h264": ("clip.mp4", {}),
    "hevc": ("clip.mp4", {"codec": "hevc", "audio": True}),
    "hevc-10-bit": ("clip.mov", {"codec": "hevc", "pix_fmt": "yuv420p10le"}),
    "prores-with-sound": ("clip.mov", {"codec": "prores", "audio": True}),
    "photo-jpeg": ("clip.mov", {"codec": "mjpeg"}),
    "dnxhr-mxf": ("clip.mxf", {"codec": "dnxhd", "audio": True}),
    "ntsc-rate": ("clip.mov", {"fps": "30000/1001"}),
    "high-speed": ("clip.mp4", {"fps": "120", "seconds": 1.5}),
    "phone-portrait": ("clip.mov", {"rotation": 90, "audio": True}),
    "upside-down": ("clip.mov", {"rotation": 180}),
    "anamorphic": ("clip.mp4", {"sar": "4/3", "size": (480, 360)}),
    "odd-size": ("clip.mov", {"size": (641, 361), "codec": "mjpeg", "pix_fmt": "yuvj444p"}),
    "interlaced": ("clip.mp4", {"interlaced": True}),
    "variable-rate": ("clip.mp4", {"vfr": True}),
}


# Level "limits" is what macOS and locked kernels get: films must pass there too.
@pytest.mark.parametrize(
    ("kind", "mode"), [*((kind, "prefer") for kind in FILMS), ("dnxhr-mxf", "off"), ("phone-portrait", "off")]
)
async def test_an_honest_film_gives_every_output(kind: str, mode: str, build: Build, tmp_path: Path) -> None:
    sandbox = Sandbox.create(mode)
    transcoder = build(sandbox, threads=2)
    name, options = FILMS[kind]
    source = media.clip(
        tmp_path / name, **{"size": SMALL, "seconds": 2.0, **options}, metadata={"comment": "GPS 38.7,-9.1"}
    )
    found, plan, result, progress = await make(source, sandbox, transcoder, tmp_path / "out")

    assert result.frames_decoded == found.video.frames
    for made, wanted, seconds in (
        (result.comp, plan.comp, found.duration),
        (result.loop, plan.loop, plan.loop.seconds),
    ):
        seen = look(made.path)
        assert seen["size"] == (wanted.width, wanted.height) == (made.width, made.height)
        assert (seen["codec"], seen["pix_fmt"], seen["audio"]) == ("h264", "yuv420p", [])
        assert seen["duration"] == pytest.approx(seconds, abs=0.15)
        assert seen["rotation"] == 0
    assert {made.tier for made in result.renditions} == {made.tier for made in plan.renditions}
    for made in result.renditions:
        seen = look(made.path)
        assert seen["size"] == (made.width, made.height)
        assert max(seen["size"]) <= max(found.video.width, found.video.height)
        assert seen["sar"] in (None, 1)
        assert seen["rotation"] == 0
        # MediaConvert knows constant frame rates alone: a varying one is evened out.
        assert seen["frames"] == result.frames_decoded or (
            kind == "variable-rate" and isinstance(transcoder, Bench)
        )
        assert seen["audio"] == (["aac"] if found.audio else [])
        assert seen["metadata"] <= {"encoder"}
        assert made.size == made.path.stat().st_size
    assert len(result.posters) >= 6
    assert sum(poster.chosen for poster in result.posters) == 1
    for poster in result.posters:
        with Image.open(poster.path) as picture:
            assert (picture.format, picture.size) == ("JPEG", (plan.posters.width, plan.posters.height))
    with Image.open(result.storyboard) as sprite:
        board = plan.storyboard
        assert sprite.size == (board.columns * board.width, board.rows * board.height)
    assert result.storyboard_vtt.read_text().count("-->") == board.cells
    assert progress == sorted(progress)
    assert progress[-1] == 1.0
    # Nothing else is left to be published by mistake.
    listed = {result.comp.path, result.loop.path, result.storyboard, result.storyboard_vtt}
    listed |= {made.path for made in result.renditions} | {poster.path for poster in result.posters}
    assert {path for path in (tmp_path / "out").rglob("*") if path.is_file()} == listed


@pytest.mark.parametrize(
    ("size", "options", "wanted"),
    [
        (
            media.UHD_4K,
            {"codec": "hevc", "seconds": 1.0, "fps": "6"},
            {"hd": (1920, 1080), "uhd4k": (3840, 2160)},
        ),
        ((2048, 1080), {"seconds": 1.0, "fps": "6"}, {"hd": (1920, 1012)}),
        ((1280, 720), {"seconds": 1.0, "fps": "6"}, {}),
    ],
)
async def test_tiers_follow_the_source(
    size: tuple[int, int],
    options: dict[str, Any],
    wanted: dict[str, tuple[int, int]],
    build: Build,
    tmp_path: Path,
) -> None:
    sandbox = Sandbox.create("prefer")
    source = media.clip(tmp_path / "clip.mp4", size=size, audio=True, **options)
    _, _, result, _ = await make(source, sandbox, build(sandbox), tmp_path / "out")
    assert {made.tier: look(made.path)["size"] for made in result.renditions} == wanted
    for made in result.renditions:
        seen = look(made.path)
        assert seen["primaries"] == 1  # BT.709, as the source says
        assert seen["audio"] == ["aac"]


async def test_previews_are_marked_and_what_is_sold_is_not(build: Build, tmp_path: Path) -> None:
    sandbox = Sandbox.create("prefer")
    source = media.clip(tmp_path / "clip.mov", look="flat", size=media.HD, seconds=2)
    _, _, result, _ = await make(source, sandbox, build(sandbox), tmp_path / "out")

    def spread(path: Path) -> float:
        with av.open(str(path)) as film:
            grey = next(film.decode(video=0)).to_ndarray(format="gray")
        return float(grey.std())

    assert spread(result.comp.path) > 5
    assert spread(result.loop.path) > 5
    assert spread(result.renditions[0].path) < 1
    assert mean_colour(result.posters[0].path) == pytest.approx((0x40, 0x60, 0x80), abs=4)
    assert "dull" in {finding.code for finding in result.warnings}


async def test_posters_avoid_the_black_start_and_honour_a_wish(build: Build, tmp_path: Path) -> None:
    sandbox = Sandbox.create("prefer")
    source = media.clip(tmp_path / "clip.mp4", size=SMALL, seconds=4, black_lead=1.0, cuts=1)
    transcoder = build(sandbox)
    _, _, result, _ = await make(source, sandbox, transcoder, tmp_path / "out")
    assert all(poster.at >= 1.0 and poster.score > 0 for poster in result.posters)
    assert [finding.code for finding in result.warnings] == ["cuts"]
    assert result.cuts == pytest.approx((1.0, 2.0), abs=0.05)

    _, _, wished, _ = await make(source, sandbox, transcoder, tmp_path / "out2", poster_at=2.51)
    chosen = wished.posters[wished.chosen]
    assert chosen.requested
    assert chosen.at == pytest.approx(2.51, abs=1 / 24)
    assert len(wished.posters) >= 6


@pytest.mark.parametrize("how", ["truncated", "flipped", "holes"])
@pytest.mark.parametrize("codec", ["h264", "hevc", "prores", "mjpeg", "dnxhd"])
async def test_a_damaged_film_is_never_ready(
    how: media.Damage, codec: media.Codec, build: Build, tmp_path: Path
) -> None:
    sandbox = Sandbox.create("prefer")
    suffix = "mxf" if codec == "dnxhd" else "mov"
    whole = media.clip(tmp_path / f"whole.{suffix}", codec=codec, size=SMALL, seconds=2)
    source = media.damaged(whole, tmp_path / f"clip.{suffix}", how)
    with pytest.raises(Rejected) as refused:
        await make(source, sandbox, build(sandbox), tmp_path / "out")
    assert refused.value.code in ("damaged", "undecodable")
    assert refused.value.hint


async def test_hdr_is_mapped_for_ordinary_screens(build: Build, tmp_path: Path) -> None:
    sandbox = Sandbox.create("prefer")
    source = tmp_path / "clip.mov"
    hlg = "setparams=colorspace=bt2020nc:color_primaries=bt2020:color_trc=arib-std-b67"
    media.ffmpeg(
        *("-f", "lavfi", "-i", f"testsrc2=s=640x360:r=24:d=1.5,format=yuv420p10le,{hlg}"),
        *(
            "-c:v",
            "libx265",
            "-preset",
            "ultrafast",
            "-x265-params",
            "log-level=error",
            "-tag:v",
            "hvc1",
            source,
        ),
    )
    found, plan, result, _ = await make(source, sandbox, build(sandbox), tmp_path / "out")
    assert found.video.hdr
    assert plan.tone_map
    assert look(result.renditions[0].path)["primaries"] == 1
    assert "hdr" in {finding.code for finding in judge(found, LIMITS).warnings}


@contextmanager
def ffmpeg_processes() -> Iterator[Any]:
    """Calls to the yielded function list the living ffmpeg processes below this one."""

    def living() -> list[psutil.Process]:
        found = []
        for process in psutil.Process().children(recursive=True):
            try:
                if process.name().startswith("ffmpeg") and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found

    assert living() == []
    yield living


async def gone(processes: list[psutil.Process]) -> None:
    """Waits until the kernel has buried what was killed."""
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, timeout=20)
    assert [
        process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    ] == []


async def started(
    source: Path, sandbox: Sandbox, tmp_path: Path, living: Any, wall: float | None = None
) -> Any:
    """A transcoding under way, with its ffmpeg processes, which are stopped: else they might end by themselves while
    we look."""
    found = await probe(source, sandbox, LIMITS)
    (tmp_path / "out").mkdir()
    transcoder = FfmpegTranscoder(sandbox, LIMITS, wall_seconds=wall)
    work = asyncio.create_task(
        transcoder.run(source, found, plan_outputs(found), tmp_path / "out", lambda _: None)
    )
    while not (processes := [one for one in living() if stopped(one)]):
        assert not work.done()
        await asyncio.sleep(0.01)  # psutil has nothing to await
    return work, processes


def stopped(process: psutil.Process) -> bool:
    """Stop it; False where it was quicker than that. There are several, one after the other."""
    try:
        os.kill(process.pid, signal.SIGSTOP)
    except ProcessLookupError:
        return False
    return True


async def test_a_stopped_ffmpeg_is_killed_at_the_wall_limit(sandbox: Sandbox, tmp_path: Path) -> None:
    source = media.clip(tmp_path / "clip.mov", size=media.FULL_HD, seconds=8, codec="mjpeg")
    with ffmpeg_processes() as living:
        # Time enough to be stopped before it is over.
        work, processes = await started(source, sandbox, tmp_path, living, wall=5.0)
        with pytest.raises(EngineFailed):
            async with asyncio.timeout(60):
                await work
        await gone(processes)


async def test_cancelling_leaves_no_process(sandbox: Sandbox, tmp_path: Path) -> None:
    source = media.clip(tmp_path / "clip.mov", size=media.FULL_HD, seconds=8, codec="mjpeg")
    with ffmpeg_processes() as living:
        work, processes = await started(source, sandbox, tmp_path, living)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(60):
                await work
        await gone(processes)
