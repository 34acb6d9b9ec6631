"""Reading the audit log: newest first in pages, or along its chain as it grows."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.audit import chain
from paletta_server.audit.models import AuditChain, AuditLog, AuditOrigin
from paletta_server.core.database import Database
from paletta_server.core.pagination import PageParams, newest_first
from paletta_server.core.runtime import Runtime

Entry = tuple[AuditLog, int | None, str | None]
"""A row, its place in the chain once it has one, and the address it came from unless that was erased."""

LOOK_EVERY = 1.0
"""Seconds between looks of a reader who waits. A NOTIFY with each row would make all who write the log queue up for
the one lock that PostgreSQL takes for it at commit."""
MOST_FOLLOWED = 200


@dataclass(frozen=True)
class Filter:
    """What to show. `action` and `object` are beginnings; times are of the row, `until` not included."""

    user_id: int | None = None
    action: str | None = None
    object: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def apply(self, query: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
        if self.user_id is not None:
            query = query.where(AuditLog.user_id == self.user_id)
        if self.action:
            query = query.where(AuditLog.action.startswith(self.action, autoescape=True))
        if self.object:
            query = query.where(AuditLog.object.startswith(self.object, autoescape=True))
        if self.since:
            query = query.where(AuditLog.at >= self.since)
        if self.until:
            query = query.where(AuditLog.at < self.until)
        return query


async def listed(
    session: AsyncSession, wanted: Filter, page: PageParams
) -> tuple[Sequence[Entry], str | None]:
    """Rows that fit, newest first."""
    rows, cursor = await newest_first(session, wanted.apply(_entries()), AuditLog.id, page)
    return [(row[0], row[1], row[2]) for row in rows], cursor


@dataclass(frozen=True)
class News:
    """Rows in the order of the chain, and the entry to go on after."""

    entries: Sequence[Entry]
    after: int


async def follow(
    runtime: Runtime, wanted: Filter, *, after: int | None, last: int, wait_seconds: float
) -> News:
    """What came behind entry `after`, as soon as something does; without it, the `last` rows up to now.

    No row is missed or told twice: rows are chained as they become visible, and this reads the chain. A head that is
    broken stops the news; `verify` says so.
    """
    database = runtime.db
    if after is None:
        entries = await _reached(database)
        query = wanted.apply(_entries()).where(AuditChain.seq <= entries).order_by(AuditChain.seq.desc())
        async with database.transaction() as session:
            rows = (await session.execute(query.limit(last))).all() if last else []
        return News([(row[0], row[1], row[2]) for row in reversed(rows)], entries)
    deadline = time.monotonic() + wait_seconds
    while True:
        entries = await _reached(database)
        async with database.transaction() as session:
            query = wanted.apply(_entries()).where(AuditChain.seq > after, AuditChain.seq <= entries)
            rows = (await session.execute(query.order_by(AuditChain.seq).limit(MOST_FOLLOWED))).all()
        if len(rows) == MOST_FOLLOWED:
            entries = rows[-1][1]
        if rows or time.monotonic() >= deadline or runtime.notify.ending:
            return News([(row[0], row[1], row[2]) for row in rows], max(after, entries))
        after = max(after, entries)
        await asyncio.sleep(min(LOOK_EVERY, max(0.0, deadline - time.monotonic())))


async def _reached(database: Database) -> int:
    try:
        return (await chain.extend(database)).entries
    except chain.Broken:
        known = await chain.head(database)
        return known.entries if known else 0


def _entries() -> Select[*tuple[Any, ...]]:
    return (
        select(AuditLog, AuditChain.seq, AuditOrigin.ip)
        .join(AuditChain, AuditChain.log_id == AuditLog.id, isouter=True)
        .join(AuditOrigin, AuditOrigin.log_id == AuditLog.id, isouter=True)
    )
