"""Tables for a terminal of 80 columns, whole words wrapped rather than cut: a plan is read, and printed."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from itertools import groupby

WIDTH = 80


def sections(lines: Iterable[tuple[str, str, str]]) -> str:
    """(section, name, value): a block for each section, in the order given."""
    found = []
    for section, rows in groupby(lines, key=lambda line: line[0]):
        pairs = [(name, value) for _, name, value in rows]
        width = min(max(len(name) for name, _ in pairs), 34)
        found.append(section)
        for name, value in pairs:
            first = f"  {name:{width}}  "
            found += textwrap.wrap(
                value,
                WIDTH,
                initial_indent=first,
                subsequent_indent=" " * (width + 4),
                break_on_hyphens=False,
            ) or [first.rstrip()]
    return "\n".join(found)


def columns(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column to the left, figures to the right."""
    lines = [headings, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
