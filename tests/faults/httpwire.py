"""As much of HTTP/1.1 as the fault proxy needs: heads, and bodies with a length, in chunks, or until the end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

BLOCK = 256 * 1024


@dataclass(frozen=True)
class Head:
    """A request's or an answer's first lines. Header names are in lower case; `lines` are as they came."""

    start: str
    lines: tuple[str, ...]

    @property
    def headers(self) -> dict[str, str]:
        pairs = (line.partition(":") for line in self.lines)
        return {name.strip().lower(): value.strip() for name, _, value in pairs}

    @property
    def status(self) -> int:
        return int(self.start.split(" ", 2)[1])

    @property
    def keeps_alive(self) -> bool:
        return self.headers.get("connection", "").lower() != "close"

    def raw(self, *, without: str | None = None) -> bytes:
        """The bytes as they came, less one header."""
        kept = [line for line in self.lines if line.partition(":")[0].strip().lower() != without]
        return "\r\n".join([self.start, *kept, "", ""]).encode("latin-1")


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """The next head, or None when the other side closed before (or within) it."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    start, *lines = raw[:-4].decode("latin-1").split("\r\n")
    return Head(start, tuple(lines))


class BodyReader:
    """The body that follows a head, block by block; `framed` and `end` write it as it was framed.

    `asked` is the request's method when the head is an answer's: some answers have a length and no body.
    """

    def __init__(self, reader: asyncio.StreamReader, head: Head, *, asked: str | None = None) -> None:
        self._reader = reader
        headers = head.headers
        self.chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        bodiless = asked == "HEAD" or (asked is not None and head.status in (204, 304))
        self.until_close = (
            asked is not None and not (bodiless or self.chunked) and "content-length" not in headers
        )
        self._left = 0 if bodiless or self.chunked else int(headers.get("content-length", 0))
        self.chunked = self.chunked and not bodiless

    async def read(self) -> bytes:
        """The next block; b"" at the end. Raises IncompleteReadError when the other side breaks off."""
        if self.until_close:
            return await self._reader.read(BLOCK)
        if self.chunked:
            return await self._chunk()
        if not self._left:
            return b""
        block = await self._reader.read(min(BLOCK, self._left))
        if not block:
            raise asyncio.IncompleteReadError(b"", self._left)
        self._left -= len(block)
        return block

    def framed(self, block: bytes) -> bytes:
        """A block as it goes on the wire."""
        return b"%x\r\n%s\r\n" % (len(block), block) if self.chunked and block else block

    def end(self) -> bytes:
        """What ends the body on the wire."""
        return b"0\r\n\r\n" if self.chunked else b""

    async def _chunk(self) -> bytes:
        size = int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16)
        data = await self._reader.readexactly(size + 2)
        return data[:-2]
