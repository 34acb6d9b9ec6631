"""From stored bytes to a finished clip: verify, probe, gate, transcode, publish.

Runs at least once and bears any kind of interruption: an attempt works in a scratch folder of its own, writes to
the store under a prefix of its own, and the clip is switched over last, in one transaction, by the attempt that
still holds. A worker that dies leaves an open run, which the next attempt supersedes. Where MediaConvert transcodes,
the worker hands the attempt over once the film has passed (`ingest.mediaconvert`) and is free for the next.
"""

import asyncio
import logging
import os
import socket
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from paletta_server.clips import service as clips
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.core.storage import StoreError
from paletta_server.ingest import checkup, ending, runs
from paletta_server.ingest.ending import AWAY, Clock, Refused
from paletta_server.ingest.errors import EngineFailed, Finding, Rejected
from paletta_server.ingest.gate import judge
from paletta_server.ingest.mediaconvert import jobs as mediaconvert
from paletta_server.ingest.mediaconvert import orders
from paletta_server.ingest.mediaconvert import rows as mediaconvert_rows
from paletta_server.ingest.plan import plan_outputs
from paletta_server.ingest.probe import MediaLimits, Probe, probe
from paletta_server.ingest.runs import Attempt, Superseded
from paletta_server.ingest.sandbox import Sandbox
from paletta_server.ingest.scratch import scratch
from paletta_server.ingest.transcode import FfmpegTranscoder, TranscodeResult
from paletta_server.uploads import ingestion as uploads

log = logging.getLogger(__name__)

PROGRESS_EVERY_SECONDS = 1.0
WORKER = f"{socket.gethostname()}:{os.getpid()}"


async def run(runtime: Runtime, upload_id: int, *, waits: int = 0, fetch_backs: int = 0) -> None:
    """One attempt at one upload, after `waits` that ended because store or database were away, and `fetch_backs` where
    its original was archived.

    Returns when the attempt ended, however it ended; raises only for trouble with the database itself.
    """
    started = await begin(runtime, upload_id)
    if started is None:
        return
    source, attempt = started
    try:
        with scratch(runtime.settings.scratch_dir, attempt.uid) as folder:
            await _make(runtime, source, attempt, folder)
    except asyncio.CancelledError:
        # Our worker is told to stop. That is nobody's fault: the attempt does not count.
        await asyncio.shield(ending.hand_back(runtime, source, attempt))
        raise
    except Superseded:
        # Whoever superseded it has seen to its outputs.
        log.info("attempt superseded", extra={"run": attempt.uid})
    except Refused as refused:
        await ending.refuse(runtime, source, attempt, refused)
    except AWAY as error:
        await ending.wait(runtime, source, attempt, error, waits, fetch_backs)
    except (EngineFailed, StoreError, OSError) as error:
        if isinstance(error, StoreError) and error.code == "InvalidObjectState":
            await ending.fetch_back(runtime, source, attempt, waits, fetch_backs)
        else:
            await ending.try_again(runtime, source, attempt, error)
    except Exception as error:
        log.exception("ingest crashed", extra={"run": attempt.uid})
        await ending.try_again(runtime, source, attempt, error)


async def begin(runtime: Runtime, upload_id: int) -> tuple[uploads.Source, Attempt] | None:
    """Open the next attempt; None when there is nothing (more) to do."""
    async with runtime.db.transaction() as session:
        source = await uploads.lock_source(session, upload_id)
        if source is None:
            return None
        if await mediaconvert_rows.carries(session, upload_id):
            return None  # the attempt is under way there; our job ran twice, or was made by a sweep too many
        if await runs.attempts(session, upload_id) >= runtime.settings.ingest_attempts:
            # Only reached when workers died: an attempt that fails by itself counts them in `ending.try_again`.
            await ending.discard(session, *await runs.supersede(session, [upload_id]))
            await ending.give_up(session, source, "processing it stopped the worker each time")
            return None
        if not await clips.set_processing(session, source.clip_id, ["pending", "processing"], "processing"):
            return None
        attempt, lost = await runs.begin(
            session, upload_id=upload_id, clip_id=source.clip_id, clip_uid=source.clip_uid, worker=WORKER
        )
        await ending.discard(session, *lost)
        await uploads.report(session, upload_id, "verifying")
        return source, attempt


async def _make(runtime: Runtime, source: uploads.Source, attempt: Attempt, folder: Path) -> None:
    """The steps of an attempt, each timed for the statistics."""
    clock = Clock()
    original, outputs = folder / "source", folder / "out"
    outputs.mkdir()
    sha256 = await runtime.store.download(source.key, original)
    clock.lap("download")
    if sha256 != source.sha256:
        raise Refused(
            (
                Finding(
                    "sha256_mismatch",
                    "the bytes in the store are not the ones that were read on your computer",
                    "run the upload again; if it happens twice, check the computer's memory and disk",
                ),
            )
        )
    await ending.enter(runtime, source, attempt, "probing", verified=True)
    sandbox = Sandbox.create(runtime.settings.sandbox_mode)
    limits = media_limits(runtime.settings)
    try:
        found = await probe(original, sandbox, limits)
        verdict = judge(found, limits)
        if verdict.errors:
            raise Refused(tuple(verdict.errors))
        clock.lap("probe")
        warnings = [finding.reason for finding in verdict.warnings]
        if runtime.settings.transcoder == "mediaconvert":
            decoded = await checkup.run(original, found, sandbox, limits, outputs)
            clock.lap("checkup")
            plan = plan_outputs(found, poster_at=source.poster_at)
            order = orders.Order(plan, found, decoded, tuple(warnings), clock.figures)
            await mediaconvert.hand_over(runtime, source, attempt, order)
            return
        await ending.enter(runtime, source, attempt, "transcoding")
        result = await _transcode(
            runtime, source, attempt, FfmpegTranscoder(sandbox, limits), original, found, outputs
        )
    except Rejected as rejected:
        raise Refused((rejected.finding,)) from rejected
    clock.lap("transcode")
    await ending.enter(runtime, source, attempt, "publishing")
    await ending.publish_result(
        runtime, source, attempt, found, result, warnings=warnings, prefix=attempt.prefix, clock=clock
    )


async def _transcode(
    runtime: Runtime,
    source: uploads.Source,
    attempt: Attempt,
    transcoder: FfmpegTranscoder,
    original: Path,
    found: Probe,
    outputs: Path,
) -> TranscodeResult:
    """Transcode while telling the watcher; an attempt that was superseded is stopped."""
    plan = plan_outputs(found, poster_at=source.poster_at)
    latest = 0.0

    def remember(share: float) -> None:
        nonlocal latest
        latest = share

    work = asyncio.ensure_future(transcoder.run(original, found, plan, outputs, remember))
    try:
        while True:
            done, _ = await asyncio.wait({work}, timeout=PROGRESS_EVERY_SECONDS)
            if done:
                return work.result()
            try:
                await _tell(runtime, source, attempt, latest)
            except SQLAlchemyError as error:
                # A film is not thrown away because the database was busy for a moment.
                log.warning("progress not told", extra={"run": attempt.uid, "error": str(error)})
    finally:
        if not work.done():
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


async def _tell(runtime: Runtime, source: uploads.Source, attempt: Attempt, share: float) -> None:
    async with runtime.db.transaction() as session:
        if not await runs.still_ours(session, attempt):
            raise Superseded(attempt.uid)
        await uploads.report(session, source.upload_id, "transcoding", share=share, event=False)


def media_limits(settings: Settings) -> MediaLimits:
    """The operator's settings as the engine takes them."""
    return MediaLimits(
        min_long_edge=settings.ingest_min_long_edge,
        min_seconds=settings.ingest_min_seconds,
        max_seconds=settings.ingest_max_seconds,
        max_bytes=settings.ingest_max_bytes,
        max_pixels=settings.ingest_max_pixels,
        max_fps=settings.ingest_max_fps,
        containers=settings.ingest_containers,
        codecs=settings.ingest_codecs,
    )
