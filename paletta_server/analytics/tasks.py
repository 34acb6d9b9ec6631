"""Background work for analytics."""

from paletta_server.analytics import books, rollup
from paletta_server.core.jobs import RETRIES, job
from paletta_server.core.runtime import Runtime


@job("analytics.roll_up", cron="* * * * *")
async def roll_up(runtime: Runtime) -> None:
    """Add up the events that came, and the days whose books changed."""
    await rollup.roll_up(runtime.db)
    await books.sum_up(runtime.db)


@job("analytics.storage", cron="11 * * * *")
async def storage(runtime: Runtime) -> None:
    """Count what the store holds."""
    async with runtime.db.transaction() as session:
        await books.measure_storage(session)


@job("analytics.prune", cron="23 4 * * *", retries=RETRIES)
async def prune(runtime: Runtime) -> None:
    """Forget single events that are old enough, and who was counted."""
    await rollup.prune(runtime.db, days=runtime.settings.analytics_raw_days)
    async with runtime.db.transaction() as session:
        await rollup.forget(session)
