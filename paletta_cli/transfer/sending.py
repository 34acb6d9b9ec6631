"""One part on its way: open the file, make sure it is still the same, PUT it, judge the answer."""

import http.client
import threading
from collections.abc import Callable

from paletta_cli.transfer.fingerprint import Stamp, unchanged
from paletta_cli.transfer.items import Part
from paletta_cli.transfer.pacing import RateLimit
from paletta_cli.transfer.retry import Verdict, judge, judge_error
from paletta_cli.transfer.wire import Stale, Unreadable, Wire

Outcome = tuple[Verdict, str, float | None]
"""Verdict, what happened in words, and the store's Retry-After in seconds."""


class Sender:
    """Sends parts over the run's connections. Safe for many threads; `stop` ends what is under way."""

    def __init__(self, stop: threading.Event, rate: RateLimit | None) -> None:
        self._wire = Wire()
        self._stop = stop
        self._rate = rate
        self._block = rate.block if rate else None

    def close(self) -> None:
        """Cut all connections."""
        self._wire.close()

    def send(self, part: Part, count: Callable[[Part, int], None], rewind: Callable[[Part], None]) -> Outcome:
        """PUT one part with its signed request.

        `count(part, n)` hears of every n bytes; `part.counted` adds them up. `rewind(part)` is to take them back:
        the same bytes go once more, on another connection.
        """
        try:
            outcome = self._once(part, count)
            if outcome is None:
                rewind(part)  # what the system took for a connection that nobody read any more
                outcome = self._once(part, count)
        except Unreadable as error:
            return Verdict.FILE, f"cannot be read: {error}", None
        except EOFError:
            return Verdict.CHANGED, "the file became shorter", None
        return outcome or (Verdict.AGAIN, "the connection was closed", None)

    def _once(self, part: Part, count: Callable[[Part, int], None]) -> Outcome | None:
        """One request; None when it met a connection that had gone stale."""
        assert part.item.print is not None
        assert part.signed is not None

        def on_block(size: int) -> None:
            if self._rate is not None:
                self._rate.take(size)
            if self._stop.is_set():
                raise ConnectionAbortedError("stopped")
            part.counted += size
            count(part, size)

        stamp: Stamp = part.item.print.stamp
        try:
            source = part.item.path.open("rb", buffering=0)
        except OSError as error:
            raise Unreadable(error.strerror or str(error)) from error
        with source:
            if not unchanged(source.fileno(), part.item.path, stamp):
                return Verdict.CHANGED, "the file changed", None
            source.seek(part.offset)
            try:
                answer = self._wire.put(
                    part.signed.url,
                    part.signed.headers,
                    source,
                    part.length,
                    block=self._block,
                    on_block=on_block,
                )
            except Stale:
                return None
            except (OSError, http.client.HTTPException) as error:
                return judge_error(error), str(error) or type(error).__name__, None
            verdict = judge(answer, one_put=part.item.part_count == 1)
            if verdict is Verdict.DAMAGED and not unchanged(source.fileno(), part.item.path, stamp):
                verdict = Verdict.CHANGED
        return verdict, str(answer), answer.retry_after
