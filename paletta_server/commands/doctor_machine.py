"""What `paletta-server doctor` looks at on the machine itself: room for the store, leftovers, who hears of faults."""

from __future__ import annotations

import asyncio
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from paletta_server.commands.doctor import Trouble
from paletta_server.core.folders import SHARED_STATE

if TYPE_CHECKING:
    from paletta_server.core.settings import Settings

LITTLE, TOO_LITTLE = 20 * 1024**3, 2 * 1024**3
"""A day's uploads of a few contributors; and what PostgreSQL and the store need to stop in good order."""


async def operators(settings: Settings) -> str:
    """Whether anybody is mailed when a job fails for good."""
    if settings.operator_emails:
        return ", ".join(settings.operator_emails)
    raise Trouble(
        "nobody is mailed when a job fails for good", "set PALETTA_OPERATOR_EMAILS to addresses", "warning"
    )


async def disk(stack: Path, _settings: Settings) -> str:
    """How much room the embedded store and database have."""
    folder = stack.expanduser() / "store"
    found = shutil.disk_usage(folder if folder.is_dir() else stack.expanduser())
    detail = f"{found.free / 1e9:.0f} of {found.total / 1e9:.0f} GB free under `{folder}`"
    if found.free < LITTLE:
        raise Trouble(
            detail,
            "free some, or move the stack to a larger disk; `paletta admin flags set no-uploads` stops new clips"
            " meanwhile",
            "failed" if found.free < TOO_LITTLE else "warning",
        )
    return detail


async def old_copies(_settings: Settings, shared: Path = SHARED_STATE) -> str:
    """Copies of PostgreSQL that root made where earlier versions kept them, and that nothing runs any more."""
    found = await asyncio.to_thread(lambda: sorted(shared.glob("postgres-*")))
    copies = [path for path in found if path.is_dir() and not path.is_symlink()]
    if not copies:
        return "none"
    named = " ".join(shlex.quote(str(path)) for path in copies)
    many = "an old copy" if len(copies) == 1 else f"{len(copies)} old copies"
    raise Trouble(
        f"{many} of PostgreSQL in `{shared}`, which nothing uses", f"run `rm -rf {named}`", "warning"
    )
