"""Charts of figures over time, for a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from paletta_cli.text import clean, money, size

WIDTH, HEIGHT = 56, 6
"""Characters of the canvas: with its axis it fits 80 columns, with a table below a screen."""
FEWEST = 3
"""Fewer points say more as a table."""


def of(rows: Sequence[Mapping[str, Any]], figure: str, by: str | None) -> Iterator[str]:
    """A chart of `figure` for each value of `by`, from 0 up."""
    for name in dict.fromkeys(row[by] if by else None for row in rows):
        mine = [row for row in rows if by is None or row[by] == name]
        values = [float(row[figure]) for row in mine]
        if len(values) < FEWEST or not any(values):
            continue
        title = f"{figure}, {clean(name)}" if name else figure
        yield f"{title}\n{_drawn(values, mine, figure, name if by == 'currency' else None)}\n"


def _drawn(
    values: Sequence[float], rows: Sequence[Mapping[str, Any]], figure: str, currency: str | None
) -> str:
    import plotille

    canvas = plotille.Canvas(
        WIDTH, HEIGHT, xmin=0, xmax=len(values) - 1, ymin=min(0.0, *values), ymax=max(values)
    )
    for number in range(1, len(values)):
        canvas.line(number - 1, values[number - 1], number, values[number])
    lines = canvas.plot().splitlines()
    top, bottom = (_label(value, figure, currency) for value in (max(values), min(0.0, *values)))
    margin = max(len(top), len(bottom))
    labels = [top, *[""] * (len(lines) - 2), bottom]
    drawn = [f"{label:>{margin}} ┤{line.rstrip()}" for label, line in zip(labels, lines, strict=True)]
    first, last = str(rows[0]["period"]), str(rows[-1]["period"])
    drawn.append(f"{'':>{margin}}  {first}{last:>{max(WIDTH - len(first), len(last) + 1)}}")
    return "\n".join(drawn)


def _label(value: float, figure: str, currency: str | None) -> str:
    if currency is not None:
        return money(int(value), currency)
    return size(value) if figure == "bytes" else f"{value:,.0f}"
