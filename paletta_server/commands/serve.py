"""`paletta-server migrate`, `api` and `worker`: the parts that run on any number of machines."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paletta_server.commands import terminal

if TYPE_CHECKING:
    from fastapi import FastAPI

    from paletta_server.core.settings import Settings

log = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 65
"""Longer than the 60 s after which common balancers drop an idle connection, so that they are the ones to."""

GRACE_SECONDS = 8
"""What a stopping API gives requests in flight, once it takes no new ones; long polls end before. Less than the ten
seconds after which whoever stops us commonly kills."""

STARTUP_FAILED = 3
"""As uvicorn itself ends where the port is taken or the application does not start."""


def migrate(*, bucket: bool) -> int:
    """Bring the database to this code's revision; with `bucket`, set the bucket up too."""
    from paletta_server import migrations
    from paletta_server.core.logging import configure_logging
    from paletta_server.core.settings import get_settings

    settings = get_settings()
    configure_logging(settings)
    before, _ = migrations.versions(settings)
    migrations.migrate(settings)
    after, _ = migrations.versions(settings)
    terminal.say(f"database: {before or 'empty'} → {after}" if before != after else f"database: at {after}")
    if bucket:
        from paletta_server.commands.bucket import bootstrap

        return bootstrap(plan=False, versioning=None, as_json=False)
    return 0


def api(*, host: str, port: int, reload: bool) -> int:
    """Serve HTTP until told to stop."""
    import uvicorn

    from paletta_server.commands.connection import Connection
    from paletta_server.commands.draining import DrainingServer
    from paletta_server.core.delivering import read_keys
    from paletta_server.core.folders import own_folder
    from paletta_server.core.settings import get_settings

    settings = get_settings()
    if settings.cloudfront_keys is not None:
        read_keys(
            settings.cloudfront_keys.get_secret_value()
        )  # for words before uvicorn makes a traceback of it
    if settings.search_backend == "tantivy":
        # The replica looks for itself, but in the background: a service that can never search had better not start.
        own_folder(settings.search_dir, "PALETTA_SEARCH_DIR")
    options: dict[str, Any] = {
        "host": host,
        "port": port,
        "log_config": None,
        "server_header": False,
        # None is uvicorn's own default: a proxy on this machine.
        "forwarded_allow_ips": ",".join(settings.trusted_proxies) or None,
        "http": Connection,
        "ws": "none",
        "timeout_keep_alive": KEEP_ALIVE_SECONDS,
        "timeout_graceful_shutdown": GRACE_SECONDS,
    }
    if reload:
        uvicorn.run("paletta_server.commands.serve:make_app", factory=True, reload=True, **options)
        return 0
    app = make_app()
    server = DrainingServer(uvicorn.Config(app, **options), app, drain_seconds=settings.drain_seconds)
    with suppress(KeyboardInterrupt):  # Ctrl-C is an end like any other
        server.run()
    return 0 if server.started else STARTUP_FAILED


def make_app() -> FastAPI:
    """Return the application with its logs set up: what uvicorn, or any ASGI server, loads."""
    from paletta_server.core import loading

    with loading.for_good():
        from paletta_server.app import create_app
        from paletta_server.core.logging import configure_logging
        from paletta_server.core.settings import get_settings

        settings = get_settings()
        configure_logging(settings)
        return create_app(settings)


def worker(*, concurrency: int | None, name: str | None, ready_file: Path | None) -> int:
    """Work on jobs until told to stop."""
    from paletta_server.core.folders import own_folder
    from paletta_server.core.logging import configure_logging
    from paletta_server.core.settings import get_settings
    from paletta_server.ingest.sandbox import Sandbox, SandboxUnavailable

    settings = get_settings()
    configure_logging(settings)
    own_folder(settings.scratch_dir, "PALETTA_SCRATCH_DIR")
    try:
        sandbox = Sandbox.create(settings.sandbox_mode)
    except SandboxUnavailable as error:
        terminal.error(f"{error.reason}\nhint: {error.hint}")
        return 1
    for warning in sandbox.warnings:
        log.warning(warning)
    chosen = concurrency or settings.worker_concurrency
    called = name or f"{socket.gethostname()}-{os.getpid()}"
    log.info("worker starts", extra={"worker": called, "concurrency": chosen, "sandbox": sandbox.describe()})
    asyncio.run(find_database(settings))
    try:
        asyncio.run(_work(settings.model_copy(update={"worker_concurrency": chosen}), called, ready_file))
    except Exception:
        # Most often the database went away. In the form of our own log, which a raw traceback is not.
        log.exception("worker ends")
        return 1
    return 0


async def find_database(settings: Settings) -> None:
    """Wait a moment for a database that is just being started. Raises OperationalError: most likely the address is
    wrong, which is said in words before anything is begun."""
    from sqlalchemy import text
    from sqlalchemy.exc import OperationalError

    from paletta_server.core.database import Database

    database = Database(settings, pool_size=1)
    try:
        for pause in (0.5, 1.0, 2.0, 4.0, None):
            try:
                async with database.transaction() as session:
                    await session.execute(text("SELECT 1"))
                return
            except OperationalError as error:
                if pause is None:
                    raise
                log.warning("the database does not answer yet", extra={"error": str(error.orig).strip()})
            await asyncio.sleep(pause)
    finally:
        await database.close()


async def _work(settings: Settings, name: str, ready_file: Path | None) -> None:
    from sqlalchemy import text

    from paletta_server.core import loading

    with loading.for_good():
        import paletta_server.tasks  # noqa: F401 (every job there is)
        from paletta_server.core.jobs import run_worker
        from paletta_server.core.runtime import Runtime
        from paletta_server.ingest.scratch import sweep_scratch

    swept = sweep_scratch(settings.scratch_dir)
    if swept:
        log.info("removed scratch folders of workers that died", extra={"folders": swept})
    async with Runtime.open(settings) as runtime:
        if ready_file is not None:
            ready_file.write_text(str(os.getpid()))
        await run_worker(runtime, name=name, concurrency=settings.worker_concurrency)
        # A worker also ends when it loses its database: then this raises, and whoever runs us sees a failure.
        async with runtime.db.transaction() as session:
            await session.execute(text("SELECT 1"))
