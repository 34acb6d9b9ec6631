"""What is on the way, and whether one part more would only slow the others down.

A part that is cut off is lost as a whole, so on a slow line parts go one after another: each that arrives stays.
On a fast one many go at once, because what is on the way arrives within moments anyway.
"""

import threading
import time
from collections import deque
from typing import Protocol

from paletta_cli.transfer.drill import hurried
from paletta_cli.transfer.pacing import MOST, Clock

GRACE_SECONDS = hurried(2.5)
"""How long parts that are nearly there are waited for after Ctrl-C: a moment for whoever pressed it."""

DEPTH_SECONDS = 2.0
"""A part begins while what is on the way would be gone within so long; at half a part per connection on average, more
are added as long as a part takes less than twice that."""

SHALLOW = 1024 * 1024
"""Bytes on the way that never keep a part back: small files go together on any line, since what they wait for is the
store's answers."""

_MEMORY = 10.0  # seconds that the measured rate looks back: a few parts of a slow line
_SETTLE = 3.0  # after a step, until the system's buffers (4 MiB on Linux) have taken what they take of a new connection
_WATCH = 3.0  # seconds that are compared
_SHARE = 0.5  # of what a connection brings where none disturbs the others; lines share, and measures err
_HOLD = 8  # judgements to wait after a step that did not pay, as in `pacing`
_LULL = 1.0  # seconds without anybody waiting, after which the line was not full: judge anew
_BURST = 0.5  # seconds: what a rate limit and the system's buffers take at once is no measure of a line


class Load(Protocol):
    """A part: `length` bytes, of which `counted` have been handed to the system."""

    counted: int

    @property
    def length(self) -> int: ...


class Flow:
    """The parts on the way. Safe for many threads.

    `least` connections are used whatever the rate, one at first; one more is tried while the line is full, and kept if
    it pays: a long or lossy line gives each connection only so much. None is tried before a first part has arrived, so
    that every run which lasts as long as a part gets on.
    """

    def __init__(self, *, least: int = 1, most: int = MOST, clock: Clock = time.monotonic) -> None:
        self.least = least
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._loads: list[Load] = []
        self._closed = False
        self._dropped: set[int] = set()
        self._handed = 0
        self._busy = 0.0
        """Seconds in which something was on the way: waiting for files to be read is not the line's slowness."""
        self._seen = clock()
        self._arrived: deque[tuple[float, int, int]] = deque([(0.0, 0, 0)])
        """At each arrival: busy seconds, bytes that have arrived until then, and bytes handed over until then."""
        self._refused = self._mark = self._seen
        self._from: tuple[float, int] | None = None
        self._last = 0.0
        self._trying = False
        self._hold = 0

    def __len__(self) -> int:
        return len(self._loads)

    @property
    def rate(self) -> float:
        """Bytes per second that arrived lately; 0 before the first part has."""
        with self._lock:
            self._advance()
            return self._rate()

    def begin(self, load: Load) -> bool:
        """Whether the part may go now; it is on the way then, until `end`."""
        with self._lock:
            now = self._advance()
            if self._closed:
                return False
            if len(self._loads) >= self.least:
                ahead = sum(other.length - other.counted for other in self._loads)
                if ahead > max(SHALLOW, DEPTH_SECONDS * self._rate()):
                    self._judge(now)
                    return False
            self._loads.append(load)
            return True

    def moved(self, load: Load, count: int) -> None:
        """`count` bytes are handed over. Raises ConnectionAbortedError for a part that is not waited for."""
        with self._lock:
            if id(load) in self._dropped:
                raise ConnectionAbortedError("stopped")
            self._handed += count

    def end(self, load: Load, *, arrived: bool) -> None:
        """The part is there, or this try of it is over."""
        with self._lock:
            self._advance()
            self._loads = [other for other in self._loads if other is not load]
            if arrived:
                self._arrived.append((self._busy, self._arrived[-1][1] + load.length, self._handed))
                while len(self._arrived) > 2 and self._arrived[1][0] <= self._busy - _MEMORY:
                    self._arrived.popleft()

    def wind_down(self, seconds: float = GRACE_SECONDS) -> int:
        """Begin nothing more, and drop what will not be there within `seconds`; how many parts are waited for.

        Those with the least to go have the line for themselves.
        """
        with self._lock:
            self._advance()
            self._closed = True
            # By what was handed over: a single small file that arrived says little of the line.
            since, _, before = self._arrived[0]
            reach = seconds * (self._handed - before) / max(_BURST, self._busy - since)
            kept = 0
            for load in sorted(self._loads, key=lambda load: load.length - load.counted):
                reach -= load.length - load.counted
                if reach >= 0:
                    kept += 1
                else:
                    self._dropped.add(id(load))
            return kept

    @property
    def awaited(self) -> int:
        """Parts on the way that were not dropped."""
        with self._lock:
            return sum(id(load) not in self._dropped for load in self._loads)

    def _advance(self) -> float:
        now = self._clock()
        if self._loads:
            self._busy += now - self._seen
        self._seen = now
        return now

    def _rate(self) -> float:
        since, before, _ = self._arrived[0]
        return (self._arrived[-1][1] - before) / max(1e-3, self._busy - since)

    def _judge(self, now: float) -> None:
        """Somebody waits, so the line is as full as we let it be: see what another connection would bring."""
        lull, self._refused = now - self._refused > _LULL, now
        if len(self._arrived) < 2 or lull:
            self._trying = False
            self._watch_from(now)
            return
        if now < self._mark + _SETTLE:
            return
        if self._from is None:
            self._from = (now, self._handed)
        since, before = self._from
        if now - since < _WATCH:
            return
        rate = (self._handed - before) / (now - since)
        if self._trying and rate < self._last * (1 + _SHARE / (self.least - 1)):
            self.least -= 1
            self._trying, self._hold = False, _HOLD
        elif self._hold:
            self._trying, self._hold = False, self._hold - 1
        else:
            self._trying = self.least < self._most
            self.least += self._trying
        self._last = rate
        self._watch_from(now)

    def _watch_from(self, now: float) -> None:
        self._mark, self._from = now, None
