"""From bytes to live: follows a batch by long-poll and updates its items."""

import threading
import time
from collections.abc import Sequence

from paletta_cli.transfer.drill import reach
from paletta_cli.transfer.items import ENDED, Item
from paletta_cli.transfer.protocol import MOST_WAIT, Protocol

_WHILE_SENDING = 3.0  # seconds between polls while files are sent: each of them changes the batch
_AFTERWARDS = 0.5


class Watcher:
    """Follows `items` in a thread until all have ended, or `stop()`. `error` is what ended it early."""

    def __init__(self, protocol: Protocol, batch_id: str, items: Sequence[Item]) -> None:
        self.error: BaseException | None = None
        self._protocol, self._batch_id = protocol, batch_id
        self._items = {item.ref: item for item in items}
        self._stop = threading.Event()
        self._transferred = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._guarded, name="watcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def all_transferred(self) -> None:
        """Nothing is being sent any more: poll eagerly from now on."""
        self._transferred.set()

    def wait(self, seconds: float) -> bool:
        """Whether every item has ended, waiting up to `seconds`. Raises what ended the watch early."""
        done = self._done.wait(seconds)
        if self.error is not None:
            raise self.error
        return done

    def stop(self) -> None:
        self._stop.set()

    def _guarded(self) -> None:
        try:
            self._follow()
        except BaseException as error:
            self.error = error
        finally:
            self._done.set()

    def _follow(self) -> None:
        version = 0
        while not self._stop.is_set() and not self._over():
            reach("poll")
            wait = MOST_WAIT if self._transferred.is_set() else 0
            answer = self._protocol.progress(self._batch_id, version, wait)
            reach("poll")
            version = int(answer["version"])
            for entry in answer["items"]:
                self._update(entry)
            if answer.get("settled") and self._transferred.is_set() and not answer["items"]:
                return
            self._pause()

    def _pause(self) -> None:
        until = time.monotonic() + (_AFTERWARDS if self._transferred.is_set() else _WHILE_SENDING)
        while not self._stop.is_set() and (left := until - time.monotonic()) > 0:
            self._transferred.wait(left) if not self._transferred.is_set() else self._stop.wait(left)
            if self._transferred.is_set():
                until = min(until, time.monotonic() + _AFTERWARDS)

    def _over(self) -> bool:
        return self._transferred.is_set() and all(item.ended for item in self._items.values())

    def _update(self, entry: dict[str, object]) -> None:
        item = self._items.get(str(entry["ref"]))
        # What ended with us (changed, unreadable) is not known to the service; what is being sent we know better.
        if item is None or not item.transferred or (item.stage in ENDED and item.stage != entry["stage"]):
            return
        item.stage = str(entry["stage"])
        item.clip_id = str(entry.get("clip_id") or item.clip_id)
        progress = entry.get("progress")
        item.progress = float(progress) if isinstance(progress, (int, float)) else None
        item.reason = str(entry.get("reason") or "")
        item.hint = str(entry.get("hint") or "")
        warnings = entry.get("warnings")
        item.warnings = [str(warning) for warning in warnings] if isinstance(warnings, list) else []
