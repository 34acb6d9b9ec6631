"""How much an API process takes on at once. What is beyond is refused at once and in words, so that what was taken on
is answered in time: a queue that nobody sees helps nobody.

Long polls wait on purpose and cost next to nothing meanwhile, so they are counted apart; so are requests whose body is
still on its way, of which one address has a few at once. Probes and metrics are always answered: a busy process is no
reason to restart it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from typing import TYPE_CHECKING

import prometheus_client
from starlette.responses import JSONResponse

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
            await self.app(scope, receive, send)
        finally:
            self._now[kind] -= 1
            if kind == "poll":
                WAITING.dec()

    async def _arrived(self, scope: Scope, receive: Receive, send: Send) -> Receive | None:
        """A `receive` that has the whole body, which whoever is let in reads into memory anyway (`app.BODY_LIMIT`).
        None where there is nothing to let in: the client has its answer, or is gone."""
        address = (scope.get("client") or ("",))[0]
        if self._coming[address] >= BODIES_OF_ONE or self._coming.total() >= self._most["request"]:
            await _refuse(scope, receive, send, "body")
            return None
        self._coming[address] += 1
        try:
            parts = await _body(receive)
        except TimeoutError:
            await _answer(scope, TooSlow("the request's body came too slowly"))(scope, receive, send)
            return None
        finally:
            self._coming[address] -= 1
            if not self._coming[address]:
                del self._coming[address]
        if parts[-1]["type"] == "http.disconnect":
            return None
        coming = iter(parts)

        async def replayed() -> Message:
            return next(coming, None) or await receive()  # what comes then is that the client went away

        return replayed


def _has_body(scope: Scope) -> bool:
    length = dict(scope["headers"]).get(b"content-length", b"0")
    return bool(length.strip(b"0"))


async def _body(receive: Receive) -> list[Message]:
    """The messages of a request's body, to the last one. Raises TimeoutError for one that comes too slowly."""
    began, received = time.monotonic(), 0
    parts: list[Message] = []
    while not parts or parts[-1].get("more_body", False):
        left = began + BODY_SECONDS + received / BODY_BYTES_PER_SECOND - time.monotonic()
        async with asyncio.timeout(max(0.0, left)):
            parts.append(await receive())
        received += len(parts[-1].get("body", b""))
    return parts


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
