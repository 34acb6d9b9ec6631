"""Traces and metrics, sent to a small collector: what belongs together, what never leaves, and what trouble costs."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from fastapi import FastAPI
from sqlalchemy import text

from paletta_server.app import create_app
from paletta_server.core import jobs, telemetry
from paletta_server.core.metrics import REGISTRY
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.core.telemetry_ids import trace_ids
from tests.conftest import Person
from tests.support.clips import Shelf
from tests.support.collector import Collector, attributes, collecting

PLANTED = "plt_planted-token-that-nobody-may-see"
SECRET = "hunter2-in-a-query"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """One that is sent everything, however long that takes a busy machine."""
    monkeypatch.setattr(telemetry, "FLUSH_SECONDS", 60.0)
    monkeypatch.setattr(telemetry, "EXPORT_SECONDS", 60)
    with collecting() as made:
        yield made
        made.free.set()
        for thread in threading.enumerate():
            if thread.name == "telemetry-end":  # has its trouble logged in this test and not in the next
                thread.join(60)


@asynccontextmanager
async def traced(settings: Settings, collector: Collector, tmp: Path, **more: Any) -> AsyncIterator[
    tuple[FastAPI, httpx.AsyncClient]
]:  # fmt: skip
    chosen = settings.model_copy(
        update={"otel_endpoint": collector.url, "search_dir": tmp / "search", **more}
    )
    app = create_app(chosen)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client,
    ):
        yield app, client


async def test_a_request_and_its_job_are_one_trace_and_no_secret_leaves(
    shelf: Shelf, admin: Person, settings: Settings, collector: Collector, tmp_path: Path
) -> None:  # fmt: skip
    uid = await shelf.put("tram", media=True)
    async with traced(settings, collector, tmp_path) as (app, client):
        runtime: Runtime = app.state.runtime
        headers = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
        asked = await client.post("/v1/auth/password-reset", json={"email": admin.email}, headers=headers)
        assert asked.status_code < 300, asked.text
        await client.get(f"/v1/clips/{uid}?token={SECRET}", headers={"Authorization": f"Bearer {PLANTED}"})
        await client.get(f"/v1/clips/{PLANTED}", params={"password": SECRET})
        async with runtime.db.transaction() as session:
            arguments = (
                await session.scalars(text("SELECT args::text FROM procrastinate_jobs WHERE args ? '_trace'"))
            ).all()
        assert arguments
        await jobs.run_worker(runtime, name="w", concurrency=1, wait=False)
        with telemetry.job_span("planted", "default", None):
            assert await runtime.store.head(f"nowhere/{SECRET}") is None
            assert [one async for one in runtime.store.every_object(f"nowhere/{SECRET}")] == []
            signed = runtime.store.presign_get(f"nowhere/{SECRET}", seconds=60)
            async with httpx.AsyncClient() as store:
                assert (await store.get(signed)).status_code == 404
            with pytest.raises(Exception, match="planted"):
                async with runtime.db.transaction() as session:
                    await session.execute(text(f"SELECT CAST('planted {SECRET}' AS int), :x"), {"x": PLANTED})

    assert collector.services == {"paletta-api"}
    (request,) = collector.named("POST /v1/auth/password-reset")
    assert request.trace_id == bytes.fromhex("ab" * 16)
    assert attributes(request)["http.response.status_code"] == asked.status_code
    ran = [
        span for span in collector.spans if span.name.startswith("job ") and span.trace_id == request.trace_id
    ]
    assert ran, {span.name for span in collector.spans}
    assert ran[0].parent_span_id == request.span_id
    inside = {span.name for span in collector.spans if span.trace_id == request.trace_id}
    assert {"SELECT", "INSERT"} <= inside
    assert collector.named("GET /v1/clips/{clip}")
    assert {"S3.ListObjectsV2", "GET"} <= {span.name for span in collector.spans}
    failed = [span for span in collector.spans if span.name == "SELECT" and span.status.code == 2]
    assert failed
    assert not failed[0].status.message
    assert {"http.server.request.duration", "paletta.job.duration"} <= collector.metrics
    everything = b"".join(collector.raw)
    for planted in (
        PLANTED,
        SECRET,
        uid,
        admin.email,
        admin.token,
        settings.s3_secret_key.get_secret_value(),
    ):  # type: ignore[union-attr]
        assert planted.encode() not in everything, planted
    known = {name for span in collector.spans for name in attributes(span)}
    assert known <= {
        "http.method", "http.request.method", "http.route", "http.status_code", "http.response.status_code",
        "error.type", "server.address", "server.port", "db.system.name", "db.operation.name", "paletta.job.task",
        "paletta.job.queue", "paletta.job.outcome", "rpc.system", "rpc.service", "rpc.method", "aws.region",
        "cloud.region",
    }  # fmt: skip


async def test_without_the_setting_nothing_of_it_is_loaded(settings: Settings) -> None:
    code = (
        "import sys, paletta_server.app, paletta_server.commands.serve, paletta_server.core.jobs as jobs\n"
        "from paletta_server.core.settings import Settings\n"
        "from paletta_server.core import telemetry\n"
        "paletta_server.app.create_app(Settings(_env_file=None))\n"
        "with telemetry.running(Settings(_env_file=None), 'api'), telemetry.job_span('x', 'y', None):\n"
        "    assert telemetry.carried() == {}\n"
        "kinds = ('opentelemetry.' + kind for kind in ('sdk', 'exporter', 'instrumentation', 'proto'))\n"
        "print([name for name in sys.modules if name.startswith(tuple(kinds)) or name.endswith('_export')])\n"
    )
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("trouble", ["refuses", "hangs", "away"])
async def test_a_collector_in_trouble_costs_spans_and_no_request(
    settings: Settings, collector: Collector, tmp_path: Path, trouble: str, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch, runtime: Runtime,
) -> None:  # fmt: skip
    monkeypatch.setattr(telemetry, "EXPORT_SECONDS", 1)
    # Who is told so at once is waited for, and who hangs is not.
    monkeypatch.setattr(telemetry, "FLUSH_SECONDS", 1.5 if trouble == "hangs" else 60.0)
    monkeypatch.setattr(telemetry, "QUEUE", 16)
    if trouble == "refuses":
        collector.status = 400
    elif trouble == "hangs":
        collector.hanging.set()
    else:
        collector.url = "http://127.0.0.1:1"
    with caplog.at_level(logging.INFO):
        async with traced(settings, collector, tmp_path) as (_, client):
            for _turn in range(60):  # more than the queue holds
                assert (await client.get("/v1/manifest-schema")).status_code == 200
            if trouble != "away":
                assert await asyncio.to_thread(collector.asked.wait, 60)
            began = time.monotonic()
        if trouble == "hangs":
            assert time.monotonic() - began < 60, "nor for as long as it hangs"
    told = [record.message for record in caplog.records if "spans cannot be sent" in record.message]
    assert len(told) <= 1
    if trouble != "hangs":
        assert len(told) == 1
    assert not [
        record for record in caplog.records if record.name.startswith("opentelemetry") and record.exc_info
    ]


async def test_the_share_of_traces_is_ours_to_decide(
    settings: Settings, collector: Collector, tmp_path: Path, runtime: Runtime
) -> None:
    async with traced(settings, collector, tmp_path, otel_sample_ratio=0.0) as (_, client):
        await client.get(
            "/v1/manifest-schema", headers={"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
        )  # asks to be recorded
    assert collector.spans == []
    assert "http.server.request.duration" in collector.metrics


def test_a_line_of_the_log_has_its_trace(settings: Settings, collector: Collector) -> None:
    from paletta_server.core.logging import _add_trace

    assert trace_ids() == {}
    with (
        telemetry.running(settings.model_copy(update={"otel_endpoint": collector.url}), "worker"),
        telemetry.job_span("x", "default", f"00-{'ab' * 16}-{'cd' * 8}-01"),
    ):
        line = _add_trace(None, "", {"event": "x"})
    assert line["trace_id"] == "ab" * 16
    assert re.fullmatch("[0-9a-f]{16}", str(line["span_id"]))
    (span,) = collector.named("job x")
    assert span.span_id.hex() == line["span_id"]


# ---- the dashboard and the alerts


async def test_dashboard_and_alerts_ask_for_metrics_that_there_are(
    client: httpx.AsyncClient, repository: Path, runtime: Runtime
) -> None:
    await client.get("/v1/clips")
    await client.get("/healthz")
    told = (await client.get("/metrics")).text
    there = set(re.findall(r"^# TYPE (\S+) ", told, re.MULTILINE))
    there |= set(re.findall(r"^([a-z_]+)[ {]", told, re.MULTILINE))
    deploy = repository / "paletta_server" / "deploy"
    dashboard = json.loads((deploy / "grafana-dashboard.json").read_text())
    rules = yaml.safe_load((deploy / "alerts.yaml").read_text())["groups"][0]["rules"]
    asked = expressions(repository)
    assert len(dashboard["panels"]) >= 12
    for rule in rules:
        assert {"alert", "expr", "for", "labels", "annotations"} == set(rule)
    names = {name for one in asked for name in re.findall(r"\b(?:paletta|process)_[a-z_]+\b", one)}
    assert len(names) > 10
    assert names <= there, names - there
    ours = {
        name
        for name in there
        if name.startswith("paletta_") and not name.endswith(("_created", "_sum", "_count"))
    }
    families = {name.removesuffix("_bucket") for name in names}
    unseen = {name.removesuffix("_bucket") for name in ours} - families
    assert not {name for name in unseen if f"{name}_total" not in families}, unseen


def expressions(repository: Path) -> list[str]:
    """What the dashboard and the alert rules ask."""
    deploy = repository / "paletta_server" / "deploy"
    dashboard = json.loads((deploy / "grafana-dashboard.json").read_text())
    rules = yaml.safe_load((deploy / "alerts.yaml").read_text())["groups"][0]["rules"]
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return asked + [rule["expr"] for rule in rules]


FROM_THE_SCRAPER = {"job", "instance"}
SELECTED = re.compile(r"\b((?:paletta|process)_[a-z_]+)(?:\{([^}]*)\})?")
MATCHED = re.compile(r'([a-z_]+)(=~|!~|!=|=)"([^"]*)"')


def label_faults(expression: str, labels: dict[str, set[str]], values: dict[str, set[str]]) -> list[str]:
    """Labels that a metric has not, and values that none of its labels ever has."""
    wrong = []
    used = {name for name, _ in SELECTED.findall(expression)}
    for name, matchers in SELECTED.findall(expression):
        for label, how, value in MATCHED.findall(matchers):
            if label in FROM_THE_SCRAPER:
                continue
            if label not in labels.get(name, ()):  # a process's own figures have none
                wrong.append(f"{name} has no label {label}")
                continue
            for one in value.split("|") if "~" in how else [value]:
                if not any(re.fullmatch(one, known) for known in values[label]):
                    wrong.append(f"{label} is never {one}")
    some = set[str]().union(*(labels.get(name, set()) for name in used)) | FROM_THE_SCRAPER
    for grouping in re.findall(r"\b(?:by|on|without|ignoring) ?\(([^)]*)\)", expression):
        wrong += [
            f"nothing has a label {label}" for label in re.findall(r"[a-z_]+", grouping) if label not in some
        ]
    return wrong


@pytest.fixture
def labels() -> dict[str, set[str]]:
    """The labels of each metric, by each of its names."""
    found: dict[str, set[str]] = {}
    for collector in set(REGISTRY._collector_to_names):
        names = set(getattr(collector, "_labelnames", ()))
        for name in REGISTRY._collector_to_names[collector]:
            found[name] = names | ({"le"} if name.endswith("_bucket") else set())
    return found


@pytest.fixture
async def values(client: httpx.AsyncClient, runtime: Runtime) -> dict[str, set[str]]:
    """What the labels can be: as the database knows a job's status, and as the code sets the others."""
    async with runtime.db.transaction() as session:
        statuses = await session.scalars(
            text("SELECT unnest(enum_range(NULL::procrastinate_job_status))::text")
        )
        status = set(statuses) | {str(number) for number in range(200, 600)}
    for path in ("/v1/clips", "/healthz", "/readyz", "/startupz", "/metrics"):
        await client.get(path)
    told = (await client.get("/metrics")).text
    return {
        "status": status,
        "queue": {*jobs.FILMS, *jobs.REST},
        "state": set(re.findall(r'state="([^"]*)"', told)),
        "route": set(re.findall(r'route="([^"]*)"', told)),
    }


async def test_dashboard_and_alerts_ask_for_labels_that_there_are(
    repository: Path, labels: dict[str, set[str]], values: dict[str, set[str]]
) -> None:
    wrong = {one: found for one in expressions(repository) if (found := label_faults(one, labels, values))}
    assert wrong == {}


@pytest.mark.parametrize(
    "expression",
    [
        'max(paletta_mails_unsent{state="dead"}) > 0',
        'sum(paletta_jobs{status="dead"}) > 0',
        'max(paletta_job_oldest_seconds{lane!="ingest"})',
        'max(paletta_job_oldest_seconds{queue!="films"})',
        "max by (line) (paletta_jobs)",
        'sum(rate(paletta_http_requests_total{status=~"5..",route!~"/readyz|/ready"}[5m]))',
    ],
)
def test_a_label_that_is_not_there_is_found(
    expression: str, labels: dict[str, set[str]], values: dict[str, set[str]]
) -> None:
    assert len(label_faults(expression, labels, values)) == 1


def test_probes_are_no_errors(repository: Path) -> None:
    """A node that stops says so with 503, once a second to each of its balancers."""
    rules = yaml.safe_load((repository / "paletta_server/deploy/alerts.yaml").read_text())["groups"][0][
        "rules"
    ]
    (errors,) = [rule["expr"] for rule in rules if rule["alert"] == "PalettaErrors"]
    left_out = re.findall(r'route!~"([^"]*)"', errors)
    assert len(left_out) == errors.count("paletta_http_requests_total")
    probes = {"/healthz", "/readyz", "/startupz", "/metrics"}
    assert [set(one.split("|")) for one in left_out] == [probes] * len(left_out)
