"""What the stages of a transfer share: the queues between them, the counters, how a file ends, the threads."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from paletta_cli.errors import PalettaError
from paletta_cli.transfer.flow import Flow
from paletta_cli.transfer.items import ENDED, Item, Meter, Part
from paletta_cli.transfer.journal import Entry, Journal, Run
from paletta_cli.transfer.pacing import Budget
from paletta_cli.transfer.protocol import Protocol
from paletta_cli.transfer.queues import Inbox

GATHER_SECONDS = 1.0
"""How long a call to the API may wait for company while the line is busy."""

SHORT_SECONDS = 0.1
"""The same while nothing is being sent."""


class Pipeline:
    """The items of one run on their way: unread → read → unsigned → ready → sent."""

    def __init__(
        self,
        protocol: Protocol,
        journal: Journal,
        run: Run,
        batch_id: str,
        items: Sequence[Item],
        budget: Budget,
        flow: Flow,
    ) -> None:
        self.protocol, self.journal, self.run, self.batch_id = protocol, journal, run, batch_id
        self.items = items
        self.budget = budget
        self.flow = flow
        self.meter = Meter(total=sum(item.size for item in items))
        self.error: BaseException | None = None
        self.stop = threading.Event()
        self.winding_down = threading.Event()
        self.finished = threading.Event()
        self.lock = threading.Lock()
        self.started = time.monotonic()
        self.last_success = self.started
        self.unread: Inbox[Item] = Inbox()
        self.read: Inbox[Item] = Inbox()
        # What has the least to go comes first, and with it what was begun: of a run that is cut off, most files arrive.
        self.unsigned: Inbox[Part] = Inbox(lambda part: part.item.left)
        self.ready: Inbox[Part] = Inbox(lambda part: part.item.left)
        self.sent: Inbox[Item] = Inbox()
        self.reading = len(items)
        """Items that are still to be read."""
        self._open = len(items)
        self._given_up: set[str] = set()
        """Uploads that this run began and cancelled."""
        self._threads: list[threading.Thread] = []

    @property
    def idle(self) -> bool:
        """Nothing is being sent, nor waits to be."""
        return not (self.budget.in_flight or self.ready or self.unsigned)

    # How items end

    def end(self, item: Item, stage: str) -> None:
        """The transfer of an item is over, well or badly; the last one ends the run."""
        if self._stopped(item, stage):
            self._one_less()

    def end_found(self, item: Item, stage: str) -> None:
        """The service has the item's bytes, or another file sends them; if that one was set aside, this one does."""
        with self.lock:
            again = item.upload_id in self._given_up and stage not in ENDED
            if not again:
                self.meter.skipped += item.size
                item.sent = item.size
        if again:  # the answer was on its way when the upload was cancelled
            item.stage = "registering"
            self.read.put(item)
        else:
            self.end(item, stage)

    def _stopped(self, item: Item, stage: str) -> bool:
        """Have nothing more sent of an item; whether it was this call that did."""
        with self.lock:
            if item.transferred:
                return False
            item.stage = stage
            item.transferred = True
            return True

    def _one_less(self) -> None:
        with self.lock:
            self._open -= 1
            last = self._open == 0
        if last:
            self.end_all()

    def fail(self, item: Item, reason: str, hint: str = "") -> None:
        """This file does not arrive; the others may."""
        item.reason, item.hint = reason, hint
        self.end(item, "failed")

    def set_aside(self, item: Item) -> None:
        """The file changed: what was sent of it is of no use to anybody."""
        item.reason = "changed while it was read, and was set aside"
        item.hint = "run the same command again when nothing writes to it any more"
        if not self._stopped(item, "changed"):
            return
        # Only what this run began: a resumed upload may be in another process's hands. Before the run may end,
        # since one that stays open holds up its batch for days.
        if item.upload_id and item.outcome == "created":
            with suppress(PalettaError):
                self.protocol.cancel(item)
                self._send_twins(item.upload_id)
        self._one_less()

    def _send_twins(self, upload_id: str) -> None:
        """Register anew the files that left it to this upload to send their bytes: one of them does it now."""
        with self.lock:
            self._given_up.add(upload_id)
            twins = [
                item
                for item in self.items
                if item.transferred and item.outcome == "already_yours" and item.upload_id == upload_id
            ]
            for twin in twins:
                twin.transferred, twin.stage, twin.twin = False, "registering", ""
                twin.sent = 0
                self.meter.skipped -= twin.size
            self._open += len(twins)
        self.read.put(*twins)

    def end_all(self) -> None:
        """Let the stages run dry."""
        for inbox in (self.unread, self.read, self.unsigned, self.ready, self.sent):
            inbox.close()
        self.finished.set()

    def note(self, items: Iterable[Item]) -> None:
        """Tell the journal how far items have come."""
        self.journal.note(
            self.run, [Entry(i.ref, str(i.path), i.stage, i.upload_id, i.clip_id, i.reason) for i in items]
        )

    def wind_down(self) -> int:
        """Begin nothing more, without stopping what is nearly there; how many parts are waited for."""
        self.winding_down.set()
        kept = self.flow.wind_down()
        for inbox in (self.unread, self.read, self.unsigned, self.ready):
            inbox.clear()
        return kept

    @property
    def wound_down(self) -> bool:
        """What was waited for is there, and its files are put together."""
        arrived = (item for item in self.items if item.part_count and not item.pending)
        return not self.flow.awaited and all(item.transferred for item in arrived)

    # Threads

    def spawn(self, name: str, work: Callable[[], None]) -> None:
        """Run a stage in a thread; what it raises ends the run."""

        def guarded() -> None:
            try:
                work()
            except BaseException as error:
                if not self.stop.is_set():
                    self.error = self.error or error
                    self.finished.set()

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def halt(self, seconds: float) -> None:
        """Stop now, and give the threads up to `seconds` to go."""
        self.stop.set()
        self.protocol.service.stop.set()
        self.budget.stop()
        for inbox in (self.unread, self.read, self.unsigned, self.ready, self.sent):
            inbox.clear()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
