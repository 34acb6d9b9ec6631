"""Which outputs a film gets, with which sizes and settings: data, so that any transcoder can follow the same
plan.

All sizes are even, in square pixels, after rotation; nothing is ever enlarged. "540p" means a short edge of
540, so that a portrait clip is as readable as a landscape one.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from paletta_server.ingest.probe import Probe, Video

HD_BOX = (1920, 1080)
UHD_4K_BOX = (4096, 2160)  # DCI 4K, which is also the most that MediaConvert makes of H.264
UHD_4K_LEAST = 3840  # long edge from which a source is sold as 4K

COMP_EDGE, LOOP_EDGE = 540, 360
LOOP_SECONDS = 6.0
POSTER_BOX = (1280, 1280)
POSTER_SEGMENTS, POSTERS_PER_SEGMENT = 8, 2
THUMB_WIDTH = 160  # storyboard cell; a portrait one is 160 high instead, to keep the sprite small
STORYBOARD_COLUMNS = 10
STORYBOARD_LEAST, STORYBOARD_MOST = 10, 60  # cells: ten for the shortest clip, one a second up to a minute


@dataclass(frozen=True, slots=True)
class Preview:
    """A watermarked, silent H.264 film. `start` and `seconds` cut it out of the source; rates in kb/s."""

    name: str
    width: int
    height: int
    crf: int
    max_kbps: int
    start: float
    seconds: float
    rate_divisor: int


@dataclass(frozen=True, slots=True)
class Rendition:
    """A film for sale: H.264, no watermark. `audio`: ``copy`` (already AAC), ``aac`` (to encode) or None."""

    tier: str
    name: str
    width: int
    height: int
    crf: int
    preset: str
    audio: str | None


@dataclass(frozen=True, slots=True)
class Posters:
    """Candidate frames at `times` (seconds, ascending); `segments` groups of them, of which each gives one
    poster.

    `requested` is the contributor's wish, already within the film, and one of the times.
    """

    width: int
    height: int
    times: tuple[float, ...]
    segments: int
    requested: float | None


@dataclass(frozen=True, slots=True)
class Storyboard:
    """A sprite of `cells` pictures, `columns` in a row, one each `interval` seconds."""

    name: str
    vtt_name: str
    width: int
    height: int
    columns: int
    rows: int
    cells: int
    interval: float


@dataclass(frozen=True, slots=True)
class OutputPlan:
    """Everything to make. `original_serves` names the tiers for which the untouched source is already the
    right file.

    `deinterlace` and `tone_map` apply to every output.
    """

    comp: Preview
    loop: Preview
    posters: Posters
    storyboard: Storyboard
    renditions: tuple[Rendition, ...]
    original_serves: tuple[str, ...]
    deinterlace: bool
    tone_map: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def plan_outputs(probe: Probe, *, poster_at: float | None = None) -> OutputPlan:
    """The plan for a probed film. `poster_at`, in seconds, is moved into the film when it lies outside."""
    video = probe.video
    renditions, served = _renditions(probe)
    return OutputPlan(
        comp=_comp(video),
        loop=_loop(video),
        posters=_posters(video, poster_at),
        storyboard=_storyboard(video),
        renditions=renditions,
        original_serves=served,
        deinterlace=video.scan == "interlaced",
        tone_map=video.hdr,
    )


def fit(width: int, height: int, box: tuple[int, int]) -> tuple[int, int]:
    """The largest even size of the given shape inside `box` (turned to suit), never larger than given."""
    long, short = max(box), min(box)
    across, down = (long, short) if width >= height else (short, long)
    scale = min(1.0, across / width, down / height)
    return _even(width * scale), _even(height * scale)


def fit_short_edge(width: int, height: int, edge: int) -> tuple[int, int]:
    """The same shape with its short edge at most `edge`, and no longer than HD is."""
    scale = min(1.0, edge / min(width, height), max(HD_BOX) / max(width, height))
    return _even(width * scale), _even(height * scale)


def _even(pixels: float) -> int:
    """The nearest even number less than a pixel above: 4:2:0 has one chroma sample for two by two pixels."""
    return max(2, round(pixels / 2 - 0.001) * 2 if pixels % 2 else int(pixels))


def _comp(video: Video) -> Preview:
    width, height = fit_short_edge(video.width, video.height, COMP_EDGE)
    # Above 60 frames per second every other frame will do for judging a clip.
    return Preview("comp.mp4", width, height, 26, 1800, 0.0, video.duration, 2 if video.fps > 61 else 1)


def _loop(video: Video) -> Preview:
    width, height = fit_short_edge(video.width, video.height, LOOP_EDGE)
    seconds = min(LOOP_SECONDS, video.duration)
    # From the middle: beginnings and ends of a take are where cameras are started and put down.
    start = round((video.duration - seconds) / 2, 3)
    return Preview("loop.mp4", width, height, 28, 900, start, seconds, math.ceil(video.fps / 31))


def _posters(video: Video, wish: float | None) -> Posters:
    width, height = fit(video.width, video.height, POSTER_BOX)
    last = max(0.0, video.duration - 1.5 / video.fps)  # in the last frame for sure, whatever the rounding
    count = POSTER_SEGMENTS * POSTERS_PER_SEGMENT
    # The first and last 5 % are fades, slates and shakes more often than not.
    span = video.duration * 0.9
    times = [min(last, video.duration * 0.05 + span * (number + 0.5) / count) for number in range(count)]
    requested = None
    if wish is not None and math.isfinite(wish):
        requested = round(min(max(0.0, wish), last), 3)
        times.append(requested)
    return Posters(width, height, tuple(sorted({round(at, 3) for at in times})), POSTER_SEGMENTS, requested)


def _storyboard(video: Video) -> Storyboard:
    cells = min(STORYBOARD_MOST, max(STORYBOARD_LEAST, math.floor(video.duration)))
    if video.frames:
        cells = min(cells, video.frames)
    width, height = fit(video.width, video.height, (THUMB_WIDTH, THUMB_WIDTH))
    rows = math.ceil(cells / STORYBOARD_COLUMNS)
    return Storyboard(
        *("storyboard.jpg", "storyboard.vtt", width, height),
        columns=min(cells, STORYBOARD_COLUMNS),
        rows=rows,
        cells=cells,
        interval=round(video.duration / cells, 6),
    )


def _renditions(probe: Probe) -> tuple[tuple[Rendition, ...], tuple[str, ...]]:
    """One film per tier that the source reaches.

    A source that already is what we would make (H.264 4:2:0 8 bit, progressive, upright square pixels, in
    mp4, within the tier's box) is not made again: the original serves the tier, without a generation of loss
    and without a second copy to store.
    """
    video = probe.video
    made: list[Rendition] = []
    served: list[str] = []
    audio = _audio(probe)
    tiers = [("hd", HD_BOX)]
    if max(video.width, video.height) >= UHD_4K_LEAST:
        tiers.append(("uhd4k", UHD_4K_BOX))
    for tier, box in tiers:
        width, height = fit(video.width, video.height, box)
        if (width, height) == (video.width, video.height) and _deliverable(probe):
            served.append(tier)
        else:
            made.append(Rendition(tier, f"{tier}.mp4", width, height, RENDITION_CRF, _PRESETS[tier], audio))
    return tuple(made), tuple(served)


RENDITION_CRF = 18
"""x264's mark of "looks the same"; at 19 and above, film grain is the first thing to go."""

# Measured on 1080p at this CRF (CPU, VMAF): veryfast 1.00, 92.5; faster 1.22, 93.9; fast 1.47, 94.1; medium
# 1.77, 94.4. "faster" buys nearly all there is. In 4K a pixel is too small for the difference, and CPU is the
# price of the product.
_PRESETS = {"hd": "faster", "uhd4k": "veryfast"}


def _deliverable(probe: Probe) -> bool:
    video = probe.video
    return (
        probe.container in ("mp4", "m4v")
        and video.codec == "h264"
        and video.pix_fmt in ("yuv420p", "yuvj420p")
        and video.scan != "interlaced"
        and video.rotation == 0
        and video.sar == "1:1"
        and not video.hdr
        and all(track.codec == "aac" for track in probe.audio)
    )


def _audio(probe: Probe) -> str | None:
    if not probe.audio or not probe.audio[0].known:
        return None
    return "copy" if probe.audio[0].codec == "aac" else "aac"
