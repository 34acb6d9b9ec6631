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
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from psycopg.errors import LockNotAvailable
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

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
    from sqlalchemy.ext.asyncio import AsyncSession

POLL_SECONDS = 1.0
PAUSE_SECONDS = 0.1
"""Between two turns of a busy node: what came meanwhile is shown together, and showing is what costs."""
PER_TURN = 2_000
"""Changes taken up under the lock at a time."""
WAIT_SECONDS = 10.0
"""For the lock, before a build that is ready catches up once more and waits again."""
STILL_SECONDS = 60.0
"""After so long without a word from who has a lock, it is free again: a node that is suspended, or gone with its whole
machine, says none. Who works says something four times as often."""
RETIRED_SECONDS = 5.0
"""How long a replaced index stays for those who search in it right now."""
LOCK_WRITING, LOCK_BUILDING = 0x73656172636877, 0x73656172636862
"""`searchw` and `searchb` in ASCII: the advisory locks' numbers."""

T = TypeVar("T")

log = logging.getLogger(__name__)


class Taken(Enum):
    """What one turn of following took up: all that there was, a part of it, or none because this database is not the
    one that was followed."""

    ALL = "all"
    PART = "part"
    NONE = "none"


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
        self._looked_at: Position | None = None
        self.changed = asyncio.Event()
        self.even_at = time.monotonic()
        """When the index was last known to be equal to the database."""
        self.ready = False
        """Whether there is an index to ask, of this database and of a format that this version reads."""
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
                    async with asyncio.timeout(
                        POLL_SECONDS
                    ):  # a stop is lost in `wait_for` when both come at once
                        await woken.wait()
        finally:
            self._notify.unsubscribe(TOPIC, woken)

    async def close(self) -> None:
        async with self._turn:
            self._asking.close()
            await to_the_end(self._reading.close)
            await to_the_end(self._client.close)

    async def catch_up(self) -> None:
        """Bring the index to where the database is now, if no other node is at it; build one where none fits."""
        async with self._turn:
            while await self._once() is Taken.PART:
                pass  # without the lock in between, so that whoever waits for it has it now

    async def _once(self) -> Taken | None:
        """As much as is taken up under the lock at a time; None where another node follows, or builds."""
        began = time.monotonic()
        taken, unfit = None, None
        async with _lock(self._db, LOCK_WRITING) as mine:
            if mine:
                try:
                    taken, unfit = await self._step()
                except BaseException:
                    self._live = None  # what was written and what not, the index knows
                    raise
        if unfit is not None and await self._rebuild(unfit):
            taken = Taken.ALL
        if taken is Taken.ALL:
            self.even_at = began
        if taken in (Taken.ALL, Taken.PART):
            self.ready = True
        elif not mine or self._newer:
            await self._look_on(began)
        return taken

    async def _step(self) -> tuple[Taken | None, str | None]:
        """Follow under the lock; and the name of an index that cannot be followed, "" for none at all."""
        name = await to_the_end(opensearch_indexes.live, self._client, self._alias)
        if name is None:
            return None, ""
        live = await self._found(name)
        if live is None:
            return None, None if self._newer else name
        taken = await follow(self._db, live.index, live.reader, self.changed)
        return taken, name if taken is Taken.NONE else None

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

    async def _look_on(self, began: float) -> None:
        """What another node follows is as fit to be asked, and as even, as what is followed here."""
        name = await to_the_end(opensearch_indexes.live, self._client, self._alias)
        if name is None:
            return
        state = await to_the_end(OpenSearchIndex(self._client, name).state)
        position = Position.from_state(state)
        if position is None or int(state.get("format", 0)) < FORMAT:
            return
        async with yielding(self._db) as session:
            found = await changes.read(session, position, most=1)
        if not found.known:
            return
        self.ready = True
        moved, self._looked_at = position != self._looked_at, position
        # What is over and not in: only of an index that nobody follows does it stay so from look to look.
        if moved or not any(one.xid < found.horizon for one in found.changes):
            self.even_at = began

    async def _rebuild(self, unfit: str) -> bool:
        log.info("building the search index", extra={"alias": self._alias})
        if await rebuild(self._db, self._client, self._alias, instead_of=unfit) is None:
            return False
        self.rebuilt += 1
        self.changed.set()
        return True


@asynccontextmanager
async def _lock(database: Database, key: int, *, wait: bool = False) -> AsyncIterator[bool]:
    """An advisory lock for as long as the block takes; False where another has it, with `wait` for WAIT_SECONDS.

    A transaction's lock, since a pooler between us and PostgreSQL hands out connections by transaction. It has read
    nothing and written nothing, so that it holds up no vacuum, however long it is open.
    """
    async with database.transaction() as session:
        most = round(STILL_SECONDS * 1000)
        await session.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = {most}"))
        if wait:
            await session.execute(text(f"SET LOCAL lock_timeout = {round(WAIT_SECONDS * 1000)}"))
            mine = await _granted(session, key)
        else:
            mine = bool(await session.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": key}))
        if mine:
            async with _alive(session):
                yield True
        else:
            yield False


@asynccontextmanager
async def _alive(session: AsyncSession) -> AsyncIterator[None]:
    """Let the database hear of us for as long as the block takes, which leaves the session alone."""
    over = asyncio.Event()

    async def say() -> None:
        while not over.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), STILL_SECONDS / 4)
                return
            await session.execute(text("SELECT 1"))

    saying = asyncio.create_task(say())
    try:
        yield
    finally:
        over.set()
        await asyncio.wait({saying})  # a statement under way has the connection
        if not saying.cancelled() and saying.exception() is not None:
            log.warning("the search index's lock was lost", exc_info=saying.exception())


async def _granted(session: AsyncSession, key: int) -> bool:
    try:
        async with session.begin_nested():  # what fails leaves the transaction as it was
            await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
    except OperationalError as error:
        if isinstance(error.orig, LockNotAvailable):
            return False
        raise
    return True


async def _version(database: Database) -> int:
    """A number above all that were drawn before: what is read after this is newer than what they stand for."""
    async with yielding(database) as session:
        drawn = await session.scalar(text("SELECT nextval(pg_get_serial_sequence('clip_changes', 'seq'))"))
    assert drawn is not None
    return int(drawn)


async def follow(
    database: Database, index: OpenSearchIndex, reader: Reader, changed: asyncio.Event | None = None
) -> Taken:
    """Take up `PER_TURN` changes at most."""
    version = await _version(database)
    async with yielding(database) as session:
        found = await changes.read(session, reader.position, reader.seen, most=PER_TURN)
    if not found.known:
        log.warning("the search index belongs to another state of the database, or was away for too long")
        return Taken.NONE
    clips, position = reader.next(found)
    if clips or position != reader.position:
        documents = await _documents(database, sorted(clips))
        gone = clips - {one.id for one in documents}
        state = {"format": FORMAT, **position.as_state()}
        await to_the_end(partial(index.apply, documents, gone, state, version=version))
        if changed is not None:
            changed.set()
    reader.moved(found, position)
    return Taken.PART if found.full else Taken.ALL


async def _even(database: Database, index: OpenSearchIndex, reader: Reader) -> None:
    """Follow a new index until nothing is left."""
    while (taken := await follow(database, index, reader)) is Taken.PART:
        pass
    if taken is Taken.NONE:
        raise Unavailable("the database changed its past while the index was built")


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
            while not await _replaced(database, client, alias, index, reader):
                # A build of hours is not given up because somebody writes slowly; one who died has no lock.
                log.info("the new search index waits for its turn", extra={"index": name})
        except BaseException:
            with shrugged("an unfinished search index was left; the next build removes it"):
                # It may be the live one already, where the lock was lost, or a stop came, just as it became that.
                if await to_the_end(opensearch_indexes.live, client, alias) != name:
                    await to_the_end(opensearch_indexes.drop, client, name)
            raise
        await asyncio.sleep(RETIRED_SECONDS)
        await _sweep(client, alias)
        return name


async def _replaced(
    database: Database, client: OpenSearch, alias: str, index: OpenSearchIndex, reader: Reader
) -> bool:
    """Put a new index in place of the live one; False where the lock for writing was not to be had."""
    await _even(database, index, reader)  # what is left to do under the lock is little then
    async with _lock(database, LOCK_WRITING, wait=True) as mine:
        if mine:
            # Nobody writes to the old one now, so that nobody sees the clock go back.
            await _even(database, index, reader)
            await to_the_end(opensearch_indexes.publish, client, alias, index.name)
    return mine


async def _sweep(client: OpenSearch, alias: str) -> None:
    for name in await to_the_end(opensearch_indexes.left_over, client, alias):
        await to_the_end(opensearch_indexes.drop, client, name)
