"""Transcoding by MediaConvert as jobs."""

from paletta_server.core.jobs import job
from paletta_server.core.runtime import Runtime
from paletta_server.ingest.mediaconvert import api, cancel, completions, finish, reconcile, rows, submit


@job("mediaconvert.submit", queue="default")
async def submit_waiting(runtime: Runtime) -> None:
    """Submit who waits for MediaConvert, while there are places."""
    await submit.submit_waiting(runtime, api.shared(runtime.settings))


@job("mediaconvert.cancel", queue="default")
async def cancel_job(runtime: Runtime, *, row_id: int | None = None, job_id: str | None = None) -> None:
    """Cancel the job of an attempt that is over, or one that is nobody's."""
    if row_id is not None:
        await cancel.of_row(runtime, api.shared(runtime.settings), row_id)
    elif job_id is not None:
        await cancel.stray(api.shared(runtime.settings), job_id)


@job("ingest.finish", queue="ingest")
async def finish_attempt(runtime: Runtime, *, row_id: int, waits: int = 0) -> None:
    """Make the clip from what MediaConvert has made."""
    await finish.run(runtime, row_id, waits=waits)


@job("mediaconvert.reconcile", queue="default", cron="* * * * *")
async def reconcile_all(runtime: Runtime) -> None:
    """Ask about what has been silent for too long: by the rows, so that it goes on when the setting is changed back."""
    async with runtime.db.transaction() as session:
        if not await rows.any_left(session):
            return
    await reconcile.turn(runtime, api.shared(runtime.settings))


@job("mediaconvert.prune", queue="default", cron="41 3 * * *")
async def prune(runtime: Runtime) -> None:
    """Forget events of long ago."""
    await completions.prune(runtime.db)
