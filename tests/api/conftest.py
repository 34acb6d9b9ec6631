"""A shop for the API's tests: an admin, a contributor's clips, a customer."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from paletta_server.core.runtime import Runtime
from tests.conftest import MakeUser, Person
from tests.support.clips import Shelf
from tests.support.shop import Customer, set_prices
from tests.support.uploading import Uploader


@pytest.fixture
async def admin(make_user: MakeUser) -> Person:
    return await make_user("admin")


@pytest.fixture
async def up(client: httpx.AsyncClient, make_user: MakeUser, runtime: Runtime) -> AsyncIterator[Uploader]:
    """A contributor's client, where there are two categories."""
    async with runtime.db.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO categories (slug, name) VALUES ('transport', 'Transport'), ('travel', 'Travel')"
            )
        )
    made = Uploader(client, (await make_user("contributor")).headers)
    yield made
    await made.store.aclose()


@pytest.fixture
async def shelf(
    client: httpx.AsyncClient, make_user: MakeUser, runtime: Runtime, tmp_path: Path
) -> AsyncIterator[Shelf]:
    async with runtime.db.transaction() as session:
        await session.execute(text("INSERT INTO categories (slug, name) VALUES ('transport', 'Transport')"))
    made = Shelf.of(client, (await make_user("contributor")).headers, runtime, tmp_path)
    yield made
    await made.up.store.aclose()


@pytest.fixture
async def customer(client: httpx.AsyncClient, make_user: MakeUser, admin: Person) -> Customer:
    """A customer of a shop whose prices are those of the shipped book."""
    await set_prices(client, admin)
    return Customer(client, await make_user("customer"))
