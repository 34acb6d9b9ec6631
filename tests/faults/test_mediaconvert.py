"""Clips on their way through MediaConvert while events are lost, late, doubled and out of order, requests are throttled
or unheard, workers die, and people change their minds: each clip ends right, none twice, none stuck.

PALETTA_TEST_SCHEDULES sets how many schedules there are (the suite's 200 take a minute; `make schedules` runs 1,000).
PALETTA_TEST_SEEDS=17,230 runs these alone, and PALETTA_TEST_STEPS=9 no more than so many steps of each: a schedule that
fails says the fewest steps with which it still does.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy import text

from paletta_server.accounts import service as accounts
from paletta_server.accounts.security import Principal
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.ingest.checkup import Decoded
from paletta_server.ingest.frames import Poster
from paletta_server.ingest.mediaconvert.orders import Order
from paletta_server.ingest.plan import plan_outputs
from paletta_server.ingest.probe import Probe, Video
from paletta_server.ingest.transcode import MadeFilm, TranscodeResult
from tests.faults.site import runs
from tests.support.mediaconvert.bench import ROLE, s3_client
from tests.support.mediaconvert.world import World

SCHEDULES, CHUNKS = runs("PALETTA_TEST_SCHEDULES", 200), 20
STEPS = 30

Enter = Callable[[int], World]


@pytest.fixture
async def here(settings: Settings, tmp_path: Path) -> AsyncIterator[Runtime]:
    """A worker's connections; no API, whose search index would follow each clip."""
    import paletta_server.tasks  # noqa: F401 (every job that may be deferred)

    changed = {"transcoder": "mediaconvert", "mediaconvert_role": ROLE, "scratch_dir": tmp_path / "scratch"}
    async with Runtime.open(settings.model_copy(update=changed)) as runtime:
        yield runtime


@pytest.fixture
async def enter(here: Runtime, tmp_path: Path) -> Enter:
    """`enter(seed)`: a world with a clip of its own."""
    settings = here.settings
    s3 = s3_client(settings)
    s3.put_object(Bucket=settings.s3_bucket, Key="originals/shared", Body=b"an original")
    order, prepared = an_order(), outputs_of(tmp_path)
    async with here.db.transaction() as session:
        user = await accounts.create_user(
            session, email="ana@example.org", password="seven umbrellas", role="admin", verified=True
        )
    operator = Principal(user.id, user.uid, user.email, True, "admin", (), 0)
    return lambda seed: World(here, s3, order, prepared, operator, seed)


def an_order() -> Order:
    video = Video(
        *("h264", "High", 1280, 720, 1280, 720, "1:1", 0, "yuv420p", 8, 24.0, "24/1", 72, 3.0, "progressive"),
        *(False, "tv", "bt709", "bt709", "bt709", 1_000_000, 0.0, 0),
    )
    probe = Probe("mov", "mov", 1_000_000, 3.0, 1_000_000, video, (), 0)
    return Order(plan_outputs(probe), probe, Decoded(72, ()), ("short",), {"download": 0.1})


def outputs_of(folder: Path) -> TranscodeResult:
    """The smallest that can be published. All black, so that no clip is like another."""
    for name in ("comp.mp4", "loop.mp4"):
        (folder / name).write_bytes(b"film")
    for name in ("poster-1500.jpg", "storyboard.jpg"):
        Image.new("RGB", (16, 16)).save(folder / name)
    vtt = "WEBVTT\n\n00:00:00.000 --> 00:00:03.000\nstoryboard.jpg#xywh=0,0,16,16\n"
    (folder / "storyboard.vtt").write_text(vtt)
    return TranscodeResult(
        comp=MadeFilm(folder / "comp.mp4", 960, 540, 3.0, "h264", 4),
        loop=MadeFilm(folder / "loop.mp4", 640, 360, 3.0, "h264", 4),
        storyboard=folder / "storyboard.jpg",
        storyboard_vtt=folder / "storyboard.vtt",
        posters=(Poster(folder / "poster-1500.jpg", 1.5, 16, 16, 0.5, chosen=True),),
        renditions=(),
        original_serves=(),
        frames_decoded=72,
        cuts=(),
        warnings=(),
        cpu_seconds=0.0,
    )


def seeds_of(chunk: int) -> list[int]:
    chosen = os.environ.get("PALETTA_TEST_SEEDS")
    if chosen:
        return [int(seed) for seed in chosen.split(",")] if chunk == 0 else []
    size = SCHEDULES // CHUNKS
    return list(range(chunk * size, (chunk + 1) * size))


async def wipe(runtime: Runtime) -> None:
    """End what a schedule left, so that the next one's clip is alone."""
    async with runtime.db.transaction() as session:
        await session.execute(text("DELETE FROM procrastinate_jobs"))
        await session.execute(text("UPDATE transcode_jobs SET status = 'dropped' WHERE status <> 'dropped'"))
        await session.execute(text("UPDATE ingest_runs SET status = 'superseded' WHERE finished_at IS NULL"))
        await session.execute(text("UPDATE uploads SET stage = 'failed'"))


async def fails(enter: Enter, runtime: Runtime, seed: int, steps: int) -> tuple[Exception, list[str]] | None:
    world = enter(seed)
    try:
        await world.run(steps)
    except Exception as error:
        return error, world.trace
    finally:
        await wipe(runtime)
    return None


@pytest.mark.parametrize("chunk", range(CHUNKS))
async def test_every_clip_ends_right_whatever_the_schedule(chunk: int, enter: Enter, here: Runtime) -> None:
    steps = int(os.environ.get("PALETTA_TEST_STEPS", STEPS))
    for seed in seeds_of(chunk):
        found = await fails(enter, here, seed, steps)
        if found is None:
            continue
        for fewer in range(steps):
            if (shorter := await fails(enter, here, seed, fewer)) is not None:
                found, steps = shorter, fewer
                break
        error, trace = found
        raise AssertionError(f"seed {seed}, {steps} steps: {error}\n{' '.join(trace)}") from error
