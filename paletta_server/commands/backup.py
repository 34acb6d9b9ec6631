"""`paletta-server backup` and `restore`: the whole service into a folder, and back."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paletta_server.commands import terminal

if TYPE_CHECKING:
    from paletta_server.core.settings import Settings
    from paletta_server.operations.backup import Done
    from paletta_server.operations.backup_files import Folder, Manifest, Mode
    from paletta_server.operations.restore import Restored

SOME_MISSING = 6


def back_up(*, folder: Path, mode: Mode, as_json: bool) -> int:
    """Make a backup, or bring the one in `folder` up to date; 6 where objects that are needed were not there."""
    from paletta_server.core.logging import configure_logging
    from paletta_server.core.settings import get_settings
    from paletta_server.operations.backup_files import BackupError, Folder
    from paletta_server.operations.pgtools import ToolError

    settings = get_settings()
    configure_logging(settings)
    try:
        done = asyncio.run(_back_up(settings, Folder(folder), mode))
    except (BackupError, ToolError) as error:
        terminal.error(str(error))
        return 1
    if as_json:
        terminal.result(json.dumps(asdict(done), indent=2))
    manifest = done.manifest
    terminal.say(
        f"`{folder}`: {manifest.objects:,} objects, {manifest.bytes / 1e9:.1f} GB; {done.copied:,} copied,"
        f" {done.kept:,} kept, {done.dropped:,} dropped"
    )
    if not done.missing:
        return 0
    terminal.error(
        f"{done.missing:,} needed objects are missing or damaged in the store, and so in the backup\n"
        "hint: `paletta-server storage audit --deep` names them"
    )
    return SOME_MISSING


def restore(*, folder: Path, replace_all: bool, as_json: bool) -> int:
    """Put a backup back: verified first, the database last; then build the search index of this machine anew."""
    from paletta_server.commands.search import build_all
    from paletta_server.core.logging import configure_logging
    from paletta_server.core.settings import get_settings
    from paletta_server.operations.backup_files import BackupError, Folder
    from paletta_server.operations.pgtools import ToolError

    settings = get_settings()
    configure_logging(settings)
    where = Folder(folder)
    try:
        manifest = _verify(where)
        done = asyncio.run(_restore(settings, where, manifest, replace_all))
    except (BackupError, ToolError) as error:
        terminal.error(str(error))
        return 1
    terminal.say(
        f"restored the backup of {manifest.made_at}: {done.stored:,} objects stored, {done.there:,} were there"
    )
    asyncio.run(build_all(settings))
    if as_json:
        terminal.result(json.dumps(asdict(done), indent=2))
    return 0


async def _back_up(settings: Settings, folder: Folder, mode: Mode) -> Done:
    from paletta_server.core.runtime import Runtime
    from paletta_server.operations.backup import back_up as run

    async with Runtime.open(settings) as runtime:
        with _bar("backup") as bar:

            def total(_objects: int, size: int) -> None:
                bar.total = size

            return await run(
                runtime, folder, mode, on_total=total, on_progress=lambda _objects, size: bar.update(size)
            )


def _verify(folder: Folder) -> Manifest:
    from paletta_server.operations.restore import verify

    with _bar("verify", total=folder.require().bytes) as bar:
        return verify(folder, bar.update)


async def _restore(settings: Settings, folder: Folder, manifest: Manifest, replace_all: bool) -> Restored:
    from paletta_server.core.runtime import Runtime
    from paletta_server.operations.restore import restore as run

    async with Runtime.open(settings) as runtime:
        with _bar("restore", total=manifest.bytes) as bar:
            return await run(runtime, folder, manifest, replace_all=replace_all, on_progress=bar.update)


def _bar(what: str, total: int | None = None) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, desc=what, unit="B", unit_scale=True, unit_divisor=1024, mininterval=0.5)
