"""One supervised member of the stack: its state, and how often it may die."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from paletta_server.embedded.process import Process

State = Literal["waiting", "starting", "ready", "restarting", "stopping", "stopped", "failed"]

DEATHS_MAX = 5
DEATHS_WINDOW = 60.0
"""A member that dies more than five times in sixty seconds will not be helped by a sixth start."""
STARTS_MAX = 5
"""Nor will one that five starts on end did not bring up, however long each of them took."""

Launched = Callable[[Process], None]


@dataclass
class Service:
    """A member. `start` launches it, calls back with the process at once, and returns when it is ready."""

    name: str
    start: Callable[[Launched], Awaitable[None]]
    stop: Callable[[], Awaitable[None]]
    log: Path | None = None
    address: str = ""
    state: State = "waiting"
    process: Process | None = None
    restarts: int = 0
    deaths: deque[float] = field(default_factory=deque)
    failed_starts: int = 0
    """Those since it was last ready."""

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None and self.process.running else None

    def note_death(self, now: float | None = None, *, on_start: bool = False) -> float | None:
        """Count a death; seconds to wait before the next start, or None when there have been too many."""
        self.failed_starts = self.failed_starts + 1 if on_start else 0
        moment = time.monotonic() if now is None else now
        self.deaths.append(moment)
        while self.deaths and self.deaths[0] <= moment - DEATHS_WINDOW:
            self.deaths.popleft()
        if len(self.deaths) > DEATHS_MAX or self.failed_starts >= STARTS_MAX:
            return None
        return min(5.0, 0.1 * float(2 ** len(self.deaths)))

    def death_toll(self) -> str:
        """Return how often it died, for the message that gives it up."""
        if len(self.deaths) > DEATHS_MAX:
            return f"ended {len(self.deaths)} times within {DEATHS_WINDOW:.0f} s"
        return f"could not be started {self.failed_starts} times on end"


def log_tail(log: Path | None, lines: int = 6) -> str:
    """Return the last lines of a member's log, for a message about its end."""
    if log is None:
        return ""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8192))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(line[:500] for line in text.splitlines()[-lines:])
