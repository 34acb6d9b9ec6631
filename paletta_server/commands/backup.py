"""`paletta-server backup` and `restore`: the whole service into a folder, and back."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from paletta_server.commands import terminal

if TYPE_CHECKING:
    from paletta_server.core.settings import Settings
    from paletta_server.operations.backup import Done
    from paletta_server.operations.backup_files import Folder, Manifest, Mode
    from paletta_server.operations.restore import Restored

SOME_MISSING = 6


def back_up(*, folder: Path, mode: Mode, verify: bool, shrink: bool, as_json: bool) -> int:
    """Make a backup, or bring the one in `folder` up to date; 6 where objects that are needed were not there."""
    from paletta_server.core.logging import configure_logging
    from paletta_server.core.settings import get_settings
    from paletta_server.operations.backup_files import BackupError, Folder
    from paletta_server.operations.pgtools import ToolError

    settings = get_settings()
    configure_logging(settings)
    try:
        done = asyncio.run(_back_up(settings, Folder(folder), mode, verify=verify, shrink=shrink))
    except (BackupError, ToolError) as error:
        terminal.error(str(error))
        return 1
    if as_json:
        terminal.result(json.dumps(asdict(done), indent=2))
    manifest = done.manifest
    terminal.say(
        f"`{folder}`: {manifest.objects:,} objects, {terminal.volume(manifest.bytes)}; {done.copied:,} copied,"
        f" {done.kept:,} kept, {done.dropped:,} dropped"
    )
    if done.damaged:
        terminal.say(f"{done.damaged:,} copies of the last backup had been damaged: look after the disk")
    if not done.missing:
        return 0
    terminal.error(
        f"{done.missing:,} needed objects are missing or damaged in the store, and so in the backup\n"
        "hint: `paletta-server storage audit --deep` names them"
    )
    return SOME_MISSING


def restore(*, folder: Path, replace_all: bool, previous: bool, as_json: bool) -> int:
    """Put a backup back: verified first, the database last; then build the search index of this machine anew."""
    from paletta_server.core.logging import configure_logging
    from paletta_server.core.settings import get_settings
    from paletta_server.operations.backup_files import BackupError, Folder
    from paletta_server.operations.pgtools import ToolError

    settings = get_settings()
    configure_logging(settings)
    where = Folder(folder)
    try:
        # Asked again after verifying, which takes as long as the backup is large.
        asyncio.run(_require_room(settings, where, replace_all, previous=previous))
        manifest = _verify(where, previous=previous)
        done = asyncio.run(_restore(settings, where, manifest, replace_all))
    except (BackupError, ToolError) as error:
        terminal.error(str(error))
        return 1
    terminal.say(
        f"restored the backup of {manifest.made_at}: {done.stored:,} objects stored, {done.there:,} were there"
    )
    if as_json:
        terminal.result(json.dumps(asdict(done), indent=2))
    return 0


def restore_objects(*, folder: Path, previous: bool, as_json: bool) -> int:
    """Bring back what the store has lost; 6 where a copy that is needed is damaged too."""
    from paletta_server.core.logging import configure_logging
    from paletta_server.core.settings import get_settings
    from paletta_server.operations.backup_files import BackupError, Folder
    from paletta_server.operations.backup_verifying import verify

    settings = get_settings()
    configure_logging(settings)
    where = Folder(folder)
    try:
        manifest = verify(where, previous=previous, objects=False)
        done = asyncio.run(_restore_objects(settings, where, manifest))
    except BackupError as error:
        terminal.error(str(error))
        return 1
    terminal.say(
        f"from the backup of {manifest.made_at}: {done.stored:,} objects stored, {done.there:,} were there,"
        f" {done.unknown:,} are not of this service any more"
    )
    if as_json:
        terminal.result(json.dumps(asdict(done), indent=2))
    if done.stored:
        terminal.say(
            "hint: clips that were withdrawn for it come back with `paletta-server storage audit --fix`"
        )
    if not done.damaged:
        return 0
    terminal.error(f"{done.damaged:,} objects are lost: their copies are missing or damaged as well")
    return SOME_MISSING


async def _back_up(settings: Settings, folder: Folder, mode: Mode, *, verify: bool, shrink: bool) -> Done:
    from paletta_server.core.runtime import Runtime
    from paletta_server.operations.backup import back_up as run

    async with Runtime.open(settings) as runtime:
        with terminal.bar("backup", "B") as bar:

            def total(_objects: int, size: int) -> None:
                bar.total = size

            return await run(
                runtime,
                folder,
                mode,
                verify=verify,
                shrink=shrink,
                on_total=total,
                on_progress=lambda _objects, size: bar.update(size),
            )


def _verify(folder: Folder, *, previous: bool) -> Manifest:
    from paletta_server.operations.backup_verifying import verify

    with terminal.bar("verify", "B", total=folder.require(previous=previous).bytes) as bar:
        return verify(folder, bar.update, previous=previous)


async def _require_room(settings: Settings, folder: Folder, replace_all: bool, *, previous: bool) -> None:
    from paletta_server.core.runtime import Runtime
    from paletta_server.operations.restore_checks import require_room

    async with Runtime.open(settings) as runtime:
        await require_room(runtime, folder, folder.require(previous=previous), replace_all=replace_all)


async def _restore(settings: Settings, folder: Folder, manifest: Manifest, replace_all: bool) -> Restored:
    from paletta_server.commands.search import build_all
    from paletta_server.core.runtime import Runtime
    from paletta_server.operations import restore_checks
    from paletta_server.operations.restore import restore as run

    if replace_all and (open_now := await restore_checks.connections(settings)):
        terminal.say(
            f"warning: the service is running ({open_now:,} connections): what it does until its database is replaced"
            " is lost"
        )
    async with Runtime.open(settings) as runtime:
        with terminal.bar("restore", "B", total=manifest.bytes) as bar:
            return await run(
                runtime,
                folder,
                manifest,
                replace_all=replace_all,
                finish=lambda: build_all(settings),
                on_progress=bar.update,
            )


async def _restore_objects(settings: Settings, folder: Folder, manifest: Manifest) -> Restored:
    from paletta_server.core.runtime import Runtime
    from paletta_server.operations.restore import restore_objects as run

    async with Runtime.open(settings) as runtime:
        with terminal.bar("restore", "B", total=manifest.bytes) as bar:
            return await run(runtime, folder, manifest, on_progress=bar.update)
