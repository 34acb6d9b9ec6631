"""What a file is, from its first bytes, in Python: no demuxer sees a file that is not recognised here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_ENOUGH = 4096
_MXF_PARTITION = bytes.fromhex("060e2b34020501010d010201")
# Boxes that may open a QuickTime film made before the file type box existed, or written by a careless camera.
_QUICKTIME_BOXES = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_PICTURE_BRANDS = (b"heic", b"heix", b"heif", b"hevc", b"mif1", b"msf1", b"avif", b"avis", b"jp2 ", b"crx ")
_SOUND_BRANDS = (b"M4A ", b"M4B ", b"M4P ")

# (offset, bytes, what people call it); for the message only.
_OTHERS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"#EXTM3U", "a playlist"),
    (0, b"ffconcat", "a playlist"),
    (0, b"\x1aE\xdf\xa3", "a Matroska or WebM film"),
    (8, b"AVI ", "an AVI film"),
    (0, b"RIFF", "a RIFF file"),
    (0, b"\x89PNG", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"GIF8", "a GIF picture"),
    (0, b"BM", "a bitmap picture"),
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x00\x00\x01\xba", "an MPEG program stream"),
    (0, b"\x47\x40", "an MPEG transport stream"),
    (0, b"FLV\x01", "a Flash film"),
    (0, b"OggS", "an Ogg file"),
    (0, b"0&\xb2u", "a Windows Media film"),
    (0, b"ID3", "an MP3 sound"),
    (0, b"<", "an XML or HTML text"),
)


@dataclass(frozen=True, slots=True)
class Sniffed:
    """`demuxer` is the only one that may open the file (None: none may); `container` names what it is."""

    demuxer: str | None
    container: str


def sniff(source: Path) -> Sniffed:
    """Looks at the first 4 KiB of `source`. Raises `OSError` when it cannot be read."""
    with source.open("rb") as file:
        head = file.read(_ENOUGH)
    if not head:
        return Sniffed(None, "an empty file")
    if head.startswith(_MXF_PARTITION):
        return Sniffed("mxf", "mxf")
    if len(head) >= 16 and head[4:8] == b"ftyp":
        return _by_brand(head)
    if len(head) >= 16 and head[4:8] in _QUICKTIME_BOXES and _plausible(head[:4]):
        return Sniffed("mov", "mov")
    for offset, magic, name in _OTHERS:
        if head[offset : offset + len(magic)] == magic:
            return Sniffed(None, name)
    if not head.strip(b"\0"):
        return Sniffed(None, "a file full of zeros")
    return Sniffed(None, "a text file" if _is_text(head) else "a file of an unknown kind")


def _by_brand(head: bytes) -> Sniffed:
    brand = head[8:12]
    if brand == b"qt  ":
        return Sniffed("mov", "mov")
    if brand in _PICTURE_BRANDS:
        return Sniffed(None, "a HEIF, AVIF or JPEG 2000 picture")
    if brand in _SOUND_BRANDS:
        return Sniffed(None, "an MP4 sound file")
    return Sniffed("mov", "m4v" if brand[:3] == b"M4V" else "mp4")


def _plausible(size: bytes) -> bool:
    """A first box has 8 bytes or more, or 1 (a 64-bit size follows), or 0 (to the end of the file)."""
    return int.from_bytes(size, "big") >= 8 or size in (b"\0\0\0\0", b"\0\0\0\1")


def _is_text(head: bytes) -> bool:
    try:
        head[:-4].decode("utf-8")
    except UnicodeDecodeError:
        return False
    return not any(byte < 9 for byte in head)
