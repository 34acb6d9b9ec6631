"""Background work for search."""

from datetime import UTC, datetime

from paletta_server.core.jobs import RETRIES, job
from paletta_server.core.runtime import Runtime
from paletta_server.search import changes, views


@job("search.popularity", cron="17 * * * *")
async def popularity(runtime: Runtime) -> None:
    """Let the index learn what was looked at lately, and forget who looked."""
    async with runtime.db.transaction() as session:
        await views.note_popularity(session)
        await views.forget_viewers(session)


@job("search.prune", cron="47 3 * * *", retries=RETRIES)
async def prune(runtime: Runtime) -> None:
    """Forget changes that every replica in use has followed."""
    async with runtime.db.transaction() as session:
        await changes.prune(session)


@job("search.check", cron="29 2 * * *", retries=RETRIES)
async def check(runtime: Runtime) -> None:
    """Check the indexes against the catalogue: every replica looks again at a part of the clips, so that what one of
    them lost, or kept too long, is right again within a month."""
    async with runtime.db.transaction() as session:
        await changes.look_again(session, datetime.now(UTC).toordinal())
