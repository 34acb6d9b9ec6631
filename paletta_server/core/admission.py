"""How much an API process takes on at once. What is beyond is refused at once and in words, so that what was taken on
is answered in time: a queue that nobody sees helps nobody.

Long polls wait on purpose and cost next to nothing meanwhile, so they are counted apart; so are requests whose body is
still on its way, of which one address has a few at once. Probes and metrics are always answered: a busy process is no
reason to restart it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

import prometheus_client
from starlette.responses import JSONResponse

from paletta_server.core import asking
from paletta_server.core.errors import Overloaded, PalettaError, TooSlow
from paletta_server.core.logging import PROBES
from paletta_server.core.metrics import REGISTRY

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from paletta_server.core.settings import Settings

LONG_POLLS = re.compile(r"/v1/(?:upload-batches/[^/]+/progress|orders/[^/]+/wait|admin/audit-log/follow)")
"""The routes with a `wait`; a test compares them with the application's."""
RETRY_SECONDS, RETRY_POLL_SECONDS = 1, 5
BODY_SECONDS, BODY_BYTES_PER_SECOND = 10.0, 16 * 1024
"""How long a request's body may take, and what a slow line must manage beyond."""
BODIES_OF_ONE = 20
"""Bodies on their way from one address: nobody had to log in for it, and half a request must keep nobody else out."""

SHED = prometheus_client.Counter(
    "paletta_http_requests_shed_total",
    "Requests refused for having too much to do",
    ("kind",),
    registry=REGISTRY,
)
WAITING = prometheus_client.Gauge("paletta_http_long_polls", "Long polls that wait", registry=REGISTRY)


class Admission:
    """Plain ASGI, before routing: a refusal costs a tenth of a millisecond and no connection."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._most = {"request": settings.requests_at_once, "poll": settings.long_polls_at_once}
        self._now = {"request": 0, "poll": 0}
        self._coming: Counter[str] = Counter()
        """Bodies on their way, by address."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self.app(scope, receive, send)
            return
        kind = "poll" if LONG_POLLS.fullmatch(scope["path"]) else "request"
        if self._now[kind] < self._most[kind] and _has_body(scope):
            arrived = await self._arrived(scope, receive, send)
            if arrived is None:
                return
            receive = arrived
        if self._now[kind] >= self._most[kind]:
            await _refuse(scope, receive, send, kind)
            return
        self._now[kind] += 1
        if kind == "poll":
            WAITING.inc()
        try:
            with asking.a_request():
                await self.app(scope, receive, self._giving_way(kind, send))
        finally:
            self._now[kind] -= 1
            if kind == "poll":
                WAITING.dec()

    def _giving_way(self, kind: str, send: Send) -> Send:
        """`send`, whose place is another's while it waits for a client to take what it was sent before. Who waits so
        does for as long as `commands.connection` has patience; going on they may be more than there are places."""

        async def giving_way(message: Message) -> None:
            self._now[kind] -= 1
            try:
                await send(message)
            finally:
                self._now[kind] += 1

        return giving_way

    async def _arrived(self, scope: Scope, receive: Receive, send: Send) -> Receive | None:
        """A `receive` that has the whole body, which whoever is let in reads into memory anyway (`app.BODY_LIMIT`).
        None where there is nothing to let in: the client has its answer, or is gone."""
        address = _network((scope.get("client") or ("",))[0])
        if self._coming[address] >= BODIES_OF_ONE or self._coming.total() >= self._most["request"]:
            await _refuse(scope, receive, send, "body")
            return None
        self._coming[address] += 1
        try:
            body = await _body(receive)
        except TimeoutError:
            await _answer(scope, TooSlow("the request's body came too slowly"))(scope, receive, send)
            return None
        finally:
            self._coming[address] -= 1
            if not self._coming[address]:
                del self._coming[address]
        if body is None:  # the client went away; nobody reads this, but it is what is counted
            await _answer(scope, TooSlow("the rest of the request did not come"))(scope, receive, send)
            return None
        return _replayed(body, receive)


def _has_body(scope: Scope) -> bool:
    length = dict(scope["headers"]).get(b"content-length", b"0")
    return bool(length.strip(b"0"))


def _network(address: str) -> str:
    """Of addresses of the newer kind whoever has one has a /64; one of the older kind may be written as one."""
    with suppress(ValueError):
        known = ipaddress.ip_address(address)
        if isinstance(known, ipaddress.IPv6Address):
            if known.ipv4_mapped is not None:
                return str(known.ipv4_mapped)
            return str(ipaddress.ip_network((known, 64), strict=False))
    return address


async def _body(receive: Receive) -> bytearray | None:
    """A request's whole body; None where the client went away. Raises TimeoutError for one that comes too slowly."""
    began, body = time.monotonic(), bytearray()
    while True:
        left = began + BODY_SECONDS + len(body) / BODY_BYTES_PER_SECOND - time.monotonic()
        async with asyncio.timeout(max(0.0, left)):
            message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return body


def _replayed(body: bytearray, receive: Receive) -> Receive:
    """`receive` as if the body came just now, in one piece, which is kept here no longer than until it is taken."""
    coming = [body]

    async def replayed() -> Message:
        if coming:
            return {"type": "http.request", "body": bytes(coming.pop()), "more_body": False}
        return await receive()  # what comes then is that the client went away

    return replayed


async def _refuse(scope: Scope, receive: Receive, send: Send, kind: str) -> None:
    SHED.labels(kind).inc()
    error = Overloaded(
        "the service has too much to do at the moment",
        retry_after=RETRY_POLL_SECONDS if kind == "poll" else RETRY_SECONDS,
        hint="nothing was done; ask again in a moment",
    )
    await _answer(scope, error)(scope, receive, send)


def _answer(scope: Scope, error: PalettaError) -> JSONResponse:
    request_id = scope.get("state", {}).get("request_id")
    return JSONResponse(
        error.problem(request_id).model_dump(exclude_none=True),
        status_code=error.status,
        media_type="application/problem+json",
        headers=error.headers,
    )
