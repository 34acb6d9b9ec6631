"""What MediaConvert made, fetched and checked, and what is still to be made of it: posters, storyboard, loop."""

from __future__ import annotations

import asyncio
import logging
import math
import re
from pathlib import Path

from anyio.to_thread import run_sync

from paletta_server.core.storage import ObjectStore
from paletta_server.ingest import command, transcode
from paletta_server.ingest.errors import EngineFailed, Rejected
from paletta_server.ingest.frames import LEAST_POSTERS, Poster, choose_posters
from paletta_server.ingest.mediaconvert.orders import Order
from paletta_server.ingest.mediaconvert.request import FRAME, WISH, captures_prefix, comp_key, rendition_key
from paletta_server.ingest.plan import OutputPlan, Storyboard
from paletta_server.ingest.sandbox import RunLimits, Sandbox, TimedOut
from paletta_server.ingest.storyboard import webvtt
from paletta_server.ingest.transcode import MadeFilm, MadeRendition, TranscodeResult

log = logging.getLogger(__name__)

_NUMBER = re.compile(r"(\d{1,9})\.jpg")
_DOWNLOADS = 8
_MOST_FILM_BYTES = 2 * 1024**3
"""Two minutes at the highest ceiling are 1.35 GB."""
_JPEG_QUALITY = 80
_LOOP_LIMITS = RunLimits(
    # Six seconds of 540p take a second or two; ten times that, and a busy machine.
    wall_seconds=180,
    cpu_seconds=60,
    memory_bytes=3 * 1024**3,
    file_bytes=64 * 1024**2,
)


async def collect(
    store: ObjectStore, order: Order, folder: str, out_dir: Path, sandbox: Sandbox
) -> TranscodeResult:
    """Fetch a finished job's outputs from below `folder` into `out_dir`, and complete them.

    The films for sale stay in the store where they are. Raises `Rejected` where the films contradict the source,
    `EngineFailed` and `StoreError` for what is not there or not as ordered, and `Unavailable`.
    """
    plan = order.plan
    limit = asyncio.Semaphore(_DOWNLOADS)

    async def fetch(key: str, name: str) -> Path:
        async with limit:
            info = await store.head(key)
            if info is None or not 0 < info.size <= _MOST_FILM_BYTES:
                raise EngineFailed("the transcoder left an output out", key)
            await store.download(key, out_dir / name)
        return out_dir / name

    frames, wishes = await _captures(store, folder, FRAME), await _captures(store, folder, WISH)
    await asyncio.gather(
        fetch(comp_key(folder), plan.comp.name),
        *(fetch(rendition_key(folder, made.tier), made.name) for made in plan.renditions),
        *(fetch(key, f"frame-{number}.jpg") for number, key in frames.items()),
        *(fetch(key, f"wish-{number}.jpg") for number, key in wishes.items() if number < 2),
    )
    comp, renditions = _films(order, folder, out_dir)
    jail = out_dir / "jail"
    jail.mkdir()
    loop = await _loop(order, comp, jail, sandbox)
    posters = await run_sync(_pictures, order, out_dir, len(frames))
    (out_dir / plan.storyboard.vtt_name).write_text(webvtt(plan.storyboard, order.probe.duration))
    cuts = order.decoded.cuts
    return TranscodeResult(
        comp=comp,
        loop=loop,
        storyboard=out_dir / plan.storyboard.name,
        storyboard_vtt=out_dir / plan.storyboard.vtt_name,
        posters=tuple(posters),
        renditions=renditions,
        original_serves=plan.original_serves,
        frames_decoded=order.decoded.frames,
        cuts=cuts,
        warnings=transcode.take_warnings(cuts, posters),
        cpu_seconds=0.0,
    )


async def _captures(store: ObjectStore, folder: str, kind: str) -> dict[int, str]:
    """The keys of captured frames, by number."""
    prefix = captures_prefix(folder, kind)
    found = {}
    async for item in store.every_object(prefix):
        if match := _NUMBER.fullmatch(item.key.removeprefix(prefix)):
            if not 0 < item.size <= transcode.MOST_PICTURE_BYTES:
                raise EngineFailed("the transcoder captured a frame that is none", item.key)
            found[int(match[1])] = item.key
    return found


def _films(order: Order, folder: str, out_dir: Path) -> tuple[MadeFilm, tuple[MadeRendition, ...]]:
    plan, seconds = order.plan, order.probe.duration
    try:
        comp = transcode.check_film(out_dir, plan.comp.name, plan.comp.width, plan.comp.height, seconds)
        renditions = []
        for made in plan.renditions:
            film = transcode.check_film(out_dir, made.name, made.width, made.height, seconds)
            renditions.append(
                MadeRendition(
                    *(made.tier, film.path, film.width, film.height, film.duration, film.codec, film.size),
                    key=rendition_key(folder, made.tier),
                )
            )
    except ValueError as error:
        log.warning("outputs contradict the plan", extra={"problem": str(error), "folder": folder})
        raise Rejected(
            "inconsistent", "the film's time stamps contradict its length", transcode.REEXPORT
        ) from error
    return comp, tuple(renditions)


async def _loop(order: Order, comp: MadeFilm, jail: Path, sandbox: Sandbox) -> MadeFilm:
    """A few seconds out of the comp, mark and all: one more generation at 360p, and no second job."""
    loop, comp_divisor = order.plan.loop, order.plan.comp.rate_divisor
    rate = order.probe.video.fps / comp_divisor
    divisor = math.ceil(loop.rate_divisor / comp_divisor)
    arguments = command.loop_arguments(loop, rate=rate, divisor=divisor, threads=transcode.cores())
    try:
        done = await sandbox.run(arguments, source=comp.path, out_dir=jail, limits=_LOOP_LIMITS)
    except TimedOut as error:
        raise EngineFailed(f"cutting the loop took more than {error.seconds:.0f} s") from error
    if done.status != 0:
        raise EngineFailed(f"ffmpeg ended with status {done.status} on the loop", done.stderr[-2000:])
    try:
        return transcode.check_film(jail, loop.name, loop.width, loop.height, loop.seconds)
    except (ValueError, OSError) as error:
        raise EngineFailed(f"the loop is not as planned: {error}", done.stderr[-2000:]) from error


def _pictures(order: Order, out_dir: Path, captured: int) -> list[Poster]:
    """Lay the storyboard, and choose posters among the captured frames; those not chosen go."""
    plan = order.plan
    size = (plan.posters.width, plan.posters.height)
    # The last interval may end a rounding before the last capture is due.
    if captured < max(1, plan.storyboard.cells - 1):
        raise EngineFailed(
            "the transcoder left frames out", f"{captured} of {plan.storyboard.cells} are there"
        )
    count = min(captured, plan.storyboard.cells)
    try:
        frames = [transcode.check_picture(out_dir, f"frame-{number}.jpg", size) for number in range(count)]
        _lay(plan.storyboard, frames, out_dir / plan.storyboard.name)
        return _posters(plan, frames, out_dir, order.probe.duration)
    except (OSError, ValueError) as error:
        raise EngineFailed(f"a captured frame cannot be used: {error}") from error


def _lay(board: Storyboard, frames: list[Path], target: Path) -> None:
    from PIL import Image

    sprite = Image.new("RGB", (board.width * board.columns, board.height * board.rows))
    for cell in range(board.cells):
        path = frames[min(cell, len(frames) - 1)]
        with Image.open(path, formats=["JPEG"]) as picture:
            picture.draft("RGB", (board.width * 2, board.height * 2))
            small = picture.convert("RGB").resize((board.width, board.height), Image.Resampling.BOX)
        sprite.paste(small, (cell % board.columns * board.width, cell // board.columns * board.height))
    sprite.save(target, "JPEG", quality=_JPEG_QUALITY)


def _posters(plan: OutputPlan, frames: list[Path], out_dir: Path, duration: float) -> list[Poster]:
    timed = [(number * plan.storyboard.interval, path) for number, path in enumerate(frames)]
    # The first and last 5 % are fades, slates and shakes more often than not (`plan`).
    inside = [(at, path) for at, path in timed if duration * 0.05 <= at <= duration * 0.95]
    chosen = inside if len(inside) >= LEAST_POSTERS else timed
    wish = plan.posters.requested
    if wish is not None:
        chosen = [(at, path) for at, path in chosen if abs(at - wish) > 0.001]
        chosen.append((wish, _wished(plan, frames, out_dir, wish)))
    named = []
    for at, path in chosen:
        target = out_dir / f"{command.POSTER_PREFIX}{round(at * command.POSTER_CLOCK)}.jpg"
        path.rename(target)
        named.append((round(at, 3), target))
    posters = choose_posters(named, plan.posters)
    kept = {poster.path for poster in posters}
    for path in [*out_dir.glob("*.jpg")]:
        if path not in kept and path.name != plan.storyboard.name:
            path.unlink()
    return posters


def _wished(plan: OutputPlan, frames: list[Path], out_dir: Path, wish: float) -> Path:
    """The frame of the wish: the second capture of its own output, or simply the first frame."""
    if not wish:
        return frames[0]
    path = out_dir / "wish-1.jpg"
    if not path.exists():
        # A wish for the very last frame, which they may have rounded away: the nearest that there is.
        return frames[min(len(frames) - 1, round(wish / plan.storyboard.interval))]
    return transcode.check_picture(out_dir, path.name, (plan.posters.width, plan.posters.height))
