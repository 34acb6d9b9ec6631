"""Locks are taken in one order: two that want the same rows wait for each other once, never crosswise.

Each test holds the lock that somebody needs *first*, and shows that whoever waits for it holds none of those that
come later: with the wrong order, the two would end in a deadlock, of which one loses its work.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core.runtime import Runtime
from paletta_server.core.storage import ObjectStore
from paletta_server.ingest import service as ingest
from paletta_server.taxonomy import lock as taxonomy_lock
from paletta_server.taxonomy import usage
from paletta_server.uploads import progress
from paletta_server.uploads.tasks import reap
from tests.conftest import MakeUser
from tests.support import media
from tests.support.locks import blocked
from tests.support.uploading import METADATA, Uploader, item

RunJobs = Callable[[], Awaitable[None]]


async def hold(session: AsyncSession, table: str, *uids: str) -> None:
    """Lock rows at once; raises where somebody has one of them."""
    for uid in uids:
        await session.execute(
            text(f"SELECT id FROM {table} WHERE uid = :uid FOR UPDATE NOWAIT"), {"uid": uid}
        )


@pytest.mark.parametrize("revived", [False, True])
async def test_a_registration_takes_an_older_batch_of_its_files_before_its_own(
    up: Uploader, runtime: Runtime, revived: bool
) -> None:
    data = os.urandom(300)
    older, newer = await up.batch(), await up.batch()
    if revived:
        await up.send(data, older)
        async with runtime.db.transaction() as session:
            await session.execute(text("UPDATE clips SET processing = 'failed'"))
            await session.execute(text("UPDATE uploads SET stage = 'failed'"))
    else:
        await up.register(older, item(data))
    async with runtime.db.transaction() as session:
        await hold(session, "upload_batches", older)
        registering = asyncio.create_task(up.register(newer, item(data)))
        await blocked(runtime)
        await hold(session, "upload_batches", newer)
    (registered,) = await registering
    assert registered["outcome"] == "resumed"


async def test_a_registration_takes_its_own_batch_before_a_newer_one(up: Uploader, runtime: Runtime) -> None:
    again, other = os.urandom(300), os.urandom(400)
    older, newer = await up.batch(), await up.batch()
    await up.send(again, newer)
    async with runtime.db.transaction() as session:
        await session.execute(text("UPDATE clips SET processing = 'failed'"))
        await session.execute(text("UPDATE uploads SET stage = 'failed'"))
    async with runtime.db.transaction() as session:
        await hold(session, "upload_batches", older)
        registering = asyncio.create_task(up.register(older, item(again, "a.mp4"), item(other, "b.mp4")))
        await blocked(runtime)
        await hold(session, "upload_batches", newer)
    assert [one["outcome"] for one in await registering] == ["resumed", "created"]


async def test_cancelling_a_batch_takes_an_older_one_of_its_files_first(
    up: Uploader, runtime: Runtime
) -> None:
    data = os.urandom(300)
    older, newer = await up.batch(), await up.batch()
    for batch in (older, newer):
        await up.register(batch, item(data))
    async with runtime.db.transaction() as session:
        await hold(session, "upload_batches", older)
        cancelling = asyncio.create_task(up.call("POST", f"/upload-batches/{newer}/cancel"))
        await blocked(runtime)
        await hold(session, "upload_batches", newer)
    assert (await cancelling)["counts"] == {"cancelled": 1}


async def test_a_batch_does_not_settle_while_files_come_into_it(up: Uploader, runtime: Runtime) -> None:
    """The last file of a sealed batch ends while another is being registered: nobody hears of an end."""
    batch, other = await up.batch(), await up.batch()
    first, joining = os.urandom(300), os.urandom(400)
    await up.register(batch, item(first, "first.mp4"))
    await up.call("POST", f"/upload-batches/{batch}/seal")
    await up.register(other, item(joining, "joining.mp4"))

    async def end() -> None:
        async with runtime.db.transaction() as session:
            ended = await session.scalar(text("SELECT id FROM uploads WHERE file_name = 'first.mp4'"))
            await progress.report(session, [ended], "failed", reason="as ingest says")

    async with runtime.db.transaction() as session:
        await hold(session, "upload_batches", other)
        registering = asyncio.create_task(up.register(batch, item(joining, "joining.mp4")))
        await blocked(runtime)
        ending = asyncio.create_task(end())
        await blocked(runtime, 2)
    await asyncio.gather(registering, ending)
    view = await up.call("GET", f"/upload-batches/{batch}")
    assert (view["status"], view["counts"]) == ("open", {"failed": 1, "uploading": 1})
    async with runtime.db.transaction() as session:
        mails = "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'uploads.mail_settled'"
        assert await session.scalar(text(mails)) == 0


async def test_an_edit_neither_stops_nor_undoes_a_move_of_its_clip(up: Uploader, runtime: Runtime) -> None:
    """The move that an edit waits for writes to the edit's clip."""
    sent = await up.send(os.urandom(400))
    async with runtime.db.transaction() as session:
        await taxonomy_lock.take(session)
        editing = asyncio.create_task(
            up.call("PATCH", f"/clips/{sent['clip_id']}", json={"keywords": [*METADATA["keywords"], "rails"]})
        )
        await blocked(runtime)
        await session.execute(text("SET LOCAL lock_timeout = '500ms'"))
        old, new = (
            await session.execute(text("SELECT min(id), max(id) FROM categories WHERE owner_id IS NULL"))
        ).one()
        await usage.move(session, "category", {old: new})
    clip = await editing
    assert (clip["keywords"][-1], clip["categories"]) == ("rails", ["travel"])


async def test_an_apply_takes_clips_by_age_whatever_their_order(up: Uploader, runtime: Runtime) -> None:
    older, newer = [(await up.send(os.urandom(400)))["clip_id"] for _ in range(2)]
    entries = [
        {"ref": clip, "clip_id": clip, "metadata": {**METADATA, "title": f"A tram, seen from {clip}"}}
        for clip in (newer, older)
    ]
    async with runtime.db.transaction() as session:
        await hold(session, "clips", older)
        applying = asyncio.create_task(up.call("POST", "/clips/apply", json={"items": entries}))
        await blocked(runtime)
        await hold(session, "clips", newer)
    answer = await applying
    assert (answer["applied"], [change["ref"] for change in answer["changes"]]) == (True, [newer, older])


async def test_a_plan_of_changes_waits_for_nobody(up: Uploader, runtime: Runtime) -> None:
    clip = (await up.send(os.urandom(400)))["clip_id"]
    entry = {"ref": "a", "clip_id": clip, "metadata": {**METADATA, "title": "A tram in the rain"}}
    async with runtime.db.transaction() as session:
        await hold(session, "clips", clip)
        plan = await asyncio.wait_for(
            up.call("POST", "/clips/apply", json={"items": [entry], "dry_run": True}), 60
        )
    assert (plan["applied"], len(plan["changes"])) == (False, 1)


async def test_a_clip_deleted_while_an_apply_waits_for_it_is_left_alone(
    up: Uploader, runtime: Runtime
) -> None:
    clip = (await up.send(os.urandom(400)))["clip_id"]
    entry = {"ref": "a", "clip_id": clip, "metadata": {**METADATA, "title": "A tram in the rain"}}
    async with runtime.db.transaction() as session:
        await hold(session, "clips", clip)
        applying = asyncio.create_task(up.call("POST", "/clips/apply", json={"items": [entry]}))
        await blocked(runtime)
        await session.execute(text("UPDATE clips SET deleted_at = now() WHERE uid = :uid"), {"uid": clip})
    answer = await applying
    assert (answer["changes"], [one["ref"] for one in answer["unmatched"]]) == ([], ["a"])


async def test_a_take_down_takes_uploads_and_batches_before_clips_by_age(
    up: Uploader, client: httpx.AsyncClient, make_user: MakeUser, runtime: Runtime
) -> None:
    batch = await up.batch()
    older, newer = [await up.send(os.urandom(400), batch, ref=name) for name in ("a.mp4", "b.mp4")]
    async with runtime.db.transaction() as session:
        await session.execute(text("UPDATE clips SET processing = 'ready', review = 'approved'"))
    body = {"clips": [newer["clip_id"], older["clip_id"]], "reason": "the museum asks for it"}
    headers = (await make_user("admin")).headers
    earlier = [("uploads", older["upload_id"]), ("upload_batches", batch), ("clips", older["clip_id"])]
    later = [("uploads", newer["upload_id"]), ("upload_batches", batch), ("clips", newer["clip_id"])]
    for path in ("take-down", "restore"):
        for place, (table, uid) in enumerate(earlier):
            asked = {"clips": body["clips"]} if path == "restore" else body
            async with runtime.db.transaction() as session:
                await hold(session, table, uid)
                request = client.post(f"/v1/admin/clips/{path}", headers=headers, json=asked)
                deciding = asyncio.create_task(request)
                await blocked(runtime)
                for held, row in later[place + (table == "upload_batches") :]:
                    await hold(session, held, row)
                deciding.cancel()
            await asyncio.gather(deciding, return_exceptions=True)
        done = await client.post(f"/v1/admin/clips/{path}", headers=headers, json=asked)
        assert done.status_code == 200, done.text


async def test_two_who_restore_the_same_clips_in_opposite_order_wait_for_each_other_once(
    up: Uploader, client: httpx.AsyncClient, make_user: MakeUser, runtime: Runtime
) -> None:
    batch = await up.batch()
    sent = [await up.send(os.urandom(400), batch, ref=name) for name in ("a.mp4", "b.mp4")]
    older, newer = [one["clip_id"] for one in sent]
    async with runtime.db.transaction() as session:
        await session.execute(
            text("UPDATE clips SET processing = 'ready', review = 'taken_down', review_before = 'approved'")
        )
    headers = (await make_user("admin")).headers
    async with runtime.db.transaction() as session:
        await hold(session, "uploads", sent[0]["upload_id"])
        both = []
        # The second in line goes backwards: what it took on its way, the first would wait for.
        for place, named in enumerate(([older, newer], [newer, older]), 1):
            request = client.post("/v1/admin/clips/restore", headers=headers, json={"clips": named})
            both.append(asyncio.create_task(request))
            await blocked(runtime, place)
    answers = [await one for one in both]
    assert [answer.status_code for answer in answers] == [200, 200], "a deadlock"
    first, second = [answer.json() for answer in answers]
    assert [clip["id"] for clip in first["restored"]] == [older, newer]
    assert [(one["clip"], one["problem"]["code"]) for one in second["failed"]] == [
        (newer, "not_taken_down"),
        (older, "not_taken_down"),
    ]


@pytest.mark.parametrize("what", ["edit", "apply", "approve"])
async def test_what_may_send_a_clip_to_review_takes_its_upload_first(
    up: Uploader, client: httpx.AsyncClient, make_user: MakeUser, app: FastAPI, runtime: Runtime, what: str
) -> None:
    sent = await up.send(os.urandom(400))
    clip = sent["clip_id"]
    review = "submitted" if what == "approve" else "approved"
    async with runtime.db.transaction() as session:
        await session.execute(
            text("UPDATE clips SET processing = 'ready', review = :review"), {"review": review}
        )
    entry = {"ref": "a", "clip_id": clip, "metadata": {**METADATA, "title": "A tram in the rain"}}
    method, path, body = {
        "edit": ("PATCH", f"/clips/{clip}", {"title": "A tram in the rain"}),
        "apply": ("POST", "/clips/apply", {"items": [entry]}),
        "approve": ("POST", f"/admin/clips/{clip}/approve", {}),
    }[what]
    who = Uploader(client, (await make_user("admin")).headers) if what == "approve" else up
    app.state.runtime = replace(runtime, settings=runtime.settings.model_copy(update={"review": "manual"}))
    try:
        async with runtime.db.transaction() as session:
            await hold(session, "uploads", sent["upload_id"])
            changing = asyncio.create_task(who.call(method, path, json=body))
            await blocked(runtime)
            await hold(session, "clips", clip)
        await changing
    finally:
        app.state.runtime = runtime
    async with runtime.db.transaction() as session:
        stage = "live" if what == "approve" else "in_review"
        assert await session.scalar(text("SELECT stage FROM uploads")) == stage


class Gate(ObjectStore):
    """The store, whose downloads begin when they may."""

    asked: asyncio.Event
    open: asyncio.Event

    async def download(self, key: str, path: Path) -> str:
        self.asked.set()
        await self.open.wait()
        return await super().download(key, path)


async def test_an_attempt_goes_on_when_the_database_ends_its_connection(
    up: Uploader, runtime: Runtime, run_jobs: RunJobs, tmp_path: Path
) -> None:
    film = media.clip(tmp_path / "tram.mp4", seconds=3.2, look="gradients").read_bytes()
    sent = await up.send(film)
    async with Gate(runtime.settings) as store:
        store.asked, store.open = asyncio.Event(), asyncio.Event()
        async with runtime.db.transaction() as session:
            upload_id: Any = await session.scalar(text("SELECT id FROM uploads"))
        attempt = asyncio.create_task(ingest.run(replace(runtime, store=store), upload_id))
        await store.asked.wait()
        async with runtime.db.transaction() as session:
            await hold(session, "uploads", sent["upload_id"])
            store.open.set()
            await blocked(runtime)
            ended = await session.scalar(
                text(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0"
                )
            )
            assert ended == 1
        await attempt
    assert (await up.call("GET", f"/clips/{sent['clip_id']}"))["stage"] == "live"
    async with runtime.db.transaction() as session:
        runs = await session.execute(text("SELECT attempt, status FROM ingest_runs"))
        assert [tuple(run) for run in runs] == [(1, "done")]


async def test_the_sweep_passes_over_a_batch_that_somebody_holds(up: Uploader, runtime: Runtime) -> None:
    held, free = await up.batch(), await up.batch()
    async with runtime.db.transaction() as session:
        await session.execute(text("UPDATE upload_batches SET touched_at = now() - interval '2 days'"))
    async with runtime.db.transaction() as session:
        await hold(session, "upload_batches", held)
        await asyncio.wait_for(reap(runtime), 60)
    states = [(await up.call("GET", f"/upload-batches/{batch}"))["status"] for batch in (held, free)]
    assert states == ["open", "settled"]


async def test_a_clip_deleted_while_a_moderator_waits_for_it_is_not_approved(
    up: Uploader, runtime: Runtime, client: httpx.AsyncClient, make_user: MakeUser
) -> None:
    sent = await up.send(os.urandom(400))
    moderator = Uploader(client, (await make_user("admin")).headers)
    async with runtime.db.transaction() as session:
        await session.execute(text("UPDATE clips SET processing = 'ready', review = 'submitted'"))
        await session.execute(text("UPDATE uploads SET state = 'verified', stage = 'in_review'"))
    async with runtime.db.transaction() as session:
        await hold(session, "uploads", sent["upload_id"])
        approving = asyncio.create_task(
            moderator.call("POST", f"/admin/clips/{sent['clip_id']}/approve", 404)
        )
        await blocked(runtime)
        await session.execute(text("UPDATE clips SET deleted_at = now()"))
    await approving
    await moderator.store.aclose()
    async with runtime.db.transaction() as session:
        assert await session.scalar(text("SELECT review FROM clips")) == "submitted"
