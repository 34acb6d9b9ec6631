"""Ingest as jobs."""

import logging

from paletta_server.core import holds
from paletta_server.core.jobs import INSISTENT, defer, has_job, job
from paletta_server.core.runtime import Runtime
from paletta_server.ingest import service
from paletta_server.ingest.mediaconvert import rows as mediaconvert
from paletta_server.uploads import ingestion as uploads

log = logging.getLogger(__name__)


@job("ingest.run", queue="ingest")
async def run(runtime: Runtime, *, upload_id: int, waits: int = 0, fetch_backs: int = 0) -> None:
    """One attempt at making a clip from an upload; `waits` counts those that found store or database away,
    `fetch_backs` those that found the original archived."""
    await service.run(runtime, upload_id, waits=waits, fetch_backs=fetch_backs)


@job("ingest.discard", queue="default", retries=INSISTENT)
async def discard(runtime: Runtime, *, prefix: str) -> None:
    """Delete what an attempt stored that came to nothing."""
    async with runtime.db.transaction() as session:
        if await holds.in_force(session):
            await defer(session, "ingest.discard", delay_seconds=holds.PUT_OFF_SECONDS, prefix=prefix)
            return
    await runtime.store.delete_prefix(prefix)


@job("ingest.sweep", queue="default", cron="*/5 * * * *")
async def sweep(runtime: Runtime) -> None:
    """Uploads that are on their way with no job to carry them (a lost job, a restored database) get one."""
    last = 0
    while True:
        async with runtime.db.transaction() as session:
            page = await uploads.on_their_way(session, after=last)
            for upload_id in page:
                if not await has_job(
                    session, "ingest.run", upload_id=upload_id
                ) and not await mediaconvert.carries(session, upload_id):
                    log.warning("upload had no ingest job", extra={"upload_id": upload_id})
                    await defer(session, "ingest.run", upload_id=upload_id)
        if not page:
            return
        last = page[-1]
