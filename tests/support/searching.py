"""Waiting for the search index, by its own word instead of a clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI

from paletta_server.core.runtime import Runtime
from paletta_server.search.service import Search
from paletta_server.search.views import ViewCounter
from tests.support.days import within_an_hour

SHOWS_SECONDS = 60.0
"""Within which a change shows on the slowest machine; how long it takes is for benchmarks to say."""


def search_of(app: FastAPI) -> Search:
    found: Search = app.state.search
    return found


@asynccontextmanager
async def standing_still(app: FastAPI) -> AsyncIterator[None]:
    """The application's own node follows nothing meanwhile. A build of its index adds a change to those that every
    node follows, and after tables were emptied it builds one as soon as it comes to look."""
    async with search_of(app).follower._turn:
        yield


@asynccontextmanager
async def counting(app: FastAPI) -> AsyncIterator[ViewCounter]:
    """A counter of views in the place of the application's, which writes when it is told to and at no other time: what
    the application's has taken to write it may have written later than a test looks.

    The hour stays the same one for as long as a test lasts: a caller counts once in each.
    """
    search = search_of(app)
    runtime: Runtime = app.state.runtime
    await within_an_hour(runtime)
    theirs, search.views = search.views, ViewCounter(runtime.db)
    try:
        yield search.views
    finally:
        search.views = theirs


async def caught_up(app: FastAPI) -> None:
    """The index has everything that was committed before this call."""
    await search_of(app).follower.catch_up()


async def until(app: FastAPI, client: httpx.AsyncClient, wanted: Any, **params: Any) -> dict[str, Any]:
    """Ask until the answer is as wanted, once more after each change of the index. Raises TimeoutError."""
    follower = search_of(app).follower
    async with asyncio.timeout(SHOWS_SECONDS):
        while True:
            follower.changed.clear()
            answer = await client.get("/v1/clips", params=params)
            if answer.status_code == 200 and wanted(answer.json()):
                found: dict[str, Any] = answer.json()
                return found
            await follower.changed.wait()
