"""Batches as their owner lists, pages and leaves them."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator

import httpx
import pytest
from sqlalchemy import text

from paletta_server.core.runtime import Runtime
from paletta_server.uploads import service
from paletta_server.uploads.tasks import reap
from tests.conftest import MakeUser
from tests.support.uploading import Uploader, item


@pytest.fixture
async def up(client: httpx.AsyncClient, make_user: MakeUser, runtime: Runtime) -> AsyncIterator[Uploader]:
    async with runtime.db.transaction() as session:
        await session.execute(text("INSERT INTO categories (slug, name) VALUES ('transport', 'Transport')"))
    made = Uploader(client, (await make_user("contributor")).headers)
    yield made
    await made.store.aclose()


async def test_two_names_of_one_upload_are_never_torn_apart(up: Uploader) -> None:
    batch, twice = await up.batch(), os.urandom(300)
    await up.register(batch, item(twice, "a.mp4"), item(twice, "b.mp4"), item(os.urandom(300), "c.mp4"))
    pages, cursor = [], None
    while True:
        where = {"limit": 1} | ({"cursor": cursor} if cursor else {})
        page = await up.call("GET", f"/upload-batches/{batch}", params=where)
        pages.append([one["ref"] for one in page["items"]])
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert pages == [["a.mp4", "b.mp4"], ["c.mp4"]]


async def test_batches_are_not_opened_without_end(
    up: Uploader, client: httpx.AsyncClient, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "BATCHES_OPEN_MAX", 2)
    first, ref = await up.batch(), str(uuid.uuid4())
    await up.call("POST", "/upload-batches", 201, json={"client_ref": ref, "name": "x"})
    more = {"client_ref": str(uuid.uuid4()), "name": "x"}
    assert (await up.call("POST", "/upload-batches", 409, json=more))["code"] == "too_many_open"
    await up.call("POST", "/upload-batches", 200, json={"client_ref": ref, "name": "x"})
    await Uploader(client, (await make_user("contributor")).headers).batch()
    await up.call("POST", f"/upload-batches/{first}/cancel")
    await up.call("POST", "/upload-batches", 201, json=more)


async def test_an_empty_batch_ends_after_a_day_and_opens_again_with_its_first_file(
    up: Uploader, runtime: Runtime
) -> None:
    batch = await up.batch()
    for age, status in (("20 hours", "open"), ("25 hours", "settled")):
        async with runtime.db.transaction() as session:
            await session.execute(text(f"UPDATE upload_batches SET touched_at = now() - interval '{age}'"))
        await reap(runtime)
        assert (await up.call("GET", f"/upload-batches/{batch}"))["status"] == status
    await up.register(batch, item(os.urandom(300)))
    assert (await up.call("GET", f"/upload-batches/{batch}"))["status"] == "open"
