"""A client that does not take what it asked for is hung up on: what it was answered lies in memory meanwhile, and
nobody had to log in for it. (Its request's place is another's while it waits, `core.admission`.) So is one
that does not come to the end of its request's head: nothing else counts it. (Bodies are `core.admission`'s.)

The connection is the place for it. A request that waits for its turn to answer cannot close what it waits for, and one
that is answered does not know of what has not left yet.
"""

from __future__ import annotations

import asyncio
import logging

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

log = logging.getLogger(__name__)

TAKING_SECONDS, TAKING_BYTES_PER_SECOND = 30.0, 16 * 1024
"""How long a client may take for what has piled up for it, and what a slow line (128 kbit/s) must manage beyond. What
fits into the socket's buffers counts for nothing: long polls and streams that send little are not concerned."""

HEAD_SECONDS = 10.0
"""How long a request's head may take from its first byte. A connection that has said nothing yet may be as idle as one
between two requests."""
REST_SECONDS = 120.0
"""How long somebody may go on sending a body that was answered already: most clients look for an answer when they have
sent all."""


class Connection(HttpToolsProtocol):
    """uvicorn's, with an end to its patience."""

    _patience: asyncio.TimerHandle | None = None
    _head: asyncio.TimerHandle | None = None
    """Runs out where a head is not there in time."""
    _sending = False
    """Whether a request's body is under way."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head(self.timeout_keep_alive)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head is None and self._is_idle() and not self.transport.is_closing():
            # Else empty lines: they begin no request, and end the wait for one.
            self._await_head(REST_SECONDS if self._sending else HEAD_SECONDS)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_head(HEAD_SECONDS)

    def on_headers_complete(self) -> None:
        self._stop_head()
        self._sending = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._sending = False
        super().on_message_complete()

    def _await_head(self, seconds: float) -> None:
        self._stop_head()
        self._head = self.loop.call_later(seconds, self._give_head_up)

    def _stop_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _give_head_up(self) -> None:
        if not self._is_idle() or self.transport.get_write_buffer_size():
            # The head of a request behind others, while we may not be reading, or answers that are being taken.
            self._await_head(HEAD_SECONDS)
            return
        log.info("a request's head did not come", extra={"client": self.client})
        self.transport.abort()

    def _is_idle(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # none before the first
        return cycle is None or cycle.response_complete

    def pause_writing(self) -> None:
        super().pause_writing()
        seconds = TAKING_SECONDS + self.transport.get_write_buffer_size() / TAKING_BYTES_PER_SECOND
        self._patience = self.loop.call_later(seconds, self._hang_up)

    def resume_writing(self) -> None:
        self._stop_waiting()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._stop_head()
        super().connection_lost(exc)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _hang_up(self) -> None:
        left = self.transport.get_write_buffer_size()
        log.info("a client did not take its answer", extra={"client": self.client, "bytes": left})
        self.transport.abort()  # to close in good order is to wait for it still
