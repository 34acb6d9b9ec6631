"""What a source file is: container, streams, sizes, times. Asked in the sandbox, believed only by type."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from paletta_server.ingest.errors import EngineFailed, Rejected
from paletta_server.ingest.sandbox import SOURCE, RunLimits, Sandbox, TimedOut
from paletta_server.ingest.sniff import sniff

SOUND_CODECS = (
    "aac",
    "pcm_s16le",
    "pcm_s16be",
    "pcm_s24le",
    "pcm_s24be",
    "pcm_s32le",
    "pcm_f32le",
    "ac3",
    "mp3",
    "alac",
)
"""Sound that is decoded; any other is left out of the outputs, with a warning."""

_MAX_STREAMS = 16  # cameras write up to 11 (picture, sounds, time code, gyroscope, metadata)
_MAX_INDEX = 20_000  # more entries than a clip may have frames (120 s at 120 fps = 14,400)
# Four seconds of CPU are ten times what the heaviest honest file took; 60 s of wall is for a machine out of
# breath.
_PROBE_LIMITS = RunLimits(wall_seconds=60, cpu_seconds=15, memory_bytes=2 * 1024**3, file_bytes=0)

# ISO/IEC 23091-2 code points, by the names that ffmpeg uses.
_RANGES = {1: "tv", 2: "pc"}
_SPACES = {
    0: "gbr",
    1: "bt709",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    9: "bt2020nc",
    10: "bt2020c",
}
_PRIMARIES = {
    1: "bt709",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    9: "bt2020",
    11: "smpte431",
}
_PRIMARIES |= {12: "smpte432"}
_TRANSFERS = {1: "bt709", 4: "gamma22", 5: "gamma28", 6: "smpte170m", 7: "smpte240m", 8: "linear"}
_TRANSFERS |= {13: "iec61966-2-1", 14: "bt2020-10", 15: "bt2020-12", 16: "smpte2084", 18: "arib-std-b67"}


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """The operator's limits (settings `PALETTA_INGEST_*`); the defaults are what stock agencies share."""

    min_long_edge: int = 1280
    min_seconds: float = 3
    max_seconds: float = 120
    max_bytes: int = 4 * 1024**3
    max_pixels: int = 36_000_000
    max_fps: float = 120
    containers: tuple[str, ...] = ("mov", "mp4", "m4v", "mxf")
    codecs: tuple[str, ...] = ("h264", "hevc", "prores", "mjpeg", "dnxhd")


@dataclass(frozen=True, slots=True)
class Video:
    """The picture. `width` and `height` are what a viewer sees: square pixels, rotation applied.

    `frames` is what the container promises, None when it does not say; `duration` in seconds; `fps` is frames
    per second on average, `rate` the same as a fraction; `rotation` in degrees clockwise; `uneven` the share
    of frame steps that differ from the usual one (0 = constant frame rate, None = unknown).
    """

    codec: str
    profile: str | None
    width: int
    height: int
    coded_width: int
    coded_height: int
    sar: str
    rotation: int
    pix_fmt: str | None
    bit_depth: int
    fps: float
    rate: str
    frames: int | None
    duration: float
    scan: str
    alpha: bool
    color_range: str | None
    color_space: str | None
    color_primaries: str | None
    color_transfer: str | None
    bit_rate: int | None
    uneven: float | None
    number: int

    @property
    def hdr(self) -> bool:
        """PQ or HLG: needs tone mapping to be looked at on an ordinary screen."""
        return self.color_transfer in ("smpte2084", "arib-std-b67")


@dataclass(frozen=True, slots=True)
class Audio:
    """One sound track. `known`: we can decode it."""

    codec: str
    channels: int
    sample_rate: int
    bit_rate: int | None
    known: bool


@dataclass(frozen=True, slots=True)
class Probe:
    """A readable film. `size` in bytes, `duration` in seconds, `bit_rate` in bits per second over all streams."""

    container: str
    demuxer: str
    size: int
    duration: float
    bit_rate: int | None
    video: Video
    audio: tuple[Audio, ...]
    other_streams: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, for the clip's technical metadata."""
        return asdict(self)


async def probe(source: Path, sandbox: Sandbox, limits: MediaLimits) -> Probe:
    """Describes `source`. Raises `Rejected` for what is not a film that we may open, `EngineFailed` for our
    faults.

    Limits on content are the gate's business (`gate.judge`); here only those are enforced without which the
    file must not be opened at all: kind, bytes, pixels, streams.
    """
    size = source.stat().st_size
    seen = sniff(source)
    if size == 0:
        raise Rejected("empty", "the file is empty", "copy it from the card again")
    if seen.demuxer is None or seen.container not in limits.containers:
        what = seen.container if seen.demuxer is None else f"a film in a {seen.container} container"
        raise Rejected("container_unsupported", f"this is {what}", f"send {_or(limits.containers)}")
    if size > limits.max_bytes:
        raise Rejected(
            "too_large", f"{size:,} bytes, more than {limits.max_bytes:,}", "send a shorter or smaller clip"
        )
    found = await _ask(source, seen.demuxer, sandbox, limits)
    try:
        return _understand(found, seen.container, seen.demuxer, size)
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        raise Rejected("undecodable", "the file's own description makes no sense", _PLAY_HINT) from error


_PLAY_HINT = "play it to the end on your computer; export it again if it stops or shows faults"


async def _ask(source: Path, demuxer: str, sandbox: Sandbox, limits: MediaLimits) -> dict[str, Any]:
    orders = {
        "path": SOURCE if sandbox.level == "bubblewrap" else str(source),
        "demuxer": demuxer,
        "formats": "mov,mxf",
        "codecs": ",".join((*limits.codecs, *SOUND_CODECS)),
        "max_streams": _MAX_STREAMS,
        "max_pixels": limits.max_pixels,
        "max_index": _MAX_INDEX,
    }
    try:
        done = await sandbox.run(
            [json.dumps(orders)], source=source, out_dir=None, limits=_PROBE_LIMITS, program="probe"
        )
    except TimedOut as error:
        raise EngineFailed(f"looking at the file took more than {error.seconds:.0f} s") from error
    try:
        found = json.loads(done.stdout) if done.status == 0 else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        # A signal: the demuxer crashed, or ran into its CPU or memory limit. Honest files do neither.
        raise Rejected("undecodable", "the file makes the media library give up", _PLAY_HINT)
    if "error" in found:
        raise Rejected("undecodable", "the file cannot be opened: it is damaged or incomplete", _PLAY_HINT)
    return found


def _understand(found: dict[str, Any], container: str, demuxer: str, size: int) -> Probe:
    kinds = [str(kind) for kind in found["streams"]]
    picture = found["video"]
    if picture is None:
        raise Rejected(
            "no_video", "the file has no video stream", "send the film, not its sound or its titles"
        )
    duration = _duration(picture.get("duration"), found.get("duration"))
    video = _video(picture, duration)
    audio = tuple(_audio(track) for track in found["audio"] if track.get("codec"))
    return Probe(
        container=container,
        demuxer=demuxer,
        size=size,
        duration=duration,
        bit_rate=_positive(found.get("bit_rate")),
        video=video,
        audio=audio,
        other_streams=len(kinds) - 1 - len(audio),
    )


def _video(found: dict[str, Any], duration: float) -> Video:
    coded_width, coded_height = int(found["width"]), int(found["height"])
    if coded_width < 2 or coded_height < 2:
        raise Rejected("undecodable", "the picture has no size", _PLAY_HINT)
    sar = _ratio(found.get("sar")) or Fraction(1)
    if not Fraction(1, 8) <= sar <= 8:  # anamorphic lenses end at 2; ffmpeg itself ignores wilder values
        sar = Fraction(1)
    rotation = round(-float(found.get("rotation") or 0)) % 360
    width, height = _display_size(coded_width, coded_height, sar)
    if rotation in (90, 270):
        width, height = height, width
    pix_fmt = found.get("frame_format") or found.get("pix_fmt")
    rate = _ratio(found.get("average_rate")) or _ratio(found.get("guessed_rate"))
    frames = _declared(found, duration, rate)
    if rate is None:
        raise Rejected("undecodable", "the film has no frame rate", _PLAY_HINT)
    if found.get("decoded") is False:
        raise Rejected("undecodable", "not even the first frame can be decoded", _PLAY_HINT)
    return Video(
        codec=str(found["codec"])[:40],
        profile=None if found.get("profile") is None else str(found["profile"])[:40],
        width=width,
        height=height,
        coded_width=coded_width,
        coded_height=coded_height,
        sar=f"{sar.numerator}:{sar.denominator}",
        rotation=rotation,
        pix_fmt=None if pix_fmt is None else str(pix_fmt)[:40],
        bit_depth=_bit_depth(pix_fmt),
        fps=round(float(rate), 3),
        rate=f"{rate.numerator}/{rate.denominator}",
        frames=frames,
        duration=duration,
        scan="unknown"
        if "interlaced" not in found
        else "interlaced"
        if found["interlaced"]
        else "progressive",
        alpha=_has_alpha(pix_fmt),
        color_range=_RANGES.get(found["range"]),
        color_space=_SPACES.get(found["space"]),
        color_primaries=_PRIMARIES.get(found["primaries"]),
        color_transfer=_TRANSFERS.get(found["transfer"]),
        bit_rate=_positive(found.get("bit_rate")),
        uneven=None if found.get("uneven") is None else float(found["uneven"]),
        number=int(found["number"]),
    )


def _display_size(width: int, height: int, sar: Fraction) -> tuple[int, int]:
    """Square pixels: the narrower direction is stretched, so that no line of the source is thrown away."""
    if sar >= 1:
        return round(width * sar), height
    return width, round(height / sar)


def _declared(found: dict[str, Any], duration: float, rate: Fraction | None) -> int | None:
    """The frames promised after the edit list: a trimmed phone clip keeps the samples that it hides."""
    promises = [_positive(found.get("index")), _positive(found.get("frames"))]
    if rate is not None and duration > 0:
        promises.append(round(duration * rate))
    counted = [promise for promise in promises if promise]
    return min(counted) if counted else None


def _duration(*candidates: Any) -> float:
    for value in candidates:
        if isinstance(value, int | float) and math.isfinite(value) and value > 0:
            return round(float(value), 6)
    raise Rejected("undecodable", "the film does not say how long it is", _PLAY_HINT)


def _audio(found: dict[str, Any]) -> Audio:
    codec = str(found["codec"])[:40]
    channels, rate = int(found.get("channels") or 0), int(found.get("sample_rate") or 0)
    known = codec in SOUND_CODECS and 1 <= channels <= 8 and 8000 <= rate <= 192_000
    return Audio(codec, channels, rate, _positive(found.get("bit_rate")), known)


def _ratio(text: Any) -> Fraction | None:
    if not isinstance(text, str):
        return None
    value = Fraction(text)
    return value if value > 0 else None


def _positive(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and value > 0 else None


def _bit_depth(pix_fmt: Any) -> int:
    """Bits per component, from the names ffmpeg gives (yuv422p10le, p010le, gbrp12be, rgb48le, yuv420p)."""
    name = str(pix_fmt or "").removesuffix("le").removesuffix("be")
    for depth in (9, 10, 12, 14, 16):
        if name.endswith((f"p{depth}", f"p0{depth}", f"gray{depth}")):
            return depth
    return 16 if name.endswith(("48", "64")) else 8


def _has_alpha(pix_fmt: Any) -> bool:
    name = str(pix_fmt or "")
    return name.startswith(("yuva", "gbrap", "rgba", "bgra", "argb", "abgr", "ya8", "ya16"))


def _or(words: tuple[str, ...]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
