"""From a source and a plan to files: one run of ffmpeg in the sandbox, then a check of all it wrote."""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from paletta_server.ingest import command, damage
from paletta_server.ingest.boxes import Film, read_film
from paletta_server.ingest.errors import EngineFailed, Finding, Rejected
from paletta_server.ingest.frames import Poster, choose_posters
from paletta_server.ingest.plan import OutputPlan, Rendition
from paletta_server.ingest.probe import MediaLimits, Probe
from paletta_server.ingest.sandbox import Completed, RunLimits, Sandbox, TimedOut
from paletta_server.ingest.storyboard import webvtt
from paletta_server.ingest.watermark import watermark

_CANDIDATE = re.compile(rf"{command.POSTER_PREFIX}(\d{{1,9}})\.jpg")
_CUT = re.compile(r"lavfi\.scd\.time=(\d+(?:\.\d+)?)")
log = logging.getLogger(__name__)

REEXPORT = "export it again, at a constant frame rate, with another program if need be"
_SIGNALS_OF_LIMITS = {128 + 24, 128 + 25}  # SIGXCPU, SIGXFSZ
_KILLED, _CRASHES = 128 + 9, {128 + 4, 128 + 6, 128 + 7, 128 + 8, 128 + 11, 128 + 31}
# x264 loses quality with more frames in flight; further cores are better used by further films.
_MOST_THREADS = 16
MOST_PICTURE_BYTES = 64 * 1024**2


@dataclass(frozen=True, slots=True)
class MadeFilm:
    """A film that was made: pixels, seconds, bytes; `codec` is ``h264``."""

    path: Path
    width: int
    height: int
    duration: float
    codec: str
    size: int


@dataclass(frozen=True, slots=True)
class MadeRendition:
    """A film for sale, by tier (``hd`` or ``uhd4k``). `key`: where it is stored already, if it is."""

    tier: str
    path: Path
    width: int
    height: int
    duration: float
    codec: str
    size: int
    key: str | None = None


@dataclass(frozen=True, slots=True)
class TranscodeResult:
    """Everything that was made, all in the output folder. `cuts` in seconds; `cpu_seconds` of ffmpeg, for
    metrics.

    `original_serves` names the tiers without a rendition, for which the source itself is the right file.
    """

    comp: MadeFilm
    loop: MadeFilm
    storyboard: Path
    storyboard_vtt: Path
    posters: tuple[Poster, ...]
    renditions: tuple[MadeRendition, ...]
    original_serves: tuple[str, ...]
    frames_decoded: int
    cuts: tuple[float, ...]
    warnings: tuple[Finding, ...]
    cpu_seconds: float

    @property
    def chosen(self) -> int:
        """Index in `posters` of the one to show until somebody picks another."""
        return next(number for number, poster in enumerate(self.posters) if poster.chosen)


class Transcoder(Protocol):
    """Makes the outputs of a plan. Implementations differ in where the work is done."""

    async def run(
        self,
        source: Path,
        probe: Probe,
        plan: OutputPlan,
        out_dir: Path,
        on_progress: Callable[[float], None],
    ) -> TranscodeResult:
        """Writes into `out_dir` (empty, ours alone) and reports progress from 0 to 1, never backwards.

        Raises `Rejected` when the film turns out damaged or hostile, `EngineFailed` for our own faults.
        """
        ...


class FfmpegTranscoder:
    """ffmpeg on this machine, in the sandbox."""

    def __init__(
        self,
        sandbox: Sandbox,
        limits: MediaLimits,
        *,
        threads: int | None = None,
        wall_seconds: float | None = None,
    ) -> None:
        """`threads` per decoder and encoder (default: our cores); `wall_seconds` overrides the limit."""
        self._sandbox = sandbox
        self._limits = limits
        self._threads = threads or cores()
        self._wall_seconds = wall_seconds

    async def run(
        self,
        source: Path,
        probe: Probe,
        plan: OutputPlan,
        out_dir: Path,
        on_progress: Callable[[float], None],
    ) -> TranscodeResult:
        """See `Transcoder.run`."""
        (out_dir / command.WATERMARK).write_bytes(watermark(plan.comp.width, plan.comp.height))
        limits = run_limits(probe, self._threads, self._wall_seconds)
        try:
            done = await self._sandbox.run(
                command.arguments(probe, plan, self._limits, threads=self._threads),
                source=source,
                out_dir=out_dir,
                limits=limits,
                on_line=_Progress(probe.duration, on_progress),
            )
        except TimedOut as error:
            raise EngineFailed(f"transcoding took more than {error.seconds:.0f} s") from error
        decoding = damage.read_log(done.stderr, probe.video.number, probe.video.codec)
        finding = judge_run(done, decoding, probe)
        if finding is not None:
            raise Rejected(finding.code, finding.reason, finding.hint)
        result = _collect(probe, plan, out_dir, decoding, done)
        on_progress(1.0)
        return result


def run_limits(probe: Probe, threads: int, wall_seconds: float | None = None) -> RunLimits:
    """What an honest film of this size can need, ten times over, and no more."""
    megapixels = probe.video.coded_width * probe.video.coded_height / 1e6
    frames = probe.video.frames or probe.duration * probe.video.fps
    # 0.02 CPU seconds for each megapixel of 4K HEVC that becomes two renditions and all previews, measured.
    cpu = round(60 + 0.2 * megapixels * frames)
    return RunLimits(
        wall_seconds=wall_seconds or cpu * 1.5,
        cpu_seconds=cpu,
        memory_bytes=round(_BASE_MEMORY + megapixels * _MEMORY_PER_MEGAPIXEL * (1 + threads / 4)),
        # x264 at CRF 18 stays under 60 Mbit/s even on noise in 4K; a gigabyte is two minutes of that.
        file_bytes=1024**3,
    )


# Address space, not memory. Measured least, in GiB: 1080p 1.5 (16 threads: 2.9), 4K HEVC with two renditions
# 3.0 (16 threads: 6.9), 8K ProRes 3.1; an eighth of that is really touched.
_BASE_MEMORY = 5 * 1024**3 // 2
_MEMORY_PER_MEGAPIXEL = 160 * 1024**2


def cores() -> int:
    """How many threads a decoder or encoder gets."""
    try:
        return min(_MOST_THREADS, len(os.sched_getaffinity(0)))
    except AttributeError:  # macOS
        return min(_MOST_THREADS, os.cpu_count() or 1)


class _Progress:
    """Turns the lines of `-progress` into one number; a film may claim any time stamp, so it is clamped."""

    def __init__(self, duration: float, report: Callable[[float], None]) -> None:
        self._duration = max(duration, 0.001)
        self._report = report
        self._last = 0.0

    def __call__(self, line: str) -> None:
        key, _, value = line.partition("=")
        if key != "out_time_us" or not value.isdigit():
            return
        # The last percent is for the checks.
        share = min(0.99, int(value[:15]) / 1e6 / self._duration)
        if share > self._last:
            self._last = share
            self._report(share)


def judge_run(done: Completed, decoding: damage.Decoding, probe: Probe) -> Finding | None:
    """None when the run is good. Raises `EngineFailed` where the fault is ours."""
    status = done.status
    costly = Finding("too_complex", "decoding the film takes more time or memory than a clip may", REEXPORT)
    if status in _SIGNALS_OF_LIMITS or "received signal 24" in done.stderr:
        return costly
    if status in _CRASHES:
        return Finding("undecodable", "the film makes the decoder crash", REEXPORT)
    if status == _KILLED:
        raise EngineFailed("ffmpeg was killed from outside, or by its hard CPU limit", done.stderr[-2000:])
    if "No space left on device" in done.stderr:
        raise EngineFailed("the scratch disk is full", done.stderr[-2000:])
    if status != 0 and "Cannot allocate memory" in done.stderr:
        return costly
    finding = damage.assess(decoding, probe.video.frames)
    if finding is None and status != 0:
        # Every frame was decoded well, and still ffmpeg failed: it was our command, not their film.
        raise EngineFailed(f"ffmpeg ended with status {status}", done.stderr[-2000:])
    return finding


def _collect(
    probe: Probe, plan: OutputPlan, out_dir: Path, decoding: damage.Decoding, done: Completed
) -> TranscodeResult:
    (out_dir / command.WATERMARK).unlink(missing_ok=True)
    try:
        cuts = read_cuts(out_dir)
        posters = choose_posters(_candidates(out_dir), plan.posters)
        comp = check_film(out_dir, plan.comp.name, plan.comp.width, plan.comp.height, probe.duration)
        loop = check_film(out_dir, plan.loop.name, plan.loop.width, plan.loop.height, plan.loop.seconds)
        renditions = tuple(_rendition(out_dir, made, probe.duration) for made in plan.renditions)
        board = check_picture(
            out_dir,
            plan.storyboard.name,
            (plan.storyboard.width * plan.storyboard.columns, plan.storyboard.height * plan.storyboard.rows),
        )
    except OSError as error:
        raise EngineFailed(f"an output cannot be read: {error}", done.stderr[-2000:]) from error
    except ValueError as error:
        # Honest films of every kind give what the plan says (contract tests); one whose time stamps jump does
        # not.
        log.warning(
            "outputs contradict the plan", extra={"problem": str(error), "ffmpeg": done.stderr[-2000:]}
        )
        raise Rejected("inconsistent", "the film's time stamps contradict its length", REEXPORT) from error
    kept = {poster.path for poster in posters}
    for _, path in _candidates(out_dir):
        if path not in kept:
            path.unlink()
    vtt = out_dir / plan.storyboard.vtt_name
    # The folder was the jail's to write in: what is planted there must not lead us elsewhere.
    vtt.unlink(missing_ok=True)
    with os.fdopen(os.open(vtt, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
        file.write(webvtt(plan.storyboard, probe.duration))
    return TranscodeResult(
        comp=comp,
        loop=loop,
        storyboard=board,
        storyboard_vtt=vtt,
        posters=tuple(posters),
        renditions=renditions,
        original_serves=plan.original_serves,
        frames_decoded=decoding.frames,
        cuts=cuts,
        warnings=take_warnings(cuts, posters),
        cpu_seconds=_cpu_seconds(done.stderr),
    )


def take_warnings(cuts: tuple[float, ...], posters: list[Poster]) -> tuple[Finding, ...]:
    """What is worth knowing of a film that was made."""
    found = []
    if cuts:
        where = ", ".join(f"{at:.1f}" for at in cuts[:5]) + (" …" if len(cuts) > 5 else "")
        found.append(
            Finding("cuts", f"looks like several shots: cuts at {where} s", "send one shot per clip")
        )
    if not any(poster.score > 0 for poster in posters):
        found.append(Finding("dull", "every frame looks black, empty or blurred"))
    return tuple(found)


def open_output(out_dir: Path, name: str) -> BinaryIO:
    """Opens a file that the jail wrote. Raises `OSError` when it is not a plain file with one name.

    A link planted there could make us publish a file of the worker's as a preview.
    """
    descriptor = os.open(out_dir / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    seen = os.fstat(descriptor)
    if not stat.S_ISREG(seen.st_mode) or seen.st_nlink != 1:
        os.close(descriptor)
        raise OSError(f"`{name}` is not a plain file")
    return os.fdopen(descriptor, "rb")


def check_film(out_dir: Path, name: str, width: int, height: int, seconds: float) -> MadeFilm:
    """An H.264 film of this size and length. Raises `OSError` or `ValueError`."""
    with open_output(out_dir, name) as file:
        size = os.fstat(file.fileno()).st_size
        film = read_film(file)
    _check(film, name, width, height, seconds)
    return MadeFilm(out_dir / name, width, height, round(film.duration, 3), "h264", size)


def _rendition(out_dir: Path, made: Rendition, seconds: float) -> MadeRendition:
    film = check_film(out_dir, made.name, made.width, made.height, seconds)
    return MadeRendition(made.tier, film.path, film.width, film.height, film.duration, film.codec, film.size)


def _check(film: Film, name: str, width: int, height: int, seconds: float) -> None:
    if (film.width, film.height) != (width, height):
        raise ValueError(f"`{name}` is {film.width}x{film.height}, not {width}x{height}")
    if film.entry not in ("avc1", "avc3"):
        raise ValueError(f"`{name}` is not H.264")
    # Half a second for edit lists and a last frame of unknown length; the frames themselves are counted
    # elsewhere.
    if film.frames == 0 or abs(film.duration - seconds) > max(0.5, 0.02 * seconds):
        raise ValueError(f"`{name}` lasts {film.duration:.2f} s, not {seconds:.2f} s")


def check_picture(out_dir: Path, name: str, size: tuple[int, int]) -> Path:
    """A JPEG of this size. Raises `OSError` or `ValueError`."""
    from PIL import Image

    with open_output(out_dir, name) as file, Image.open(file, formats=["JPEG"]) as picture:
        if picture.size != size:
            raise ValueError(f"`{name}` is {picture.width}x{picture.height}, not {size[0]}x{size[1]}")
    return out_dir / name


def _candidates(out_dir: Path) -> list[tuple[float, Path]]:
    """The candidate frames with their times in seconds; each was opened once as a plain file."""
    found = []
    for path in out_dir.iterdir():
        if match := _CANDIDATE.fullmatch(path.name):
            with open_output(out_dir, path.name) as file:
                if os.fstat(file.fileno()).st_size > MOST_PICTURE_BYTES:
                    raise ValueError(f"`{path.name}` is too large")
            found.append((int(match[1]) / command.POSTER_CLOCK, path))
    if not found:
        raise ValueError("no candidate frames")
    return sorted(found)


def read_cuts(out_dir: Path) -> tuple[float, ...]:
    """The cuts that ffmpeg noted, in seconds; the note is gone afterwards. Raises `OSError`."""
    with open_output(out_dir, command.CUTS) as file:
        text = file.read(1024 * 1024).decode("ascii", "replace")
    (out_dir / command.CUTS).unlink()
    return tuple(round(float(at), 3) for at in _CUT.findall(text))


def _cpu_seconds(log: str) -> float:
    """User and system time of ffmpeg, as it printed: the jail hides it from the worker's own account."""
    match = re.search(r"bench: utime=([\d.]+)s stime=([\d.]+)s", log)
    return round(float(match[1]) + float(match[2]), 2) if match else 0.0
