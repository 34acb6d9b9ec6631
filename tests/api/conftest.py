"""A shop for the API's tests: an admin, a contributor's clips, a customer."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from paletta_server.core.bucket import bootstrap
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from tests.conftest import MakeUser, Person
from tests.support.backups import FILES, put_originals
from tests.support.clips import Shelf
from tests.support.orders import Sold, Till, Wanted
from tests.support.shop import Customer, set_prices
from tests.support.stack import Addresses, make_database
from tests.support.stock import Stock
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


@pytest.fixture
async def sold(runtime: Runtime, up: Uploader, make_user: MakeUser) -> tuple[Sold, Person]:
    """A purchase, beside an upload that is stored and one that never came."""
    await runtime.store.delete([one.key async for one in runtime.store.every_object()])
    customer, contributor = await make_user("customer"), await make_user("contributor")
    till = await Till.of(runtime, customer.email, contributor.email)
    order = await till.sell(Wanted(files=FILES))
    await put_originals(runtime)
    await up.send(b"an upload that waits for its ingest")
    return order, customer


@pytest.fixture
async def fresh(stack: Addresses, worker_name: str, settings: Settings, tmp_path: Path) -> Settings:
    """Another service: a database with the schema alone, and a bucket of its own."""
    made = settings.model_copy(
        update={
            "database_url": type(settings.database_url)(make_database(stack, f"paletta_{worker_name}_fresh")),
            "s3_bucket": f"fresh-{worker_name}",
            "search_dir": tmp_path / "search",
        }
    )
    async with Runtime.open(made) as runtime:
        await bootstrap(runtime.store, made)
        await runtime.store.delete([one.key async for one in runtime.store.every_object()])
    return made


@pytest.fixture
async def stock(up: Uploader, runtime: Runtime, tmp_path: Path) -> Stock:
    """In a bucket that is empty: other tests leave objects behind."""
    await runtime.store.delete([one.key async for one in runtime.store.every_object()])
    async for one in runtime.store.open_multiparts():
        await runtime.store.abort_multipart(one.key, one.id)
    return Stock(up, runtime, tmp_path)
