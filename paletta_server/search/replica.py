"""Where a replica of the index lives on disk.

    search_dir/
      replica-0/          one per API process; who holds its lock has it
        lock
        current           the name of the folder with the live index; replaced in one step
        index-4f1d…/      the index
        index-9a02…/      one that is being built beside it
        building.lock     held by whoever builds

A process takes the first free folder and keeps it until it ends, so that a restarted process goes on with what the
one before it left, and several on one machine do not meet. The kernel gives locks back, whatever ends a process.
"""

import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from paletta_server.core.folders import own_folder

MOST_REPLICAS = 64


def _lock(file: IO[bytes]) -> bool:
    """Lock an open file for as long as it is open; False where somebody else has it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class Replica:
    """One folder of a replica. Make it with `claim`, or `all_of` to build in folders that others have."""

    def __init__(self, folder: Path, held: IO[bytes] | None = None) -> None:
        self.folder = folder
        self._held = held

    @classmethod
    def claim(cls, search_dir: Path) -> "Replica":
        """The first folder that no process has. Raises OSError, FolderRefused where `search_dir` is not ours."""
        own_folder(search_dir, "PALETTA_SEARCH_DIR")
        for number in range(MOST_REPLICAS):
            folder = search_dir / f"replica-{number}"
            folder.mkdir(parents=True, exist_ok=True)
            file = (folder / "lock").open("wb")
            if _lock(file):
                return cls(folder, file)
            file.close()
        raise OSError(f"{search_dir}: {MOST_REPLICAS} processes have a replica here already")

    @classmethod
    def all_of(cls, search_dir: Path) -> list["Replica"]:
        """Every folder there is, whoever has it; the first one where there is none. Raises as `claim`."""
        own_folder(search_dir, "PALETTA_SEARCH_DIR")
        found = sorted(path for path in search_dir.glob("replica-*") if path.is_dir())
        return [cls(path) for path in found or [search_dir / "replica-0"]]

    def release(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None

    @property
    def current(self) -> Path | None:
        """The folder of the live index, if there is one."""
        try:
            name = (self.folder / "current").read_text().strip()
        except OSError:
            return None
        folder = self.folder / name
        return folder if name.startswith("index-") and "/" not in name and folder.is_dir() else None

    @contextmanager
    def building(self) -> Iterator[Path | None]:
        """A new folder to build in, or None where somebody else is building. What was not published is removed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "building.lock").open("wb") as file:
            if not _lock(file):
                yield None
                return
            self._sweep()
            folder = self.folder / f"index-{secrets.token_hex(6)}"
            folder.mkdir()
            try:
                yield folder
            finally:
                if self.current != folder:
                    shutil.rmtree(folder, ignore_errors=True)

    def publish(self, folder: Path) -> None:
        """Make a finished index the live one. Whoever reads `current` sees the old one or this."""
        new = self.folder / "current.new"
        with new.open("w") as file:
            file.write(folder.name)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.folder / "current")
        if sys.platform != "win32":  # a rename is durable once its folder is
            descriptor = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def sweep(self) -> None:
        """Remove indexes that are neither live nor being built."""
        with (self.folder / "building.lock").open("wb") as file:
            if _lock(file):
                self._sweep()

    def _sweep(self) -> None:
        live = self.current
        for path in self.folder.glob("index-*"):
            if path != live:
                shutil.rmtree(path, ignore_errors=True)
