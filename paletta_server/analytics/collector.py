"""Events on their way into the database: noted in memory by requests, written in batches beside them.

Noting never waits and never fails. A crash loses what was noted in the last `FLUSH_SECONDS`; a database that is away
costs nothing until `MOST_WAITING` events wait, and those beyond, which are counted in the log.
"""

import asyncio
import hashlib
import logging
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Literal

from fastapi import Depends, Request
from sqlalchemy import func, select, text

from paletta_server.analytics import salts
from paletta_server.analytics.words import normalised
from paletta_server.core.database import Database
from paletta_server.search.background import shrugged, yielding

log = logging.getLogger(__name__)

FLUSH_SECONDS = 5.0
MOST_IN_BATCH = 5_000
MOST_WAITING = 20_000
"""About 6 MB. Two processes that write as fast as they may fill this in seconds, and nobody needs that."""
LAST_SECONDS = 5.0
"""What a process that ends waits for its last batch."""

Kind = Literal["search", "view", "cart", "checkout"]

_NO_FILTERS = frozenset({"q", "sort", "limit", "cursor", "facets"})

_WRITE = text(
    """
    WITH batch AS (
      INSERT INTO analytics_batches (ref, events) VALUES (:ref, :count) ON CONFLICT (ref) DO NOTHING RETURNING id)
    INSERT INTO analytics_events (batch_id, number, at, kind, visitor, clip_id, items, query, filters, hits)
      SELECT batch.id, told.number, told.at, told.kind, told.visitor, told.clip_id, told.items, told.query,
        told.filters, told.hits
      FROM batch CROSS JOIN unnest(
        CAST(:at AS timestamptz[]), CAST(:kind AS text[]), CAST(:visitor AS bigint[]), CAST(:clip_id AS bigint[]),
        CAST(:items AS int[]), CAST(:query AS text[]), CAST(:filters AS smallint[]), CAST(:hits AS bigint[])
      ) WITH ORDINALITY AS told (at, kind, visitor, clip_id, items, query, filters, hits, number)
    """
)


@dataclass(frozen=True, slots=True)
class Noted:
    """An event as a request noted it. `moment` is of this process's steady clock; the database's is asked later."""

    moment: float
    kind: Kind
    identity: bytes
    clip_id: int | None = None
    items: int | None = None
    query: str | None = None
    filters: int | None = None
    hits: int | None = None


@dataclass(frozen=True, slots=True)
class _Batch:
    """Written under its name as often as it takes, and there once."""

    ref: uuid.UUID
    events: Sequence[Noted]


class Collector:
    """Events of this process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[Noted] = []
        self._batches: deque[_Batch] = deque()
        self._lost = 0
        self._full = asyncio.Event()
        self._turn = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def open(cls, database: Database) -> AsyncIterator["Collector"]:
        """Writes until the block ends, and what is left then."""
        made = cls(database)
        task = asyncio.create_task(made._run())
        try:
            yield made
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @property
    def held(self) -> int:
        """Events that are not in the database yet."""
        return len(self._waiting) + sum(len(batch.events) for batch in self._batches)

    def note(self, event: Noted) -> None:
        if self.held >= MOST_WAITING:
            self._lost += 1
            return
        self._waiting.append(event)
        if len(self._waiting) >= MOST_IN_BATCH:
            self._full.set()

    async def flush(self) -> None:
        """Write what was noted. What cannot be written now is kept."""
        async with self._turn:
            waiting, self._waiting = self._waiting, []
            self._full.clear()
            for start in range(0, len(waiting), MOST_IN_BATCH):
                self._batches.append(_Batch(uuid.uuid4(), waiting[start : start + MOST_IN_BATCH]))
            while self._batches:
                await self._write(self._batches[0])
                self._batches.popleft()
            if self._lost:
                log.warning("events were not counted: too many waited", extra={"events": self._lost})
                self._lost = 0

    async def _write(self, batch: _Batch) -> None:
        async with yielding(self._database) as session:
            now: datetime = (await session.execute(select(func.now()))).scalar_one()
            steady = time.monotonic()
            times = [now - timedelta(seconds=steady - event.moment) for event in batch.events]
            secrets = await salts.of(session, {at.date() for at in times})
            await session.execute(
                _WRITE,
                {
                    "ref": batch.ref,
                    "count": len(batch.events),
                    "at": times,
                    "kind": [event.kind for event in batch.events],
                    "visitor": [
                        salts.visitor(event.identity, secrets[at.date()])
                        for event, at in zip(batch.events, times, strict=True)
                    ],
                    "clip_id": [event.clip_id for event in batch.events],
                    "items": [event.items for event in batch.events],
                    "query": [event.query for event in batch.events],
                    "filters": [event.filters for event in batch.events],
                    "hits": [event.hits for event in batch.events],
                },
            )

    async def _run(self) -> None:
        """Write every few seconds until cancelled, and once more then."""
        try:
            while True:
                try:
                    async with asyncio.timeout(
                        FLUSH_SECONDS
                    ):  # a stop is lost in `wait_for` when both come at once
                        await self._full.wait()
                except TimeoutError:
                    pass
                else:
                    self._full.clear()
                with shrugged("writing events failed; trying again"):
                    await self.flush()
        finally:
            with shrugged("the last events were lost"):
                async with asyncio.timeout(LAST_SECONDS):
                    await self.flush()


class Note:
    """What a route notes events with: it knows who asks."""

    def __init__(self, collector: Collector, request: Request) -> None:
        self._collector = collector
        self._request = request

    def __call__(
        self,
        kind: Kind,
        *,
        clip_id: int | None = None,
        items: int | None = None,
        query: str | None = None,
        hits: int | None = None,
    ) -> None:
        filters = None
        if kind == "search":
            filters = len(self._request.query_params.keys() - _NO_FILTERS)
        words = normalised(query) if query else None
        self._collector.note(
            Noted(time.monotonic(), kind, _identity(self._request), clip_id, items, words, filters, hits)
        )


def _identity(request: Request) -> bytes:
    """Who asks, for this process's memory only: the token, or a stranger's network address."""
    named = request.headers.get("authorization") or (request.client.host if request.client else "")
    return hashlib.sha256(named.encode("utf-8", "surrogatepass")).digest()


async def _note(request: Request) -> Note:
    return Note(request.app.state.analytics, request)


NoteDep = Annotated[Note, Depends(_note)]
"""`note("view", clip_id=…)`: an event of the caller's, once the request has done what it tells of."""
