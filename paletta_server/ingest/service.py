"""From stored bytes to a finished clip: verify, probe, gate, transcode, publish.

Runs at least once and bears any kind of interruption: an attempt works in a scratch folder of its own, writes to
the store under a prefix of its own, and the clip is switched over last, in one transaction, by the attempt that
still holds. A worker that dies leaves an open run, which the next attempt supersedes.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from anyio.to_thread import run_sync
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.clips import service as clips
from paletta_server.core.errors import Unavailable
from paletta_server.core.jobs import defer
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.core.storage import StoreError
from paletta_server.ingest import publish, runs
from paletta_server.ingest.errors import EngineFailed, Finding, Rejected
from paletta_server.ingest.gate import judge
from paletta_server.ingest.plan import plan_outputs
from paletta_server.ingest.probe import MediaLimits, Probe, probe
from paletta_server.ingest.runs import Attempt, Superseded
from paletta_server.ingest.sandbox import Sandbox
from paletta_server.ingest.scratch import scratch
from paletta_server.ingest.transcode import FfmpegTranscoder, TranscodeResult
from paletta_server.likeness import service as likeness
from paletta_server.likeness import words
from paletta_server.likeness.frames import Frame, frames_of
from paletta_server.uploads import ingestion as uploads

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 10
AWAY = (Unavailable, OperationalError, InterfaceError, PoolTimeout)
"""Store or database are away: that says nothing about the file, so it does not count as an attempt."""
LONGEST_WAIT_SECONDS = 900
MOST_WAITS = 100
"""Waits of 10, 20, 40 … 900, 900 s: a day in all, then the clip is `failed`. Nothing retries for ever."""
DISCARD_AFTER_SECONDS = 600
"""A worker that was overtaken finds out within a second of progress; a stalled upload of an output takes longer."""
PROGRESS_EVERY_SECONDS = 1.0
PAUSES_SECONDS = (0.1, 0.5, 2.0, 5.0, 10.0)
"""Between the tries of a step's transaction: a restarted database is back within them, a dead one is waited for
outside of the attempt."""
WORKER = f"{socket.gethostname()}:{os.getpid()}"


class Refused(Exception):
    """The file is at fault: it is rejected, and no further attempt is made."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__(self.reason)

    @property
    def reason(self) -> str:
        return "; ".join(finding.reason for finding in self.findings)

    @property
    def hint(self) -> str | None:
        return self.findings[0].hint or None


async def run(runtime: Runtime, upload_id: int, *, waits: int = 0) -> None:
    """One attempt at one upload, after `waits` that ended because store or database were away.

    Returns when the attempt ended, however it ended; raises only for trouble with the database itself.
    """
    started = await _begin(runtime, upload_id)
    if started is None:
        return
    source, attempt = started
    try:
        with scratch(runtime.settings.scratch_dir, attempt.uid) as folder:
            await _make(runtime, source, attempt, folder)
    except asyncio.CancelledError:
        # Our worker is told to stop. That is nobody's fault: the attempt does not count.
        await asyncio.shield(_hand_back(runtime, source, attempt))
        raise
    except Superseded:
        # Whoever superseded it has seen to its outputs.
        log.info("attempt superseded", extra={"run": attempt.uid})
    except Refused as refused:
        await _refuse(runtime, source, attempt, refused)
    except AWAY as error:
        await _wait(runtime, source, attempt, error, waits)
    except (EngineFailed, StoreError, OSError) as error:
        await _try_again(runtime, source, attempt, error)
    except Exception as error:
        log.exception("ingest crashed", extra={"run": attempt.uid})
        await _try_again(runtime, source, attempt, error)


async def _begin(runtime: Runtime, upload_id: int) -> tuple[uploads.Source, Attempt] | None:
    """Open the next attempt; None when there is nothing (more) to do."""
    async with runtime.db.transaction() as session:
        source = await uploads.lock_source(session, upload_id)
        if source is None:
            return None
        if await runs.attempts(session, upload_id) >= runtime.settings.ingest_attempts:
            # Only reached when workers died: an attempt that fails by itself counts them in `_try_again`.
            await _discard(session, *await runs.supersede(session, [upload_id]))
            await _give_up(session, source, "processing it stopped the worker each time")
            return None
        if not await clips.set_processing(session, source.clip_id, ["pending", "processing"], "processing"):
            return None
        attempt, lost = await runs.begin(
            session, upload_id=upload_id, clip_id=source.clip_id, clip_uid=source.clip_uid, worker=WORKER
        )
        await _discard(session, *lost)
        await uploads.report(session, upload_id, "verifying")
        return source, attempt


async def _make(runtime: Runtime, source: uploads.Source, attempt: Attempt, folder: Path) -> None:
    """The steps of an attempt, each timed for the statistics."""
    figures: dict[str, float] = {}
    clock = _Clock(figures)
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
    await _enter(runtime, source, attempt, "probing", verified=True)
    sandbox = Sandbox.create(runtime.settings.sandbox_mode)
    limits = media_limits(runtime.settings)
    try:
        found = await probe(original, sandbox, limits)
        verdict = judge(found, limits)
        if verdict.errors:
            raise Refused(tuple(verdict.errors))
        clock.lap("probe")
        await _enter(runtime, source, attempt, "transcoding")
        result = await _transcode(
            runtime, source, attempt, FfmpegTranscoder(sandbox, limits), original, found, outputs
        )
    except Rejected as rejected:
        raise Refused((rejected.finding,)) from rejected
    clock.lap("transcode")
    await _enter(runtime, source, attempt, "publishing")
    renditions = await publish.store_outputs(runtime.store, attempt.prefix, result)
    clock.lap("store")
    warnings = [finding.reason for finding in (*verdict.warnings, *result.warnings)]
    made = publish.made(found, result, renditions, warnings)
    frames = await run_sync(_frames, result)
    await _remember(runtime, source, attempt, frames)
    clock.lap("look")
    await _switch(runtime, source, attempt, made, frames, figures)


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


async def _enter(
    runtime: Runtime, source: uploads.Source, attempt: Attempt, status: str, *, verified: bool = False
) -> None:
    async def write(session: AsyncSession) -> None:
        await uploads.lock(session, source.upload_id)
        await runs.advance(session, attempt, status)
        if verified:
            await uploads.mark_verified(session, source.upload_id)
        await uploads.report(session, source.upload_id, status)

    await _insist(runtime, attempt, write)


async def _insist(
    runtime: Runtime, attempt: Attempt, write: Callable[[AsyncSession], Awaitable[None]]
) -> None:
    """Do `write` in a transaction; again, while the database is away for a moment or two met head-on in it.

    What was made so far is not thrown away for that. Where a commit went through unheard, a stage is entered
    twice, and an attempt that is done already shows as `Superseded`: both are harmless.
    """
    for pause in (*PAUSES_SECONDS, None):
        try:
            async with runtime.db.transaction() as session:
                await write(session)
            return
        except (OperationalError, InterfaceError, PoolTimeout) as error:
            if pause is None:
                raise
            log.warning("to be written again", extra={"run": attempt.uid, "error": str(error)})
        await asyncio.sleep(pause)


def _frames(result: TranscodeResult) -> list[Frame]:
    return frames_of(result.storyboard, result.storyboard_vtt.read_text())


async def _remember(
    runtime: Runtime, source: uploads.Source, attempt: Attempt, frames: Sequence[Frame]
) -> None:
    """What the clip looks like is known to others before we look for its like: of two copies that are made at the
    same moment one at least is noticed."""

    async def write(session: AsyncSession) -> None:
        await likeness.remember(session, source.clip_id, frames)

    await _insist(runtime, attempt, write)


async def _switch(
    runtime: Runtime,
    source: uploads.Source,
    attempt: Attempt,
    made: clips.Made,
    frames: Sequence[Frame],
    figures: dict[str, float],
) -> None:
    """The one transaction in which the clip becomes what this attempt made.

    One that looks like somebody else's waits for a moderator, also where clips are not reviewed.
    """

    async def write(session: AsyncSession) -> None:
        alike = await likeness.look(session, source.clip_id, frames)
        await uploads.lock(session, source.upload_id)
        await runs.advance(session, attempt, "done", finished_at=_now(), figures=figures)
        reason = words.why_wait(alike, source.owner_id)
        own = words.of_own(alike, source.owner_id)
        told = replace(made, warnings=[*made.warnings, *([own] if own else [])])
        approved = runtime.settings.review == "auto" and reason is None
        review = await clips.publish(
            session, source.clip_id, told, review="approved" if approved else "submitted", reason=reason
        )
        if review is None:
            raise Superseded(attempt.uid)
        await likeness.note(session, source.clip_id, alike)
        stage = clips.STAGES.get(review, "rejected")
        why = reason if review == "submitted" else None
        await uploads.report(session, source.upload_id, stage, reason=why, warnings=list(told.warnings))

    await _insist(runtime, attempt, write)


async def _refuse(runtime: Runtime, source: uploads.Source, attempt: Attempt, refused: Refused) -> None:
    """The gate said no: the owner hears why, and the bytes are not kept."""
    async with runtime.db.transaction() as session:
        await uploads.lock(session, source.upload_id)
        try:
            codes = {"findings": [finding.code for finding in refused.findings]}
            await runs.advance(
                session, attempt, "failed", finished_at=_now(), error=refused.reason, figures=codes
            )
        except Superseded:
            return
        await clips.fail(session, source.clip_id, reason=refused.reason, hint=refused.hint)
        await uploads.reject(session, source.upload_id, reason=refused.reason, hint=refused.hint)
        await defer(session, "clips.discard", keys=[source.key])


async def _try_again(runtime: Runtime, source: uploads.Source, attempt: Attempt, error: Exception) -> None:
    """Our side failed: another attempt, up to the limit, each a little later."""
    log.warning("attempt failed", extra={"run": attempt.uid, "error": f"{type(error).__name__}: {error}"})
    detail = getattr(error, "detail", "")
    async with runtime.db.transaction() as session:
        await uploads.lock(session, source.upload_id)
        try:
            await runs.advance(
                session,
                attempt,
                "failed",
                finished_at=_now(),
                error=f"{type(error).__name__}: {error} {detail}",
            )
        except Superseded:
            return
        await _discard(session, attempt.prefix)
        tries = await runs.attempts(session, source.upload_id)
        if tries >= runtime.settings.ingest_attempts:
            await _give_up(session, source, f"processing failed {tries} times: {_words(error)}")
            return
        await uploads.report(session, source.upload_id, "stored")
        await defer(
            session,
            "ingest.run",
            delay_seconds=RETRY_AFTER_SECONDS * tries,
            upload_id=source.upload_id,
        )


def _words(error: Exception) -> str:
    """What went wrong on our side, for the contributor; the log has the rest."""
    if isinstance(error, EngineFailed):
        return error.reason
    if isinstance(error, StoreError) and error.code == "404":
        return "the stored bytes are gone"
    if isinstance(error, StoreError):
        return f"the object store answers {error.code}"
    if isinstance(error, OSError):
        return f"the worker's disk or system: {error.strerror or type(error).__name__}"
    return "an error of ours, which the operator finds in the log"


async def _wait(
    runtime: Runtime, source: uploads.Source, attempt: Attempt, error: Exception, waits: int
) -> None:
    """Store or database are away: the attempt is taken back and made again later, each time a little later."""
    log.warning("attempt put off", extra={"run": attempt.uid, "waits": waits, "error": f"{error}"})
    async with runtime.db.transaction() as session:
        if not await _withdraw(session, source, attempt):
            return
        if waits >= MOST_WAITS:
            await _give_up(session, source, "the object store or the database was away for a day")
            return
        await defer(
            session,
            "ingest.run",
            delay_seconds=min(RETRY_AFTER_SECONDS * 2 ** min(waits, 10), LONGEST_WAIT_SECONDS),
            upload_id=source.upload_id,
            waits=waits + 1,
        )


async def _discard(session: AsyncSession, *prefixes: str) -> None:
    """What an attempt that does not count has stored, or may still store, goes; late enough to find it all."""
    for prefix in prefixes:
        await defer(session, "ingest.discard", delay_seconds=DISCARD_AFTER_SECONDS, prefix=prefix)


async def _hand_back(runtime: Runtime, source: uploads.Source, attempt: Attempt) -> None:
    async with runtime.db.transaction() as session:
        await _withdraw(session, source, attempt)


async def _withdraw(session: AsyncSession, source: uploads.Source, attempt: Attempt) -> bool:
    """Take an attempt back as if it had not been made; False when it had ended or was overtaken."""
    await uploads.lock(session, source.upload_id)
    withdrawn = await runs.withdraw(session, attempt)
    if withdrawn:
        await uploads.report(session, source.upload_id, "stored")
        await _discard(session, attempt.prefix)
    return withdrawn


async def _give_up(session: AsyncSession, source: uploads.Source, reason: str) -> None:
    hint = "run the same upload again for another try: nothing is sent twice"
    await clips.fail(session, source.clip_id, reason=reason, hint=hint)
    await uploads.report(session, source.upload_id, "failed", reason=reason, hint=hint)


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


class _Clock:
    """Seconds per step, into `figures`."""

    def __init__(self, figures: dict[str, float]) -> None:
        self._figures = figures
        self._last = time.monotonic()

    def lap(self, step: str) -> None:
        now = time.monotonic()
        self._figures[step] = round(now - self._last, 3)
        self._last = now


def _now() -> datetime:
    return datetime.now(UTC)
