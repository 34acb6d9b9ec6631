"""The application on a port of this machine, for clients that speak real HTTP."""

from __future__ import annotations

import asyncio
import queue
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import uvicorn

from paletta_server.commands.connection import Connection

if TYPE_CHECKING:
    from fastapi import FastAPI


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[str]:
    """Serve a started application from this event loop, as `paletta-server api` does; its address. Run blocking clients
    in a thread."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = _Server(uvicorn.Config(app, lifespan="off", log_config=None, ws="none", http=Connection))
    task = asyncio.create_task(server._serve([listener]))
    await server.ready.wait()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()


@contextmanager
def serving_in_a_thread(app: FastAPI) -> Iterator[str]:
    """The same from a thread with a loop of its own, for tests that have none."""
    told: queue.Queue[tuple[str, Callable[[], object]]] = queue.Queue()

    async def serve() -> None:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with serving(app) as address:
            told.put((address, lambda: loop.call_soon_threadsafe(stopped.set)))
            await stopped.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="serving", daemon=True)
    thread.start()
    address, stop = told.get(timeout=60)
    try:
        yield address
    finally:
        stop()
        thread.join(60)
