"""Folders for unix sockets: private, and with a path short enough for the kernel."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from paletta_server.embedded.secretfiles import write_private

# sun_path is 108 bytes on Linux and 104 elsewhere, with its terminator.
_PATH_MAX = 103


def make_socket_dir(home: Path, longest_name: str) -> Path:
    """Return a folder (0700) for sockets whose names are at most as long as `longest_name`.

    It is `home/socket` where that path is short enough, else a new temporary folder, noted in `home` so that
    the next call removes one that a killed process left.
    """
    remove_socket_dir(home)
    beside = home / "socket"
    if len(os.fsencode(beside / longest_name)) <= _PATH_MAX:
        beside.mkdir(mode=0o700, exist_ok=True)
        return beside
    base = tempfile.gettempdir()
    if len(os.fsencode(base)) + len(longest_name) > _PATH_MAX - 24:
        base = "/tmp"  # noqa: S108 (what is made in it is private and has a random name)
    made = Path(tempfile.mkdtemp(prefix="paletta-", dir=base))
    write_private(home / "socket-dir", str(made))
    return made


def remove_socket_dir(home: Path) -> None:
    """Remove the folder made for `home`, with what is in it."""
    shutil.rmtree(home / "socket", ignore_errors=True)
    note = home / "socket-dir"
    with contextlib.suppress(OSError):
        shutil.rmtree(note.read_text(encoding="utf-8").strip(), ignore_errors=True)
        note.unlink()
