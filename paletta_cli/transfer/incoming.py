"""What a person sees of a download: a live picture on a terminal, plain lines elsewhere. Reads, never changes."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from paletta_cli.output import Output
from paletta_cli.text import clean, duration, plural, rate, size
from paletta_cli.transfer.items import Meter
from paletta_cli.transfer.view import Speed
from paletta_cli.transfer.wanted import Wanted

if TYPE_CHECKING:
    from rich.console import RenderableType

_ROWS = 8
_PLAIN_SECONDS = 10.0


class Picture:
    """Tick it a few times a second, close it in the end."""

    def __init__(self, out: Output, files: Sequence[Wanted], meter: Meter) -> None:
        self._out, self._files, self._meter = out, files, meter
        self._speed = Speed(meter)
        self._next = time.monotonic() + _PLAIN_SECONDS
        self._live = None
        if out.stderr.isatty() and out.mode != "json":
            from rich.live import Live

            self._live = Live(console=out.console(), auto_refresh=False, transient=True)
            self._live.start()

    def tick(self) -> None:
        self._speed.sample()
        if self._live is not None:
            self._live.update(self._drawn(), refresh=True)
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + _PLAIN_SECONDS
            self._out.note(f"{self._counts()}, {self._words()}")

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _counts(self) -> str:
        return f"{sum(file.over for file in self._files)} of {plural(len(self._files), 'file')}"

    def _words(self) -> str:
        words = f"{size(self._speed.done)} of {size(self._meter.total)}, {rate(self._speed.now)}"
        left = self._speed.left
        return words + (f", {duration(left)} left" if left is not None else "")

    def _drawn(self) -> "RenderableType":
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        assert self._live is not None
        words = self._words()
        room = self._live.console.width - len("downloading") - len(words) - 3
        top = Table.grid(padding=(0, 1))
        bar = ProgressBar(
            total=max(1, self._meter.total), completed=self._speed.done, width=max(4, min(28, room))
        )
        top.add_row(Text("downloading", style="bold"), bar, Text(words, no_wrap=True))
        rows = Table.grid(padding=(0, 1))
        rows.add_column(width=32, no_wrap=True, overflow="ellipsis")
        busy = [
            file
            for file in self._files
            if file.stage == "checking" or (file.stage == "loading" and file.received)
        ]
        for file in busy[:_ROWS]:
            share = ProgressBar(total=max(1, file.size), completed=min(file.size, file.received), width=20)
            about = "checking" if file.stage == "checking" else f"{size(file.received)} of {size(file.size)}"
            rows.add_row(Text(f"  {clean(file.path.name)}"), share, Text(about))
        return Group(top, rows, Text(self._counts(), style="dim"))
