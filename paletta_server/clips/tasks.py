"""Background work on clips."""

from paletta_server.core import holds
from paletta_server.core.jobs import INSISTENT, defer, job
from paletta_server.core.runtime import Runtime
from paletta_server.orders import service as orders

RESERVED_SECONDS = 24 * 3600
"""When to look again at what an unpaid order may still need."""


@job("clips.discard", queue="default", retries=INSISTENT)
async def discard(runtime: Runtime, *, keys: list[str], again: bool = True) -> None:
    """Delete stored objects of clips that are gone. Twice: an address given out before may store once more.

    What was sold stays for good, what is reserved by an unpaid order until that is over.
    """
    async with runtime.db.transaction() as session:
        if await holds.in_force(session):
            await defer(session, "clips.discard", delay_seconds=holds.PUT_OFF_SECONDS, keys=keys, again=again)
            return
        held = await orders.held(session, keys)
        keys = [key for key in keys if key not in held.sold | held.reserved]
        if held.reserved:
            # Jobs of their own: one that fails at the store is tried again, and would queue these again each time.
            await defer(session, "clips.discard", delay_seconds=RESERVED_SECONDS, keys=sorted(held.reserved))
            if keys:
                await defer(session, "clips.discard", keys=keys, again=again)
            return
    await runtime.store.delete(keys)
    if again and keys:
        async with runtime.db.transaction() as session:
            later = runtime.settings.upload_url_seconds + 60
            await defer(session, "clips.discard", delay_seconds=later, keys=keys, again=False)
