"""Everybody's uploads: the list and its filters, another run, an end."""

from __future__ import annotations

from typing import Any

import httpx
from sqlalchemy import text

from paletta_server.core.runtime import Runtime
from tests.conftest import MakeUser, Person
from tests.support.uploading import Uploader, item


async def listed(client: httpx.AsyncClient, admin: Person, **filters: Any) -> list[dict[str, Any]]:
    answer = await client.get("/v1/admin/uploads", params=filters, headers=admin.headers)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def fail_by_hand(runtime: Runtime, upload: str) -> None:
    """As ingest leaves an upload that it gave up, after three attempts."""
    async with runtime.db.transaction() as session:
        await session.execute(
            text(
                "UPDATE uploads SET stage = 'failed', reason = 'processing failed 3 times' WHERE uid = :uid"
            ),
            {"uid": upload},
        )
        await session.execute(
            text(
                "UPDATE clips SET processing = 'failed' WHERE id = (SELECT clip_id FROM uploads WHERE uid = :uid)"
            ),
            {"uid": upload},
        )
        await session.execute(
            text(
                "INSERT INTO ingest_runs (uid, upload_id, clip_id, attempt, status, prefix, error)"
                " SELECT 'run_' || n, id, clip_id, n, 'failed', 'media/x/', 'EngineFailed' FROM uploads,"
                " generate_series(1, 3) n WHERE uid = :uid"
            ),
            {"uid": upload},
        )
        await session.execute(text("DELETE FROM procrastinate_jobs"))


async def test_filters(
    client: httpx.AsyncClient, up: Uploader, admin: Person, make_user: MakeUser, runtime: Runtime
) -> None:
    other = Uploader(client, (await make_user("contributor", email="eva@example.org")).headers)
    batch = await up.batch()
    sent = await up.send(b"all of it", batch)
    [waiting] = await up.register(batch, item(b"not sent yet", "b.mp4"))
    theirs = await other.send(b"of another")
    await fail_by_hand(runtime, theirs["upload_id"])
    ids = [theirs["upload_id"], waiting["upload_id"], sent["upload_id"]]
    assert [one["id"] for one in await listed(client, admin)] == ids
    assert [one["id"] for one in await listed(client, admin, contributor="Eva@example.org")] == ids[:1]
    assert [one["id"] for one in await listed(client, admin, batch=batch)] == ids[1:]
    assert [one["id"] for one in await listed(client, admin, state="uploading")] == [ids[1]]
    assert [one["id"] for one in await listed(client, admin, failed=True)] == ids[:1]
    assert await listed(client, admin, since="2100-01-01T00:00:00Z") == []
    assert len(await listed(client, admin, since="2000-01-01T00:00:00Z")) == 3
    whole = (await listed(client, admin, batch=batch))[1]
    assert (whole["size"], whole["batches"], whole["state"]) == (9, [batch], "stored")
    assert whole["bytes_per_second"] > 0
    first = await client.get("/v1/admin/uploads?limit=2", headers=admin.headers)
    rest = await listed(client, admin, limit=2, cursor=first.json()["next_cursor"])
    assert [one["id"] for one in rest] == ids[2:]
    for query in ("contributor=nobody@example.org", "batch=batch_zzzz"):
        answer = await client.get(f"/v1/admin/uploads?{query}", headers=admin.headers)
        assert answer.status_code == 404
    naive = await client.get("/v1/admin/uploads?since=2026-01-01T00:00:00", headers=admin.headers)
    assert naive.status_code == 422
    await other.store.aclose()


async def test_a_failed_upload_gets_another_run_and_keeps_its_history(
    client: httpx.AsyncClient, up: Uploader, admin: Person, runtime: Runtime
) -> None:
    sent = await up.send(b"all of it")
    uid = sent["upload_id"]
    early = await client.post(f"/v1/admin/uploads/{uid}/retry", headers=admin.headers)
    assert (early.status_code, early.json()["code"]) == (409, "not_failed")
    await fail_by_hand(runtime, uid)
    answer = await client.post(f"/v1/admin/uploads/{uid[:9]}/retry", headers=admin.headers)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["stage"] == "stored"
    assert [run["counts"] for run in found["runs"]] == [False] * 3
    async with runtime.db.transaction() as session:
        waiting = await session.execute(text("SELECT task_name, args FROM procrastinate_jobs"))
        assert [row[0] for row in waiting] == ["ingest.run"]
        audited = await session.execute(text("SELECT object FROM audit_logs WHERE action = 'upload:retried'"))
        assert [row[0] for row in audited] == [uid]
    twice = await client.post(f"/v1/admin/uploads/{uid}/retry", headers=admin.headers)
    assert twice.status_code == 409


async def test_what_the_store_lost_cannot_be_run_again(
    client: httpx.AsyncClient, up: Uploader, admin: Person, runtime: Runtime
) -> None:
    sent = await up.send(b"all of it")
    await fail_by_hand(runtime, sent["upload_id"])
    async with runtime.db.transaction() as session:
        key = await session.scalar(text("SELECT key FROM uploads"))
    await runtime.store.delete([str(key)])
    answer = await client.post(f"/v1/admin/uploads/{sent['upload_id']}/retry", headers=admin.headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "bytes_gone")


async def test_a_run_after_a_retry_has_all_of_its_attempts(
    up: Uploader, client: httpx.AsyncClient, admin: Person, runtime: Runtime, run_jobs: Any
) -> None:
    """Three attempts were counted; the fourth is the first of a new three, and is refused for what it is."""
    sent = await up.send(b"no film at all")
    await fail_by_hand(runtime, sent["upload_id"])
    await client.post(f"/v1/admin/uploads/{sent['upload_id']}/retry", headers=admin.headers)
    await run_jobs()
    answer = await client.get(f"/v1/admin/uploads/{sent['upload_id']}", headers=admin.headers)
    found = answer.json()
    assert found["stage"] == "rejected"
    assert [run["attempt"] for run in found["runs"]] == [1, 2, 3, 4]
    assert [run["counts"] for run in found["runs"]] == [False, False, False, True]


async def test_cancelling_drops_the_clip(
    client: httpx.AsyncClient, up: Uploader, admin: Person, runtime: Runtime
) -> None:
    [waiting] = await up.register(await up.batch(), item(b"not sent yet"))
    uid = waiting["upload_id"]
    answer = await client.post(f"/v1/admin/uploads/{uid}/cancel", headers=admin.headers)
    assert (answer.status_code, answer.json()["stage"]) == (200, "cancelled")
    again = await client.post(f"/v1/admin/uploads/{uid}/cancel", headers=admin.headers)
    assert again.status_code == 200
    sent = await up.send(b"all of it")
    async with runtime.db.transaction() as session:
        await session.execute(text("UPDATE uploads SET stage = 'live' WHERE stage = 'stored'"))
    answer = await client.post(f"/v1/admin/uploads/{sent['upload_id']}/cancel", headers=admin.headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "upload_finished")
    missing = await client.get("/v1/admin/uploads/upl_zzzz", headers=admin.headers)
    assert missing.status_code == 404
