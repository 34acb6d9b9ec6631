"""Small video files for tests and the demo, made on the spot by the ffmpeg of ``imageio-ffmpeg``.

No binary file lives in the repository. A 4 s 720p clip costs about half a second; ask for the smallest that
shows your point. The same arguments give the same bytes on one machine, another ``seed`` gives another film
(and another SHA-256).
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Literal

Codec = Literal["h264", "hevc", "prores", "mjpeg", "dnxhd", "mpeg2video", "vp9", "png"]
Look = Literal["chart", "gradients", "fractal", "cells", "plasma", "black", "flat"]
Damage = Literal["truncated", "headless", "flipped", "holes"]

HD = (1280, 720)
FULL_HD = (1920, 1080)
UHD_4K = (3840, 2160)

# Speed before size: these files live for seconds.
_QUIET_X265 = ["-x265-params", "log-level=error"]
_ENCODERS: dict[str, list[str]] = {
    "h264": ["-c:v", "libx264", "-preset", "ultrafast", "-crf", "23"],
    "hevc": ["-c:v", "libx265", "-preset", "ultrafast", "-crf", "28", "-tag:v", "hvc1", *_QUIET_X265],
    "prores": ["-c:v", "prores_ks", "-profile:v", "proxy", "-qscale:v", "16"],
    "mjpeg": ["-c:v", "mjpeg", "-q:v", "6"],
    "dnxhd": ["-c:v", "dnxhd", "-profile:v", "dnxhr_lb"],
    "mpeg2video": ["-c:v", "mpeg2video", "-q:v", "6"],
    "vp9": ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "1M"],
    "png": ["-c:v", "png"],
}
_PIXELS = {"prores": "yuv422p10le", "mjpeg": "yuvj422p", "dnxhd": "yuv422p", "png": "rgb24"}


@cache
def ffmpeg_exe() -> str:
    """Path of the ffmpeg that the service itself uses."""
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_exe())


def ffmpeg(*args: str | Path) -> None:
    """Runs ffmpeg, overwriting its outputs; raises `RuntimeError` with its own words when it fails."""
    command = [ffmpeg_exe(), "-nostdin", "-v", "error", "-y", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(f"ffmpeg could not make the test file: {done.stderr[-800:]}\n{' '.join(command)}")


def clip(
    path: Path,
    *,
    codec: Codec = "h264",
    seconds: float = 4.0,
    size: tuple[int, int] = HD,
    fps: str = "24",
    look: Look = "chart",
    seed: int = 0,
    audio: bool = False,
    rotation: int = 0,
    sar: str = "1/1",
    pix_fmt: str | None = None,
    interlaced: bool = False,
    vfr: bool = False,
    cuts: int = 0,
    black_lead: float = 0.0,
    faststart: bool = True,
    colour: str | None = "bt709",
    metadata: dict[str, str] | None = None,
) -> Path:
    """Writes one film to `path`; the suffix chooses the container (.mov, .mp4, .m4v, .mxf, .avi, .mkv …).

    `size` is the coded width and height in pixels; `rotation` (90, 180, 270) is stored as a display matrix,
    so a portrait clip of a phone is ``size=(1920, 1080), rotation=90``. `fps` is a number or a fraction
    ("30000/1001"). `cuts` makes that many hard cuts; `black_lead` seconds at the start are black; `vfr` drops
    frames unevenly.
    """
    # Two source frames are woven into one interlaced frame.
    drawn_rate = str(Fraction(fps) * 2) if interlaced else fps
    graph = [_picture(look, size, drawn_rate, seconds, seed)]
    if cuts:
        graph.append(_cuts(cuts, seconds))
    if black_lead:
        graph.append(f"drawbox=t=fill:c=black:enable='lt(t,{black_lead})'")
    if vfr:
        graph.append("select='not(mod(n,7))+mod(n,3)'")
    graph.append(f"setsar={sar}")
    if interlaced:
        graph.append("tinterlace=interleave_top,fieldorder=tff")
    if colour:
        graph.append(f"setparams=colorspace={colour}:color_primaries={colour}:color_trc={colour}")
    options = list(_ENCODERS[codec])
    options += ["-pix_fmt", pix_fmt or _PIXELS.get(codec, "yuv420p")]
    if interlaced:
        options += (
            ["-flags", "+ilme+ildct", "-x264-params", "tff=1"]
            if codec == "h264"
            else ["-flags", "+ilme+ildct"]
        )
    inputs: list[str] = ["-f", "lavfi", "-i", ",".join(graph)]
    if audio:
        tone = f"sine=frequency={220 + 20 * (seed % 20)}:sample_rate=48000:duration={seconds}"
        inputs += ["-f", "lavfi", "-i", tone]
        options += ["-c:a", "pcm_s16le" if path.suffix in {".mov", ".mxf", ".avi"} else "aac", "-ac", "2"]
    if path.suffix in {".mov", ".mp4", ".m4v"} and faststart:
        options += ["-movflags", "+faststart"]
    for key, value in (metadata or {}).items():
        options += ["-metadata", f"{key}={value}"]
    target = path if not rotation else path.with_name(f".turn-{path.name}")
    fps_mode = "vfr" if vfr else "cfr"
    ffmpeg(*inputs, *options, "-fps_mode", fps_mode, "-t", str(seconds), "-fflags", "+bitexact", target)
    if rotation:
        # ffmpeg counts anticlockwise, people clockwise.
        turn = ["-display_rotation", str(-rotation)]
        ffmpeg(*turn, "-i", target, "-c", "copy", "-map", "0", "-fflags", "+bitexact", path)
        target.unlink()
    return path


def _picture(look: Look, size: tuple[int, int], fps: str, seconds: float, seed: int) -> str:
    width, height = size
    common = f"s={width}x{height}:r={fps}"
    shift = (seed * 47) % 360
    small = (
        f"s={max(2, width // 8)}x{max(2, height // 8)}:r={fps}"  # dear sources are drawn small and enlarged
    )
    looks = {
        "chart": f"testsrc2={common}:d={seconds},hue=h={shift}",
        "gradients": f"gradients={small}:d={seconds}:speed=0.02:n=5:seed={seed + 1}:type=spiral"
        f",scale={width}:{height}",
        "fractal": f"mandelbrot={small}:start_scale={0.05 + 0.4 / (seed + 1):.4f}:end_pts=300"
        f",scale={width}:{height},hue=h={shift}",
        "cells": f"life={small}:mold=20:ratio=0.2:seed={seed + 1}:death_color=#1a3a5c:life_color=#f2c14e"
        f":mold_color=#2e6f95,scale={width}:{height}:flags=neighbor",
        "plasma": f"nullsrc={small}:d={seconds},geq=lum='128+60*sin((X+{seed}*9)/11+T)+60*cos(Y/13-T*1.4)'"
        f":cb='128+70*sin((X+Y)/23+T+{seed})':cr='128+70*cos(X/19-T*0.7)',scale={width}:{height}",
        "black": f"color=black:{common}:d={seconds}",
        "flat": f"color=0x{(0x406080 + seed * 0x0A0B0C) & 0xFFFFFF:06x}:{common}:d={seconds},format=gbrp"
        ",scale=out_color_matrix=bt709:out_range=tv,format=yuv444p",
    }
    return looks[look]


def _cuts(count: int, seconds: float) -> str:
    """Inverts the picture and lifts its grey in every other shot: a change no camera movement makes."""
    shots = count + 1
    odd = "+".join(
        f"between(t,{i * seconds / shots:.4f},{(i + 1) * seconds / shots - 0.001:.4f})"
        for i in range(1, shots, 2)
    )
    return f"negate=enable='{odd}'"


def audio_only(path: Path, *, seconds: float = 4.0) -> Path:
    """A container with one sound track and no picture."""
    ffmpeg("-f", "lavfi", "-i", f"sine=d={seconds}", "-c:a", "aac", path)
    return path


def subtitles_only(path: Path) -> Path:
    """A container whose only track is timed text."""
    words = path.with_suffix(".srt")
    words.write_text("1\n00:00:00,000 --> 00:00:04,000\nno pictures here\n")
    ffmpeg("-i", words, "-c:s", "mov_text", path)
    words.unlink()
    return path


def still(path: Path, *, size: tuple[int, int] = HD) -> Path:
    """One picture; the suffix chooses PNG, JPEG, BMP, GIF or WebP."""
    ffmpeg("-f", "lavfi", "-i", f"testsrc2=s={size[0]}x{size[1]}:d=1", "-frames:v", "1", path)
    return path


def damaged(source: Path, path: Path, how: Damage = "truncated", *, seed: int = 0) -> Path:
    """A copy of `source` with a fault, always the same one for one seed.

    ``truncated`` keeps the first 60 % (with the index in front, as `clip` writes it, it still opens and lacks
    frames); ``headless`` loses its index; ``flipped`` has a bit flipped in each 2 KiB of the second half;
    ``holes`` has zeros in a fifth of its body.
    """
    data = bytearray(source.read_bytes())
    dice = random.Random(seed)
    size = len(data)
    if how == "truncated":
        del data[size * 6 // 10 :]
    elif how == "headless":
        for start in _find_all(data, b"moov"):
            data[start : start + 4] = b"junk"  # in a box named "free" ffmpeg still finds it
    elif how == "flipped":
        for at in range(size // 2, size, 2048):
            data[min(size - 1, at + dice.randrange(2048))] ^= 1 << dice.randrange(8)
    else:
        hole = max(1, size // 50)
        for _ in range(10):
            start = dice.randrange(size // 3, max(size // 3 + 1, size - hole))
            data[start : start + hole] = bytes(min(hole, size - start))
    path.write_bytes(data)
    return path


def mutant(source: bytes, dice: random.Random) -> bytes:
    """`source` with a few random faults: flipped bytes, a removed, doubled or zeroed run, a wrong number."""
    data = bytearray(source)
    for _ in range(dice.randint(1, 6)):
        # Half of the faults go where they hurt: into the boxes at the start and at the end.
        region = dice.choice(
            [(0, min(4096, len(data))), (max(0, len(data) - 4096), len(data)), (0, len(data))]
        )
        at = dice.randrange(region[0], max(region[0] + 1, region[1]))
        run = dice.randint(1, 512)
        match dice.randrange(5):
            case 0:
                data[at] = dice.randrange(256)
            case 1:
                del data[at : at + run]
            case 2:
                data[at:at] = data[at : at + run]
            case 3:
                data[at : at + run] = bytes(len(data[at : at + run]))
            case _:
                data[at : at + 4] = dice.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF]).to_bytes(4, "big")
        if not data:
            return b""
    return bytes(data)


def _find_all(data: bytes | bytearray, needle: bytes) -> Sequence[int]:
    found, start = [], 0
    while (start := data.find(needle, start)) >= 0:
        found.append(start)
        start += len(needle)
    return found
