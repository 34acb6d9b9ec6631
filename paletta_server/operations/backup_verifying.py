"""Reading a backup and comparing it with its digests, before anything is made of it."""

from collections.abc import Callable
from contextlib import suppress

from alembic.script import ScriptDirectory

from paletta_server import migrations
from paletta_server.core.settings import Settings
from paletta_server.operations.backup_files import (
    BackupError,
    Folder,
    Manifest,
    is_whole,
    set_aside,
    sha256_of,
)

Progress = Callable[[int], object]
"""Told how many more bytes are dealt with."""


def verify(
    folder: Folder,
    on_bytes: Progress = lambda count: None,
    *,
    previous: bool = False,
    objects: bool = True,
) -> Manifest:
    """Read all of a backup, or of the one before it, and compare it with its digests.

    A copy that is damaged is set aside. Without `objects` the copies are left unread. Raises BackupError with what is
    wrong.
    """
    manifest = folder.require(previous=previous)
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
    if objects and manifest.mode == "copy":
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
        elif not is_whole(path, entry, on_bytes):
            bad.append(f"`{path}` is damaged")
            with suppress(OSError):  # on a medium that cannot be written to
                set_aside(path)
    if bad:
        more = f" (and {len(bad) - 1:,} more)" if len(bad) > 1 else ""
        raise BackupError(
            f"{bad[0]}{more}\nhint: `paletta-server backup {folder.root} --verify` copies it again"
        )
