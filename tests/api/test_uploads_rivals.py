"""Somebody else in the middle of completing, cancelling and trying again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace

import httpx
import pytest
from sqlalchemy import text

from paletta_server.core.runtime import Runtime
from paletta_server.core.storage import ObjectStore, StoredPart, StoreError
from paletta_server.uploads import completion
from paletta_server.uploads.models import Upload
from paletta_server.uploads.protocol import MIB
from tests.conftest import MakeUser
from tests.support.locks import blocked
from tests.support.uploading import Uploader, item

MANY = 16 * MIB + 5


@pytest.fixture
async def up(client: httpx.AsyncClient, make_user: MakeUser, runtime: Runtime) -> AsyncIterator[Uploader]:
    async with runtime.db.transaction() as session:
        await session.execute(text("INSERT INTO categories (slug, name) VALUES ('transport', 'Transport')"))
    made = Uploader(client, (await make_user("contributor")).headers)
    yield made
    await made.store.aclose()


class Answering(ObjectStore):
    """The store, whose answer to a completion is `code`: after a rival's went through, or before any did."""

    code = ""
    rival = False

    async def complete_multipart(
        self,
        key: str,
        multipart_id: str,
        parts: Iterable[tuple[StoredPart, str]],
        *,
        crc64nvme: str,
        size: int,
    ) -> None:
        if self.rival:
            await super().complete_multipart(key, multipart_id, parts, crc64nvme=crc64nvme, size=size)
        raise StoreError(self.code, "what S3 says")


async def all_parts_sent(up: Uploader) -> str:
    data = os.urandom(MANY)
    (registered,) = await up.register(await up.batch(), item(data))
    size, upload = registered["part_size"], str(registered["upload_id"])
    for part in (await up.sign(upload, data, size, [1, 2]))["parts"]:
        start = (part["number"] - 1) * size
        assert (await up.put(part, data[start : start + part["size"]])).status_code == 200
    return upload


async def finish(runtime: Runtime, code: str, *, rival: bool) -> list[str]:
    """Complete the one upload there is against a store that answers `code`; the problems' codes."""
    async with Answering(runtime.settings) as store:
        store.code, store.rival = code, rival
        async with runtime.db.transaction() as session:
            upload = await session.get_one(Upload, await session.scalar(text("SELECT id FROM uploads")))
        problems = await completion.finish(replace(runtime, store=store), [upload])
    return [problem.code for problem in problems.values()]


async def test_parts_that_a_rival_joined_are_no_wrong_bytes(up: Uploader, runtime: Runtime) -> None:
    upload = await all_parts_sent(up)
    assert await finish(runtime, "InvalidPart", rival=True) == []
    assert (await up.call("GET", f"/uploads/{upload}"))["state"] == "stored"


async def test_a_wrong_setting_costs_no_parts(up: Uploader, runtime: Runtime) -> None:
    upload = await all_parts_sent(up)
    assert await finish(runtime, "InvalidRequest", rival=False) == ["store_unavailable"]
    assert (await up.call("GET", f"/uploads/{upload}"))["uploaded_parts"] == [1, 2]
    (completed,) = await up.complete(upload)
    assert completed["state"] == "stored"


async def test_what_joins_a_batch_while_it_is_cancelled_is_cancelled_too(
    up: Uploader, runtime: Runtime
) -> None:
    batch, other = await up.batch(), await up.batch()
    (first,) = await up.register(batch, item(os.urandom(300), "first.mp4"))
    (late,) = await up.register(other, item(os.urandom(300), "late.mp4"))
    async with runtime.db.transaction() as session:
        # As a registration ends: under the batch's lock, and committed while the cancelling waits for it.
        await session.execute(
            text("SELECT id FROM upload_batches WHERE uid = :batch FOR UPDATE"), {"batch": batch}
        )
        cancelling = asyncio.create_task(up.call("POST", f"/upload-batches/{batch}/cancel"))
        await blocked(runtime)
        await session.execute(
            text(
                "INSERT INTO batch_items (batch_id, ref, upload_id, outcome) SELECT upload_batches.id, 'late.mp4',"
                " uploads.id, 'resumed' FROM upload_batches, uploads"
                " WHERE upload_batches.uid = :batch AND uploads.uid = :late"
            ),
            {"batch": batch, "late": late["upload_id"]},
        )
    assert (await cancelling)["counts"] == {"cancelled": 2}
    for registered in (first, late):
        assert (await up.call("GET", f"/uploads/{registered['upload_id']}"))["state"] == "cancelled"


@pytest.mark.parametrize("kept", [True, False])
async def test_a_failed_upload_is_sent_again_where_its_bytes_are_gone(
    up: Uploader, runtime: Runtime, kept: bool
) -> None:
    data = os.urandom(1000)
    sent = await up.send(data)
    async with runtime.db.transaction() as session:
        await session.execute(text("UPDATE clips SET processing = 'failed'"))
        await session.execute(text("UPDATE uploads SET stage = 'failed'"))
        key = await session.scalar(text("SELECT key FROM uploads"))
    if not kept:
        await runtime.store.delete([key])
    (again,) = await up.register(await up.batch(), item(data))
    if kept:
        assert (again["outcome"], again["upload_id"], again["put"]) == ("resumed", sent["upload_id"], None)
        return
    assert again["outcome"] == "created"
    assert again["clip_id"] != sent["clip_id"]
    assert (await up.put(again["put"], data)).status_code == 200
    (completed,) = await up.complete(again["upload_id"])
    assert completed["state"] == "stored"
