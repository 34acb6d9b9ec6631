"""How much an API process takes on at once. What is beyond is refused at once and in words, so that what was taken on
is answered in time: a queue that nobody sees helps nobody.

Long polls wait on purpose and cost next to nothing meanwhile, so they are counted apart. Probes and metrics are always
answered: a busy process is no reason to restart it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge
from starlette.responses import JSONResponse

from paletta_server.core.errors import Overloaded
from paletta_server.core.metrics import REGISTRY

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from paletta_server.core.settings import Settings

ALWAYS = frozenset({"/healthz", "/readyz", "/metrics"})
LONG_POLLS = re.compile(r"/v1/(?:upload-batches/[^/]+/progress|orders/[^/]+/wait|admin/audit-log/follow)")
"""The routes with a `wait`; a test compares them with the application's."""
RETRY_SECONDS, RETRY_POLL_SECONDS = 1, 5

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
        if scope["type"] != "http" or scope["path"] in ALWAYS:
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
            await self.app(scope, receive, send)
        finally:
            self._now[kind] -= 1
            if kind == "poll":
                WAITING.dec()


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
