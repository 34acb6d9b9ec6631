"""How much an API process takes on at once. What is beyond is refused at once and in words, so that what was taken on
is answered in time: a queue that nobody sees helps nobody.

Long polls wait on purpose and cost next to nothing meanwhile, so they are counted apart. Probes and metrics are always
answered: a busy process is no reason to restart it.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from paletta_server.core.errors import Overloaded
from paletta_server.core.logging import PROBES
from paletta_server.core.metrics import REGISTRY

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from paletta_server.core.settings import Settings

LONG_POLLS = re.compile(r"/v1/(?:upload-batches/[^/]+/progress|orders/[^/]+/wait|admin/audit-log/follow)")
"""The routes with a `wait`; a test compares them with the application's."""
RETRY_SECONDS, RETRY_POLL_SECONDS = 1, 5
BODY_SECONDS, BODY_BYTES_PER_SECOND = 10.0, 16 * 1024
"""How long a request's body may take, and what a slow line must manage beyond: a place is held meanwhile, and nobody
had to log in for it."""

SHED = Counter(
    "paletta_http_requests_shed_total",
    "Requests refused for having too much to do",
    ("kind",),
    registry=REGISTRY,
)
WAITING = Gauge("paletta_http_long_polls", "Long polls that wait", registry=REGISTRY)


class Admission:
    """Plain ASGI, before routing: a refusal costs a tenth of a millisecond and no connection."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._most = {"request": settings.requests_at_once, "poll": settings.long_polls_at_once}
        self._now = {"request": 0, "poll": 0}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self.app(scope, receive, send)
            return
        kind = "poll" if LONG_POLLS.fullmatch(scope["path"]) else "request"
        if self._now[kind] >= self._most[kind]:
            SHED.labels(kind).inc()
            await _refusal(scope, kind)(scope, receive, send)
            return
        self._now[kind] += 1
        if kind == "poll":
            WAITING.inc()
        try:
            await self.app(scope, _timely(receive), send)
        finally:
            self._now[kind] -= 1
            if kind == "poll":
                WAITING.dec()


def _timely(receive: Receive) -> Receive:
    """The same, until the body is there: raises a 408 for one that comes too slowly."""
    began, received, whole = time.monotonic(), 0, False

    async def timely() -> Message:
        nonlocal received, whole
        if whole:  # what comes now is that the client went away
            return await receive()
        left = began + BODY_SECONDS + received / BODY_BYTES_PER_SECOND - time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, left)):
                message = await receive()
        except TimeoutError:
            raise HTTPException(
                408, "the request's body came too slowly", headers={"connection": "close"}
            ) from None
        received += len(message.get("body", b""))
        whole = not message.get("more_body", False)
        return message

    return timely


def _refusal(scope: Scope, kind: str) -> JSONResponse:
    error = Overloaded(
        "the service has too much to do at the moment",
        retry_after=RETRY_POLL_SECONDS if kind == "poll" else RETRY_SECONDS,
        hint="nothing was done; ask again in a moment",
    )
    request_id = scope.get("state", {}).get("request_id")
    return JSONResponse(
        error.problem(request_id).model_dump(exclude_none=True),
        status_code=error.status,
        media_type="application/problem+json",
        headers=error.headers,
    )
