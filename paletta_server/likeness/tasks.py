"""Hashing the clips that were made before frames were hashed, or by another version of the hash."""

import logging
import tempfile
from pathlib import Path

from anyio.to_thread import run_sync

from paletta_server.clips import service as clips
from paletta_server.clips.service import Board
from paletta_server.core.jobs import defer, has_job, job
from paletta_server.core.runtime import Runtime
from paletta_server.core.storage import StoreError
from paletta_server.likeness import service
from paletta_server.likeness.frames import Frame, frames_of

log = logging.getLogger(__name__)

AT_ONCE = 200
"""Clips per job: a fraction of a second each, and a worker that is told to stop loses no more."""


@job("likeness.catch_up", queue="default", cron="17 3 * * *")
async def catch_up(runtime: Runtime) -> None:
    """Daily a walk over all clips, in jobs of some that lack it each; where none does, it is one quick job."""
    async with runtime.db.transaction() as session:
        if not await has_job(session, "likeness.hash_clips"):
            await defer(session, "likeness.hash_clips", after=0)


@job("likeness.hash_clips", queue="default")
async def hash_clips(runtime: Runtime, *, after: int) -> None:
    """Hash the next clips that lack it, above the key `after`, and queue those that follow. Nothing is flagged."""
    while True:
        async with runtime.db.transaction() as session:
            boards = await clips.boards(session, after=after, most=AT_ONCE)
            done = await service.hashed(session, [board.clip_id for board in boards])
        if not boards:
            return
        after = boards[-1].clip_id
        if lacking := [board for board in boards if board.clip_id not in done]:
            break
    for board in lacking:
        try:
            frames = await _frames(runtime, board)
        except (StoreError, OSError, ValueError) as error:
            # One that has no storyboard any more, or none that can be read, is no reason to stop; it shows in the log.
            log.warning("clip not hashed", extra={"clip_id": board.clip_id, "error": str(error)})
            continue
        async with runtime.db.transaction() as session:
            await service.remember(session, board.clip_id, frames)
    log.info("clips hashed", extra={"clips": len(lacking), "up_to": after})
    async with runtime.db.transaction() as session:
        await defer(session, "likeness.hash_clips", after=after)


async def _frames(runtime: Runtime, board: Board) -> list[Frame]:
    with tempfile.TemporaryDirectory(dir=runtime.settings.scratch_dir) as folder:
        picture, cues = Path(folder) / "board.jpg", Path(folder) / "board.vtt"
        await runtime.store.download(board.picture, picture)
        await runtime.store.download(board.cues, cues)
        return await run_sync(lambda: frames_of(picture, cues.read_text()))
