"""Building an index from the whole catalogue, beside the one that answers meanwhile."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from paletta_server.clips import searchable
from paletta_server.core.database import Database
from paletta_server.search import changes, document
from paletta_server.search.background import to_the_end, yielding
from paletta_server.search.document import Document
from paletta_server.search.replica import Replica
from paletta_server.search.tantivy_index import TantivyIndex
from paletta_server.search.tantivy_schema import FORMAT

BATCH = 1_000

Progress = Callable[[int, int], None]
"""Told how many clips are in and how many there are in all."""


class Filled(Protocol):
    """What is being built."""

    def add(self, documents: Sequence[Document]) -> None: ...


async def build(database: Database, replica: Replica, progress: Progress | None = None) -> Path | None:
    """Build a new index in a replica's folder and make it the live one; its folder.

    None where somebody else is building there. A crash at any moment leaves the old index live.
    """
    with replica.building() as folder:
        if folder is None:
            return None
        index = await to_the_end(TantivyIndex.create, folder)
        try:
            position = await fill(database, index, progress)
            await to_the_end(index.commit, {"format": FORMAT, **position.as_state()})
        finally:
            await to_the_end(index.close)
        replica.publish(folder)
        return folder


async def fill(database: Database, index: Filled, progress: Progress | None) -> changes.Position:
    """Put every listed clip into an index; from where it is to be followed."""
    async with yielding(database) as session:
        anchor = await changes.mark(session)
    async with yielding(database) as session:
        # What is read from here on has at least all that is over by now; the rest is followed.
        position = await changes.beginning(session, anchor)
        total = await searchable.count_listed(session)
        common = await document.shared(session)
    done = after = 0
    writing: asyncio.Task[None] | None = None
    try:
        while True:
            async with yielding(database) as session:
                keys = await searchable.listed_keys(session, after=after, limit=BATCH)
                documents = await document.documents(session, keys, common) if keys else []
            if writing is not None:
                await writing
            if not keys:
                break
            writing = asyncio.create_task(to_the_end(index.add, documents))  # while the next is read
            after = keys[-1]
            done += len(documents)
            if progress is not None:
                progress(done, max(total, done))
    finally:
        if writing is not None:
            await asyncio.gather(writing, return_exceptions=True)
    return position
