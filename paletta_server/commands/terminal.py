"""How the commands speak: plain lines on standard error, results on standard output, nothing live in them."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any


def clean(text: str) -> str:
    """Return `text` without control and format characters: it may come from a log or a server."""
    return "".join(
        character
        for character in text
        if character == "\n" or unicodedata.category(character) not in ("Cc", "Cf")
    )


def say(text: str) -> None:
    """Write lines to standard error."""
    sys.stderr.write(clean(text) + "\n")
    sys.stderr.flush()


def result(text: str) -> None:
    """Write a result to standard output."""
    sys.stdout.write(clean(text) + "\n")
    sys.stdout.flush()


def bar(what: str, unit: str, *, total: int | None = None) -> Any:
    """A `tqdm` bar on standard error that counts `unit` (`B` for bytes); into a file or a mail it draws nothing."""
    from tqdm import tqdm

    return tqdm(
        total=total,
        desc=what,
        unit=unit,
        unit_scale=True,
        unit_divisor=1024 if unit == "B" else 1000,
        mininterval=0.5,
        # Not `disable`: a bar that is off does not count either.
        file=sys.stderr if sys.stderr.isatty() else _Nowhere(),
    )


class _Nowhere:
    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        """Nothing is kept."""


def volume(count: int) -> str:
    """Bytes as people read them, in the units that stores are billed in."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"


def error(text: str) -> None:
    """Write an error; a line that begins with `hint:` stays on its own."""
    say(f"error: {text}")


def row(*cells: str) -> None:
    """Write a result of several values to standard output, tabs between."""
    sys.stdout.write("\t".join(" ".join(clean(cell).split()) for cell in cells) + "\n")
    sys.stdout.flush()


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str = "") -> None:
    """Write rows as aligned columns to standard output; the last column is cut where a terminal ends.

    A pipe gets whole values with tabs between, and no headings. `empty` is said where there are no rows.
    """
    if not rows:
        if empty:
            say(empty)
        return
    if not sys.stdout.isatty():
        for cells in rows:
            row(*cells)
        return
    lines = [[" ".join(clean(cell).split()) for cell in cells] for cells in rows]
    lines.insert(0, list(headings))
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    room = max(shutil.get_terminal_size().columns, 40)
    for line in lines:
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        result(text if len(text) <= room else f"{text[: room - 1]}…")
