"""The pipeline: read → register → sign → send → complete, all stages at once for different files.

Each stage is a thread or a few, with an inbox of its own. A file moves on as soon as it can, so some are
completed while others are still read. Calls to the API carry many files each: a stage takes what has gathered
when its batch is full, or when the stage after it would run dry. Nothing has to be cleaned up at the end:
what the store and the service have acknowledged is what the next run starts from.
"""

import time
from collections.abc import Sequence

from paletta_cli.transfer.delivery import Delivery
from paletta_cli.transfer.flow import GRACE_SECONDS, Flow
from paletta_cli.transfer.intake import Intake
from paletta_cli.transfer.items import Item, Meter
from paletta_cli.transfer.journal import Journal, Run
from paletta_cli.transfer.pacing import Budget, RateLimit
from paletta_cli.transfer.pipeline import Pipeline
from paletta_cli.transfer.protocol import Protocol
from paletta_cli.transfer.sending import Sender


class Uploader:
    """Transfers the items of one run: make it, `start()`, `wait()`; `halt()` ends it at any time.

    `items` are updated in place; the view reads them and `meter` meanwhile. One that has a fingerprint already is
    read again only if its file has changed since.
    """

    def __init__(
        self,
        protocol: Protocol,
        journal: Journal,
        run: Run,
        batch_id: str,
        items: Sequence[Item],
        *,
        concurrency: int | None = None,
        limit_rate: int | None = None,
    ) -> None:
        self.budget = Budget(fixed=concurrency)
        # Whoever names a number of connections gets it.
        flow = Flow(least=concurrency or 1)
        self._line = line = Pipeline(protocol, journal, run, batch_id, items, self.budget, flow)
        rate = RateLimit(limit_rate, wait=line.stop.wait) if limit_rate else None
        self._sender = Sender(line.stop, rate)
        self._intake = Intake(line)
        self._delivery = Delivery(line, self._sender)

    @property
    def meter(self) -> Meter:
        return self._line.meter

    @property
    def registered(self) -> bool:
        """Whether the service has answered for every file."""
        return all(item.outcome or item.transferred for item in self._line.items)

    def start(self) -> None:
        """Begin; returns at once."""
        line = self._line
        if not line.items:
            line.end_all()
            return
        line.unread.put(*line.items)
        self._intake.start()
        self._delivery.start()

    def wait(self, seconds: float) -> bool:
        """Whether everything has ended, waiting up to `seconds` for it. Raises what ended the run early."""
        done = self._line.finished.wait(seconds)
        if self._line.error is not None:
            self.halt()
            raise self._line.error
        return done

    def note_ends(self) -> None:
        """Tell the journal how every file ended."""
        self._line.note(self._line.items)

    def wind_down(self) -> int:
        """Begin nothing more, and give up what will not be there in a moment; how many parts are waited for."""
        return self._line.wind_down()

    def see_off(self, seconds: float = GRACE_SECONDS) -> None:
        """Wait up to `seconds` for them, and for their files to be put together."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not (self._line.wound_down or self._line.error):
            time.sleep(0.02)

    def halt(self, seconds: float = 1.5) -> None:
        """Stop now: cut connections, and give the threads up to `seconds` to go."""
        self._line.stop.set()
        self._sender.close()
        self._line.halt(seconds)
