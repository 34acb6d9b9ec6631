"""What a process of ours holds: settings, database, object store, notifications. Made once, closed once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from paletta_server.core import telemetry
from paletta_server.core.database import Database
from paletta_server.core.notify import Notifier
from paletta_server.core.settings import Settings
from paletta_server.core.storage import ObjectStore


@dataclass(frozen=True)
class Runtime:
    settings: Settings
    db: Database
    store: ObjectStore
    notify: Notifier

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, *, listen: bool = False) -> AsyncIterator["Runtime"]:
        """Connect to everything. `listen` starts the task that wakes long polls (API processes only)."""
        with telemetry.running(settings, "api" if listen else "worker"):
            async with cls._connected(settings, listen) as made:
                yield made

    @classmethod
    @asynccontextmanager
    async def _connected(cls, settings: Settings, listen: bool) -> AsyncIterator["Runtime"]:
        database = Database(settings)
        telemetry.watch(database.engine.sync_engine)
        notifier = Notifier(settings)
        async with ObjectStore(settings, brief=listen) as store:
            if listen:
                notifier.start()
            try:
                yield cls(settings, database, store, notifier)
            finally:
                await notifier.stop()
                await database.close()


async def _runtime(request: Request) -> Runtime:
    """A coroutine, as every dependency that does not block: a plain function would be asked in a thread."""
    runtime: Runtime = request.app.state.runtime
    return runtime


RuntimeDep = Annotated[Runtime, Depends(_runtime)]
