"""One child process of the stack: how it starts, what identifies it, how it stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

POSIX = os.name == "posix"
LOG_MAX = 16 * 1024 * 1024
"""Bytes of a log at which the next start of its child begins another; one older is kept."""
_LAUNCHER = Path(__file__).with_name("launch.py")


class OsUser(NamedTuple):
    """The operating system's user a child runs as when we are root."""

    name: str
    uid: int
    gid: int
    search: bool
    """Whether it needs the right to walk through directories closed to it."""


@dataclass(frozen=True)
class Spec:
    """What to run. `env` is the whole environment, not an addition to ours."""

    name: str
    argv: tuple[str, ...]
    log: Path
    env: Mapping[str, str]
    cwd: Path | None = None
    run_as: OsUser | None = None
    stop_signal: int = signal.SIGTERM
    death_signal: int = signal.SIGTERM if not POSIX else signal.SIGKILL
    """Sent by the kernel when the supervisor dies without stopping the child (Linux)."""


class Identity(NamedTuple):
    """Enough to recognise a process later without mistaking a recycled pid for it."""

    name: str
    pid: int
    started: float
    """Seconds since the epoch, as the kernel gives it."""
    marker: str
    """A text that its command line contains, the data directory as a rule."""


def clean_environment(**extra: str) -> dict[str, str]:
    """Return what a foreign program needs of our environment, and `extra`."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP")
    return {name: os.environ[name] for name in kept if name in os.environ} | extra


def launcher(spec: Spec) -> list[str]:
    """Return the command line that runs `spec` under the launcher (or bare where that has no meaning)."""
    if not POSIX:
        return list(spec.argv)
    options = ["--parent", str(os.getpid()), "--death-signal", str(int(spec.death_signal))]
    if spec.run_as is not None:
        options += ["--uid", str(spec.run_as.uid), "--gid", str(spec.run_as.gid)]
        options += ["--search"] if spec.run_as.search else []
    return [sys.executable, "-I", "-S", str(_LAUNCHER), *options, "--", *spec.argv]


@dataclass
class Process:
    """A running child. Start it from the main thread: on Linux it dies with the thread that started it."""

    spec: Spec
    _popen: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _started: float = 0.0

    def start(self) -> None:
        """Start the program with its output appended to the log file (0600), in a session of its own."""
        self.spec.log.parent.mkdir(parents=True, exist_ok=True)
        _rotate(self.spec.log)
        log = os.open(self.spec.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._popen = subprocess.Popen(
                launcher(self.spec),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.spec.env),
                cwd=self.spec.cwd,
                # Ctrl-C belongs to the supervisor, which stops its children in order.
                start_new_session=POSIX,
            )
        finally:
            os.close(log)
        self._started = start_time(self._popen.pid) or time.time()

    @property
    def pid(self) -> int | None:
        return None if self._popen is None else self._popen.pid

    @property
    def returncode(self) -> int | None:
        """The exit status once it has ended (negative: the signal that ended it)."""
        return None if self._popen is None else self._popen.poll()

    @property
    def running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    def identity(self, marker: str) -> Identity | None:
        if self._popen is None:
            return None
        return Identity(self.spec.name, self._popen.pid, self._started, marker)

    def signal(self, number: int) -> None:
        if self.running and self._popen is not None:
            self._popen.send_signal(number)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end; the exit status, or None when `timeout` seconds pass first."""
        if self._popen is None:
            return None
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, timeout: float = 10.0) -> bool:
        """Ask it to end, and kill its whole group if it has not within `timeout` seconds.

        Returns whether it ended on the request.
        """
        self.signal(self.spec.stop_signal)
        asked = self.wait(timeout) is not None
        if not asked:
            self.kill()
        return asked

    def kill(self) -> None:
        if self._popen is None or not self.running:
            return
        try:
            if POSIX:
                os.killpg(self._popen.pid, signal.SIGKILL)
            else:
                self._popen.kill()
        except ProcessLookupError:
            pass
        self._popen.wait()


def _rotate(log: Path) -> None:
    try:
        if log.stat().st_size >= LOG_MAX:
            log.replace(log.with_name(f"{log.name}.1"))
    except OSError:
        return  # there is none yet, or (Windows) somebody reads it


def start_time(pid: int) -> float | None:
    """Return when process `pid` started, in seconds since the epoch, or None when there is none."""
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def is_same(identity: Identity) -> bool:
    """Return whether the process noted earlier still runs: same pid, start, and marker in its command."""
    import psutil

    try:
        process = psutil.Process(identity.pid)
        if abs(process.create_time() - identity.started) > 0.05:
            return False
        return process.status() != psutil.STATUS_ZOMBIE and identity.marker in "\0".join(process.cmdline())
    except (psutil.Error, ValueError):  # the second for a pid that no process can have
        return False


def end_orphan(identity: Identity, *, ask: int, timeout: float = 10.0) -> bool:
    """End a process that an earlier supervisor left behind; True when there was one.

    `ask` is the signal for a clean end; after `timeout` seconds it is killed. Does nothing unless `is_same`.
    """
    import psutil

    if not is_same(identity):
        return False
    try:
        process = psutil.Process(identity.pid)
        process.send_signal(ask)
        try:
            process.wait(timeout)
        except psutil.TimeoutExpired:
            if is_same(identity):
                process.kill()
                process.wait(5)
    except psutil.Error:
        pass
    return True
