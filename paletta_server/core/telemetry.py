"""Traces and metrics by OpenTelemetry, sent to a collector (OTLP over HTTP) where `PALETTA_OTEL_ENDPOINT` names one.

Without the setting nothing of it is imported and every function here returns at once. With it, spans are made here
and by the instrumentation of httpx and botocore; what leaves the process is made in `telemetry_export`, which lets
out only attributes that it knows. A collector that is slow or away costs spans, never a request: the queue is
bounded, sending has a thread and a limit of its own, and the trouble is logged once.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from paletta_server.core.logging import PROBES
from paletta_server.core.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer
    from sqlalchemy import Engine
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

CARRIER = "_trace"
"""The argument in which a job's enqueuing trace travels. It is taken out before the job sees its arguments, and
nothing compares arguments but for those it names."""
QUEUE, EXPORT_SECONDS, FLUSH_SECONDS = 4096, 5, 3.0
METRICS_SECONDS = 30
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

log = logging.getLogger(__name__)


class _Telemetry:
    """What is made once per process while somebody uses it."""

    def __init__(self, settings: Settings, role: str) -> None:
        from opentelemetry.instrumentation.botocore import BotocoreInstrumentor
        from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

        from paletta_server.core import telemetry_export as export

        assert settings.otel_endpoint is not None
        self.tracers: TracerProvider = export.tracers(settings, role, queue=QUEUE, seconds=EXPORT_SECONDS)
        self.meters: MeterProvider = export.meters(
            settings, role, every=METRICS_SECONDS, seconds=EXPORT_SECONDS
        )
        self.tracer: Tracer = self.tracers.get_tracer("paletta")
        meter = self.meters.get_meter("paletta")
        self.requests: Histogram = meter.create_histogram("http.server.request.duration", unit="s")
        self.jobs: Histogram = meter.create_histogram("paletta.job.duration", unit="s")
        # Ours alone decides what goes to others: no trace ids to the store or the gateway.
        export.no_headers_to_others()
        botocore: Any = BotocoreInstrumentor
        self._instrumentors: list[Any] = [HTTPXClientInstrumentor(), botocore()]
        for one in self._instrumentors:
            one.instrument(tracer_provider=self.tracers, meter_provider=export.no_meters())

    def stop(self) -> None:
        """Send what waits, for FLUSH_SECONDS at most; a thread that hangs ends with the process."""
        for one in self._instrumentors:
            one.uninstrument()

        def end() -> None:
            self.tracers.shutdown()
            self.meters.shutdown(timeout_millis=FLUSH_SECONDS * 1000)

        ending = threading.Thread(target=end, name="telemetry-end", daemon=True)
        ending.start()
        ending.join(FLUSH_SECONDS)
        if ending.is_alive():
            log.warning("the last spans were not sent in time")


_current: _Telemetry | None = None
_users = 0
_lock = threading.Lock()


def _at_hand() -> _Telemetry | None:
    return _current


@contextmanager
def running(settings: Settings, role: str) -> Iterator[None]:
    """Trace while the block lasts. The second who asks in one process shares what the first began."""
    global _current, _users
    if settings.otel_endpoint is None:
        yield
        return
    with _lock:
        if _current is None:
            _current = _Telemetry(settings, role)
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            ending, _current = (_current, None) if not _users else (None, _current)
        if ending is not None:
            ending.stop()


# ---- requests


class TracingMiddleware:
    """A span for each request, named by its route template (plain ASGI, as the others)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        here = _current
        if here is None or scope["type"] != "http" or scope["path"] in PROBES:
            await self.app(scope, receive, send)
            return
        from opentelemetry import trace
        from opentelemetry.trace import SpanKind

        status = 500
        method = scope["method"] if scope["method"] in _METHODS else "other"

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        given = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name in (b"traceparent", b"tracestate")
        }
        span = here.tracer.start_span(method, context=_from(given), kind=SpanKind.SERVER)
        began = time.perf_counter()
        try:
            with trace.use_span(span, end_on_exit=False, record_exception=False):
                await self.app(scope, receive, noting)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            known = {"http.request.method": method, "http.route": route, "http.response.status_code": status}
            span.update_name(f"{method} {route}")
            span.set_attributes(known)
            if status >= 500:
                _failed(span, str(status))
            span.end()
            here.requests.record(time.perf_counter() - began, known)


# ---- jobs


def carried() -> dict[str, str]:
    """What a job takes along so that its run belongs to the trace of whoever made it necessary."""
    if _current is None:
        return {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return {CARRIER: carrier["traceparent"]} if "traceparent" in carrier else {}


@contextmanager
def job_span(name: str, queue: str, carrier: object) -> Iterator[None]:
    """A span for a run of a job."""
    here = _current
    if here is None:
        yield
        return
    from opentelemetry import trace
    from opentelemetry.trace import SpanKind

    context = _from({"traceparent": carrier} if isinstance(carrier, str) else {})
    known = {"paletta.job.task": name, "paletta.job.queue": queue}
    span = here.tracer.start_span(f"job {name}", context=context, kind=SpanKind.CONSUMER, attributes=known)
    began = time.perf_counter()
    outcome = "done"
    try:
        with trace.use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False):
            yield
    except BaseException as error:
        outcome = "failed" if isinstance(error, Exception) else "stopped"
        _failed(span, type(error).__name__)
        raise
    finally:
        span.set_attribute("paletta.job.outcome", outcome)
        span.end()
        here.jobs.record(time.perf_counter() - began, {**known, "paletta.job.outcome": outcome})


def _from(carrier: Mapping[str, str]) -> Any:
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract(carrier, context=Context())


def _failed(span: Span, kind: str) -> None:
    """The kind of the error alone: its words may quote people's data."""
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))


# ---- the database


def watch(engine: Engine) -> None:
    """A span for each statement that the engine carries out, by its verb: never its text or values."""
    if _current is None:
        return
    from sqlalchemy import event

    def before(
        connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
    ) -> None:
        from opentelemetry import trace
        from opentelemetry.trace import SpanKind

        here = _at_hand()
        if here is None or not trace.get_current_span().get_span_context().is_valid:
            return  # what nobody asked for (polling) would be a trace each
        words = statement.split(None, 1)
        verb = words[0].upper() if words and words[0].isalpha() else "SQL"
        span = here.tracer.start_span(
            verb,
            kind=SpanKind.CLIENT,
            attributes={"db.system.name": "postgresql", "db.operation.name": verb},
        )
        connection.info.setdefault("paletta_spans", []).append(span)

    def after(connection: Any, *_: Any) -> None:
        if spans := connection.info.get("paletta_spans"):
            spans.pop().end()

    def failed(trouble: Any) -> None:
        connection = trouble.connection
        if connection is not None and (spans := connection.info.get("paletta_spans")):
            span = spans.pop()
            _failed(span, type(trouble.original_exception).__name__)
            span.end()

    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "after_cursor_execute", after)
    event.listen(engine, "handle_error", failed)


def identity() -> dict[str, str]:
    """What tells this process from others of its kind."""
    return {"service.instance.id": f"{platform.node()}-{os.getpid()}"}
