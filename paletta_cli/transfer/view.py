"""What a person sees meanwhile: a live picture on a terminal, plain lines elsewhere.

Both read, neither changes.
"""

import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from paletta_cli.output import Output
from paletta_cli.text import clean, duration, plural, rate, size
from paletta_cli.transfer.items import Item, Meter

if TYPE_CHECKING:
    from rich.console import RenderableType

_ROWS = 8  # files shown one by one; the rest is in the counts
_PLAIN_SECONDS = 10.0
_PLAIN_STAGES_SECONDS = 2.0
_SPEED_SECONDS = 8.0  # what "now" means for the speed
OUTCOME_NAMES = {
    "created": "new",
    "resumed": "resumed",
    "already_yours": "already yours",
    "twin": "with the same bytes as another",
    "invalid": "invalid",
}
STAGE_NAMES = {
    "waiting": "waiting",
    "reading": "reading",
    "registering": "registering",
    "uploading": "uploading",
    "stored": "stored",
    "verifying": "verifying",
    "probing": "probing",
    "transcoding": "transcoding",
    "publishing": "publishing",
    "in_review": "waiting for review",
    "live": "live",
    "changes_requested": "to be changed",
    "taken_down": "taken down",
    "rejected": "rejected",
    "failed": "failed",
    "cancelled": "cancelled",
    "expired": "expired",
    "deleted": "deleted",
    "invalid": "invalid",
    "changed": "changed meanwhile",
}


class View(Protocol):
    """A view is ticked a few times a second, told what is to be written meanwhile, and closed in the end."""

    def tick(self) -> None: ...
    def say(self, words: str) -> None: ...
    def close(self) -> None: ...


class Speed:
    """Bytes per second over the last few seconds, and what is left at that speed."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._samples: deque[tuple[float, int]] = deque()

    def sample(self) -> None:
        now = time.monotonic()
        self._samples.append((now, self._meter.sent))
        while now - self._samples[0][0] > _SPEED_SECONDS:
            self._samples.popleft()

    @property
    def now(self) -> float:
        if len(self._samples) < 2:
            return 0.0
        (then, before), (now, after) = self._samples[0], self._samples[-1]
        return max(0.0, (after - before) / max(0.001, now - then))

    @property
    def done(self) -> int:
        """Bytes that are there, or on their way."""
        return min(self._meter.total, self._meter.sent + self._meter.skipped)

    @property
    def left(self) -> float | None:
        """Seconds to go, or None while nobody can know."""
        return (self._meter.total - self.done) / self.now if self.now > 0 else None


def outcomes(items: Sequence[Item]) -> str:
    """How the service took the files: `12 new, 3 resumed (5.00 MiB of 31.0 MiB there), 40 already yours`."""
    return counted((_outcome(item), item) for item in items)


def counted(answers: Iterable[tuple[str, Item]]) -> str:
    """How many files there are of each outcome, in words; of those resumed, how much is there already."""
    found: dict[str, list[Item]] = {}
    for outcome, item in answers:
        found.setdefault(outcome, []).append(item)
    words = []
    for outcome, name in OUTCOME_NAMES.items():
        if those := found.get(outcome):
            there = f" ({_there(those)} there)" if outcome == "resumed" and _known(those) else ""
            words.append(f"{len(those)} {name}{there}")
    return ", ".join(words)


def _known(items: Sequence[Item]) -> bool:
    return all(item.there is not None for item in items)


def _there(items: Sequence[Item]) -> str:
    return f"{size(sum(item.there or 0 for item in items))} of {size(sum(item.size for item in items))}"


def would_be(item: Item) -> str:
    """What an upload would do with a file: `new`, `resumed, 0 B of 5.00 MiB are there`."""
    if item.twin:
        return f"same bytes as `{item.twin}`"
    words = OUTCOME_NAMES.get(item.outcome, item.outcome)
    if item.outcome == "resumed" and _known([item]):
        words += f", {_there([item])} are there"
    return f"{words}, described otherwise" if item.differs else words


def _outcome(item: Item) -> str:
    return "twin" if item.twin else item.outcome or ("invalid" if item.stage == "invalid" else "")


def stages(items: Sequence[Item]) -> str:
    """How many files are where: `uploading 3 · transcoding 2 · live 7`."""
    found = Counter(item.stage for item in items)
    return " · ".join(f"{name} {found[key]}" for key, name in STAGE_NAMES.items() if found[key])


class PlainView:
    """A line now and then, for logs and pipes."""

    def __init__(self, out: Output, items: Sequence[Item], meter: Meter) -> None:
        self._out, self._items, self._meter = out, items, meter
        self._speed = Speed(meter)
        self._sending = True
        self._next = time.monotonic() + _PLAIN_SECONDS
        self._last = ""

    def tick(self) -> None:
        self._speed.sample()
        now = time.monotonic()
        if now < self._next:
            return
        sending = any(not item.transferred for item in self._items)
        line = self._transfer_line() if sending else stages(self._items)
        if line != self._last:
            self._out.note(line)
            self._last = line
        self._next = now + (_PLAIN_SECONDS if sending else _PLAIN_STAGES_SECONDS)

    def say(self, words: str) -> None:
        self._out.note(words)

    def close(self) -> None:
        pass

    def _transfer_line(self) -> str:
        sent = sum(item.transferred for item in self._items)
        left = self._speed.left
        words = [
            f"{sent} of {plural(len(self._items), 'clip')}",
            f"{size(self._speed.done)} of {size(self._meter.total)}",
            rate(self._speed.now),
        ]
        return ", ".join(words + ([f"{duration(left)} left"] if left is not None else []))


class LiveView:
    """Total, speed and time left, the files under way, then the transcoding of each clip; redrawn in place."""

    def __init__(self, out: Output, items: Sequence[Item], meter: Meter) -> None:
        self._out, self._items, self._meter = out, items, meter
        self._speed = Speed(meter)
        self._closed = False
        self._begin()

    def tick(self) -> None:
        self._speed.sample()
        self._live.update(self._picture(), refresh=True)

    def say(self, words: str) -> None:
        """Above the picture, which is taken away and drawn anew: it does not know of lines that others write."""
        self._live.stop()
        self._out.note(words)
        if not self._closed:
            self._begin()

    def close(self) -> None:
        self._closed = True
        self._live.stop()

    def _begin(self) -> None:
        from rich.live import Live

        self._live = Live(console=self._out.console(), auto_refresh=False, transient=True)
        self._live.start()

    def _picture(self) -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        rows: list[RenderableType] = []
        if any(not item.transferred for item in self._items):
            rows.append(self._total())
        busy = [item for item in self._items if _is_busy(item)]
        if busy:
            rows.append(self._files(busy[:_ROWS]))
        rows.append(Text(stages(self._items), style="dim"))
        return Group(*rows)

    def _total(self) -> "RenderableType":
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        left, label = self._speed.left, "uploading"
        grid = Table.grid(padding=(0, 1))
        words = f"{size(self._speed.done)} of {size(self._meter.total)}  {rate(self._speed.now)}"
        if left is not None:
            words += f"  {duration(left)} left"
        # The words need their room, the bar takes what is left: the line stays one at 80 columns.
        room = self._live.console.width - len(label) - len(words) - 3
        bar = ProgressBar(
            total=max(1, self._meter.total), completed=self._speed.done, width=max(4, min(28, room))
        )
        grid.add_row(Text(label, style="bold"), bar, Text(words, no_wrap=True))
        return grid

    def _files(self, items: Sequence[Item]) -> "RenderableType":
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=32, no_wrap=True, overflow="ellipsis")
        for item in items:
            share = item.progress if item.transferred else item.sent / item.size if item.size else 0.0
            bar: RenderableType = Text("")
            if share is not None:
                bar = ProgressBar(total=1.0, completed=min(1.0, share), width=20)
            words = STAGE_NAMES.get(item.stage, item.stage)
            if share is not None:  # the bar of the transfer was full: say what this one measures
                words += f" {share:.0%}"
            if not item.transferred:
                words = f"{size(item.sent)} of {size(item.size)}"
            grid.add_row(Text(f"  {clean(item.path.name)}"), bar, Text(words))
        return grid


def _is_busy(item: Item) -> bool:
    """Whether a file is worth a row of its own now."""
    if not item.transferred:
        return item.stage == "reading" or (item.stage == "uploading" and item.sent > 0)
    return item.stage in ("verifying", "probing", "transcoding", "publishing")
