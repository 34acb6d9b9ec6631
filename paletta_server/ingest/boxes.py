"""Reads back the MP4 files written in the jail, in plain Python: a decoder taken over may write anything."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_MOST_INDEX_BYTES = 16 * 1024**2  # the index of a two-minute film is under 400 kB
_MOST_BOXES = 2000


@dataclass(frozen=True, slots=True)
class Film:
    """What an MP4 file says of its picture: pixels, seconds, number of frames, kind of sample entry."""

    width: int
    height: int
    duration: float
    frames: int
    entry: str


def read_film(file: BinaryIO) -> Film:
    """The first video track of an MP4 file. Raises `ValueError` when there is none, no sense in it, or an end missing:
    the index stands first and tells of a whole film, whatever became of the rest."""
    try:
        for kind, body in _boxes(_index(file)):
            if kind == b"trak" and (film := _track(body)) is not None:
                return film
    except (struct.error, IndexError) as error:
        raise ValueError("a broken index") from error
    raise ValueError("no video track")


def _index(file: BinaryIO) -> bytes:
    """The body of the `moov` box, found by stepping from box to box to the end, where the last one must end too."""
    end = file.seek(0, 2)
    at = file.seek(0)
    index: bytes | None = None
    for _ in range(_MOST_BOXES):
        if at == end:
            break
        size, kind = struct.unpack(">I4s", file.read(8))
        taken = 8
        if size == 1:
            size, taken = struct.unpack(">Q", file.read(8))[0], 16
        elif size == 0:  # as far as the file goes
            size = end - at
        if size < taken:
            raise ValueError("a box of an impossible size")
        if at + size > end:
            raise ValueError(f"cut short: {at + size - end:,} bytes are missing")
        if kind == b"moov" and index is None:
            if size > _MOST_INDEX_BYTES:
                raise ValueError("the index is too large")
            index = file.read(size - taken)
        at = file.seek(at + size)
    else:
        raise ValueError("too many boxes")
    if index is None:
        raise ValueError("no index")
    return index


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if size < 8 or at + size > len(data):
            raise ValueError("a box of an impossible size")
        yield kind, data[at + 8 : at + size]
        at += size


def _child(data: bytes, *path: bytes) -> bytes:
    for wanted in path:
        data = next((body for kind, body in _boxes(data) if kind == wanted), b"")
    return data


def _track(trak: bytes) -> Film | None:
    if _child(trak, b"mdia", b"hdlr")[8:12] != b"vide":
        return None
    head, media = _child(trak, b"tkhd"), _child(trak, b"mdia", b"mdhd")
    width, height = (side >> 16 for side in struct.unpack(">II", head[-8:]))
    if media[0] == 1:
        scale, length = struct.unpack_from(">IQ", media, 20)
    else:
        scale, length = struct.unpack_from(">II", media, 12)
    table = _child(trak, b"mdia", b"minf", b"stbl")
    frames = struct.unpack_from(">I", _child(table, b"stsz"), 8)[0]
    entry = _child(table, b"stsd")[12:16].decode("ascii", "replace")
    return Film(width, height, length / scale if scale else 0.0, frames, entry)
