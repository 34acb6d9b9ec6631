"""What of our spans and metrics leaves the process, and how. Imported only where `PALETTA_OTEL_ENDPOINT` is set.

An attribute is sent only if its name is on a short list, since instrumentation is written for services whose
addresses, messages and keys are no secrets; ours carry signatures, tokens, people's data and ids.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import propagate
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import MeterProvider as AnyMeterProvider
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Status

from paletta_server import __version__
from paletta_server.core.logging import mask
from paletta_server.core.settings import Settings
from paletta_server.core.telemetry import identity

SENT = frozenset({
    "http.method", "http.request.method", "http.route", "http.status_code", "http.response.status_code", "error.type",
    "db.system.name", "db.operation.name", "paletta.job.task", "paletta.job.queue", "paletta.job.outcome",
    "rpc.system", "rpc.service", "rpc.method", "aws.region", "cloud.region", "server.port",
})  # fmt: skip
_ADDRESSES = ("url.full", "http.url")
"""Of these the host is sent alone, as `server.address`."""
_LONGEST = 200

log = logging.getLogger(__name__)


def tracers(settings: Settings, role: str, *, queue: int, seconds: float) -> TracerProvider:
    """A caller may name the trace that its request belongs to, but not that it is recorded: our share holds."""
    share = TraceIdRatioBased(settings.otel_sample_ratio)
    made = TracerProvider(
        sampler=ParentBased(share, remote_parent_sampled=share, remote_parent_not_sampled=share),
        resource=_resource(role),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(
        f"{settings.otel_endpoint}/v1/traces", timeout=seconds, compression=Compression.Gzip
    )
    made.add_span_processor(
        BatchSpanProcessor(
            Spans(exporter),
            max_queue_size=queue,
            max_export_batch_size=min(512, queue),
            schedule_delay_millis=1_000,
            export_timeout_millis=seconds * 1000,
        )
    )
    _hush()
    return made


def meters(settings: Settings, role: str, *, every: float, seconds: float) -> MeterProvider:
    exporter = OTLPMetricExporter(
        f"{settings.otel_endpoint}/v1/metrics", timeout=seconds, compression=Compression.Gzip
    )
    reader = PeriodicExportingMetricReader(
        Metrics(exporter), export_interval_millis=every * 1000, export_timeout_millis=seconds * 1000
    )
    return MeterProvider([reader], resource=_resource(role), shutdown_on_exit=False)


def no_meters() -> AnyMeterProvider:
    return NoOpMeterProvider()


def no_headers_to_others() -> None:
    """Instrumented clients add nothing to their requests."""
    propagate.set_global_textmap(CompositePropagator([]))


def _resource(role: str) -> Resource:
    named = {"service.name": f"paletta-{role}", "service.version": __version__, **identity()}
    return Resource(named)  # not `create`: it would add what the environment says, and our command line


def _hush() -> None:
    """The library tells every failed sending, with its stack. We tell the first."""
    for name in ("opentelemetry.exporter", "opentelemetry.sdk"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


class _Told:
    """Logs that sending fails, once until it works again."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._failing = False
        self._lock = threading.Lock()

    def note(self, ok: bool) -> None:
        with self._lock:
            changed, self._failing = self._failing == ok, not ok
        if changed and ok:
            log.info(f"{self._what} are sent again")
        elif changed:
            log.warning(f"{self._what} cannot be sent; some are lost until the collector answers")


class Spans(SpanExporter):
    """Sends spans with what they may say."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._told = _Told("spans")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            done = self._exporter.export([_bare(span) for span in spans])
        except Exception:
            done = SpanExportResult.FAILURE
        self._told.note(done is SpanExportResult.SUCCESS)
        return done

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _bare(span: ReadableSpan) -> ReadableSpan:
    """A span without events (exceptions quote values), words of a status, and attributes that nobody looked at."""
    return ReadableSpan(
        name=mask(span.name)[:_LONGEST],
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=sent(span.attributes or {}),
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def sent(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Of attributes those that leave the process, and how."""
    found = {}
    for name, value in attributes.items():
        if name in SENT:
            found[name] = mask(value)[:_LONGEST] if isinstance(value, str) else value
        elif name in _ADDRESSES and isinstance(value, str):
            found["server.address"] = urlsplit(value).hostname or ""
    return found


class Metrics(MetricExporter):
    """Sends metrics; every attribute of ours is a route, a task or an outcome already."""

    def __init__(self, exporter: OTLPMetricExporter) -> None:
        super().__init__()
        self._exporter = exporter
        self._told = _Told("metrics")

    def export(self, metrics_data: Any, timeout_millis: float = 10_000, **_: Any) -> MetricExportResult:
        try:
            done = self._exporter.export(metrics_data, timeout_millis)
        except Exception:
            done = MetricExportResult.FAILURE
        self._told.note(done is MetricExportResult.SUCCESS)
        return done

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        self._exporter.shutdown(timeout_millis)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return self._exporter.force_flush(timeout_millis)
