"""A program on a terminal of a given size, its keys, and what is on the screen."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pyte

PATIENCE_SECONDS = 30.0


@dataclass
class Terminal:
    """`async with Terminal(command, 80, 24, environment, folder) as it:` runs the program until it ends by itself."""

    command: Sequence[str]
    columns: int
    rows: int
    environment: Mapping[str, str]
    folder: Path
    screen: pyte.Screen = field(init=False)

    async def __aenter__(self) -> Self:
        self.screen = pyte.Screen(self.columns, self.rows)
        self._stream = pyte.ByteStream(self.screen)
        self._mine, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", self.rows, self.columns, 0, 0))
        self.process = await asyncio.create_subprocess_exec(
            *self.command, stdin=theirs, stdout=theirs, stderr=theirs, env=dict(self.environment),
            cwd=self.folder, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        os.set_blocking(self._mine, False)
        self._news = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._mine, self._read)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        asyncio.get_running_loop().remove_reader(self._mine)
        os.close(self._mine)

    def _read(self) -> None:
        try:
            data = os.read(self._mine, 65536)
        except OSError:  # Linux: the other end is closed
            data = b""
        if data:
            self._stream.feed(data)
        else:
            asyncio.get_running_loop().remove_reader(self._mine)
        self._news.set()

    def keys(self, text: str) -> None:
        os.write(self._mine, text.encode())

    @property
    def lines(self) -> list[str]:
        """What is on the screen now, without blanks at line ends."""
        return [line.rstrip() for line in self.screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    async def until(self, *words: str) -> str:
        """The screen as soon as all of these words are on it."""
        return await self.when(lambda text: all(word in text for word in words), f"no {words}")

    async def when(self, holds: Callable[[str], bool], otherwise: str) -> str:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds(self.text):
            self._news.clear()
            left = deadline - time.monotonic()
            try:
                await asyncio.wait_for(self._news.wait(), left)
            except TimeoutError:
                raise AssertionError(f"{otherwise} on the screen:\n{self.text}") from None
        return self.text

    async def ended(self) -> int:
        return await asyncio.wait_for(self.process.wait(), PATIENCE_SECONDS)
