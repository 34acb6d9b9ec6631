"""Posters of a clip: as pictures where the terminal can, as a table where not, as files."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paletta_cli import pictures
from paletta_cli.clips import previews
from paletta_cli.errors import PalettaError
from paletta_cli.output import Column, Output

_COLUMNS = 40
_IN_A_ROW = 3
_WIDEST = 120
_NARROWEST = 8


def show(out: Output, candidates: Sequence[dict[str, Any]], *, off: bool) -> None:
    """The candidates with their numbers and times."""
    if _sheet(out, candidates, off=off):
        return
    columns = [
        Column("number", "no.", right=True),
        Column("at", "time", show=_time, right=True),
        Column("width", "width", right=True),
        Column("height", "height", right=True),
        Column("chosen", "poster", show=lambda chosen: "yes" if chosen else ""),
    ]
    out.table(candidates, columns)


def draw(out: Output, urls: Sequence[str], columns: int = _COLUMNS, *, off: bool) -> bool:
    """Show pictures side by side where the terminal can; whether it did. A preview that does not come is no error."""
    how = None if off or out.mode != "table" else pictures.protocol(out.stdout, os.environ)
    columns = min(columns, shutil.get_terminal_size().columns - 1)
    if how is None or columns < _NARROWEST:
        return False
    try:
        drawn = pictures.render([previews.fetch(url, most=pictures.MAX_BYTES) for url in urls], columns, how)
    except PalettaError as error:
        out.warn(error.message)
        return False
    out.drawing(drawn)
    return bool(drawn)


def _sheet(out: Output, candidates: Sequence[dict[str, Any]], *, off: bool) -> bool:
    """The candidates as pictures in rows, numbered; False where the terminal cannot."""
    columns = (
        min(shutil.get_terminal_size().columns, _WIDEST) - 1 - pictures.GAP * (_IN_A_ROW - 1)
    ) // _IN_A_ROW
    for start in range(0, len(candidates), _IN_A_ROW):
        row = candidates[start : start + _IN_A_ROW]
        if not draw(out, [one["url"] for one in row], columns, off=off):
            return False
        labels = (f"{one['number']}  {_time(one['at'])}{'  poster' * one['chosen']}" for one in row)
        out.line("".join(f"{label:<{columns + pictures.GAP}}" for label in labels).rstrip())
    return True


def save(out: Output, uid: str, candidates: Sequence[dict[str, Any]], folder: Path, *, force: bool) -> None:
    """Write every candidate as `<clip>-poster-<number>.jpg`. Raises UsageError where a file is in the way."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PalettaError(
            f"cannot make the folder `{folder}`: {(error.strerror or str(error)).lower()}"
        ) from error
    name = "".join(char for char in uid if char.isascii() and (char.isalnum() or char == "_"))
    targets = [(one["url"], folder / f"{name}-poster-{int(one['number'])}.jpg") for one in candidates]
    for _, path in targets:
        previews.refuse_if_taken(path, force=force)
    for url, path in targets:
        previews.save(url, path, force=force)
        out.note(f"wrote `{path}`")


def _time(seconds: float) -> str:
    """`0:02.5`: where in the clip."""
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}:{rest:04.1f}"
