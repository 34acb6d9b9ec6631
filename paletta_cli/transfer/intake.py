"""The first half of a transfer: read each file once, and register it with the service."""

import time
from collections.abc import Mapping
from typing import Any

from paletta_cli.transfer import fingerprint
from paletta_cli.transfer.drill import reach
from paletta_cli.transfer.fingerprint import Changed, Fingerprint, Stamp, Stopped
from paletta_cli.transfer.items import ENDED, PROCESSING, Item, Part, SignedPut
from paletta_cli.transfer.pipeline import GATHER_SECONDS, SHORT_SECONDS, Pipeline

_READERS = 2  # SHA-256 takes a core each; more would only fight the senders for the disk


class Intake:
    """unread → read → unsigned, or ready at once for a small file whose signed request came with its
    registration.
    """

    def __init__(self, line: Pipeline) -> None:
        self._line = line

    def start(self) -> None:
        for _ in range(_READERS):
            self._line.spawn("reader", self._reader)
        self._line.spawn("registrar", self._registrar)

    def _reader(self) -> None:
        prints: list[tuple[Item, Fingerprint]] = []
        flushed = time.monotonic()
        while (taken := self._line.unread.take()) and not self._line.stop.is_set():
            item = taken[0]
            item.stage = "reading"
            if (fresh := self._fingerprint(item)) is not None:
                prints.append((item, fresh))
                reach("fingerprint")
            if not item.transferred:
                item.stage = "registering"
                self._line.read.put(item)
            with self._line.lock:
                self._line.reading -= 1
                last = self._line.reading == 0
            if last:
                self._line.unread.close()
            # Large files are worth a write each, small ones are written together.
            if len(prints) >= 64 or time.monotonic() - flushed > 0.5:
                self._remember(prints)
                prints, flushed = [], time.monotonic()
        self._remember(prints)

    def _fingerprint(self, item: Item) -> Fingerprint | None:
        """Read the item if the journal does not know it as it is; what was newly read, or None."""
        try:
            stamp = Stamp.of(item.path.stat())
            if stamp.size == 0:
                item.reason = "is empty"
                self._line.end(item, "invalid")
                return None
            part_size = self._line.protocol.limits.parts.part_size(stamp.size)
            if item.print is not None and (item.print.stamp, item.print.part_size) == (stamp, part_size):
                return None
            item.print = fingerprint.take(item.path, part_size, stop=self._line.stop)
        except Changed:
            self._line.set_aside(item)
            return None
        except Stopped:
            item.transferred = True
            return None
        except OSError as error:
            self._line.fail(item, f"cannot be read: {error.strerror or error}")
            return None
        if item.print.size != item.size:
            with self._line.lock:
                self._line.meter.total += item.print.size - item.size
                item.size = item.print.size
        return item.print

    def _remember(self, prints: list[tuple[Item, Fingerprint]]) -> None:
        self._line.journal.remember([(item.path, fresh) for item, fresh in prints])

    def _registrar(self) -> None:
        def ripe(_count: int, waited: float) -> bool:
            hungry = not (self._line.ready or self._line.unsigned)
            return not self._line.reading or waited >= (SHORT_SECONDS if hungry else GATHER_SECONDS)

        most = self._line.protocol.limits.items_per_call
        # New files while the service takes none: they wait here until all those have gone on that may.
        late: list[Item] = []
        while True:
            partly = not late or bool(self._line.read or self._line.reading)
            if partly:
                items = self._line.read.take(most, ripe)
            else:
                items, late = late[:most], late[most:]
            if self._line.stop.is_set() or self._line.winding_down.is_set() or not (items or late):
                return
            if not items:
                continue
            reach("register")
            answers = self._line.protocol.register(self._line.batch_id, items, partly=partly)
            reach("register")
            answered = [item for item in items if item.ref in answers]
            late += [item for item in items if item.ref not in answers]
            # All of a call at once, for the queues to have them in their order.
            parts = [part for item in answered for part in self._registered(item, answers[item.ref])]
            self._line.ready.put(*(part for part in parts if part.signed))
            self._line.unsigned.put(*(part for part in parts if not part.signed))
            self._line.note(answered)

    def _registered(self, item: Item, answer: Mapping[str, Any]) -> list[Part]:
        """Act on the service's answer for one file; the parts to send of it."""
        item.found(answer)
        item.doubts = list(answer.get("warnings") or ())
        item.outcome = str(answer["outcome"])
        item.upload_id = str(answer.get("upload_id") or "")
        item.clip_id = str(answer.get("clip_id") or "")
        if item.outcome == "invalid":
            item.problems = list(answer.get("problems") or ())
            item.reason = "; ".join(str(problem["message"]) for problem in item.problems)
            self._line.end(item, "invalid")
            return []
        stage = str(answer.get("stage") or "")
        if item.outcome == "already_yours" or stage in PROCESSING or stage in ENDED:
            self._line.end_found(item, stage or "stored")
            return []
        assert item.print is not None
        part_size = int(answer["part_size"])
        if part_size != item.print.part_size:
            try:
                item.print = fingerprint.recut(item.path, item.print, part_size)
            except (Changed, OSError):
                self._line.set_aside(item)
                return []
        return self._plan_parts(item, answer)

    def _plan_parts(self, item: Item, answer: Mapping[str, Any]) -> list[Part]:
        assert item.print is not None
        item.part_count = int(answer["part_count"])
        there = set(answer.get("uploaded_parts") or ())
        item.pending = set(range(1, item.part_count + 1)) - there
        with self._line.lock:
            self._line.meter.skipped += item.there or 0
        item.sent = item.there or 0
        item.stage = "uploading"
        if not item.pending:
            self._line.sent.put(item)
            return []
        put = answer.get("put")
        if isinstance(put, dict):
            return [Part(item, 1, SignedPut(put["url"], put["headers"]))]
        return [Part(item, number) for number in sorted(item.pending)]
