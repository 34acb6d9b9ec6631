"""Opens every clip and checks it against what the ingest gate accepts, before a byte is sent."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from paletta_cli.manifests.model import Clip, Folder, Problem
from paletta_cli.manifests.probe import FAMILIES, MediaError, Probe, probe
from paletta_cli.manifests.rules import MediaLimits
from paletta_cli.text import size

# Enough to hide the latency of a network share; opening a clip costs a few milliseconds of CPU.
_WORKERS = 4
_UHD_LONG_EDGE = 3840


def preflight(
    folder: Folder, limits: MediaLimits, progress: Callable[[int, int], None] | None = None
) -> list[Problem]:
    """Problems of the clips' files; a clip whose file is missing is passed over. `progress(done, total)`."""
    from concurrent.futures import ThreadPoolExecutor

    clips = [clip for clip in folder.clips if clip.file in folder.files]
    problems: list[Problem] = []
    with ThreadPoolExecutor(min(_WORKERS, os.cpu_count() or 1), thread_name_prefix="preflight") as pool:
        results = pool.map(lambda clip: (clip, list(_findings(clip, limits, folder.files[clip.file]))), clips)
        for done, (clip, findings) in enumerate(results, 1):
            problems += [_placed(folder, clip, pointer, error) for pointer, error in findings]
            if progress is not None:
                progress(done, len(clips))
    return problems


def _placed(folder: Folder, clip: Clip, pointer: str, error: MediaError) -> Problem:
    warning = error.code in ("media_tier",)
    return folder.problem(
        clip,
        pointer,
        error.message if pointer != "/file" else f"`{clip.file}` {error.message}",
        code=error.code,
        hint=error.hint,
        severity="warning" if warning else "error",
    )


def _findings(clip: Clip, limits: MediaLimits, length: int) -> Iterator[tuple[str, MediaError]]:
    """(pointer, what is wrong) for one clip."""
    try:
        found = probe(clip.path)
    except MediaError as error:
        yield "/file", error
        return
    clip.folder.probes[clip.file] = found
    for finding in check_limits(clip.path, found, length, limits):
        yield "/file", finding
    poster = clip.metadata.get("poster_at")
    if isinstance(poster, float) and poster > found.seconds > 0:
        hint = f"the clip lasts {found.seconds:.1f} s"
        yield (
            "/poster_at",
            MediaError("poster_at", f"`poster_at` is {poster:g} s, after the clip's end", hint),
        )
    price = clip.metadata.get("price")
    if isinstance(price, dict) and price.get("uhd4k") and found.long_edge < _UHD_LONG_EDGE:
        hint = f"`{clip.file}` is {found.width}×{found.height}; only a 4K clip sells as 4K"
        yield "/price/uhd4k", MediaError("media_tier", "`price.uhd4k` will not be used", hint)


def check_limits(path: Path, found: Probe, length: int, limits: MediaLimits) -> Iterator[MediaError]:
    """What of a readable clip is outside the limits. `length` is the file's size in bytes."""
    suffix = path.suffix.removeprefix(".").casefold()
    accepted = ", ".join(limits.containers)
    if suffix not in limits.containers:
        yield MediaError("media_container", f"is not one of {accepted}", "export or rename it")
    elif FAMILIES.get(suffix, suffix) != found.family:
        right = "mxf" if found.family == "mxf" else "mov"
        yield MediaError(
            "media_container",
            f"is called .{suffix} but is an {found.family.upper()} file",
            f"call it .{right}",
        )
    if found.codec not in limits.codecs:
        hint = f"export it with one of {', '.join(limits.codecs)}"
        yield MediaError("media_codec", f"is encoded with {found.codec}, which is not accepted", hint)
    yield from check_numbers(found, length, limits)


def check_numbers(found: Probe, length: int, limits: MediaLimits) -> Iterator[MediaError]:
    """Size, duration, frame and frame rate against limits (the gate's or an agency's)."""
    if length > limits.max_bytes:
        yield MediaError("media_size", f"has {size(length)}, at most {size(limits.max_bytes)} allowed")
    if found.seconds < limits.min_seconds:
        yield MediaError(
            "media_short", f"lasts {found.seconds:.1f} s, at least {limits.min_seconds:g} s wanted"
        )
    elif found.seconds > limits.max_seconds:
        yield MediaError(
            "media_long", f"lasts {found.seconds:.1f} s, at most {limits.max_seconds:g} s allowed", "cut it"
        )
    if found.long_edge < limits.min_long_edge:
        message = (
            f"is {found.width}×{found.height}; the long edge must have {limits.min_long_edge} pixels or more"
        )
        yield MediaError("media_small", message, "never scale up: deliver the original")
    if found.fps > limits.max_fps:
        yield MediaError(
            "media_fps", f"has {found.fps:.2f} frames per second, at most {limits.max_fps:g} allowed"
        )
