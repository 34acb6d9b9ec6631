"""What the account routes need from a request besides the principal."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request

from paletta_server.accounts.passwords import CONCURRENT_HASHES


async def _client_ip(request: Request) -> str | None:
    """The caller's network address; behind a proxy, the one that uvicorn takes from the trusted header."""
    return request.client.host if request.client else None


ClientIp = Annotated[str | None, Depends(_client_ip)]

_slots = asyncio.Semaphore(CONCURRENT_HASHES)


async def _slot() -> AsyncIterator[None]:
    async with _slots:
        yield


HashSlot = Annotated[None, Depends(_slot, scope="function")]
"""For routes that hold the request's connection while they hash, or need a second one to count attempts:
no crowd of them can then hold all of the pool's. It must be the first parameter, since dependencies are
entered in order."""
