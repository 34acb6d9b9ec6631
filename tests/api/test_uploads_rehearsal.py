"""A rehearsed registration: the answers of the real one, and no trace."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from paletta_server.core.runtime import Runtime
from tests.conftest import MakeUser
from tests.support.clips import Shelf
from tests.support.uploading import Uploader, item

TABLES = (
    "clips", "clip_tags", "tags", "uploads", "upload_parts", "upload_batches", "batch_items", "upload_events",
    "procrastinate_jobs", "audit_logs",
)  # fmt: skip


@pytest.fixture
async def shelf(
    client: httpx.AsyncClient, make_user: MakeUser, runtime: Runtime, tmp_path: Path
) -> AsyncIterator[Shelf]:
    async with runtime.db.transaction() as session:
        await session.execute(text("INSERT INTO categories (slug, name) VALUES ('transport', 'Transport')"))
    made = Shelf.of(client, (await make_user("contributor")).headers, runtime, tmp_path)
    yield made
    await made.up.store.aclose()


async def rehearse(up: Uploader, *items: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await up.call("POST", "/uploads/rehearse", json={"items": list(items)}))[
        "items"
    ]
    return found


async def everything(runtime: Runtime) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table that a registration writes, with the transaction that wrote it."""
    async with runtime.db.transaction() as session:
        return {
            table: [
                tuple(row)
                for row in await session.execute(text(f"SELECT xmin::text, {table}::text FROM {table}"))
            ]
            for table in TABLES
        }


async def test_a_rehearsal_tells_what_registering_will_answer(shelf: Shelf, runtime: Runtime) -> None:
    up = shelf.up
    for stage in ("live", "in_review", "rejected", "processing", "failed"):
        await shelf.put(stage, stage=stage)
    # Ingest gave this one up, and its bytes are in the store: it gets another chance.
    revivable = os.urandom(1000)
    sent = await up.send(revivable)
    async with runtime.db.transaction() as session:
        values = {"upload": sent["upload_id"], "clip": sent["clip_id"]}
        await session.execute(text("UPDATE clips SET processing = 'failed' WHERE uid = :clip"), values)
        await session.execute(text("UPDATE uploads SET stage = 'failed' WHERE uid = :upload"), values)
    deleted = os.urandom(1000)
    await up.call("DELETE", f"/clips/{(await up.send(deleted))['clip_id']}", 204)
    copied = os.urandom(1000)
    asked = [
        *(
            item(data, name, keywords=["trams", "lisbon", "street", "yellow", "hill"])
            for name, data in shelf.data.items()
        ),
        item(revivable, "revivable.mov"),
        item(deleted, "deleted.mov"),
        item(os.urandom(1000), "new.mov", keywords=["zebra", "quagga", "savanna", "dusk", "herd"]),
        item(copied, "first.mov"),
        item(copied, "copy.mov"),
        item(os.urandom(1000), "wrong.mov", categories=["nowhere"]),
    ]

    before = await everything(runtime)
    rehearsed = await rehearse(up, *asked)
    assert await everything(runtime) == before
    outcomes = {answer["ref"]: answer["outcome"] for answer in rehearsed}
    assert outcomes == {
        "live.mov": "already_yours",
        "in_review.mov": "already_yours",
        "rejected.mov": "created",
        "processing.mov": "resumed",
        "failed.mov": "created",
        "revivable.mov": "resumed",
        "deleted.mov": "created",
        "new.mov": "created",
        "first.mov": "created",
        "copy.mov": "already_yours",
        "wrong.mov": "invalid",
    }

    registered = await up.register(await up.batch(), *asked)
    assert [(answer["ref"], answer["outcome"]) for answer in registered] == list(outcomes.items())
    for told, real in zip(rehearsed, registered, strict=True):
        assert (told["problems"], told["warnings"]) == (real["problems"], real["warnings"])
        assert told["clip_id"] in (None, real["clip_id"])


async def test_what_another_machine_has_half_sent_is_resumed(shelf: Shelf) -> None:
    data = os.urandom(17 * 1024 * 1024)
    (registered,) = await shelf.up.register(await shelf.up.batch("another machine"), item(data))
    signed = await shelf.up.sign(registered["upload_id"], data, registered["part_size"], [2])
    part = signed["parts"][0]
    assert (await shelf.up.put(part, data[registered["part_size"] :])).status_code == 200
    (told,) = await rehearse(shelf.up, item(data))
    assert (told["outcome"], told["upload_id"]) == ("resumed", registered["upload_id"])
    assert (told["part_size"], told["uploaded_parts"]) == (registered["part_size"], [2])


async def test_a_multipart_upload_that_the_store_forgot_is_told_and_left_as_it_is(
    shelf: Shelf, runtime: Runtime
) -> None:
    data = os.urandom(17 * 1024 * 1024)
    (registered,) = await shelf.up.register(await shelf.up.batch("another machine"), item(data))
    await shelf.up.sign(registered["upload_id"], data, registered["part_size"], [2])
    async with runtime.db.transaction() as session:
        (upload,) = (await session.execute(text("SELECT key, multipart_id FROM uploads"))).all()
    await runtime.store.abort_multipart(upload.key, upload.multipart_id)
    before = await everything(runtime)
    (told,) = await rehearse(shelf.up, item(data))
    assert (told["outcome"], told["uploaded_parts"]) == ("resumed", [])
    assert await everything(runtime) == before


async def test_other_people_s_clips_are_not_mentioned(
    shelf: Shelf, client: httpx.AsyncClient, make_user: MakeUser
) -> None:
    await shelf.put("theirs")
    other = Uploader(client, (await make_user("contributor")).headers)
    (told,) = await rehearse(other, item(shelf.data["theirs.mov"], "mine.mov"))
    assert (told["outcome"], told["clip_id"]) == ("created", None)
    await other.store.aclose()
