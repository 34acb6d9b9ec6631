"""People who register, confirm and log in."""

import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from email.message import EmailMessage
from typing import Any

import httpx
from fastapi import FastAPI

PASSWORD = "violet harbour kettle moss"
OTHER = "tractor osmosis ninety velvet"
RunJobs = Callable[[], Awaitable[None]]


def link_in(mail: EmailMessage) -> tuple[str, str]:
    """The page's path with its query, and the secret, of a mailed link."""
    found = re.search(r"https?://\S+?(/account/\w+\?token=(plt_\w_\w+))", mail.get_content())
    assert found, mail.get_content()
    return found[1], found[2]


async def register(client: httpx.AsyncClient, email: str, password: str = PASSWORD) -> httpx.Response:
    return await client.post("/v1/auth/register", json={"email": email, "password": password})


async def login(
    client: httpx.AsyncClient, email: str, password: str = PASSWORD, **more: Any
) -> httpx.Response:
    return await client.post("/v1/auth/login", json={"email": email, "password": password, **more})


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@contextmanager
def contributors_by_hand(app: FastAPI) -> Iterator[None]:
    """The same service with PALETTA_CONTRIBUTORS=manual."""
    runtime = app.state.runtime
    settings = runtime.settings.model_copy(update={"contributors": "manual"})
    app.state.runtime = replace(runtime, settings=settings)
    yield
    app.state.runtime = runtime
