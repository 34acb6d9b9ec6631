"""Keeping the one index that all nodes share equal to the database.

Every node looks; who gets the advisory lock in PostgreSQL takes up what changed, and how far it came is kept in the
index. So any node may die at any moment, and whoever is next goes on from there. A node that lost the lock without
knowing (its connection broke, it was suspended) does no harm: see `opensearch_writing` on versions.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import text

from paletta_server.core.database import Database
from paletta_server.core.errors import Unavailable
from paletta_server.core.runtime import Runtime
from paletta_server.search import changes, document, opensearch_indexes
from paletta_server.search.background import shrugged, to_the_end, yielding
from paletta_server.search.build import BATCH, Progress, fill
from paletta_server.search.changes import TOPIC, Position, Read, Reader
from paletta_server.search.document import Document
from paletta_server.search.index import Index
from paletta_server.search.opensearch_asking import Asking
from paletta_server.search.opensearch_client import connect
from paletta_server.search.opensearch_index import OpenSearchIndex
from paletta_server.search.opensearch_schema import FORMAT

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

POLL_SECONDS = 1.0
PAUSE_SECONDS = 0.1
"""Between two turns of a busy node: what came meanwhile is shown together, and showing is what costs."""
PER_TURN = 2_000
"""Changes taken up under the lock at a time."""
RETIRED_SECONDS = 5.0
"""How long a replaced index stays for those who search in it right now."""
LOCK_WRITING, LOCK_BUILDING = 0x73656172636877, 0x73656172636862
"""`searchw` and `searchb` in ASCII: the advisory locks' numbers."""

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass
class _Live:
    """The index that is followed, and how far."""

    name: str
    index: OpenSearchIndex
    reader: Reader


class SharedFollower:
    """A node's part in following. `index` is what to ask; `changed` is set whenever this node wrote something."""

    def __init__(self, runtime: Runtime) -> None:
        self._db = runtime.db
        self._notify = runtime.notify
        self._alias = runtime.settings.opensearch_index
        self._client = connect(runtime.settings)
        self._reading = OpenSearchIndex(self._client, self._alias)
        self._asking = Asking()
        self._live: _Live | None = None
        self._turn = asyncio.Lock()
        self._newer = False
        self.changed = asyncio.Event()
        self.even_at = time.monotonic()
        """When the index was last known to be equal to the database."""
        self.ready = False
        self.rebuilt = 0

    @property
    def index(self) -> OpenSearchIndex:
        """What to ask. Every question raises `Unavailable` while there is no index, or no OpenSearch."""
        return self._reading

    async def ask(self, question: Callable[[Index], T]) -> T:
        """What `question` says of the index. Raises `Unavailable`, also at once: see `opensearch_asking`."""
        return await self._asking.ask(partial(question, self._reading))

    async def run(self) -> None:
        """Follow until cancelled."""
        woken = self._notify.subscribe(TOPIC)
        try:
            while True:
                woken.clear()
                with shrugged("following the catalogue failed; trying again"):
                    await self.catch_up()
                await asyncio.sleep(PAUSE_SECONDS)
                with suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), POLL_SECONDS)
        finally:
            self._notify.unsubscribe(TOPIC, woken)

    async def close(self) -> None:
        async with self._turn:
            self._asking.close()
            await to_the_end(self._reading.close)
            await to_the_end(self._client.close)

    async def catch_up(self) -> None:
        """Bring the index to where the database is now, if no other node is at it; build one where none fits."""
        began = time.monotonic()
        async with self._turn:
            unfit = None
            async with _lock(self._db, LOCK_WRITING) as mine:
                if mine:
                    try:
                        unfit = await self._step()
                    except BaseException:
                        self._live = None  # what was written and what not, the index knows
                        raise
            if unfit is not None:
                await self._rebuild(unfit)
            if not self.ready:
                live = await to_the_end(opensearch_indexes.live, self._client, self._alias)
                self.ready = live is not None
            if mine and not self._newer:
                self.even_at = began

    async def _step(self) -> str | None:
        """Follow under the lock; the name of an index that cannot be followed, "" for none at all."""
        name = await to_the_end(opensearch_indexes.live, self._client, self._alias)
        if name is None:
            return ""
        self.ready = True
        live = await self._found(name)
        if live is None or not await follow(self._db, live.index, live.reader, self.changed):
            return None if self._newer else name
        return None

    async def _found(self, name: str) -> _Live | None:
        """The index with the position that is kept in it, which another node may have moved."""
        live = self._live
        index = live.index if live is not None and live.name == name else OpenSearchIndex(self._client, name)
        state = await to_the_end(index.state)
        position = Position.from_state(state)
        self._newer = int(state.get("format", 0)) > FORMAT
        if self._newer:
            # A newer version of ours runs beside this one and follows for both.
            log.info("the search index is of a newer version's format; it is left to that")
            return None
        if position is None or state["format"] != FORMAT:
            return None
        if live is not None and live.name == name:
            if live.reader.position != position:
                live.reader.moved(Read(True, 0, [], False), position)
            return live
        self._live = _Live(name, index, Reader(position))
        return self._live

    async def _rebuild(self, unfit: str) -> None:
        log.info("building the search index", extra={"alias": self._alias})
        if await rebuild(self._db, self._client, self._alias, instead_of=unfit) is not None:
            self.rebuilt += 1
            self.ready = True
            self.changed.set()


@asynccontextmanager
async def _lock(database: Database, key: int, *, wait: bool = False) -> AsyncIterator[bool]:
    """An advisory lock for as long as the block takes; False where another has it. `wait`: for ten seconds at most.

    A transaction's lock, since a pooler between us and PostgreSQL hands out connections by transaction. It has read
    nothing and written nothing, so that it holds up no vacuum, however long it is open.
    """
    async with database.transaction() as session:
        await session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        if wait:
            await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
            yield True
        else:
            yield bool(await session.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": key}))


async def _version(database: Database) -> int:
    """A number above all that were drawn before: what is read after this is newer than what they stand for."""
    async with yielding(database) as session:
        drawn = await session.scalar(text("SELECT nextval(pg_get_serial_sequence('clip_changes', 'seq'))"))
    assert drawn is not None
    return int(drawn)


async def follow(
    database: Database, index: OpenSearchIndex, reader: Reader, changed: asyncio.Event | None = None
) -> bool:
    """Take up every change there is, or `PER_TURN` of them where more nodes wait for their turn. False when this
    database is not the one that was followed."""
    while True:
        version = await _version(database)
        async with yielding(database) as session:
            found = await changes.read(session, reader.position, reader.seen, most=PER_TURN)
        if not found.known:
            log.warning("the search index belongs to another state of the database, or was away for too long")
            return False
        clips, position = reader.next(found)
        if clips or position != reader.position:
            documents = await _documents(database, sorted(clips))
            gone = clips - {one.id for one in documents}
            state = {"format": FORMAT, **position.as_state()}
            await to_the_end(partial(index.apply, documents, gone, state, version=version))
            if changed is not None:
                changed.set()
        reader.moved(found, position)
        if not found.full:
            return True


async def _documents(database: Database, keys: Sequence[int]) -> list[Document]:
    documents: list[Document] = []
    if keys:
        async with yielding(database) as session:
            common = await document.shared(session)
            for start in range(0, len(keys), BATCH):
                documents += await document.documents(session, keys[start : start + BATCH], common)
    return documents


class _Building:
    """An index that is filled with one version."""

    def __init__(self, index: OpenSearchIndex, version: int) -> None:
        self.index = index
        self.version = version

    def add(self, documents: Sequence[Document]) -> None:
        self.index.add(documents, version=self.version)


async def rebuild(
    database: Database,
    client: OpenSearch,
    alias: str,
    progress: Progress | None = None,
    *,
    instead_of: str | None = None,
) -> str | None:
    """Build a new index beside the live one and let the alias name it once it has caught up; its name.

    None where somebody else is building, or has built: the live one is not `instead_of` any more. A crash at any
    moment leaves the old index live; what was begun is removed by the next build.
    """
    async with _lock(database, LOCK_BUILDING) as mine:
        if not mine:
            return None
        before = await to_the_end(opensearch_indexes.live, client, alias)
        if instead_of is not None and instead_of != (before or ""):
            return None
        await _sweep(client, alias)
        version = await _version(database)
        name = await to_the_end(opensearch_indexes.create, client, alias)
        index = OpenSearchIndex(client, name)
        try:
            position = await fill(database, _Building(index, version), progress)
            state = {"format": FORMAT, **position.as_state()}
            await to_the_end(partial(index.apply, [], [], state, version=version))
            reader = Reader(position)
            await follow(database, index, reader)
            async with _lock(database, LOCK_WRITING, wait=True):
                # Nobody writes to the old one now, so that nobody sees the clock go back.
                if not await follow(database, index, reader):
                    raise Unavailable("the database changed its past while the index was built")
                await to_the_end(opensearch_indexes.publish, client, alias, name)
        except BaseException:
            with shrugged("an unfinished search index was left; the next build removes it"):
                await to_the_end(opensearch_indexes.drop, client, name)
            raise
        await asyncio.sleep(RETIRED_SECONDS)
        await _sweep(client, alias)
        return name


async def _sweep(client: OpenSearch, alias: str) -> None:
    for name in await to_the_end(opensearch_indexes.left_over, client, alias):
        await to_the_end(opensearch_indexes.drop, client, name)
