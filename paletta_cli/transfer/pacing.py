"""How much at once, and how fast: one budget for all files and parts.

`Budget` bounds requests in flight and adapts the bound: one more while more helps, one less when it does not,
half of it when the store asks for less. `RateLimit` is --limit-rate. Of uploads, `flow` holds back what a slow
line would only share out.
"""

import threading
import time
from collections.abc import Callable

from paletta_cli.transfer.drill import hurried

Clock = Callable[[], float]

START = 4  # rclone starts with 4, xet with 2: a home uplink is full with it, a fast one asks for more
MOST = 32  # each costs a thread and a TLS connection; s3transfer stops at 10, xet at 64
_WINDOW = 1.0  # seconds of goodput per judgement: long enough to smooth over a few parts
_SLOW_PART = 60.0  # a part that takes a minute means the line is full (xet's limit): never ask for more then
_GAIN = 1.05  # one more connection is kept if it made things 5 % faster …
_LOSS = 0.90  # … and taken back if they became 10 % slower
_HOLD = 8  # judgements to wait after a step that did not pay, before the next attempt


class Budget:
    """Counts requests in flight against an adaptive limit.

    `fixed` (the user's --concurrency) switches adaptation off, except that SlowDown still pauses everybody.
    """

    def __init__(
        self,
        *,
        fixed: int | None = None,
        start: int = START,
        most: int = MOST,
        clock: Clock = time.monotonic,
    ) -> None:
        self.limit = fixed or min(start, most)
        self.most = fixed or most
        self.in_flight = 0
        self._fixed = fixed is not None
        self._clock = clock
        self._changed = threading.Condition()
        self._stopped = False
        self._pause = 0.0
        self._not_before = 0.0
        self._window_start = clock()
        self._window_bytes = 0
        self._window_parts = 0
        self._window_peak = 0
        self._last_rate = 0.0
        self._step = 0
        self._hold = 0

    def acquire(self) -> bool:
        """Wait for a slot; False when the budget was stopped."""
        with self._changed:
            while not self._stopped:
                wait = self._not_before - self._clock()
                if wait <= 0 and self.in_flight < self.limit:
                    self.in_flight += 1
                    self._window_peak = max(self._window_peak, self.in_flight)
                    return True
                self._changed.wait(wait if wait > 0 else None)
            return False

    def try_acquire(self, also: Callable[[], bool]) -> bool:
        """Take a slot if there is one now, nobody pauses, and `also` agrees."""
        with self._changed:
            if (
                self._stopped
                or self._clock() < self._not_before
                or self.in_flight >= self.limit
                or not also()
            ):
                return False
            self.in_flight += 1
            self._window_peak = max(self._window_peak, self.in_flight)
            return True

    def release(self, size: int = 0, seconds: float = 0.0) -> None:
        """Give the slot back. `size` bytes were stored in `seconds`; 0 if none were."""
        with self._changed:
            self.in_flight -= 1
            if size:
                self._pause *= 0.75  # rclone's pacer: attack 2, decay 3/4
                self._window_bytes += size
                self._window_parts += 1
                if not self._fixed:
                    self._adapt(seconds)
            self._changed.notify_all()

    def slow_down(self, asked: float | None = None) -> None:
        """The store asked for less: half the connections, and a pause for everybody that doubles each time.

        `asked` is its Retry-After in seconds. At most once per window: one burst of refusals is one message.
        """
        with self._changed:
            now = self._clock()
            if now < self._not_before:
                return
            self._pause = min(30.0, max(0.25, self._pause * 2))
            self._not_before = now + max(hurried(self._pause), min(asked or 0.0, 60.0))
            if not self._fixed:
                self.limit = max(1, self.limit // 2)
                self._begin(now, rate=0.0, step=0, hold=_HOLD)

    def back_off(self) -> None:
        """A connection broke: one fewer, without a pause."""
        with self._changed:
            if not self._fixed and self.limit > 1:
                self.limit -= 1
                self._begin(self._clock(), rate=0.0, step=0, hold=_HOLD)

    def stop(self) -> None:
        """Let every waiting thread go."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _adapt(self, seconds: float) -> None:
        now = self._clock()
        elapsed = now - self._window_start
        # A window needs time, and enough parts that each connection has been heard.
        if elapsed < _WINDOW or self._window_parts < 2 * self.limit:
            return
        if self._step > 0 and self._window_peak < self.limit:
            # The extra connection was not used yet (`flow` holds parts back as well): that says nothing of it.
            self._begin(now, rate=self._last_rate, step=self._step, hold=self._hold)
            return
        rate = self._window_bytes / elapsed
        step, hold = 0, max(0, self._hold - 1)
        if self._step > 0 and rate < self._last_rate * _GAIN:
            step, hold = -1, _HOLD  # the extra connection did not pay: back, and leave it for a while
        elif self._step == 0 and self._last_rate and rate < self._last_rate * _LOSS:
            step, hold = 0, _HOLD  # slower without our doing: not a time to try things
        elif hold == 0 and seconds < _SLOW_PART and self._window_peak >= self.limit:
            step = 1
        self.limit = max(1, min(self.most, self.limit + step))
        self._begin(now, rate=rate, step=step, hold=hold)

    def _begin(self, now: float, *, rate: float, step: int, hold: int) -> None:
        self._window_start, self._window_bytes, self._window_parts = now, 0, 0
        self._window_peak = self.in_flight
        self._last_rate, self._step, self._hold = rate, step, hold


class RateLimit:
    """A token bucket of `rate` bytes per second shared by all connections; it holds half a second's worth."""

    def __init__(
        self, rate: int, *, clock: Clock = time.monotonic, wait: Callable[[float], object] = time.sleep
    ) -> None:
        self.rate = rate
        self._clock = clock
        self._wait = wait
        self._lock = threading.Lock()
        self._next = clock()

    @property
    def block(self) -> int:
        """Bytes to send at once so that the flow stays even: an eighth of a second's worth."""
        return max(4096, min(256 * 1024, self.rate // 8))

    def take(self, count: int) -> None:
        """Wait until `count` bytes may go."""
        with self._lock:
            now = self._clock()
            self._next = max(self._next, now - 0.5)
            self._next += count / self.rate
            delay = self._next - now
        if delay > 0:
            self._wait(delay)
