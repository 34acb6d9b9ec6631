"""A backup back into a service: everything is verified first, then objects are stored, the database comes last.

The database is replaced in one transaction. Until that commits, the service is what it was before; whoever was
killed at whatever point runs the same command again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import islice

from paletta_server import migrations
from paletta_server.core import holds
from paletta_server.core.dbconnect import connect, conninfo
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.core.storage import StoreError
from paletta_server.operations import inventory, pgtools, restore_checks
from paletta_server.operations.backup_files import BackupError, Entry, Folder, Manifest, is_whole
from paletta_server.operations.backup_verifying import Progress

AT_ONCE = 4
PAGE = 256


@dataclass
class Restored:
    manifest: Manifest
    stored: int = 0
    there: int = 0
    """Objects that the store had already, byte for byte."""
    unknown: int = 0
    """Objects that the service does not refer to any more: with `objects_only` they stay away."""
    damaged: int = 0
    """Objects that the store needs and whose copy is damaged or missing: with `objects_only`, which goes on."""


async def _nothing() -> None:
    pass


async def restore(
    runtime: Runtime,
    folder: Folder,
    manifest: Manifest,
    *,
    replace_all: bool = False,
    finish: Callable[[], Awaitable[object]] = _nothing,
    on_progress: Progress = lambda count: None,
) -> Restored:
    """Put a verified backup into the service of `runtime`; `finish` is what it needs once it has its database.

    Raises BackupError where that is not empty, unless `replace_all`, which nothing may work on meanwhile, and where the
    database's role does not own its schema; ToolError; `Unavailable`: run it again then.
    """
    for name in ("pg_restore", "psql"):
        pgtools.find(name, conninfo(runtime.settings))
    settings, done = runtime.settings, Restored(manifest)
    if not await restore_checks.is_marked(settings, manifest):  # else only the end is missing
        await restore_checks.require_room(runtime, folder, manifest, replace_all=replace_all)
        await _replace(runtime, folder, done, on_progress)
    await asyncio.to_thread(migrations.migrate, settings)
    await asyncio.to_thread(_end_sessions, settings)
    await finish()
    await restore_checks.unmark(settings)
    return done


async def restore_objects(
    runtime: Runtime, folder: Folder, manifest: Manifest, *, on_progress: Progress = lambda count: None
) -> Restored:
    """Store what the service refers to now and its store does not have as it should; the database stays as it is.

    What the service gave up since the backup stays away: somebody may have been erased. Copies are read as they are
    needed, so the backup need not be verified before. Raises BackupError, `Unavailable`.
    """
    if manifest.mode != "copy":
        raise BackupError("this backup only refers to objects: it has none to bring back")
    done = Restored(manifest)
    work = _Objects(runtime, folder, done, on_progress)
    for page in _pages(entry for entry in folder.entries(manifest) if entry.there):
        async with runtime.db.transaction() as session:
            wanted = await inventory.among(session, [entry.key for entry in page])
        known = [entry for entry in page if entry.key in wanted and wanted[entry.key].sha256 == entry.sha256]
        done.unknown += len(page) - len(known)
        await work.bring_back(known)
    return done


# ---- objects


class _Objects:
    """Objects of a backup into the store, a few at once."""

    def __init__(self, runtime: Runtime, folder: Folder, done: Restored, on_progress: Progress) -> None:
        self.store, self.folder, self.done, self.on_progress = runtime.store, folder, done, on_progress
        self._limit = asyncio.Semaphore(AT_ONCE)

    async def put_back(self) -> None:
        """Store what is not there, byte for byte; `there` and `stored` are counted."""

        async def one(entry: Entry) -> None:
            async with self._limit:
                if await self._is_right(entry):
                    self.done.there += 1
                else:
                    await self._put(entry)
                self.on_progress(entry.size)

        await self._each(one)

    async def put_back_what_went(self) -> None:
        """Store again what was deleted while the others were looked at."""

        async def one(entry: Entry) -> None:
            async with self._limit:
                if not await self._looks_right(entry):
                    await self._put(entry)

        await self._each(one)

    async def bring_back(self, entries: list[Entry]) -> None:
        """Store those of `entries` that are not there and whose copies are whole."""

        async def one(entry: Entry) -> None:
            async with self._limit:
                path = self.folder.path_of(entry.key)
                if await self._is_right(entry):
                    self.done.there += 1
                elif path.is_file() and await asyncio.to_thread(is_whole, path, entry):
                    await self._put(entry)
                else:
                    self.done.damaged += 1
                self.on_progress(entry.size)

        await asyncio.gather(*(one(entry) for entry in entries))

    async def _each(self, one: Callable[[Entry], Awaitable[None]]) -> None:
        for page in _pages(entry for entry in self.folder.entries(self.done.manifest) if entry.there):
            await asyncio.gather(*(one(entry) for entry in page))

    async def _put(self, entry: Entry) -> None:
        if self.done.manifest.mode == "reference":
            raise BackupError(
                f"the store does not have `{entry.key}` as the backup knows it\n"
                "hint: this backup only refers to objects: bring the bucket back first"
            )
        await self.store.upload(
            self.folder.path_of(entry.key),
            entry.key,
            content_type=entry.content_type,
            cache_seconds=365 * 24 * 3600,
        )
        if not await self._looks_right(entry):  # the store has compared a checksum of what it was sent
            raise BackupError(f"the store did not keep `{entry.key}` as it was sent")
        self.done.stored += 1

    async def _is_right(self, entry: Entry) -> bool:
        """Whether the store has these bytes: by the checksum that it keeps, or else by reading them."""
        info = await self.store.head(entry.key)
        if info is None or info.size != entry.size:
            return False
        if entry.crc64nvme is not None and info.crc64nvme is not None:
            return entry.crc64nvme == info.crc64nvme
        try:
            return await self.store.sha256(entry.key) == entry.sha256
        except StoreError as error:
            if error.code in ("NoSuchKey", "404"):  # it went this moment
                return False
            raise

    async def _looks_right(self, entry: Entry) -> bool:
        info = await self.store.head(entry.key)
        if info is None or info.size != entry.size:
            return False
        return entry.crc64nvme is None or info.crc64nvme in (None, entry.crc64nvme)


def _pages(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    while page := list(islice(entries, PAGE)):
        yield page


# ---- the database


async def _replace(runtime: Runtime, folder: Folder, done: Restored, on_progress: Progress) -> None:
    """Objects first, then the database. A hold keeps jobs of the old database from deleting what the new one needs."""
    settings = runtime.settings
    async with AsyncExitStack() as stack:
        still_held = None
        if await restore_checks.has_table(settings, "storage_holds"):
            still_held = await stack.enter_async_context(holds.held(runtime.db, "a backup is being restored"))
        objects = _Objects(runtime, folder, done, on_progress)
        await objects.put_back()
        await objects.put_back_what_went()  # by a job that was at it before there was a hold
        if still_held is not None and not await still_held():
            raise BackupError("the hold on the store was lost, so something may be gone\nhint: run it again")
        await asyncio.to_thread(_database, settings, folder, done.manifest)


def _database(settings: Settings, folder: Folder, manifest: Manifest) -> None:
    """Replace everything in the schema, in one transaction."""
    _end_sessions(settings)  # their locks would be waited for
    dump = str(folder.root / manifest.dump)
    pgtools.apply(
        ["pg_restore", "--file=-", "--no-owner", "--no-privileges", "--schema=public", dump],
        before="SET client_min_messages = warning; SET lock_timeout = '60s';"
        " DROP SCHEMA public CASCADE; CREATE SCHEMA public;",
        after=restore_checks.mark(manifest),
        conninfo=conninfo(settings),
    )


def _end_sessions(settings: Settings) -> None:
    """End everybody else's connections: what they have prepared belongs to tables that are gone. They connect anew."""
    with connect(settings, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND usename = current_user AND pid <> pg_backend_pid()"
        )
