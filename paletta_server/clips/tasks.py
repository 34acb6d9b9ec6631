"""Background work on clips."""

from paletta_server.core.jobs import defer, job
from paletta_server.core.runtime import Runtime


@job("clips.discard", queue="default")
async def discard(runtime: Runtime, *, keys: list[str], again: bool = True) -> None:
    """Delete stored objects that no row names any more. Twice: an address given out before may store once more."""
    await runtime.store.delete(keys)
    if again:
        async with runtime.db.transaction() as session:
            later = runtime.settings.upload_url_seconds + 60
            await defer(session, "clips.discard", delay_seconds=later, keys=keys, again=False)
