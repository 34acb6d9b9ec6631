"""Probes: `/healthz` (the process answers), `/readyz` (so does what it needs), `/startupz` (it did once), `/metrics`
(Prometheus)."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import psycopg
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import QueuePool

from paletta_server.core.database import OVERFLOW
from paletta_server.core.errors import Forbidden, PalettaError, Unavailable
from paletta_server.core.mail import unsent
from paletta_server.core.metrics import (
    DATABASE_CONNECTIONS,
    DATABASE_MOST,
    JOB_FAILED_RUNS,
    JOB_OLDEST,
    JOB_SECONDS,
    JOBS,
    MAILS,
    REGISTRY,
    SCRAPED,
    Scraped,
)
from paletta_server.core.queue import stats
from paletta_server.core.runtime import Runtime, RuntimeDep
from paletta_server.core.storage import StoreError

log = logging.getLogger(__name__)

router = APIRouter(tags=["operations"])

PROBE_SECONDS = 3.0
"""Balancers commonly give a probe five seconds; an answer "not ready" must come before that."""


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process runs its event loop. Says nothing about what is behind it: no reason to restart."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"description": "Something that requests need does not answer"}})
async def readyz(request: Request, runtime: RuntimeDep) -> JSONResponse:
    """Whether this node can serve requests: database and object store answer within three seconds, the schema is not
    older than this code, it has what it answers searches from, and nobody told it to stop."""
    if runtime.notify.ending:
        return JSONResponse({"status": "stopping", "checks": {}}, status_code=503)
    database, store = await _looked(request.app.state, runtime)
    checks = {"database": database, "object_store": store}
    prepared: dict[str, Callable[[], bool]] = getattr(request.app.state, "prepared", {})
    checks |= {name: "ok" if is_so() else "not there yet" for name, is_so in prepared.items()}
    ready = all(answer == "ok" for answer in checks.values())
    if ready:
        request.app.state.was_ready = True
    body: dict[str, Any] = {"status": "ready" if ready else "not ready", "checks": checks}
    return JSONResponse(body, status_code=200 if ready else 503)


@router.get("/startupz", responses={503: {"description": "Not ready yet, or told to stop"}})
async def startupz(request: Request, runtime: RuntimeDep) -> JSONResponse:
    """As `/readyz` until the node was ready for the first time; from then on only a node that stops says no.

    For a balancer whose "no" has the node replaced: it would replace all of them while the database is away, over and
    over, and none would be better than the one before.
    """
    if getattr(request.app.state, "was_ready", False) and not runtime.notify.ending:
        return JSONResponse({"status": "started"})
    return await readyz(request, runtime)


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request, runtime: RuntimeDep) -> Response:
    """Prometheus' text format, for this machine or with `PALETTA_METRICS_TOKEN` as bearer token."""
    _check_reader(request, runtime)
    _pool(runtime)
    groups: list[tuple[Scraped, *tuple[Gauge, ...]]] = [
        (_jobs, JOBS),
        (_loads, JOB_SECONDS, JOB_FAILED_RUNS, JOB_OLDEST),
        (_mails, MAILS),
        *((bring_up_to_date,) for bring_up_to_date in SCRAPED),
    ]
    lanes = asyncio.Semaphore(2)  # of the pool's connections, which are for requests
    await asyncio.gather(*(_figures(runtime, lanes, count, *gauges) for count, *gauges in groups))
    return PlainTextResponse(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)


def _pool(runtime: Runtime) -> None:
    pool = runtime.db.engine.pool
    if isinstance(pool, QueuePool):
        DATABASE_CONNECTIONS.labels("in use").set(pool.checkedout())
        DATABASE_CONNECTIONS.labels("idle").set(pool.checkedin())
        DATABASE_MOST.set(runtime.settings.database_pool_size + OVERFLOW)


async def _looked(state: Any, runtime: Runtime) -> tuple[str, str]:
    """Whether database and store answer. Whoever asks while somebody looks gets the same answer: anyone may ask, as
    often as they like, and there is one connection for it."""
    looking: asyncio.Task[tuple[str, str]] | None = getattr(state, "looking", None)
    if looking is None or looking.done():

        async def look() -> tuple[str, str]:
            return await asyncio.gather(_within(_database(runtime)), _within(_store(runtime)))

        looking = state.looking = asyncio.create_task(look())
    return await asyncio.shield(looking)


async def _within(check: Any) -> str:
    """The check's word, at the latest after PROBE_SECONDS. Never the error's own text: anyone may ask."""
    try:
        await asyncio.wait_for(check, PROBE_SECONDS)
    except TimeoutError:
        return "no answer in time"
    except (SQLAlchemyError, psycopg.Error, StoreError, PalettaError, OSError):
        return "does not answer"
    return "ok"


async def _database(runtime: Runtime) -> None:
    async with runtime.db.probe.connect() as connection:
        revision = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    if revision in _older():
        raise Unavailable("the schema is older than this code")


@lru_cache(maxsize=1)
def _older() -> frozenset[str]:
    """The revisions before ours. One that nobody here knows is newer, and suits the code before it too."""
    from paletta_server.migrations import revisions

    return frozenset(revisions()[:-1])


async def _store(runtime: Runtime) -> None:
    await runtime.store.head("_paletta/ready")


async def _figures(runtime: Runtime, lanes: asyncio.Semaphore, count: Scraped, *gauges: Gauge) -> None:
    """Bring some gauges up to date. Each group has its own time, and a slow one silences no other's alerts."""

    async def counted() -> None:
        async with runtime.db.engine.connect() as connection:
            await count(connection)

    try:
        async with lanes:
            await asyncio.wait_for(counted(), PROBE_SECONDS)
    except (TimeoutError, SQLAlchemyError, psycopg.Error, OSError) as error:
        log.warning("figures are missing", extra={"of": count.__name__, "error": type(error).__name__})
        for gauge in gauges:
            gauge.clear()  # better no figure than an old one


async def _jobs(connection: AsyncConnection) -> None:
    counting = text("SELECT queue_name, status::text, count(*) FROM procrastinate_jobs GROUP BY 1, 2")
    rows = (await connection.execute(counting)).all()
    JOBS.clear()
    JOBS.labels("default", "todo").set(0)  # that there is no job is a figure too
    for queue, status, count in rows:
        JOBS.labels(queue, status).set(count)


async def _loads(connection: AsyncConnection) -> None:
    loads = await stats(connection)
    for gauge in (JOB_SECONDS, JOB_FAILED_RUNS, JOB_OLDEST):
        gauge.clear()
    oldest: dict[str, float] = {}
    for load in loads:
        JOB_FAILED_RUNS.labels(load.task).set(load.failed_runs)
        if load.seconds is not None:
            JOB_SECONDS.labels(load.task).set(load.seconds)
        oldest[load.queue] = max(oldest.get(load.queue, 0.0), load.oldest_seconds or 0.0)
    for queue, seconds in oldest.items():
        JOB_OLDEST.labels(queue).set(seconds)


async def _mails(connection: AsyncConnection) -> None:
    waiting, given_up = await unsent(connection)
    MAILS.labels("waiting").set(waiting)
    MAILS.labels("given up").set(given_up)


def _check_reader(request: Request, runtime: Runtime) -> None:
    wanted = runtime.settings.metrics_token
    if wanted is not None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secrets.compare_digest(
            given.encode(), wanted.get_secret_value().encode()
        ):
            raise Forbidden(
                "metrics need the metrics token", hint="send PALETTA_METRICS_TOKEN as bearer token"
            )
        return
    # Behind a proxy every client looks local: what was forwarded is not from this machine.
    forwarded = "x-forwarded-for" in request.headers or "forwarded" in request.headers
    if forwarded or not _is_loopback(request.client.host if request.client else ""):
        raise Forbidden(
            "metrics are for this machine", hint="set PALETTA_METRICS_TOKEN and send it as bearer token"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
