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
    """A queue for several threads, ordered by when things are due."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int, T]] = []
        self._order = itertools.count()
        self._closed = False

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, *things: T, delay: float = 0.0, first: bool = False) -> None:
        """Add things: at the end, `delay` seconds from now, or before all others (`first`)."""
        with self._changed:
            due = 0.0 if first else time.monotonic() + delay
            for thing in things:
                heapq.heappush(self._heap, (due, next(self._order), thing))
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
        self.close()

    def take(self, most: int = 1, ripe: Callable[[int, float], bool] | None = None) -> list[T]:
        """Up to `most` things that are due; [] when the queue is closed and empty.

        With `ripe(count, waited)`, waits until it says that `count` things, of which the first was seen
        `waited` seconds ago, are worth taking (a full batch and a closed queue always are).
        """
        with self._changed:
            seen: float | None = None
            while True:
                now = time.monotonic()
                due = self._due(now, most)
                if due or (self._closed and self._heap):
                    seen = now if seen is None else seen
                    count = due or len(self._heap)
                    if ripe is None or self._closed or count >= most or ripe(count, now - seen):
                        return [heapq.heappop(self._heap)[2] for _ in range(min(most, count))]
                    self._changed.wait(_POLL)
                elif self._closed:
                    return []
                else:
                    self._changed.wait(self._heap[0][0] - now if self._heap else None)

    def _due(self, now: float, most: int) -> int:
        """How many things are due, counted up to `most`."""
        if not self._heap or self._heap[0][0] > now:
            return 0
        if most == 1:
            return 1
        return min(most, sum(1 for due, _, _ in self._heap if due <= now))
