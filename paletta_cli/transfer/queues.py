"""The queue between two stages: takes in ones, gives in batches, and can hold a thing back for a while."""

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
_POLL = 0.02  # how often a condition outside the queue is looked at while waiting


class Inbox(Generic[T]):
    """A queue for several threads, in the order of `rank` (not negative), equal ones as they became due."""

    def __init__(self, rank: Callable[[T], float] = lambda _thing: 0.0) -> None:
        self._changed = threading.Condition()
        self._rank = rank
        self._heap: list[tuple[float, int, T]] = []
        self._held: list[tuple[float, int, T]] = []
        """What is put off, by when it is due."""
        self._order = itertools.count()
        self._closed = False

    def __len__(self) -> int:
        return len(self._heap) + len(self._held)

    def put(self, *things: T, delay: float = 0.0, first: bool = False) -> None:
        """Add things: at their rank, `delay` seconds from now, or before all others (`first`)."""
        with self._changed:
            for thing in things:
                if delay > 0 and not first:
                    heapq.heappush(self._held, (time.monotonic() + delay, next(self._order), thing))
                else:
                    self._add(thing, first=first)
            self._changed.notify(len(things))

    def close(self) -> None:
        """Nothing will be added: takers get what is left, whether due or not, and then nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def clear(self) -> None:
        """Drop everything and close."""
        with self._changed:
            self._heap.clear()
            self._held.clear()
        self.close()

    def take(
        self,
        most: int = 1,
        ripe: Callable[[int, float], bool] | None = None,
        admit: Callable[[T], bool] | None = None,
    ) -> list[T]:
        """Up to `most` things that are due; [] when the queue is closed and empty.

        With `ripe(count, waited)`, waits until it says that `count` things, of which the first was seen
        `waited` seconds ago, are worth taking (a full batch and a closed queue always are). With `admit(thing)`,
        waits until it takes the first thing, whichever that is by then; for one at a time.
        """
        with self._changed:
            seen: float | None = None
            while True:
                now = time.monotonic()
                self._take_in(now)
                if count := min(most, len(self._heap)):
                    seen = now if seen is None else seen
                    is_ripe = ripe is None or self._closed or count >= most or ripe(count, now - seen)
                    if is_ripe and (admit is None or admit(self._heap[0][2])):
                        return [heapq.heappop(self._heap)[2] for _ in range(count)]
                    self._changed.wait(_POLL)
                elif self._closed:
                    return []
                else:
                    self._changed.wait(self._held[0][0] - now if self._held else None)

    def _take_in(self, now: float) -> None:
        """What was put off and is due now takes its place; of a closed queue all of it."""
        while self._held and (self._closed or self._held[0][0] <= now):
            self._add(heapq.heappop(self._held)[2])

    def _add(self, thing: T, *, first: bool = False) -> None:
        rank = -1.0 if first else self._rank(thing)
        heapq.heappush(self._heap, (rank, next(self._order), thing))
