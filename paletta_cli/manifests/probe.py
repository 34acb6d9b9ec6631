"""What a media file is, from its first bytes, its structure and its headers. Nothing is decoded.

The file's own words are not trusted: the format is told by its first bytes and then demanded of the demuxer,
so a playlist called `clip.mov` is never followed. Whether the file is whole is told by its structure: the
boxes of a QuickTime/MP4 file or the packets of an MXF file must end where the file ends, and every frame that
the index lists must lie inside. That reads a few kilobytes even of a 4 GB clip.
"""

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from paletta_cli.text import size as bytes_text

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

# File name suffix → family of containers that one demuxer reads.
FAMILIES = {"mov": "mov", "mp4": "mov", "m4v": "mov", "mxf": "mxf"}
_SECONDS_TO_WAIT = 30.0  # for a file on a network share that stopped answering

_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"uuid", b"styp", b"moof"})
_MXF = bytes.fromhex("060e2b34")
_OTHERS = (
    (b"\x1a\x45\xdf\xa3", "a Matroska or WebM file"),
    (b"\x00\x00\x01\xba", "an MPEG program stream"),
    (b"G@", "an MPEG transport stream"),
    (b"OggS", "an Ogg file"),
    (b"FLV", "a Flash video file"),
    (b"#EXTM3U", "a playlist"),
    (b"ffconcat", "a playlist"),
    (b"<?xml", "an XML file"),
    (b"<svg", "an SVG picture"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x30\x26\xb2\x75", "a Windows Media file"),
)


class MediaError(Exception):
    """A file that is no usable clip. `code` is stable, `message` completes “`clip.mov` …”."""

    def __init__(self, code: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.hint = code, message, hint


@dataclass(frozen=True, slots=True)
class Probe:
    """What the headers say. Seconds, pixels as stored, frames per second; `codec` in FFmpeg's words.

    `tags` are the container's own (QuickTime keys among them), `xmp` the XMP packet if it was asked for.
    """

    family: str
    codec: str
    width: int
    height: int
    seconds: float
    fps: float
    audio: bool
    tags: dict[str, str] = field(default_factory=dict)
    xmp: str | None = None

    @property
    def long_edge(self) -> int:
        return max(self.width, self.height)


def probe(path: Path, *, xmp: bool = False) -> Probe:
    """Read a clip's headers and check that the file is whole.

    Raises MediaError when it is not a video that the market place takes, or is damaged or cut short.
    """
    try:
        with path.open("rb") as stream:
            size = path.stat().st_size
            if size == 0:
                raise MediaError("media_empty", "is empty", "copy it again from the card")
            family = _family(stream.read(16))
            if family == "mov":
                _check_boxes(stream, size)
            else:
                _check_mxf(stream, size)
    except OSError as error:
        raise MediaError(
            "media_unreadable", f"cannot be read: {(error.strerror or str(error)).lower()}"
        ) from None
    return _open(path, family, size, xmp)


def _family(head: bytes) -> str:
    if head[4:8] in _BOXES:
        return "mov"
    if head.startswith(_MXF):
        return "mxf"
    if head.startswith(b"RIFF"):
        what = "an AVI file" if head[8:12] == b"AVI " else "a RIFF file"
    else:
        what = next(
            (words for start, words in _OTHERS if head.lstrip().startswith(start)), "no known video format"
        )
    raise MediaError("media_container", f"is {what}", "export it as QuickTime (.mov) or MP4")


def _check_boxes(stream: BinaryIO, size: int) -> None:
    """Walk the top-level boxes (ISO/IEC 14496-12 §4.2): each must end inside the file, one is the index."""
    offset, seen = 0, set()
    while offset + 8 <= size:
        stream.seek(offset)
        header = stream.read(16)
        length, kind = struct.unpack(">I4s", header[:8])
        if length == 1 and len(header) == 16:
            length = struct.unpack(">Q", header[8:])[0]
        elif length == 0:  # to the end of the file
            length = size - offset
        if length < 8:
            break  # zero padding, or garbage that players skip too
        seen.add(kind)
        if offset + length > size:
            if kind in _BOXES or not {b"moov", b"mdat"} <= seen:
                raise _cut(offset + length - size)
            break
        offset += length
    if not seen & {b"moov", b"moof"}:
        raise MediaError(
            "media_truncated",
            "has no index (`moov`): the recording or the export did not finish",
            "export it again, or repair it with the camera's own tool",
        )


def _cut(missing: int) -> MediaError:
    return MediaError(
        "media_truncated", f"is cut short: at least {bytes_text(missing)} missing at the end", "copy it again"
    )


def _check_mxf(stream: BinaryIO, size: int) -> None:
    """Walk the KLV packets (SMPTE ST 377-1 §6.3): 16 bytes of key, a BER length, then that many bytes."""
    offset = 0
    while offset + 17 <= size:
        stream.seek(offset)
        header = stream.read(25)
        if not header.startswith(_MXF):
            raise MediaError("media_damaged", f"is damaged at byte {offset:,}", "copy it again")
        first = header[16]
        extra = first & 0x7F if first & 0x80 else 0
        length = int.from_bytes(header[17 : 17 + extra], "big") if extra else first
        offset += 17 + extra + length
    if offset > size:
        raise _cut(offset - size)


def _open(path: Path, family: str, size: int, xmp: bool) -> Probe:
    import av

    try:
        with av.open(
            f"file:{path.absolute()}",
            format=family,
            options={"export_xmp": "1"} if xmp and family == "mov" else {},
            metadata_errors="replace",
            timeout=_SECONDS_TO_WAIT,
        ) as container:
            return _read(container, family, size)
    except (av.error.FFmpegError, ValueError, IndexError) as error:
        reason = str(getattr(error, "strerror", None) or error).casefold()
        raise MediaError(
            "media_unreadable", f"cannot be read as video: {reason}", "export it again"
        ) from None


def _read(container: "InputContainer", family: str, size: int) -> Probe:
    stream = next((video for video in container.streams.video if not _is_cover(video)), None)
    if stream is None:
        raise MediaError("media_no_video", "has no video stream")
    codec = stream.codec_context
    entries = stream.index_entries
    if family == "mov":
        end = max((entry.pos + entry.size for entry in entries), default=0)
        if end > size:
            raise _cut(end - size)
    fps = stream.average_rate or stream.guessed_rate or 0
    seconds = 0.0
    if stream.duration is not None and stream.time_base is not None:
        seconds = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        seconds = container.duration / 1_000_000  # AV_TIME_BASE
    tags = {**stream.metadata, **container.metadata}
    return Probe(
        family=family,
        codec=codec.codec.canonical_name,
        width=codec.width,
        height=codec.height,
        seconds=seconds,
        fps=float(fps),
        audio=bool(container.streams.audio),
        xmp=tags.pop("xmp", None),
        tags=tags,
    )


def _is_cover(stream: "VideoStream") -> bool:
    """A picture that was put into the file as its cover."""
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic)
