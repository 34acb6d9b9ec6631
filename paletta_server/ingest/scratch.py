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
        pid, _, run = folder.name.rpartition("-")
        # Earlier versions put their process id before a hyphen, and held no lock: one may be at work beside us.
        if not run.startswith("run_") or (pid.isdigit() and _at_work(int(pid))):
            continue
        try:
            lock = _taken(folder)
        except OSError:
            continue  # held, gone meanwhile, or no folder
        # Another sweeper may have been quicker, and the folder made again by who holds it now.
        if _is_of(lock, folder):
            shutil.rmtree(folder, ignore_errors=True)
            swept += 1
        os.close(lock)
    return swept


def _at_work(pid: int) -> bool:
    """Whether a process of this number lives that is not this one, which has made no folder yet."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _is_of(lock: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), (folder / _LOCK).stat())
    except FileNotFoundError:
        return False


def _made(folder: Path) -> int | None:
    """Make the folder; its lock, or None when it was swept away before we had it."""
    try:
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)  # a sweeper may just have put its lock there
        lock = _taken(folder, wait=True)
    except FileNotFoundError:
        return None
    except FileExistsError:
        if folder.exists():
            raise  # it is no folder
        return None
    if _is_of(lock, folder):
        return lock
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
