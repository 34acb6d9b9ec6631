"""What one request of the API may have of the object store: so much time in all, and with others so many places; and
how long it may be at the database.

A store that takes connections and says nothing would otherwise hold every request that asks it, for longer than those
who sent them wait, and with them the places of all the rest. Workers have nobody waiting: theirs is what no request
surrounds, and no limit of these.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

from paletta_server.core.errors import Unavailable

REQUEST_SECONDS = 15.0
"""All that a request asks of the store, tries and queues included; the command line waits 30 s for an answer."""

DATABASE_SECONDS = 35.0
"""A statement of a request. PostgreSQL ends it after 30 s itself, unless it hangs while its connections stay up: then
nobody but us does. Calling it off takes up to 10 s more."""


class _Request:
    """One request: how much it asks of the store at the moment, and until when it may, once it began to."""

    def __init__(self) -> None:
        self.asks = 0
        self.until: float | None = None


_request: ContextVar[_Request | None] = ContextVar("asking_request", default=None)


@contextmanager
def a_request() -> Iterator[None]:
    """What the block asks of the store counts as one request's."""
    token = _request.set(_Request())
    try:
        yield
    finally:
        _request.reset(token)


def database_seconds() -> float | None:
    """How long a statement is waited for here; None where no request waits."""
    return None if _request.get() is None else DATABASE_SECONDS


class Share:
    """The places that requests have with the store together."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._taken = 0

    @asynccontextmanager
    async def ask(self) -> AsyncIterator[None]:
        """Raises `Unavailable` where too many wait for the store already, and when the request's time is over."""
        request = _request.get()
        if request is None:
            yield
            return
        now = time.monotonic()
        request.until = request.until or now + REQUEST_SECONDS
        if now >= request.until:
            raise Unavailable("the object store does not answer in time", code="store_unavailable")
        if not request.asks:
            if self._taken >= self._places:
                raise Unavailable("too many wait for the object store", code="store_unavailable")
            self._taken += 1
        request.asks += 1
        try:
            async with asyncio.timeout(request.until - now) as limit:
                yield
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise Unavailable("the object store does not answer in time", code="store_unavailable") from error
        finally:
            request.asks -= 1
            if not request.asks:
                self._taken -= 1
