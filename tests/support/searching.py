"""Waiting for the search index, by its own word instead of a clock."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from fastapi import FastAPI

from paletta_server.search.service import Search

SHOWS_SECONDS = 60.0
"""Within which a change shows on the slowest machine; how long it takes is for benchmarks to say."""


def search_of(app: FastAPI) -> Search:
    found: Search = app.state.search
    return found


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
