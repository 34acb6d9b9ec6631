"""A client that does not take what it asked for is hung up on: what it was answered lies in memory meanwhile, and
nobody had to log in for it. (Its request's place is another's while it waits, `core.admission`.)

The connection is the place for it. A request that waits for its turn to answer cannot close what it waits for, and one
that is answered does not know of what has not left yet.
"""

from __future__ import annotations

import asyncio
import logging

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = logging.getLogger(__name__)

TAKING_SECONDS, TAKING_BYTES_PER_SECOND = 30.0, 16 * 1024
"""How long a client may take for what has piled up for it, and what a slow line (128 kbit/s) must manage beyond. What
fits into the socket's buffers counts for nothing: long polls and streams that send little are not concerned."""


class Connection(HttpToolsProtocol):
    """uvicorn's, with an end to its patience."""

    _patience: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        seconds = TAKING_SECONDS + self.transport.get_write_buffer_size() / TAKING_BYTES_PER_SECOND
        self._patience = self.loop.call_later(seconds, self._hang_up)

    def resume_writing(self) -> None:
        self._stop_waiting()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _hang_up(self) -> None:
        left = self.transport.get_write_buffer_size()
        log.info("a client did not take its answer", extra={"client": self.client, "bytes": left})
        self.transport.abort()  # to close in good order is to wait for it still
