"""The second half of a transfer: sign parts in small batches, send them, have uploads completed."""

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from paletta_cli.api import jitter
from paletta_cli.errors import GaveUp, PalettaError
from paletta_cli.transfer.drill import hurried, reach
from paletta_cli.transfer.fingerprint import Stamp
from paletta_cli.transfer.items import ENDED, Item, Part
from paletta_cli.transfer.pipeline import GATHER_SECONDS, Pipeline
from paletta_cli.transfer.retry import DIGEST_TRIES, TRIES, Verdict
from paletta_cli.transfer.sending import Outcome, Sender

_COMPLETERS = 2  # one waits for the store while the other gathers
_SIGNERS = 2  # a call begins a multipart upload per file and may be slow: the other's parts go meanwhile
_SIGN_AHEAD = 32  # parts per call to sign, and …
_WAITING = 4  # … signed parts per connection that should wait, so that the line never runs dry during a call
_URL_SHARE = 0.8  # of its life after which a URL is not used any more
_FRESH_REFUSALS = 3  # of one part, before a refusal is believed to be meant
_COMPLETIONS = (
    20  # times to ask for one upload; "completing" and a restarting store answer within a minute or two
)


class Delivery:
    """unsigned → ready → sent → completed."""

    def __init__(self, line: Pipeline, sender: Sender) -> None:
        self._line = line
        self._sender = sender
        self._senders = 0

    def start(self) -> None:
        for _ in range(_SIGNERS):
            self._line.spawn("signer", self._signer)
        for _ in range(_COMPLETERS):
            self._line.spawn("completer", self._completer)
        self._staff_senders()

    def _signer(self) -> None:
        def ripe(_count: int, _waited: float) -> bool:
            return len(self._line.ready) < _WAITING * self._line.budget.limit

        while parts := self._line.unsigned.take(self._batch_of_parts(), ripe):
            if self._line.stop.is_set():
                return
            parts = [part for part in parts if not part.item.transferred]
            if not parts:
                continue
            reach("sign")
            answers = self._line.protocol.sign(parts)
            reach("sign")
            for part in parts:
                self._signed(part, answers.get(part.item.upload_id) or {})

    def _batch_of_parts(self) -> int:
        """How many parts to sign at once: few calls, but no more than can be sent in a third of a URL's life."""
        least = 2 * self._line.budget.limit
        elapsed = time.monotonic() - self._line.started
        if not self._line.meter.stored or elapsed <= 0:
            return least
        part = self._line.meter.stored / max(1, self._line.meter.parts)
        sendable = int(self._line.meter.stored / elapsed * self._line.protocol.limits.url_seconds / 3 / part)
        return max(
            1,
            min(
                self._line.protocol.limits.parts_per_call, _SIGN_AHEAD, max(sendable, self._line.budget.limit)
            ),
        )

    def _signed(self, part: Part, answer: Mapping[str, Any]) -> None:
        problem = answer.get("problem")
        signed = answer.get("parts")
        if isinstance(problem, dict):
            if problem.get("code") in ("already_stored", "upload_over"):
                self._ask_to_complete(part)  # the service's answer to that says how the upload ended
            elif problem.get("code") == "part_differs":
                self._line.set_aside(part.item)
            else:
                self._line.fail(part.item, str(problem.get("detail")), str(problem.get("hint") or ""))
        elif isinstance(signed, dict) and part.number in signed:
            part.signed = signed[part.number]
            self._line.ready.put(part)
        else:
            self._line.fail(part.item, f"the service did not sign part {part.number}")

    def _staff_senders(self) -> None:
        with self._line.lock:
            wanted = max(0, self._line.budget.limit - self._senders)
            self._senders += wanted
        for _ in range(wanted):
            self._line.spawn("sender", self._send_loop)

    def _send_loop(self) -> None:
        while (taken := self._line.ready.take(admit=self._admit)) and not self._line.stop.is_set():
            part = taken[0]
            began, stored = time.monotonic(), 0
            try:
                outcome = self._send(part)
                stored = part.length if outcome and outcome[0] is Verdict.STORED else 0
                if outcome and stored:
                    self._act(part, *outcome)  # while it counts as on the way: who winds down waits for it
            finally:
                self._line.flow.end(part, arrived=stored > 0)
                self._line.budget.release(stored, time.monotonic() - began)
            if outcome and not stored:
                self._act(part, *outcome)
            if outcome:
                self._staff_senders()

    def _admit(self, part: Part) -> bool:
        return self._line.budget.try_acquire(lambda: self._line.flow.begin(part))

    def _send(self, part: Part) -> Outcome | None:
        """PUT the part; None when there is no need to, or its address is too old."""
        if part.item.transferred or part.number not in part.item.pending:
            return None
        if part.signed is None or part.signed.age > self._line.protocol.limits.url_seconds * _URL_SHARE:
            part.signed = None
            self._line.unsigned.put(part, first=True)
            return None
        return self._sender.send(part, self._count, self._rewind)

    def _count(self, part: Part, count: int) -> None:
        reach("part")
        with self._line.lock:
            self._line.meter.sent += count
            part.item.sent += count
        self._line.flow.moved(part, count)

    def _act(self, part: Part, verdict: Verdict, detail: str, asked: float | None) -> None:
        """Go on after one PUT."""
        if self._line.stop.is_set():
            return
        item = part.item
        if verdict is Verdict.STORED:
            self._stored(part)
            return
        self._rewind(part)
        if self._line.winding_down.is_set():
            return
        if verdict is Verdict.CHANGED:
            self._line.set_aside(item)
        elif verdict is Verdict.GONE:
            self._ask_to_complete(part)
        elif verdict is Verdict.SIGN:
            self._sign_again(part, detail)
        elif verdict is Verdict.FILE:
            self._line.fail(item, detail)
        elif verdict is Verdict.ALL:
            raise PalettaError(detail, hint="nothing was lost: mend this and run the same command again")
        else:
            self._try_again(part, verdict, detail, asked)

    def _stored(self, part: Part) -> None:
        item = part.item
        with self._line.lock:
            self._line.last_success = time.monotonic()
            self._line.meter.stored += part.length
            self._line.meter.parts += 1
            item.pending.discard(part.number)
            last = not item.pending
        reach("part")
        if last:
            self._line.sent.put(item)

    def _rewind(self, part: Part) -> None:
        """Take back what was counted for a part that did not arrive."""
        with self._line.lock:
            self._line.meter.sent -= part.counted
            part.item.sent -= part.counted
            self._line.meter.repeated += part.counted
            part.counted = 0

    def _sign_again(self, part: Part, detail: str) -> None:
        """An expired URL costs no try; a fresh one that is refused twice is not about age."""
        assert part.signed is not None
        if part.signed.age < self._line.protocol.limits.url_seconds * _URL_SHARE:
            part.refused += 1
        if part.refused >= _FRESH_REFUSALS:
            self._line.fail(
                part.item,
                f"refused with a fresh address: {detail}",
                "is this machine's network rewriting requests?",
            )
            return
        part.signed = None
        self._line.unsigned.put(part, first=True)

    def _try_again(self, part: Part, verdict: Verdict, detail: str, asked: float | None) -> None:
        now = time.monotonic()
        part.first_trouble = part.first_trouble or now
        part.tries += 1
        if verdict is Verdict.SLOWER:
            self._line.budget.slow_down(asked)
        elif verdict is Verdict.DAMAGED:
            part.damaged += 1
            if part.damaged >= DIGEST_TRIES:
                self._line.fail(
                    part.item, f"arrives damaged each time: {detail}", "suspect a disk, memory or a proxy"
                )
                return
        else:
            self._line.budget.back_off()
        if part.tries >= TRIES:
            if self._line.last_success < part.first_trouble:
                raise GaveUp(
                    f"the object store stayed out of reach for {now - part.first_trouble:.0f} s: {detail}",
                    hint="run the same command again to go on: finished parts are not sent again",
                )
            self._line.fail(
                part.item, f"gave up after {part.tries} tries: {detail}", "run the same command again"
            )
            return
        self._line.ready.put(part, delay=max(hurried(jitter(part.tries)), asked or 0.0))

    def _completer(self) -> None:
        def ripe(_count: int, waited: float) -> bool:
            at_once = self._line.winding_down.is_set() or (self._line.idle and not self._line.reading)
            return waited >= (0.0 if at_once else GATHER_SECONDS)

        while items := self._line.sent.take(self._line.protocol.limits.items_per_call, ripe):
            if self._line.stop.is_set():
                return
            items = [item for item in dict.fromkeys(items) if not item.transferred and self._as_read(item)]
            if not items:
                continue
            reach("complete")
            answers = self._line.protocol.complete(items)
            reach("complete")
            for item in items:
                self._completed(item, answers.get(item.upload_id) or {})
            self._line.note(item for item in items if item.transferred)

    def _as_read(self, item: Item) -> bool:
        """Whether the file is still what was read, asked once, before the first call to complete it.

        One that was written to behind the block being sent arrives whole, but is not the contributor's any more.
        """
        if item.completions or self._same_file(item):
            return True
        self._line.set_aside(item)
        return False

    def _ask_to_complete(self, part: Part) -> None:
        """The store and we disagree about an upload: the service knows. The part waits for its word."""
        item = part.item
        with self._line.lock:
            item.adrift.add(part.number)
        if not item.transferred:
            self._line.sent.put(item)

    def _completed(self, item: Item, answer: Mapping[str, Any]) -> None:
        item.clip_id = str(answer.get("clip_id") or item.clip_id)
        problem = answer.get("problem")
        if not isinstance(problem, dict):
            if answer.get("state") == "completing":
                self._complete_later(item, "the service is still putting it together")
            else:
                item.pending.clear()
                self._line.end(item, str(answer.get("stage") or "stored"))
            return
        detail, hint = str(problem.get("detail")), str(problem.get("hint") or "")
        if problem.get("code") == "missing_parts":
            self._send_missing(item, [int(number) for number in problem.get("missing_parts") or ()], detail)
        elif problem.get("retryable"):
            self._complete_later(item, detail)
        elif problem.get("code") == "checksum_mismatch" and not self._same_file(item):
            self._line.set_aside(item)
        else:
            stage = str(answer.get("stage") or "failed")
            item.reason, item.hint = detail, hint
            self._line.end(item, stage if stage in ENDED else "failed")

    def _complete_later(self, item: Item, detail: str) -> None:
        item.completions += 1
        if item.completions >= _COMPLETIONS:
            self._line.fail(item, f"could not be completed: {detail}", "run the same command again")
            return
        self._line.sent.put(item, delay=0.5 + jitter(min(item.completions, 3)))

    def _send_missing(self, item: Item, numbers: list[int], detail: str) -> None:
        item.completions += 1
        if item.completions >= _COMPLETIONS:
            self._line.fail(item, f"could not be completed: {detail}", "run the same command again")
            return
        assert item.print is not None
        with self._line.lock:
            # Parts that still wait in a queue of ours need no second place in it.
            gone = [number for number in numbers if number not in item.pending]
            again = gone + [number for number in numbers if number in item.adrift]
            item.adrift.clear()
            item.pending.update(gone)
            lost = sum(item.print.length(number) for number in gone)
            item.sent -= lost
            self._line.meter.sent -= lost
        self._line.unsigned.put(*(Part(item, number) for number in again))

    def _same_file(self, item: Item) -> bool:
        assert item.print is not None
        with suppress(OSError):
            return Stamp.of(item.path.stat()) == item.print.stamp
        return False
