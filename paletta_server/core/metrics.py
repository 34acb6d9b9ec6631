"""Prometheus metrics. Requests are counted by route template, so that ids do not become labels."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

REQUESTS = Counter(
    "paletta_http_requests_total", "Requests answered", ("method", "route", "status"), registry=REGISTRY
)
DURATION = Histogram(
    "paletta_http_request_seconds",
    "Time to the last byte of an answer; long polls wait on purpose",
    ("method", "route"),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=REGISTRY,
)
IN_FLIGHT = Gauge("paletta_http_requests_in_flight", "Requests being answered", registry=REGISTRY)
JOBS = Gauge(
    "paletta_jobs", "Jobs by queue and status, when last asked", ("queue", "status"), registry=REGISTRY
)
MAILS = Gauge(
    "paletta_mails_unsent", "Mails that wait or were given up, when last asked", ("state",), registry=REGISTRY
)

JOB_SECONDS = Gauge(
    "paletta_job_seconds",
    "Mean time of a run of a task, of this hour and the one before",
    ("task",),
    registry=REGISTRY,
)
JOB_FAILED_RUNS = Gauge(
    "paletta_job_failed_runs",
    "Runs of a task that failed, of this hour and the one before",
    ("task",),
    registry=REGISTRY,
)
JOB_OLDEST = Gauge(
    "paletta_job_oldest_seconds",
    "For how long the oldest job of a queue that is due has waited",
    ("queue",),
    registry=REGISTRY,
)
INGEST_RATIO = Gauge(
    "paletta_ingest_seconds_per_film_second",
    "Seconds of work for a second of film; of the films of the last two hours, NaN where there were none",
    registry=REGISTRY,
)
SEARCH_LAG = Gauge(
    "paletta_search_lag_seconds",
    "Since when this node last knew the search index equal to the database; two seconds are nothing",
    registry=REGISTRY,
)
DATABASE_CONNECTIONS = Gauge(
    "paletta_database_connections", "Connections of this process's pool", ("state",), registry=REGISTRY
)
DATABASE_MOST = Gauge(
    "paletta_database_connections_most", "How many connections the pool may have", registry=REGISTRY
)

Scraped = Callable[["AsyncConnection"], Awaitable[None]]
SCRAPED: list[Scraped] = []
"""What domains bring up to date before the metrics are told, each on a connection and with a time of its own."""


def when_scraped(function: Scraped) -> Scraped:
    SCRAPED.append(function)
    return function


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class MetricsMiddleware:
    """Counts and times requests (plain ASGI: it does not touch bodies)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500  # what the server answers when the application raises

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        began = time.perf_counter()
        try:
            with IN_FLIGHT.track_inprogress():
                await self.app(scope, receive, noting)
        finally:
            # The method and the path are the caller's to choose: unknown ones share one label.
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = getattr(scope.get("route"), "path", "unmatched")
            REQUESTS.labels(method, route, str(status)).inc()
            DURATION.labels(method, route).observe(time.perf_counter() - began)
