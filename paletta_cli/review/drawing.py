"""A clip's pictures as text: two pixels per character, which any terminal with colours shows."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.color import Color
from rich.style import Style
from rich.text import Text

from paletta_cli import pictures
from paletta_cli.clips import previews
from paletta_cli.errors import PalettaError
from paletta_cli.pictures import Picture

_CUE = re.compile(r"#xywh=(\d+),(\d+),(\d+),(\d+)")
_MOST_CUES = 64 * 1024
_BLOCK = "▀"


@dataclass(frozen=True, slots=True)
class Pictures:
    """The JPEG files of a clip, and where the frames are in the storyboard: x, y, width, height in pixels."""

    poster: bytes | None
    storyboard: bytes | None
    frames: Sequence[tuple[int, int, int, int]]
    trouble: str | None = None


def fetched(media: dict[str, str]) -> Pictures:
    """A clip's pictures from their addresses. What cannot be had is left out, and `trouble` says why."""
    trouble: list[str] = []

    def get(kind: str, most: int) -> bytes | None:
        if kind not in media:
            return None
        try:
            return previews.fetch(media[kind], most=most)
        except PalettaError as error:
            trouble.append(error.message)
            return None

    poster = get("poster", pictures.MAX_BYTES)
    storyboard = get("storyboard", pictures.MAX_BYTES)
    cues = get("storyboard_vtt", _MOST_CUES) or b""
    frames = [
        (int(x), int(y), int(w), int(h)) for x, y, w, h in _CUE.findall(cues.decode("utf-8", "replace"))
    ]
    return Pictures(poster, storyboard, frames, trouble[0] if trouble else None)


def poster(jpeg: bytes | None, columns: int, rows: int) -> Text | None:
    """The poster, as large as fits; None where there is none that can be read."""
    if jpeg is None or (shape := pictures.decode(jpeg, 16)) is None:
        return None
    width = fitting(16, shape.height, columns, rows)
    picture = pictures.decode(jpeg, width)
    return None if picture is None else _drawn([picture])


def strip(found: Pictures, columns: int, rows: int, *, gap: int = 1) -> Text | None:
    """As many frames of the storyboard as fit side by side, spread over the film; None where there are none."""
    if found.storyboard is None or not found.frames:
        return None
    _, _, frame_width, frame_height = found.frames[0]
    if not frame_width or not frame_height:
        return None
    width = fitting(frame_width, frame_height, columns, rows)
    count = min(len(found.frames), (columns + gap) // (width + gap))
    across = max(x + w for x, _, w, _ in found.frames)
    sheet = pictures.decode(found.storyboard, round(across * width / frame_width))
    if sheet is None or not count:
        return None
    chosen = [
        found.frames[round((number + 0.5) * len(found.frames) / count - 0.5)] for number in range(count)
    ]
    scale = width / frame_width
    cells = [
        _cut(sheet, round(x * scale), round(y * scale), width, round(h * scale)) for x, y, _, h in chosen
    ]
    return _drawn(cells, gap)


def fitting(width: int, height: int, columns: int, rows: int) -> int:
    """How many columns a picture of this shape takes that fits; a character is one pixel wide and two high."""
    return max(4, min(columns, int(2 * rows * width / max(1, height))))


def _cut(sheet: Picture, left: int, top: int, width: int, height: int) -> Picture:
    """A part of a picture, moved into it where it lies outside."""
    left, top = min(left, sheet.width - width), min(top, sheet.height - height)
    row = 3 * sheet.width
    lines = (
        sheet.rgb[line * row + 3 * left : line * row + 3 * (left + width)]
        for line in range(max(0, top), top + height)
    )
    return Picture(width, height, b"".join(lines))


def _drawn(found: Sequence[Picture], gap: int = 0) -> Text:
    text = Text(no_wrap=True, end="")
    for top in range(0, max(picture.height for picture in found), 2):
        if top:
            text.append("\n")
        for number, picture in enumerate(found):
            if number:
                text.append(" " * gap)
            for column in range(picture.width):
                text.append(
                    _BLOCK,
                    Style(color=_colour(picture, column, top), bgcolor=_colour(picture, column, top + 1)),
                )
    return text


def _colour(picture: Picture, column: int, row: int) -> Any:
    at = 3 * (row * picture.width + column)
    pixel = picture.rgb[at : at + 3]
    return Color.from_rgb(*pixel) if row < picture.height and len(pixel) == 3 else None
