"""Sold files that lie in the store's archive: fetched back when somebody buys or wants them, with the truth meanwhile.

What says whether a file can be read is the store's own answer about it (HEAD's `x-amz-restore`), never our table: that
has only who waits, since when, and whom to tell. The copy that comes back stays for a week; whoever asks later has it
fetched again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core.errors import PalettaError
from paletta_server.core.jobs import defer
from paletta_server.core.runtime import Runtime
from paletta_server.core.storage import ObjectInfo, StoreError
from paletta_server.delivery.models import Restoration
from paletta_server.orders import service as orders

log = logging.getLogger(__name__)

KEPT_DAYS = 7
HOURS = {"DEEP_ARCHIVE": 12}
"""How long Amazon says that the standard way out takes at most; from all other archives 5."""
OTHER_HOURS = 5
AT_ONCE = 200
"""Files that one turn of the watch asks about, the longest waiting first; it comes every five minutes."""


class Restoring(PalettaError):
    """The file is on its way back from the archive; `ready_at` is when it should be there."""

    status, code, title = 503, "restoring", "On its way back from the archive"

    def __init__(self, what: str, ready_at: datetime) -> None:
        left = max(300, int((ready_at - datetime.now(UTC)).total_seconds()))
        super().__init__(
            f"{what} is on its way back from the archive, and should be there {expected(ready_at)}",
            hint="a mail tells you when it is there",
            headers={"Retry-After": str(left)},
            ready_at=ready_at.isoformat(timespec="seconds"),
        )
        self.ready_at = ready_at


def expected(ready_at: datetime) -> str:
    """`by 14 May, 15:00 UTC`, or that it takes longer than it should."""
    if ready_at <= datetime.now(UTC):
        return "any time now: it takes longer than usual"
    at = ready_at.astimezone(UTC)
    return f"by {at.day} {at:%B, %H:%M} UTC"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file of an order that cannot be read yet."""

    order_id: int
    key: str
    info: ObjectInfo


async def begin(runtime: Runtime, wanted: Sequence[Wanted]) -> dict[str, datetime]:
    """Have files fetched back, and note who waits; when each should be there, by key. Asking again changes nothing."""
    if not wanted:
        return {}
    asleep = {one.key: one.info for one in wanted if one.info.archive == "archived"}
    await asyncio.gather(
        *(runtime.store.restore(key, info.storage_class, days=KEPT_DAYS) for key, info in asleep.items())
    )
    async with runtime.db.transaction() as session:
        # In one order, as every statement that locks several of them.
        for one in sorted(wanted, key=lambda one: (one.order_id, one.key)):
            hours = HOURS.get(one.info.storage_class, OTHER_HOURS)
            again = {
                "requested_at": func.now(),
                "expected_at": func.now() + timedelta(hours=hours),
                "ended_at": None,
            }
            await session.execute(
                insert(Restoration)
                .values(order_id=one.order_id, key=one.key, expected_at=again["expected_at"])
                .on_conflict_do_update(
                    index_elements=["order_id", "key"],
                    set_=again,
                    where=Restoration.ended_at.is_not(None),
                )
            )
        rows = await session.execute(
            select(Restoration.key, func.min(Restoration.expected_at))
            .where(Restoration.key.in_([one.key for one in wanted]), Restoration.ended_at.is_(None))
            .group_by(Restoration.key)
        )
        return dict(rows.all())


async def waiting(session: AsyncSession, order_id: int) -> dict[str, datetime]:
    """What an order waits for, by key: when it should be there."""
    rows = await session.execute(
        select(Restoration.key, Restoration.expected_at).where(
            Restoration.order_id == order_id, Restoration.ended_at.is_(None)
        )
    )
    return dict(rows.all())


async def fetch_back(runtime: Runtime, order_id: int) -> None:
    """Begin with everything of a paid order that is archived, before anybody asks for it."""
    async with runtime.db.transaction() as session:
        items = await orders.items(session, order_id)
        files = await orders.files(session, [item.id for item in items])
    keys = sorted({file.key for theirs in files.values() for file in theirs})
    found = await asyncio.gather(*(runtime.store.head(key) for key in keys))
    await begin(
        runtime,
        [
            Wanted(order_id, key, info)
            for key, info in zip(keys, found, strict=True)
            if info is not None and info.archive
        ],
    )


async def watch(runtime: Runtime) -> None:
    """See what has come back; whoever waits for nothing more is told."""
    async with runtime.db.transaction() as session:
        oldest = func.min(Restoration.requested_at)
        keys = list(
            await session.scalars(
                select(Restoration.key)
                .where(Restoration.ended_at.is_(None))
                .group_by(Restoration.key)
                .order_by(oldest)
                .limit(AT_ONCE)
            )
        )
    found = await asyncio.gather(*(runtime.store.head(key) for key in keys))
    there = []
    for key, info in zip(keys, found, strict=True):
        if info is None:
            log.error("a sold file is not in the store", extra={"key": key})
            await _end(runtime, [key], tell=False)
        elif info.archive == "archived":  # the request was lost, or the copy is gone again
            try:
                await runtime.store.restore(key, info.storage_class, days=KEPT_DAYS)
            except StoreError as error:  # others came back meanwhile, and theirs are told
                log.error("a file cannot be asked back", extra={"key": key, "error": str(error)})
        elif not info.archive:
            there.append(key)
    await _end(runtime, there, tell=True)


async def _end(runtime: Runtime, keys: Collection[str], *, tell: bool) -> None:
    if not keys:
        return
    async with runtime.db.transaction() as session:
        theirs = await session.scalars(
            select(Restoration.order_id)
            .where(Restoration.key.in_(keys), Restoration.ended_at.is_(None))
            .distinct()
            .order_by(Restoration.order_id)
        )
        waiting_orders = list(theirs)
    for order_id in waiting_orders:
        async with runtime.db.transaction() as session:
            await orders.lock(session, order_id)  # of two watches one tells
            ended = await session.scalars(
                update(Restoration)
                .where(
                    Restoration.order_id == order_id,
                    Restoration.key.in_(keys),
                    Restoration.ended_at.is_(None),
                )
                .values(ended_at=func.now())
                .returning(Restoration.id)
            )
            if ended.all() and tell and not await waiting(session, order_id):
                at: datetime = (await session.execute(select(func.now()))).scalar_one()
                await defer(session, "delivery.announce_restored", order_id=order_id, at=at.isoformat())
