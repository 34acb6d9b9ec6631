"""Ranged GETs of presigned addresses, over the kept connections of `wire`.

As for uploads, plain http.client: the body goes from the socket into one buffer per thread and from there into the
file, which costs a third less CPU than through httpx.
"""

import http.client
from collections.abc import Callable
from urllib.parse import urlsplit

from paletta_cli.transfer.wire import BLOCK, Answer, Stale, Wire, _answer


class Odd(Exception):
    """The store answered something that is no answer to what was asked."""


class Receiver(Wire):
    """The connections of a run. `get` may be called from many threads, each of which keeps one."""

    def get(
        self,
        url: str,
        *,
        first: int,
        last: int,
        total: int,
        etag: str,
        take: Callable[[memoryview], None],
        block: int = BLOCK,
    ) -> Answer:
        """Bytes `first` to `last` of an object of `total` bytes that is still the one that `etag` names.

        `take` is given each block; what it raises ends the request. Raises OSError or http.client.HTTPException
        when the connection fails, also in the middle of the body, Stale when a kept one had gone, Odd.
        """
        connection, fresh = self._connection(url)
        try:
            return self._get(connection, url, first, last, total, etag, take, block)
        except (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected):
            self._drop(connection)
            if fresh:
                raise
            raise Stale from None
        except BaseException:
            self._drop(connection)
            raise

    def _get(
        self,
        connection: http.client.HTTPConnection,
        url: str,
        first: int,
        last: int,
        total: int,
        etag: str,
        take: Callable[[memoryview], None],
        block: int,
    ) -> Answer:
        parts = urlsplit(url)
        connection.putrequest("GET", f"{parts.path}?{parts.query}", skip_accept_encoding=True)
        connection.putheader("range", f"bytes={first}-{last}")
        connection.putheader(
            "if-match", etag
        )  # never If-Range: a store may answer that with another object's bytes
        connection.endheaders()
        response = connection.getresponse()
        if response.status != 206:
            if 200 <= response.status < 300:
                raise Odd(f"the store answered {response.status} to a request for a range")
            answer = _answer(response)
        else:
            self._body(response, first, last, total, take, block)
            answer = Answer(206)
        if response.will_close or not response.isclosed():
            self._drop(connection)
        return answer

    def _body(
        self,
        response: http.client.HTTPResponse,
        first: int,
        last: int,
        total: int,
        take: Callable[[memoryview], None],
        block: int,
    ) -> None:
        said = response.getheader("content-range", "").strip().lower()
        if said != f"bytes {first}-{last}/{total}" or response.getheader("content-encoding"):
            raise Odd(f"asked for bytes {first}-{last}/{total}, the store sends {said[:60] or 'no range'}")
        buffer = self._buffer(block)
        left = last - first + 1
        while left:
            count = response.readinto(buffer[: min(block, left)])
            if not count:
                raise http.client.IncompleteRead(b"", left)
            take(buffer[:count])
            left -= count
        response.read()  # the end, so that the connection can be used again
