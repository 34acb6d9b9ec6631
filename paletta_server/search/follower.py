"""Keeping this process's replica of the index equal to the database.

Woken by NOTIFY, and once a second without it. The position in the sequence of changes is part of the index's own
commits: a crash between any two steps repeats some documents and loses none.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from paletta_server.core.errors import Unavailable
from paletta_server.core.runtime import Runtime
from paletta_server.search import changes, document
from paletta_server.search.background import shrugged, to_the_end, yielding
from paletta_server.search.build import BATCH, build
from paletta_server.search.changes import TOPIC, Position, Reader
from paletta_server.search.index import Index
from paletta_server.search.replica import Replica
from paletta_server.search.tantivy_index import TantivyIndex
from paletta_server.search.tantivy_schema import FORMAT

POLL_SECONDS = 1.0
"""A notification can be lost with its connection; the change then shows this much later."""

T = TypeVar("T")

log = logging.getLogger(__name__)


class _Live:
    """An open index and how far it has followed."""

    def __init__(self, folder: Path, index: TantivyIndex, position: Position) -> None:
        self.folder = folder
        self.index = index
        self.reader = Reader(position)

    @classmethod
    def open(cls, folder: Path) -> "_Live":
        """Raises ValueError for an index that cannot be followed."""
        index = TantivyIndex.open(folder)
        state = index.state()
        position = Position.from_state(state)
        if position is None or state.get("format") != FORMAT:
            index.close()
            raise ValueError(f"the index in {folder} is of another format")
        return cls(folder, index, position)


class Follower:
    """This process's replica. `index` is what to ask; `changed` is set whenever it has something new."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._replica: Replica | None = None
        self._live: _Live | None = None
        self._turn = asyncio.Lock()
        self.changed = asyncio.Event()
        self.even_at = time.monotonic()
        """When the index was last known to be equal to the database."""
        self.rebuilt = 0
        """How often the index was built anew here."""

    @property
    def ready(self) -> bool:
        return self._live is not None

    @property
    def index(self) -> TantivyIndex:
        """The live index. Raises `Unavailable` before there is one."""
        if self._live is None:
            raise Unavailable("the search index is being built", code="index_building", retry_after=2)
        return self._live.index

    async def ask(self, question: Callable[[Index], T]) -> T:
        """What `question` says of the live index, in a thread. Raises `Unavailable` before there is one."""
        return await asyncio.to_thread(question, self.index)

    async def run(self) -> None:
        """Follow until cancelled."""
        woken = self._runtime.notify.subscribe(TOPIC)
        try:
            while True:
                woken.clear()
                with shrugged("following the catalogue failed; trying again"):
                    await self.catch_up()
                try:
                    async with asyncio.timeout(
                        POLL_SECONDS
                    ):  # a stop is lost in `wait_for` when both come at once
                        await woken.wait()
                except TimeoutError:
                    continue
        finally:
            self._runtime.notify.unsubscribe(TOPIC, woken)

    async def close(self) -> None:
        async with self._turn:
            live, self._live = self._live, None
            try:
                if live is not None:
                    await to_the_end(live.index.close)
            finally:
                if self._replica is not None:
                    self._replica.release()
                    self._replica = None

    async def catch_up(self) -> None:
        """Bring the index to where the database is now; build one where there is none that fits."""
        began = time.monotonic()
        async with self._turn:
            if self._replica is None:
                self._replica = await asyncio.to_thread(Replica.claim, self._runtime.settings.search_dir)
            await self._adopt(self._replica)
            if self._live is None or not await self._follow(self._live):
                await self._rebuild(self._replica)
            if self._live is not None:
                self.even_at = began

    async def _adopt(self, replica: Replica) -> None:
        """Take up the index that `current` names, if it is not the one at hand: at the start, or after a reindex."""
        folder = replica.current
        if folder is None or (self._live is not None and self._live.folder == folder):
            return
        try:
            fresh = await to_the_end(_Live.open, folder)
        except Exception as error:  # another version's, or damaged: whatever it is, the database has it all
            log.warning("the index on disk is of no use", extra={"error": str(error)})
            return
        if await self._follow(fresh):
            await self._swap(replica, fresh)
        else:
            await to_the_end(fresh.index.close)

    async def _swap(self, replica: Replica, fresh: _Live) -> None:
        old, self._live = self._live, fresh
        self.changed.set()
        if old is not None:
            # Whoever searches in it right now has its files open.
            await to_the_end(old.index.close)
        await to_the_end(replica.sweep)

    async def _rebuild(self, replica: Replica) -> None:
        log.info("building the search index", extra={"folder": str(replica.folder)})
        folder = await build(self._runtime.db, replica)
        if folder is None:
            return  # a `reindex` is at it; what it publishes is adopted
        self.rebuilt += 1
        await self._adopt(replica)

    async def _follow(self, live: _Live) -> bool:
        """Take up every change there is. False when this database is not the one that was followed."""
        while True:
            async with yielding(self._runtime.db) as session:
                found = await changes.read(session, live.reader.position, live.reader.seen)
            if not found.known:
                log.warning(
                    "the search index belongs to another state of the database, or was away for too long"
                )
                return False
            clips, position = live.reader.next(found)
            if clips or position != live.reader.position:
                await self._take_up(live, clips, position)
            live.reader.moved(found, position)
            if not found.full:
                return True

    async def _take_up(self, live: _Live, clips: set[int], position: Position) -> None:
        keys = sorted(clips)
        documents = []
        if keys:
            async with yielding(self._runtime.db) as session:
                common = await document.shared(session)
                for start in range(0, len(keys), BATCH):
                    documents += await document.documents(session, keys[start : start + BATCH], common)
        gone = clips - {one.id for one in documents}
        state = {"format": FORMAT, **position.as_state()}
        await to_the_end(live.index.apply, documents, gone, state)
        self.changed.set()
