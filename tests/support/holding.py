"""Uploads that are held on their way to the store until a test has done what it has to do meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from fastapi import FastAPI

from paletta_server.core.runtime import Runtime
from paletta_server.core.storage import ObjectStore
from tests.faults.proxy import Exchange, Fault, FaultProxy, Gate, Step

_PATIENCE_SECONDS = 60.0


class Held(Gate):
    """Where requests wait until `free` is set. Is a plan of a proxy: of clients' bodies of `least` bytes or more."""

    def __init__(self, least: int) -> None:
        super().__init__(0)
        self._least = least
        self._here = threading.Event()
        self.free = threading.Event()

    def __call__(self, exchange: Exchange) -> Fault | None:
        held = exchange.is_transfer and exchange.length >= self._least
        return Fault("delay", gate=self) if held else None

    async def meet(self) -> None:
        self._here.set()
        while not self.free.is_set():  # noqa: ASYNC110 (a test in another thread sets it)
            await asyncio.sleep(0.01)

    async def has_one(self) -> None:
        """Return once a request is held, so that its file is on its way and not there."""
        assert await asyncio.to_thread(self._here.wait, _PATIENCE_SECONDS), "nothing was sent"


class Line(FaultProxy):
    """What is between clients and the store."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream, watch=self._note)
        self._on_the_way: set[int] = set()

    def _note(self, exchange: Exchange, step: Step) -> None:
        if step == "head" and exchange.is_transfer:
            self._on_the_way.add(exchange.number)
        elif step == "done":
            self._on_the_way.discard(exchange.number)

    async def is_still(self) -> None:
        """Return once the store has answered all that was sent to it: a client that is gone does not wait for that."""
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while self._on_the_way:  # noqa: ASYNC110 (the proxy's thread has a loop of its own)
                await asyncio.sleep(0.01)


@asynccontextmanager
async def line_to_the_store(app: FastAPI) -> AsyncIterator[Line]:
    """The application gives out addresses of the line; `app.state.runtime` is as before afterwards."""
    runtime: Runtime = app.state.runtime
    assert runtime.settings.s3_endpoint is not None
    with Line(runtime.settings.s3_endpoint) as line:
        settings = runtime.settings.model_copy(update={"s3_endpoint": line.url})
        async with ObjectStore(settings) as store:
            app.state.runtime = replace(runtime, settings=settings, store=store)
            try:
                yield line
            finally:
                app.state.runtime = runtime
