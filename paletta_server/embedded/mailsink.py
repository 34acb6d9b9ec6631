"""The mail server of the one-machine stack: takes every mail by SMTP and keeps it in a Maildir."""

from __future__ import annotations

import asyncio
import contextlib
import mailbox
from pathlib import Path
from typing import Any

MESSAGE_LIMIT = 10 * 1024 * 1024
"""Bytes of one mail; ours are plain text of a few kilobytes."""


class MailSink:
    """An SMTP server on a loopback port, run by the event loop that starts it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.received = 0
        self._server: asyncio.Server | None = None
        self._maildir: mailbox.Maildir | None = None

    async def start(self, port: int) -> None:
        """Listen on 127.0.0.1:`port`. Raises OSError when that is taken."""
        from aiosmtpd.smtp import SMTP

        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self._maildir = mailbox.Maildir(self.folder, create=True)
        self.folder.chmod(0o700)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: SMTP(
                self, data_size_limit=MESSAGE_LIMIT, enable_SMTPUTF8=True, ident="paletta", loop=loop
            ),
            "127.0.0.1",
            port,
        )
        self.port = port

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._server.wait_closed(), 2)
            self._server = None

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 (aiosmtpd's name)
        """Keep one mail; a full disk makes the sender try again later."""
        try:
            await asyncio.to_thread(self._keep, envelope.content, envelope.rcpt_tos)
        except OSError as error:
            return f"452 4.3.1 cannot keep the mail now ({error.strerror or 'input/output error'})"
        self.received += 1
        return "250 2.0.0 kept"

    def _keep(self, content: bytes, recipients: list[str]) -> None:
        assert self._maildir is not None
        # Who it was for is in the envelope alone when the header names a list, or nobody.
        for recipient in recipients:
            line = f"Delivered-To: {recipient}\r\n".encode("utf-8", "replace")
            self._maildir.add(line + content)
