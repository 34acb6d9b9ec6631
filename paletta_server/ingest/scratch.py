"""Folders of attempts in work: each is held by a lock that the kernel gives back however its worker ends.

By process ids one could not tell: in a container every worker is number 1, and of another container's nothing is known.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK = "lock"


@contextmanager
def scratch(scratch_dir: Path, attempt_uid: str) -> Iterator[Path]:
    """A folder of this attempt's own, held while it lasts and gone afterwards. Raises OSError."""
    folder = scratch_dir / attempt_uid
    while (lock := _made(folder)) is None:
        pass  # somebody swept it before we held it
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep_scratch(scratch_dir: Path) -> int:
    """Remove what nobody holds, left by workers that died; how many folders there were.

    Raises OSError where the scratch directory cannot be made or read.
    """
    scratch_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    swept = 0
    for folder in scratch_dir.iterdir():
        # Behind a hyphen: earlier versions put their process id before it, and held no lock.
        if not folder.name.rpartition("-")[2].startswith("run_"):
            continue
        try:
            lock = _taken(folder)
        except OSError:
            continue  # held, gone meanwhile, or no folder
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
        swept += 1
    return swept


def _made(folder: Path) -> int | None:
    """Make the folder; its lock, or None when it was swept away before we had it."""
    folder.mkdir(parents=True, mode=0o700)
    lock = None
    try:
        lock = _taken(folder, wait=True)
        if os.path.samestat(os.fstat(lock), (folder / _LOCK).stat()):
            return lock
    except FileNotFoundError:
        pass
    if lock is not None:
        os.close(lock)
    return None


def _taken(folder: Path, *, wait: bool = False) -> int:
    """The lock of a folder: an open file that no child inherits. Raises BlockingIOError when somebody has it."""
    import fcntl  # there is none on Windows, where no workers run

    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(lock)
        raise
    return lock
