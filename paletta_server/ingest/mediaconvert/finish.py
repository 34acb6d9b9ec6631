"""From a complete job at MediaConvert to the clip: the same last steps as after our own transcoding.

Runs at least once, and perhaps in two workers at a time: each stores under a name of its own, and the attempt can be
done only once. Whoever is overtaken has spoilt nothing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core.ids import new_uid
from paletta_server.core.jobs import defer
from paletta_server.core.runtime import Runtime
from paletta_server.core.storage import ObjectStore, StoreError
from paletta_server.ingest import ending, runs
from paletta_server.ingest.ending import AWAY, Clock, Refused
from paletta_server.ingest.errors import EngineFailed, Rejected
from paletta_server.ingest.mediaconvert import jobs, orders, outputs
from paletta_server.ingest.mediaconvert.request import WORK, submission_folder
from paletta_server.ingest.models import TranscodeJob
from paletta_server.ingest.runs import Attempt, Superseded
from paletta_server.ingest.sandbox import Sandbox
from paletta_server.ingest.scratch import scratch
from paletta_server.ingest.transcode import TranscodeResult
from paletta_server.uploads import ingestion as uploads

log = logging.getLogger(__name__)

Collect = Callable[[ObjectStore, orders.Order, str, Path, Sandbox], Awaitable[TranscodeResult]]


class _Work:
    """What a finisher holds."""

    def __init__(
        self, row: TranscodeJob, attempt: Attempt, source: uploads.Source, order: orders.Order, name: str
    ) -> None:
        self.row_id, self.attempt, self.source, self.name = row.id, attempt, source, name
        self.order = order
        self.folder = attempt.prefix + submission_folder(row.submission or 1)
        self.prefix = f"{attempt.prefix}{name}/"


async def run(runtime: Runtime, row_id: int, *, waits: int = 0, collect: Collect = outputs.collect) -> None:
    """Finish the attempt of a complete job, after `waits` that ended because store or database were away.

    `collect` fetches what the job made. Raises only for trouble with the database itself.
    """
    work = await begin(runtime, row_id)
    if work is None:
        return
    source, attempt = work.source, work.attempt
    try:
        with scratch(runtime.settings.scratch_dir, f"{work.name}-{attempt.uid}") as folder:
            await _make(runtime, work, folder, collect)
    except asyncio.CancelledError:
        # Our worker is told to stop. That is nobody's fault: the turn does not count.
        await asyncio.shield(_hand_back(runtime, work))
        raise
    except Superseded:
        log.info("attempt superseded", extra={"run": attempt.uid, "finisher": work.name})
        async with runtime.db.transaction() as session:
            await ending.discard(session, work.prefix)
    except (Refused, Rejected) as refused:
        found = refused if isinstance(refused, Refused) else Refused((refused.finding,))
        await ending.refuse(runtime, source, attempt, found)
        async with runtime.db.transaction() as session:
            await ending.discard(session, attempt.prefix)
    except AWAY as error:
        await _wait(runtime, work, error, waits)
    except (EngineFailed, StoreError, OSError) as error:
        await ending.try_again(runtime, source, attempt, error)
    except Exception as error:
        log.exception("finishing crashed", extra={"run": attempt.uid})
        await ending.try_again(runtime, source, attempt, error)


async def begin(runtime: Runtime, row_id: int) -> _Work | None:
    """Take a turn at finishing; None when there is nothing (more) to do."""
    async with runtime.db.transaction() as session:
        held = await jobs.hold(session, row_id)
        if held is None or held.source is None or held.row.status != "complete":
            return None
        if len(held.row.finishers) >= runtime.settings.ingest_attempts:
            # Only reached when workers died: what fails by itself ends the attempt.
            error = EngineFailed("finishing it stopped the worker each time")
            await ending.try_again_in(session, runtime.settings, held.source, held.attempt, error)
            return None
        try:
            order = orders.from_dict(held.row.order)
        except (KeyError, TypeError):
            error = EngineFailed(orders.FOREIGN)
            await ending.try_again_in(session, runtime.settings, held.source, held.attempt, error)
            return None
        name = new_uid("fin")
        held.row.finishers = [*held.row.finishers, name]
        await session.flush()
        await runs.advance(session, held.attempt, "publishing")
        await uploads.report(session, held.source.upload_id, "publishing")
        return _Work(held.row, held.attempt, held.source, order, name)


async def _make(runtime: Runtime, work: _Work, folder: Path, collect: Collect) -> None:
    clock = Clock(work.order.figures)
    out_dir = folder / "out"
    out_dir.mkdir()
    sandbox = Sandbox.create(runtime.settings.sandbox_mode)
    result = await collect(runtime.store, work.order, work.folder, out_dir, sandbox)
    clock.lap("fetch")

    async def also(session: AsyncSession) -> None:
        """What was used up goes in the same transaction; so does what others stored who tried to finish it before, and
        what other submissions did, of which we may never hear that they were made."""
        held = await jobs.hold(session, work.row_id)
        assert held is not None
        row = held.row
        others = [f"{name}/" for name in row.finishers if name != work.name]
        others += [submission_folder(n) for n in range(1, row.submissions + 1) if n != row.submission]
        await ending.discard(
            session, work.folder + WORK, *(work.attempt.prefix + folder for folder in others)
        )

    await ending.publish_result(
        runtime,
        work.source,
        work.attempt,
        work.order.probe,
        result,
        warnings=work.order.warnings,
        prefix=work.prefix,
        clock=clock,
        also=also,
    )


async def _hand_back(runtime: Runtime, work: _Work) -> None:
    async with runtime.db.transaction() as session:
        await _uncount(session, work)


async def _uncount(session: AsyncSession, work: _Work) -> bool:
    """A turn that does not count; False where the attempt is over."""
    held = await jobs.hold(session, work.row_id)
    if held is None or held.source is None:
        return False
    held.row.finishers = [name for name in held.row.finishers if name != work.name]
    await ending.discard(session, work.prefix)
    return True


async def _wait(runtime: Runtime, work: _Work, error: Exception, waits: int) -> None:
    """Store or database are away: the same turn again later, each time a little later."""
    log.warning("finishing put off", extra={"run": work.attempt.uid, "waits": waits, "error": str(error)})
    async with runtime.db.transaction() as session:
        if not await _uncount(session, work):
            return
        if waits >= ending.MOST_WAITS:
            fault = EngineFailed("the object store or the database was away for a day")
            await ending.try_again_in(session, runtime.settings, work.source, work.attempt, fault)
            return
        await defer(
            session,
            "ingest.finish",
            delay_seconds=ending.wait_seconds(waits),
            row_id=work.row_id,
            waits=waits + 1,
        )
