"""New uploads wait while too many films do: what the service says, and that the command waits and says so."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from paletta_server.core.runtime import Runtime
from paletta_server.uploads import backlog
from tests.cli.conftest import Run
from tests.cli.test_upload import HEAD, Process
from tests.conftest import Person
from tests.support.clips import Shelf
from tests.support.explained import listening, ways
from tests.support.uploading import Uploader, item

REGISTER = "/v1/upload-batches/{batch}/items"


@pytest.fixture
async def full(app: FastAPI, runtime: Runtime, shelf: Shelf) -> AsyncIterator[bytes]:
    """A queue that takes one film, which waits in it; its bytes."""
    data = b"a film that waits"
    (made,) = await shelf.up.register(await shelf.up.batch(), item(data))
    await waiting(runtime, str(made["upload_id"]), "stored")
    app.state.runtime = replace(runtime, settings=runtime.settings.model_copy(update={"ingest_queue_max": 1}))
    yield data
    app.state.runtime = runtime


async def waiting(runtime: Runtime, upload: str, stage: str) -> None:
    async with runtime.db.transaction() as session:
        await session.execute(
            text("UPDATE uploads SET stage = :stage, state = 'stored' WHERE uid = :uid"),
            {"stage": stage, "uid": upload},
        )


async def register(up: Uploader, data: bytes) -> httpx.Response:
    path = REGISTER.format(batch=await up.batch())
    return await up.client.post(path, headers=up.headers, json={"items": [item(data)]})


async def test_new_files_wait_and_known_ones_do_not(
    shelf: Shelf, full: bytes, runtime: Runtime, app: FastAPI
) -> None:
    refused = await register(shelf.up, b"another film")
    assert (refused.status_code, refused.json()["code"]) == (429, "ingest_busy")
    assert refused.json()["waiting"] == {"films": 1, "bytes": len(full)}
    assert int(refused.headers["retry-after"]) >= 5
    known = await register(shelf.up, full)
    assert known.json()["items"][0]["outcome"] == "already_yours"
    by_weight = runtime.settings.model_copy(update={"ingest_queue_max_bytes": len(full) + 1})
    app.state.runtime = replace(runtime, settings=by_weight)
    assert (await register(shelf.up, b"another film")).status_code == 200, "there is room for one byte more"


async def test_what_waits_is_counted_by_its_indexes(full: bytes, runtime: Runtime) -> None:
    """Each call that registers files counts them, among all uploads that there ever were."""
    async with runtime.db.transaction() as session:
        await session.execute(text(MANY))
        await session.execute(text("ANALYZE uploads, ingest_runs, transcode_jobs"))
        async with listening(session) as heard:
            assert await backlog.queued(session) == {"films": 51, "bytes": len(full) * 51}
        read = await ways(session, heard)
    small = {"all of ix_uploads_queued", "all of ix_transcode_jobs_open"}  # of what waits, and nothing else
    assert small <= read
    assert {one for one in read if one.startswith("all of")} == small, read


MANY = """
WITH live AS (
  INSERT INTO uploads (uid, owner_id, clip_id, clip_uid, file_name, size, sha256, crc64nvme, part_size, part_count,
    key, state, stage, expires_at)
  SELECT uid || n, owner_id, clip_id, clip_uid, file_name, size, sha256 || n, crc64nvme, part_size, part_count,
    key || n, 'verified', CASE WHEN n <= 50 THEN 'transcoding' ELSE 'live' END, expires_at
  FROM uploads, generate_series(1, 20000) AS n
  RETURNING id, uid, clip_id, stage
), runs AS (
  INSERT INTO ingest_runs (uid, upload_id, clip_id, attempt, status, prefix)
  SELECT 'run_' || uid, id, clip_id, 1, CASE stage WHEN 'live' THEN 'done' ELSE 'transcoding' END, uid FROM live
  RETURNING id, uid, clip_id, status
)
INSERT INTO transcode_jobs (run_id, clip_id, plan_digest, attempt, "order", status)
SELECT id, clip_id, uid, 1, '{}', CASE status WHEN 'done' THEN 'complete' ELSE 'waiting' END FROM runs
"""


async def test_the_command_says_that_it_waits_and_goes_on_when_there_is_room(
    paletta: Run, people: dict[str, Person], full: bytes, runtime: Runtime, tmp_path: Path
) -> None:
    folder = tmp_path / "shoot"
    folder.mkdir()
    (folder / "a.mov").write_bytes(os.urandom(2000))
    head = HEAD.replace("technology", "transport")
    (folder / "paletta.yaml").write_text(f"{head}  - file: a.mov\n    title: The clip called a\n")
    running = await Process.start(
        "upload", folder, "--no-check-media", "--until", "uploaded",
        PALETTA_TOKEN=people["contributor"].token, PALETTA_TEST_HASTE="100",
    )  # fmt: skip
    await running.says("waiting for the service: 1 film waits to be looked at")
    await asyncio.sleep(0)
    async with runtime.db.transaction() as session:
        await session.execute(text("UPDATE uploads SET stage = 'probing' WHERE stage = 'stored'"))
    done = await running.ends()
    assert done.code == 0, done.err
    assert running.err.count("waiting for the service") == 1, "said once"


async def test_one_new_file_does_not_hold_up_those_that_may_go_on(
    paletta: Run,
    people: dict[str, Person],
    shelf: Shelf,
    full: bytes,
    app: FastAPI,
    runtime: Runtime,
    tmp_path: Path,
) -> None:
    up = shelf.up
    data = {name: os.urandom(2000) for name in ("a.mov", "b.mov", "c.mov")}
    busy, app.state.runtime = app.state.runtime, runtime
    await up.register(await up.batch(), *(item(data[name], name) for name in ("b.mov", "c.mov")))
    app.state.runtime = busy
    path = f"/upload-batches/{await up.batch()}/items?partly=true"
    answer = await up.call("POST", path, json={"items": [item(one, name) for name, one in data.items()]})
    assert [(one["ref"], one["outcome"]) for one in answer["items"]] == [
        ("b.mov", "resumed"),
        ("c.mov", "resumed"),
    ]
    head = HEAD.replace("technology", "transport")
    lines = [f"  - file: {name}\n    title: The clip called {name[0]}\n" for name in data]
    (tmp_path / "paletta.yaml").write_text(head + "".join(lines))
    for name, content in data.items():
        (tmp_path / name).write_bytes(content)
    running = await Process.start(
        "upload", tmp_path, "--no-check-media", "--until", "uploaded",
        PALETTA_TOKEN=people["contributor"].token, PALETTA_TEST_HASTE="100",
    )  # fmt: skip
    try:
        await running.says("waiting for the service")
        async with asyncio.timeout(60):
            while await arrived(runtime) != {"b.mov", "c.mov"}:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        app.state.runtime = runtime
        done = await running.ends()
    finally:
        if running.process.returncode is None:
            running.process.kill()
    assert done.code == 0, done.err
    assert await arrived(runtime) == set(data)


async def arrived(runtime: Runtime) -> set[str]:
    async with runtime.db.transaction() as session:
        names = await session.scalars(
            text("SELECT file_name FROM uploads WHERE state = 'stored' AND file_name LIKE '_.mov'")
        )
        return set(names)


async def test_the_command_does_not_wait_for_ever(
    paletta: Run, people: dict[str, Person], full: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paletta_cli.api._MOST_BUSY", 0.5)
    monkeypatch.setattr("paletta_cli.transfer.drill._haste", 100.0)
    (tmp_path / "a.mov").write_bytes(os.urandom(2000))
    head = HEAD.replace("technology", "transport")
    (tmp_path / "paletta.yaml").write_text(f"{head}  - file: a.mov\n    title: The clip called a\n")
    gave_up = await paletta("upload", ".", "--no-check-media", as_="contributor")
    assert gave_up.code == 5, gave_up.err
    assert "no new ones are taken until some of them are done" in gave_up.err
    assert "run the same command again later" in gave_up.err
