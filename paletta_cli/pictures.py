"""Pictures in terminals: JPEG in, escape sequences out.

Three ways, told from the environment alone (asking the terminal would mean reading its answer from stdin):

- the kitty graphics protocol: kitty, Ghostty (https://sw.kovidgoyal.net/kitty/graphics-protocol/);
- iTerm2's inline images: iTerm2, WezTerm (https://iterm2.com/documentation-images.html);
- two pixels per character (`▀` with a colour above and one below) where the terminal says it has 24-bit colours.

Elsewhere there are no pictures. Sixel is left out: no variable of the environment says who understands it. Inside
tmux and screen the first two would not reach the terminal, the third does.
"""

import base64
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TextIO

Protocol = Literal["kitty", "iterm2", "blocks"]

MAX_BYTES = 4 * 1024 * 1024
MAX_PIXELS = 16_000_000
"""A poster has a quarter of a million; more would be somebody's attack on our memory."""
GAP = 2
"""Columns between pictures in a row."""

_CELL = 10
"""Pixels per column that are sent: terminals scale to the columns that are asked for."""
_CHUNK = 4096
"""The most that the kitty protocol takes in one sequence."""


def protocol(stream: TextIO, environ: Mapping[str, str]) -> Protocol | None:
    """How the terminal behind `stream` shows pictures, or None."""
    terminal, program = environ.get("TERM", ""), environ.get("TERM_PROGRAM", "")
    if not stream.isatty() or terminal == "dumb":
        return None
    within = any(environ.get(name) for name in ("TMUX", "STY", "ZELLIJ"))
    if not within and not terminal.startswith(("screen", "tmux")):
        # The id is inherited by other terminals that are started from kitty; those give their own name.
        if terminal in ("xterm-kitty", "xterm-ghostty") or program == "ghostty":
            return "kitty"
        if environ.get("KITTY_WINDOW_ID") and not program:
            return "kitty"
        if program in ("iTerm.app", "WezTerm") or environ.get("LC_TERMINAL") == "iTerm2":
            return "iterm2"
    coloured = environ.get("COLORTERM") in ("truecolor", "24bit") or "WT_SESSION" in environ
    readable = (stream.encoding or "").lower().replace("-", "") == "utf8"
    return "blocks" if coloured and readable and not environ.get("NO_COLOR") else None


@dataclass(frozen=True, slots=True)
class Picture:
    """Pixels in rows from the top, three bytes each (RGB)."""

    width: int
    height: int
    rgb: bytes


def decode(jpeg: bytes, width: int) -> Picture | None:
    """The picture, scaled to `width` pixels; None when it is not a JPEG of sane size."""
    import io

    import av
    import av.error

    size = _jpeg_size(jpeg)
    if size is None or len(jpeg) > MAX_BYTES or not 0 < size[0] * size[1] <= MAX_PIXELS:
        return None
    try:
        with av.open(io.BytesIO(jpeg), mode="r", format="jpeg_pipe") as container:
            frame = next(container.decode(video=0))
            height = max(1, round(frame.height * width / frame.width))
            scaled = frame.reformat(width=width, height=height, format="rgb24")
    except (av.error.FFmpegError, StopIteration, ValueError):
        return None
    plane = scaled.planes[0]
    data, stride, row = bytes(plane), plane.line_size, 3 * width
    rgb = b"".join(data[start : start + row] for start in range(0, stride * height, stride))
    return Picture(width, height, rgb)


def render(jpegs: Sequence[bytes], columns: int, how: Protocol) -> str:
    """Pictures side by side, each `columns` wide, `GAP` apart; ends with a line end. Unreadable ones stay blank."""
    width = columns if how == "blocks" else columns * _CELL
    found = [decode(jpeg, width) for jpeg in jpegs]
    height = max((picture.height for picture in found if picture is not None), default=0)
    if not height:
        return ""
    if how == "blocks":
        rows = [_blocks(picture, columns, height) for picture in found]
        return "".join((" " * GAP).join(line) + "\n" for line in zip(*rows, strict=True))
    total = columns * len(found) + GAP * (len(found) - 1)
    png = _png(found, width, height)
    return (_kitty(png, total) if how == "kitty" else _iterm2(png, total)) + "\n"


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height from the frame header (ITU T.81 B.2.2), read before a decoder reserves memory for them."""
    if data[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 2 + length
    return None


def _blocks(picture: Picture | None, columns: int, height: int) -> list[str]:
    """Lines of half blocks; as many for every picture of a row."""
    lines = []
    for top in range(0, height, 2):
        if picture is None:
            lines.append(" " * columns)
            continue
        line, colours = [], ""
        for column in range(columns):
            wanted = _colour(38, picture, column, top) + _colour(48, picture, column, top + 1)
            line.append("▀" if wanted == colours else f"{wanted}▀")
            colours = wanted
        lines.append("".join(line) + "\x1b[0m")
    return lines


def _colour(ground: int, picture: Picture, column: int, row: int) -> str:
    """Select a pixel's colour as the foreground (38) or the background (48); none below the picture."""
    if row >= picture.height:
        return f"\x1b[{ground + 1}m"
    at = 3 * (row * picture.width + column)
    red, green, blue = picture.rgb[at : at + 3]
    return f"\x1b[{ground};2;{red};{green};{blue}m"


def _png(pictures: Sequence[Picture | None], width: int, height: int) -> bytes:
    """The pictures side by side with nothing between them, as PNG with transparency (RFC 2083)."""
    rows = []
    gap, blank = bytes(4 * GAP * _CELL), bytes(4 * width)
    for row in range(height):
        strips = []
        for picture in pictures:
            if picture is None or row >= picture.height:
                strips.append(blank)
                continue
            strip = bytearray(b"\xff" * (4 * width))
            pixels = picture.rgb[3 * width * row : 3 * width * (row + 1)]
            for channel in range(3):
                strip[channel::4] = pixels[channel::3]
            strips.append(bytes(strip))
        rows.append(b"\x00" + gap.join(strips))  # filter 0: the bytes as they are
    total = width * len(pictures) + GAP * _CELL * (len(pictures) - 1)
    header = struct.pack(">IIBBBBB", total, height, 8, 6, 0, 0, 0)  # 8 bits a channel, RGB with alpha
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows), 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def _kitty(png: bytes, columns: int) -> str:
    text = base64.b64encode(png).decode("ascii")
    pieces = [text[start : start + _CHUNK] for start in range(0, len(text), _CHUNK)]
    sequences = []
    for number, piece in enumerate(pieces):
        more = int(number < len(pieces) - 1)
        # a=T: show at once; f=100: PNG; c: columns; q=2: no answers, which would land in the shell's input
        control = f"a=T,f=100,c={columns},q=2,m={more}" if number == 0 else f"m={more}"
        sequences.append(f"\x1b_G{control};{piece}\x1b\\")
    return "".join(sequences)


def _iterm2(png: bytes, columns: int) -> str:
    text = base64.b64encode(png).decode("ascii")
    return f"\x1b]1337;File=inline=1;size={len(png)};width={columns};preserveAspectRatio=1:{text}\x07"
