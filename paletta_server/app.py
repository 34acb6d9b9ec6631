"""The HTTP API."""

import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import structlog
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import paletta_server.ingest.metrics
import paletta_server.tasks  # noqa: F401 (routes defer jobs, and /metrics tells of ingest)
from paletta_server import __version__
from paletta_server.accounts.routes import pages as account_pages
from paletta_server.accounts.routes import router as accounts
from paletta_server.analytics.collector import Collector
from paletta_server.analytics.routes import router as analytics
from paletta_server.audit.routes import router as audit
from paletta_server.clips.routes import router as clips
from paletta_server.collections.routes import router as collections
from paletta_server.core.admission import SHED, Admission
from paletta_server.core.dbconnect import is_read_only
from paletta_server.core.errors import Invalid, NotFound, PalettaError, TooLarge, Unavailable
from paletta_server.core.health import router as health
from paletta_server.core.metrics import MetricsMiddleware
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings, get_settings
from paletta_server.core.telemetry import TracingMiddleware
from paletta_server.delivery.routes import pages as delivery_pages
from paletta_server.delivery.routes import router as delivery
from paletta_server.earnings.routes import router as earnings
from paletta_server.flags.guard import ServicePaused, paused_page, stop_writes
from paletta_server.flags.routes import router as flags
from paletta_server.flags.service import Switches
from paletta_server.manifest_schema.routes import router as manifest_schema
from paletta_server.moderation.desk_routes import router as moderation_desk
from paletta_server.moderation.routes import router as moderation
from paletta_server.orders.routes import router as orders
from paletta_server.payments.admin_routes import router as operators
from paletta_server.payments.dispute_routes import router as disputes
from paletta_server.payments.pages import pages as payment_pages
from paletta_server.payments.routes import router as payments
from paletta_server.payments.sandbox.pages import pages as sandbox_pages
from paletta_server.search.routes import router as search
from paletta_server.search.service import Search
from paletta_server.taxonomy.routes import router as taxonomy
from paletta_server.uploads.admin_routes import router as all_uploads
from paletta_server.uploads.routes import router as uploads

log = logging.getLogger(__name__)

BODY_LIMIT = 16 * 1024 * 1024
"""No request of ours carries video; the largest is a page of a hundred clips' metadata."""


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application; connections are made when it starts and closed when it stops."""
    chosen = settings or get_settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with Runtime.open(chosen, listen=True) as runtime:
            app.state.runtime = runtime
            async with (
                Search.open(runtime) as app.state.search,
                Switches.open(runtime) as app.state.switches,
                Collector.open(runtime.db) as app.state.analytics,
            ):
                app.state.prepared = {"search": lambda: app.state.search.follower.ready}
                yield

    app = FastAPI(
        title="Paletta",
        version=__version__,
        description="A marketplace for stock video clips, worked from the terminal.",
        lifespan=lifespan,
        dependencies=[Depends(stop_writes)],
    )
    for router in (
        health,
        accounts,
        account_pages,
        flags,
        taxonomy,
        manifest_schema,
        uploads,
        all_uploads,
        search,
        collections,
        clips,
        moderation,
        moderation_desk,
        orders,
        payments,
        operators,
        disputes,
        payment_pages,
        sandbox_pages,
        delivery,
        delivery_pages,
        audit,
        earnings,
        analytics,
    ):
        app.include_router(router)
    app.add_exception_handler(PalettaError, _known)
    app.add_exception_handler(ServicePaused, _paused)
    app.add_exception_handler(RequestValidationError, _unreadable)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(DataError, _unstorable)
    for lost in (ConnectionError, OperationalError, InterfaceError):
        app.add_exception_handler(lost, _connection_lost)
    app.add_exception_handler(InternalError, _maybe_failed_over)
    app.add_exception_handler(PoolTimeout, _no_connection_free)
    app.add_exception_handler(Exception, _unknown)
    app.add_middleware(Admission, settings=chosen)
    app.add_middleware(Guard)
    app.add_middleware(MetricsMiddleware)
    app.add_middleware(TracingMiddleware)
    return app


class Guard:
    """A request id in every log line and answer; a limit on bodies; headers that pages want.

    Plain ASGI: Starlette's own base for middleware runs every request in a task and a stream more.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        request_id = secrets.token_hex(8)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(
            request_id=request_id, ip=request.client.host if request.client else None
        )
        request.state.request_id = request_id

        async def adding(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Referrer-Policy", "no-referrer")
                headers.setdefault("Cache-Control", "no-store")
                if _is_ending(scope):
                    headers["Connection"] = "close"  # the next request had better go to another process
            await send(message)

        length = request.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > BODY_LIMIT or "transfer-encoding" in request.headers:
            words = f"a request's body must say its length, {BODY_LIMIT:,} bytes at most"
            await _answer(request, TooLarge(words))(scope, receive, adding)
            return
        await self.app(scope, receive, adding)


def _is_ending(scope: Scope) -> bool:
    runtime: Runtime | None = getattr(scope["app"].state, "runtime", None)
    return runtime is not None and runtime.notify.ending


def _answer(request: Request, error: PalettaError) -> JSONResponse:
    request_id = getattr(request.state, "request_id", None)
    return JSONResponse(
        error.problem(request_id).model_dump(exclude_none=True),
        status_code=error.status,
        media_type="application/problem+json",
        headers=error.headers,
    )


async def _known(request: Request, error: Exception) -> Response:
    assert isinstance(error, PalettaError)
    if error.status >= 500:
        log.warning("request failed", extra={"code": error.code, "detail": error.detail})
    return _answer(request, error)


async def _paused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServicePaused)
    # Our pages are for people; everything for programs is below /v1.
    return _answer(request, error) if request.url.path.startswith("/v1/") else paused_page(error)


async def _unreadable(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = [
        {
            "pointer": "/" + "/".join(str(step) for step in item["loc"][1:]),
            "where": str(item["loc"][0]),
            "code": item["type"],
            "message": _plainly(item["msg"]),
        }
        for item in error.errors()[:100]
    ]
    first = found[0]
    name = first["pointer"].removeprefix("/") or first["where"]
    detail = f"`{name}` {first['message']}"
    return _answer(request, Invalid(detail, code="invalid_request", problems=found))


def _plainly(words: str) -> str:
    """A validator's sentence about what it calls an input, as one about what is named before it."""
    words = words.removeprefix("Value error, ").removeprefix("Value ")
    for head in ("Input should ", "String should ", "List should ", "Value should "):
        if words.startswith(head):
            return "must " + words.removeprefix(head)
    return words[:1].lower() + words[1:]


async def _framework(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _answer(request, NotFound("address", request.url.path[:200]))
    known = PalettaError(str(error.detail), code="http_error", headers=error.headers)
    known.status = error.status_code  # type: ignore[misc]
    known.title = HTTPStatus(error.status_code).phrase  # type: ignore[misc]
    return _answer(request, known)


async def _connection_lost(request: Request, error: Exception) -> Response:
    """The database or the store is away, a lock was not to be had in time, or two requests met head-on."""
    log.warning("a connection behind the API failed", exc_info=error)
    return _answer(request, Unavailable("something behind the API does not answer", retry_after=2))


async def _maybe_failed_over(request: Request, error: Exception) -> Response:
    """A write met a replica: there was a failover, and the next connection finds the new writer."""
    assert isinstance(error, InternalError)
    return await (_connection_lost if is_read_only(error.orig) else _unknown)(request, error)


async def _no_connection_free(request: Request, error: Exception) -> Response:
    """All connections were at work for as long as a request may wait for one. Not `overloaded`: it may have had one
    before, for an earlier step."""
    log.warning("no database connection came free in time")
    SHED.labels("connection").inc()
    return _answer(request, Unavailable("the database has too much to do at the moment"))


async def _unstorable(request: Request, error: Exception) -> Response:
    """Input that no check of ours minds and the database does: a NUL character, a number beyond its range."""
    log.info("the database refused a value", exc_info=error)
    return _answer(
        request, Invalid("a value cannot be stored", code="unstorable", hint="look for NUL characters")
    )


async def _unknown(request: Request, error: Exception) -> Response:
    log.error("request crashed", exc_info=error)
    return _answer(
        request, PalettaError("something went wrong here", hint="the request id finds it in the logs")
    )
