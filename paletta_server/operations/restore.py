"""A backup back into a service: everything is verified first, then objects are stored, the database comes last.

The database is replaced in one transaction. Until that commits, the service is what it was before; whoever was
killed in between runs the same command again.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from alembic.script import ScriptDirectory

from paletta_server import migrations
from paletta_server.core.dbconnect import connect, connect_async, conninfo
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.operations import pgtools
from paletta_server.operations.backup_files import BackupError, Entry, Folder, Manifest, sha256_of

AT_ONCE = 4
PROBED = ("users", "clips", "orders", "uploads")
"""Tables that nobody uses a service for long without a row in."""
OURS = "_paletta/"
"""What the service itself leaves in a bucket: probes."""


@dataclass
class Restored:
    manifest: Manifest
    stored: int = 0
    there: int = 0
    """Objects that the store had already."""


Progress = Callable[[int], object]
"""Told how many more bytes are dealt with."""


def verify(folder: Folder, on_bytes: Progress = lambda count: None) -> Manifest:
    """Read all of a backup and compare it with its digests. Raises BackupError with what is wrong."""
    manifest = folder.require()
    for name, digest in (
        (manifest.dump, manifest.dump_sha256),
        (manifest.inventory, manifest.inventory_sha256),
    ):
        path = folder.root / name
        if path.parent != folder.root or not path.is_file():
            raise BackupError(f"`{path}` is missing: this backup is not whole")
        if sha256_of(path) != digest:
            raise BackupError(f"`{path}` is damaged: its SHA-256 is not the manifest's")
    script = ScriptDirectory.from_config(migrations.config(Settings(_env_file=None)))
    if manifest.revision not in {one.revision for one in script.walk_revisions()}:
        raise BackupError(
            f"this backup's schema ({manifest.revision}) is newer than this version\n"
            f"hint: use paletta {manifest.paletta} or newer"
        )
    if manifest.mode == "copy":
        _verify_objects(folder, manifest, on_bytes)
    return manifest


def _verify_objects(folder: Folder, manifest: Manifest, on_bytes: Progress) -> None:
    bad: list[str] = []
    for entry in folder.entries(manifest):
        path = folder.path_of(entry.key)
        if not entry.there:
            continue
        if not path.is_file():
            bad.append(f"`{path}` is missing")
        elif path.stat().st_size != entry.size or sha256_of(path, on_bytes) != entry.sha256:
            bad.append(f"`{path}` is damaged")
    if bad:
        more = f" (and {len(bad) - 1:,} more)" if len(bad) > 1 else ""
        raise BackupError(f"{bad[0]}{more}\nhint: another backup into this folder copies it again")


async def restore(
    runtime: Runtime,
    folder: Folder,
    manifest: Manifest,
    *,
    replace_all: bool = False,
    on_progress: Progress = lambda count: None,
) -> Restored:
    """Put a verified backup into the service of `runtime`.

    Raises BackupError where that is not empty, unless `replace_all`; ToolError; `Unavailable`: run it again then.
    """
    for name in ("pg_restore", "psql"):
        pgtools.find(name)
    if not replace_all:
        await _require_empty_database(runtime.settings)
        await _require_empty_store(runtime, folder, manifest)
    done = Restored(manifest)
    await _objects(runtime, folder, manifest, done, on_progress)
    await asyncio.to_thread(_database, runtime.settings, folder.root / manifest.dump)
    await asyncio.to_thread(migrations.migrate, runtime.settings)
    await asyncio.to_thread(_end_sessions, runtime.settings)
    return done


# ---- what is there


async def _require_empty_database(settings: Settings) -> None:
    async with await connect_async(settings, autocommit=True) as connection:
        for table in PROBED:
            known = await (await connection.execute("SELECT to_regclass(%s)", [f"public.{table}"])).fetchone()
            if known is None or known[0] is None:
                continue
            row = await (await connection.execute(f"SELECT EXISTS (SELECT FROM {table})")).fetchone()  # noqa: S608
            if row and row[0]:
                raise BackupError(
                    f"the database is not empty: it has {table}\n"
                    "hint: restore into a new service, or pass --replace to lose what is there"
                )


async def _require_empty_store(runtime: Runtime, folder: Folder, manifest: Manifest) -> None:
    """What the backup itself brings may be there, from a restore that was interrupted."""
    entries = folder.entries(manifest)
    wanted = next(entries, None)
    async for one in runtime.store.every_object():
        while wanted is not None and wanted.key.encode() < one.key.encode():
            wanted = next(entries, None)
        if (wanted is None or wanted.key != one.key) and not one.key.startswith(OURS):
            raise BackupError(
                f"the bucket `{runtime.store.bucket}` is not empty: it has `{one.key}`\n"
                "hint: restore into a new bucket, or pass --replace to leave it there and go on"
            )


# ---- putting it back


async def _objects(
    runtime: Runtime, folder: Folder, manifest: Manifest, done: Restored, on_progress: Progress
) -> None:
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(entry: Entry) -> None:
        async with limit:
            if await _is_stored(runtime, entry):
                done.there += 1
            elif manifest.mode == "reference":
                raise BackupError(
                    f"the store does not have `{entry.key}` as the backup knows it\n"
                    "hint: this backup only refers to objects: bring the bucket back first"
                )
            else:
                await runtime.store.upload(
                    folder.path_of(entry.key),
                    entry.key,
                    content_type=entry.content_type,
                    cache_seconds=365 * 24 * 3600,
                )
                if not await _is_stored(runtime, entry):
                    raise BackupError(f"the store did not keep `{entry.key}` as it was sent")
                done.stored += 1
            on_progress(entry.size)

    for page in _pages(entry for entry in folder.entries(manifest) if entry.there):
        await asyncio.gather(*(one(entry) for entry in page))


def _pages(entries: Iterator[Entry], size: int = 256) -> Iterator[list[Entry]]:
    while page := list(islice(entries, size)):
        yield page


async def _is_stored(runtime: Runtime, entry: Entry) -> bool:
    info = await runtime.store.head(entry.key)
    if info is None or info.size != entry.size:
        return False
    return entry.crc64nvme is None or info.crc64nvme in (None, entry.crc64nvme)


def _database(settings: Settings, dump: Path) -> None:
    """Replace everything in the schema, in one transaction."""
    _end_sessions(settings)  # their locks would be waited for
    script = ["pg_restore", "--file=-", "--no-owner", "--no-privileges", "--schema=public", str(dump)]
    apply = [
        *("psql", "--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1"),
        *("--command=SET lock_timeout = '60s'", "--command=DROP SCHEMA public CASCADE"),
        *("--command=CREATE SCHEMA public", "--file=-"),
    ]
    pgtools.pipe(script, apply, conninfo=conninfo(settings))


def _end_sessions(settings: Settings) -> None:
    """End everybody else's connections: what they have prepared belongs to tables that are gone. They connect anew."""
    with connect(settings, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND usename = current_user AND pid <> pg_backend_pid()"
        )
