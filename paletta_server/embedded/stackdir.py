"""The data directory of a one-machine stack: what lies where, who runs it, and how others join it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from paletta_server.core.folders import why_not_ours
from paletta_server.embedded.process import Identity, end_orphan
from paletta_server.embedded.secretfiles import write_private

EPHEMERAL = "paletta-up-"
"""How the folders of ephemeral stacks begin."""
JUST_BORN_SECONDS = 60.0
"""A stack makes its lock and takes it: who sweeps must not come in between."""


class StackError(RuntimeError):
    """The stack cannot run; the message says why and, after `hint:`, what to do."""


def default_data_dir() -> Path:
    """Return `$XDG_DATA_HOME/paletta`, or `~/.local/share/paletta`."""
    base = os.environ.get("XDG_DATA_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "share") / "paletta"


class StackDir:
    """Paths below one data directory, its lock, and the files that tell others about the stack."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().resolve()
        self.postgres = self.root / "postgres"
        self.store = self.root / "store"
        self.mail = self.root / "mail"
        self.logs = self.root / "logs"
        self.run = self.root / "run"
        self.scratch = self.root / "scratch"
        self.search = self.root / "search"
        self.secrets = self.root / "secrets"
        self.env_file = self.root / "stack.env"
        self._children = self.run / "children.json"
        self._status = self.run / "stack.json"
        self._lock: int | None = None

    def make(self) -> None:
        """Make the folders, private to us. Raises StackError where we may not write."""
        try:
            for folder in (self.root, self.logs, self.run, self.scratch, self.search):
                folder.mkdir(parents=True, exist_ok=True)
                folder.chmod(0o700)
        except OSError as error:
            raise StackError(
                f"cannot use the data directory `{self.root}`: {error.strerror}\n"
                "hint: choose another with --data DIR"
            ) from error

    # ---- one stack per directory

    def lock(self) -> None:
        """Take the directory for this process, for as long as it lives.

        Raises StackError that names the stack which has it.
        """
        handle = os.open(self.run / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock_exclusively(handle)
        except OSError as error:
            os.close(handle)
            status = self.status()
            where = f" (pid {status['pid']}, {status['url']})" if status else ""
            raise StackError(
                f"a stack already runs on `{self.root}`{where}\n"
                "hint: use that one, stop it with ctrl-c, or start another with --data DIR --port N"
            ) from error
        self._lock = handle

    def unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # ---- what runs

    def note_children(self, children: Iterable[Identity]) -> None:
        """Write down the children, so that the next stack recognises any that outlive this one."""
        write_private(self._children, json.dumps([child._asdict() for child in children]))

    def end_orphans(self) -> list[str]:
        """End the noted children that still run; their names. Call with the lock held."""
        try:
            noted = [Identity(**entry) for entry in json.loads(self._children.read_text())]
        except (OSError, ValueError, TypeError):
            return []
        ended = []
        # In reverse: what was started last depends on what was started first.
        for child in reversed(noted):
            ask = signal.SIGINT if child.name == "postgres" else signal.SIGTERM
            if end_orphan(child, ask=ask, timeout=5):
                ended.append(child.name)
        self._children.unlink(missing_ok=True)
        return ended

    def write_status(self, status: Mapping[str, Any]) -> None:
        write_private(self._status, json.dumps(status))

    def status(self) -> dict[str, Any] | None:
        """Return what the stack last said about itself, or None."""
        try:
            found = json.loads(self._status.read_text())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def forget(self) -> None:
        """Remove what describes a running stack, when it has stopped."""
        for file in (self._status, self._children, self.env_file):
            file.unlink(missing_ok=True)

    # ---- settings for who joins

    def write_env(self, variables: Mapping[str, str]) -> None:
        """Write the stack's settings as `NAME="value"` lines, readable by us alone."""
        lines = [f"{name}={_quoted(value)}\n" for name, value in variables.items()]
        write_private(
            self.env_file, "# settings of the running stack; written by paletta-server up\n" + "".join(lines)
        )

    def read_env(self) -> dict[str, str]:
        """Return what `write_env` wrote. Raises StackError when no stack has this directory."""
        try:
            text = self.env_file.read_text(encoding="utf-8")
        except OSError as error:
            raise StackError(
                f"no stack runs on `{self.root}`\nhint: start one with `paletta-server up --data {self.root}`"
            ) from error
        found = {}
        for line in text.splitlines():
            name, separator, value = line.partition("=")
            if separator and not name.startswith("#"):
                with contextlib.suppress(ValueError):
                    found[name] = str(json.loads(value))
        return found


def sweep_ephemeral(parent: Path) -> list[Path]:
    """Remove what ephemeral stacks of ours that were killed left below `parent`, secrets included; which folders.

    `parent` is open to everybody as a rule: what a folder says about processes to end counts only where nobody else
    can have written it.
    """
    swept = []
    for folder in parent.glob(f"{EPHEMERAL}*"):
        stack = StackDir(folder)
        try:
            if (
                why_not_ours(folder) is not None
                or time.time() - (stack.run / "lock").stat().st_mtime < JUST_BORN_SECONDS
            ):
                continue
            stack.lock()
        except (OSError, StackError):
            continue  # it runs, or is not ours
        try:
            stack.end_orphans()
        finally:
            stack.unlock()
        shutil.rmtree(folder, ignore_errors=True)
        swept.append(folder)
    return swept


def _quoted(value: str) -> str:
    """Quote for `.env` readers; JSON's escapes are theirs too."""
    return json.dumps(value, ensure_ascii=False)


def _lock_exclusively(handle: int) -> None:
    """Take the lock or raise OSError at once; the kernel drops it when the process dies."""
    if os.name == "posix":
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
