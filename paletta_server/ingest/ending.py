"""How an attempt ends: published, refused, tried again, put off, or taken back. The same for every transcoder."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType

from anyio.to_thread import run_sync
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.clips import previews
from paletta_server.clips import service as clips
from paletta_server.core.errors import Unavailable
from paletta_server.core.jobs import defer
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.core.storage import StoreError
from paletta_server.ingest import publish, runs
from paletta_server.ingest.errors import EngineFailed, Finding
from paletta_server.ingest.probe import Probe
from paletta_server.ingest.runs import Attempt, Superseded
from paletta_server.ingest.transcode import TranscodeResult
from paletta_server.likeness import service as likeness
from paletta_server.likeness import words as likeness_words
from paletta_server.likeness.frames import Frame, frames_of
from paletta_server.uploads import ingestion as uploads

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 10
AWAY = (Unavailable, OperationalError, InterfaceError, PoolTimeout)
"""Store or database are away: that says nothing about the file, so it does not count as an attempt."""
LONGEST_WAIT_SECONDS = 900
MOST_WAITS = 100
"""Waits of 10, 20, 40 … 900, 900 s: a day in all, then the clip is `failed`. Nothing retries for ever."""
FETCH_BACK_SECONDS = 3600
MOST_FETCH_BACKS = 72
"""Looking each hour for three days whether an original is back from the archive: the deepest gives it back within 12
hours, or 48 where somebody asked in bulk."""
FETCHED_DAYS = 7
"""How long the copy stays: for our own attempts, and for a transcoder elsewhere that reads it when its turn comes."""
DISCARD_AFTER_SECONDS = 600
"""A worker that was overtaken finds out within a second of progress; a stalled upload of an output takes longer."""
PAUSES_SECONDS = (0.1, 0.5, 2.0, 5.0, 10.0)
"""Between the tries of a step's transaction: a restarted database is back within them, a dead one is waited for
outside of the attempt."""


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


class Clock:
    """Seconds per step, in `figures`."""

    def __init__(self, figures: Mapping[str, float] = MappingProxyType({})) -> None:
        """`figures`: of the steps before."""
        self.figures = dict(figures)
        self._last = time.monotonic()

    def lap(self, step: str) -> None:
        now = time.monotonic()
        self.figures[step] = round(now - self._last, 3)
        self._last = now


async def enter(
    runtime: Runtime, source: uploads.Source, attempt: Attempt, status: str, *, verified: bool = False
) -> None:
    async def write(session: AsyncSession) -> None:
        await uploads.lock(session, source.upload_id)
        await runs.advance(session, attempt, status)
        if verified:
            await uploads.mark_verified(session, source.upload_id)
        await uploads.report(session, source.upload_id, status)

    await insist(runtime, attempt, write)


async def insist(
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


async def publish_result(
    runtime: Runtime,
    source: uploads.Source,
    attempt: Attempt,
    found: Probe,
    result: TranscodeResult,
    *,
    warnings: Sequence[str],
    prefix: str,
    clock: Clock,
    also: Callable[[AsyncSession], Awaitable[None]] | None = None,
) -> None:
    """Store what was made below `prefix` and make it the clip; `also` is done in the same transaction. Raises
    `Superseded` when it is not to be."""
    renditions = await publish.store_outputs(runtime.store, prefix, result)
    clock.lap("store")
    made = publish.made(found, result, renditions, [*warnings, *(one.reason for one in result.warnings)])
    frames = await run_sync(_frames, result)
    await remember(runtime, source, attempt, frames)
    clock.lap("look")
    await switch(runtime, source, attempt, made, frames, clock.figures, also)


async def remember(
    runtime: Runtime, source: uploads.Source, attempt: Attempt, frames: Sequence[Frame]
) -> None:
    """What the clip looks like is known to others before we look for its like: of two copies that are made at the
    same moment one at least is noticed."""

    async def write(session: AsyncSession) -> None:
        await likeness.remember(session, source.clip_id, frames)

    await insist(runtime, attempt, write)


async def switch(
    runtime: Runtime,
    source: uploads.Source,
    attempt: Attempt,
    made: clips.Made,
    frames: Sequence[Frame],
    figures: dict[str, float],
    also: Callable[[AsyncSession], Awaitable[None]] | None = None,
) -> None:
    """The one transaction in which the clip becomes what this attempt made.

    One that looks like somebody else's waits for a moderator, also where clips are not reviewed.
    """

    async def write(session: AsyncSession) -> None:
        alike = await likeness.look(session, source.clip_id, frames)
        await uploads.lock(session, source.upload_id)
        await runs.advance(session, attempt, "done", finished_at=_now(), figures=figures)
        reason = likeness_words.why_wait(alike, source.owner_id)
        own = likeness_words.of_own(alike, source.owner_id)
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
        if review == "taken_down":
            await previews.follow(session, source.clip_id)
        if also is not None:
            await also(session)

    await insist(runtime, attempt, write)


async def refuse(runtime: Runtime, source: uploads.Source, attempt: Attempt, refused: Refused) -> None:
    """The gate said no: the owner hears why, and the bytes are not kept."""
    async with runtime.db.transaction() as session:
        await uploads.lock(session, source.upload_id)
        await refuse_in(session, source, attempt, refused)


async def refuse_in(
    session: AsyncSession, source: uploads.Source, attempt: Attempt, refused: Refused
) -> None:
    """As `refuse`, in a transaction that holds the upload's lock."""
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
    await discard(session, attempt.prefix)


async def try_again(runtime: Runtime, source: uploads.Source, attempt: Attempt, error: Exception) -> None:
    """Our side failed: another attempt, up to the limit, each a little later."""
    async with runtime.db.transaction() as session:
        await uploads.lock(session, source.upload_id)
        await try_again_in(session, runtime.settings, source, attempt, error)


async def try_again_in(
    session: AsyncSession, settings: Settings, source: uploads.Source, attempt: Attempt, error: Exception
) -> None:
    """As `try_again`, in a transaction that holds the upload's lock."""
    log.warning("attempt failed", extra={"run": attempt.uid, "error": f"{type(error).__name__}: {error}"})
    detail = getattr(error, "detail", "")
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
    await discard(session, attempt.prefix)
    tries = await runs.attempts(session, source.upload_id)
    if tries >= settings.ingest_attempts:
        await give_up(session, source, f"processing failed {tries} times: {words(error)}")
        return
    await uploads.report(session, source.upload_id, "stored")
    await defer(session, "ingest.run", delay_seconds=RETRY_AFTER_SECONDS * tries, upload_id=source.upload_id)


def words(error: Exception) -> str:
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


async def wait(
    runtime: Runtime,
    source: uploads.Source,
    attempt: Attempt,
    error: Exception,
    waits: int,
    fetch_backs: int = 0,
) -> None:
    """Store or database are away: the attempt is taken back and made again later, each time a little later."""
    log.warning("attempt put off", extra={"run": attempt.uid, "waits": waits, "error": f"{error}"})
    async with runtime.db.transaction() as session:
        if not await withdraw(session, source, attempt):
            return
        if waits >= MOST_WAITS:
            await give_up(session, source, "the object store or the database was away for a day")
            return
        await defer(
            session,
            "ingest.run",
            delay_seconds=wait_seconds(waits),
            upload_id=source.upload_id,
            waits=waits + 1,
            fetch_backs=fetch_backs,
        )


async def fetch_back(
    runtime: Runtime, source: uploads.Source, attempt: Attempt, waits: int, fetch_backs: int
) -> None:
    """The original lies in the store's archive: it is asked back, and the attempt is taken back and made again until it
    is there, `fetch_backs` times so far."""
    try:
        info = await runtime.store.head(source.key)
        if info is not None and info.archive == "archived":
            await runtime.store.restore(source.key, info.storage_class, days=FETCHED_DAYS)
    except Unavailable as error:
        await wait(runtime, source, attempt, error, waits, fetch_backs)
        return
    except StoreError as error:  # a right is missing, perhaps; the clip need not leave the shop for that
        log.error("an original cannot be asked back", extra={"key": source.key, "error": str(error)})
    log.warning("attempt waits for the archive", extra={"run": attempt.uid, "fetch_backs": fetch_backs})
    async with runtime.db.transaction() as session:
        if not await withdraw(session, source, attempt):
            return
        if fetch_backs >= MOST_FETCH_BACKS:
            await give_up(
                session, source, "its original did not come back from the archive within three days"
            )
            return
        await defer(
            session,
            "ingest.run",
            delay_seconds=FETCH_BACK_SECONDS,
            upload_id=source.upload_id,
            waits=waits,
            fetch_backs=fetch_backs + 1,
        )


def wait_seconds(waits: int) -> int:
    """How long to wait for a store or a database that was away so many times in a row."""
    return min(RETRY_AFTER_SECONDS << min(waits, 10), LONGEST_WAIT_SECONDS)


async def discard(session: AsyncSession, *prefixes: str) -> None:
    """What an attempt that does not count has stored, or may still store, goes; late enough to find it all."""
    for prefix in prefixes:
        await defer(session, "ingest.discard", delay_seconds=DISCARD_AFTER_SECONDS, prefix=prefix)


async def hand_back(runtime: Runtime, source: uploads.Source, attempt: Attempt) -> None:
    async with runtime.db.transaction() as session:
        await withdraw(session, source, attempt)


async def withdraw(session: AsyncSession, source: uploads.Source, attempt: Attempt) -> bool:
    """Take an attempt back as if it had not been made; False when it had ended or was overtaken."""
    await uploads.lock(session, source.upload_id)
    withdrawn = await runs.withdraw(session, attempt)
    if withdrawn:
        await uploads.report(session, source.upload_id, "stored")
        await discard(session, attempt.prefix)
    return withdrawn


async def give_up(session: AsyncSession, source: uploads.Source, reason: str) -> None:
    hint = "run the same upload again for another try: nothing is sent twice"
    await clips.fail(session, source.clip_id, reason=reason, hint=hint)
    await uploads.report(session, source.upload_id, "failed", reason=reason, hint=hint)


def _now() -> datetime:
    return datetime.now(UTC)
