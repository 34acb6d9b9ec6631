"""A consistent pair of database and objects, made while the service runs.

The store is held first (`core.holds`), then one snapshot is taken: pg_dump reads it, and so does the inventory. What
the snapshot refers to can then not be deleted before it is copied. An object is copied under its key and gets its
name once its SHA-256 is right; keys are never reused, so what has its name need not be copied again.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from zlib import crc32

from sqlalchemy import text

from paletta_server import migrations
from paletta_server.core import holds, identity
from paletta_server.core.dbconnect import conninfo
from paletta_server.core.runtime import Runtime
from paletta_server.core.storage import StoreError
from paletta_server.operations import inventory, pgtools
from paletta_server.operations.backup_files import (
    FORMAT,
    BackupError,
    Entry,
    Folder,
    Manifest,
    Mode,
    set_aside,
    sha256_of,
)
from paletta_server.operations.inventory import Expected

AT_ONCE = 4
QUEUE = 64
"""Objects listed ahead of those that are being copied."""
REREAD_DAYS = 30
"""Every copy that is kept is read once in so many daily backups, to find what a disk forgot."""


@dataclass
class Done:
    """What a backup copied, and what was there from the last one."""

    manifest: Manifest
    copied: int = 0
    copied_bytes: int = 0
    kept: int = 0
    dropped: int = 0
    damaged: int = 0
    """Copies of the last one that were not what they had been; they are copied again."""
    missing: int = 0
    """Needed objects that the store does not have, or has with other bytes: there is nothing to copy."""


Progress = Callable[[int, int], object]
"""Told how many more objects and bytes are dealt with."""


async def back_up(
    runtime: Runtime,
    folder: Folder,
    mode: Mode,
    *,
    verify: bool = False,
    shrink: bool = False,
    on_total: Callable[[int, int], object] = lambda objects, size: None,
    on_progress: Progress = lambda objects, size: None,
) -> Done:
    """Make a backup in `folder`, or bring the one that it holds up to date; the one before stays for one more turn.

    `verify` reads every copy that is kept, and copies again what is damaged. Raises BackupError, also where the
    folder is of another service, another backup is being written there, or more than half of what it holds would be
    given up without `shrink`; ToolError; and `Unavailable` where database or store go away: run it again then.
    """
    folder.make()
    with folder.alone():
        return await _back_up(runtime, folder, mode, verify, shrink, on_total, on_progress)


async def _back_up(
    runtime: Runtime,
    folder: Folder,
    mode: Mode,
    verify: bool,
    shrink: bool,
    on_total: Callable[[int, int], object],
    on_progress: Progress,
) -> Done:
    before = folder.manifest()  # one of another format is not written over
    revision, _ = await asyncio.to_thread(migrations.versions, runtime.settings)
    if revision is None:
        raise BackupError("the database has no schema yet\nhint: run `paletta-server migrate`")
    async with runtime.db.transaction() as session:
        service = await identity.of(session)
    if before and before.service and service and before.service != service:
        raise BackupError(
            f"`{folder.root}` holds a backup of another service, made {before.made_at}\nhint: name another folder"
        )
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    dump, listing = folder.root / f"database-{stamp}.dump", folder.root / f"objects-{stamp}.jsonl"
    work = _Copy(runtime, folder, mode, on_progress, verify=verify)
    try:
        await _write(runtime, work, dump, listing, on_total)
        manifest = Manifest(
            format=FORMAT,
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            paletta=version("paletta"),
            revision=revision,
            mode=mode,
            dump=dump.name,
            dump_sha256=await asyncio.to_thread(sha256_of, dump),
            inventory=listing.name,
            inventory_sha256=await asyncio.to_thread(sha256_of, listing),
            objects=work.objects,
            bytes=work.bytes,
            service=service,
        )
        if before and not shrink:
            await asyncio.to_thread(_require_most, folder, before, manifest)
    except BaseException:
        # What the last manifest names stays; the objects that were copied are not copied again.
        for file in (dump, listing):
            file.unlink(missing_ok=True)
        raise
    folder.publish(manifest, before)
    dropped = await asyncio.to_thread(folder.drop_unknown)
    return Done(
        manifest,
        work.copied,
        work.copied_bytes,
        work.kept,
        dropped,
        damaged=work.damaged,
        missing=work.missing,
    )


def _require_most(folder: Folder, before: Manifest, now: Manifest) -> None:
    """A service that lost its rows, or the wrong one, must not become the backup of the right one by itself."""
    had = folder.keys(before)
    gone = len(had - folder.keys(now))
    if gone * 2 > len(had):
        raise BackupError(
            f"the service does not refer to {gone:,} of the {len(had):,} objects of the last backup any more:"
            " that one was left as it is\n"
            "hint: look whether this is the right database; if it is, pass --shrink, or name another folder"
        )


async def _write(
    runtime: Runtime, work: "_Copy", dump: Path, listing: Path, on_total: Callable[[int, int], object]
) -> None:
    async with (
        holds.held(runtime.db, "a backup is being made") as still_held,
        runtime.db.transaction() as session,
    ):
        await session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        snapshot = await session.scalar(text("SELECT pg_export_snapshot()"))
        await session.execute(text("SET LOCAL statement_timeout = 0"))
        await session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        arguments = ["--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}"]
        await asyncio.to_thread(
            pgtools.run, "pg_dump", arguments, conninfo=conninfo(runtime.settings), output=dump
        )
        on_total(*await inventory.count(session))
        with os.fdopen(os.open(listing, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as lines:
            async for entry in work.entries(inventory.every(session)):
                lines.write(json.dumps(asdict(entry)) + "\n")
            lines.flush()
            os.fsync(lines.fileno())
        if not await still_held():
            raise BackupError(
                "the hold on the store was lost, so something may be missing\nhint: run it again"
            )


class _Copy:
    """Objects into the folder, a few at once, in the order of the inventory."""

    def __init__(
        self, runtime: Runtime, folder: Folder, mode: Mode, on_progress: Progress, *, verify: bool
    ) -> None:
        self.runtime, self.folder, self.mode, self.on_progress = runtime, folder, mode, on_progress
        self.verify, self.day = verify, datetime.now(UTC).toordinal()
        self.objects = self.bytes = self.copied = self.copied_bytes = self.kept = self.missing = (
            self.damaged
        ) = 0
        self._limit = asyncio.Semaphore(AT_ONCE)

    async def entries(self, expected: AsyncIterator[Expected]) -> AsyncIterator[Entry]:
        ahead: list[asyncio.Task[Entry]] = []
        try:
            async for one in expected:
                ahead.append(asyncio.create_task(self._one(one)))
                if len(ahead) >= QUEUE:
                    yield self._count(await ahead.pop(0))
            while ahead:
                yield self._count(await ahead.pop(0))
        finally:
            for task in ahead:
                task.cancel()
            await asyncio.gather(*ahead, return_exceptions=True)

    def _count(self, entry: Entry) -> Entry:
        self.objects += entry.there
        self.bytes += entry.size if entry.there else 0
        self.on_progress(1, entry.size)
        return entry

    async def _one(self, one: Expected) -> Entry:
        async with self._limit:
            there = await (self._copied(one) if self.mode == "copy" else self._stored(one))
        self.missing += one.needed and not there
        return Entry(one.key, one.size, one.sha256, one.crc64nvme, _content_type(one.key), there)

    def _keeps(self, path: Path, one: Expected) -> bool:
        """Whether the copy of the last backup will do. Some are read anew each time, all of them within a month."""
        if not path.exists() or path.stat().st_size != one.size:
            return False
        due = self.verify or crc32(one.key.encode()) % REREAD_DAYS == self.day % REREAD_DAYS
        if not due or sha256_of(path) == one.sha256:
            return True
        set_aside(path)
        self.damaged += 1
        return False

    async def _stored(self, one: Expected) -> bool:
        info = await self.runtime.store.head(one.key)
        return info is not None and info.size == one.size

    async def _copied(self, one: Expected) -> bool:
        path = self.folder.path_of(one.key)
        if await asyncio.to_thread(self._keeps, path, one):
            self.kept += 1
            return True
        if not await self._stored(one):
            return False
        self.folder.make_room(one.key)
        part = path.with_name(f".{path.name}.part")
        try:
            digest = await self.runtime.store.download(one.key, part)
        except StoreError as error:
            part.unlink(missing_ok=True)
            if error.code in ("404", "412", "416"):
                return False
            if error.code == "InvalidObjectState":
                raise BackupError(
                    f"`{one.key}` lies in the store's archive, from where nothing can be copied\n"
                    "hint: use `--objects reference`, and keep the bucket's objects by S3's own means (versions,"
                    " replication)"
                ) from error
            raise BackupError(
                f"`{one.key}` cannot be copied: {error}\nhint: see `paletta-server doctor`"
            ) from error
        if digest != one.sha256:
            part.unlink()
            return False
        part.chmod(0o600)
        await asyncio.to_thread(_settle, part, path)
        self.copied += 1
        self.copied_bytes += one.size
        return True


def _settle(part: Path, path: Path) -> None:
    """Give a file its name once it is on the disk."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)


_CONTENT_TYPES = {".mp4": "video/mp4", ".jpg": "image/jpeg", ".vtt": "text/vtt"}


def _content_type(key: str) -> str:
    """As ingest stores what it made; originals have no suffix, and S3's own default."""
    return _CONTENT_TYPES.get(Path(key).suffix, "binary/octet-stream")
