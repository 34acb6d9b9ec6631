"""Registering, sending, resuming and completing, against a real store and a real database."""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError
from fastapi import FastAPI
from sqlalchemy import event, text

from paletta_server.core.runtime import Runtime
from paletta_server.core.storage import ObjectStore
from paletta_server.uploads.protocol import MIB, cut
from tests.conftest import MakeUser
from tests.support.uploading import Uploader, item

MANY = 16 * MIB + 5


@pytest.fixture
async def up(client: httpx.AsyncClient, make_user: MakeUser, transport: None) -> AsyncIterator[Uploader]:
    person = await make_user("contributor")
    made = Uploader(client, person.headers)
    yield made
    await made.store.aclose()


@pytest.fixture
async def transport(runtime: Runtime) -> None:
    """The category that the tests' metadata name."""
    async with runtime.db.transaction() as session:
        await session.execute(text("INSERT INTO categories (slug, name) VALUES ('transport', 'Transport')"))


async def states(runtime: Runtime) -> list[str]:
    async with runtime.db.transaction() as session:
        return list(await session.scalars(text("SELECT state FROM uploads ORDER BY id")))


async def test_a_small_file_is_one_registration_one_put_one_completion(
    up: Uploader, runtime: Runtime
) -> None:
    data = os.urandom(1000)
    batch = await up.batch()
    (registered,) = await up.register(batch, item(data))
    assert registered["outcome"] == "created"
    assert registered["part_count"] == 1
    assert (await up.put(registered["put"], data)).status_code == 200
    (completed,) = await up.complete(registered["upload_id"])
    assert (completed["state"], completed["problem"]) == ("stored", None)
    assert (await up.complete(registered["upload_id"])) == [completed], "a replay gives the same answer"
    async with runtime.db.transaction() as session:
        jobs = await session.scalar(
            text("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'ingest.run'")
        )
    assert jobs == 1


async def test_a_stored_object_cannot_be_replaced_through_its_address(up: Uploader) -> None:
    data = os.urandom(1000)
    (registered,) = await up.register(await up.batch(), item(data))
    assert (await up.put(registered["put"], data)).status_code == 200
    assert (await up.put(registered["put"], data)).status_code == 412


@pytest.mark.parametrize("wrong", ["other bytes", "one byte more", "another header"])
async def test_an_address_is_good_for_these_bytes_only(up: Uploader, wrong: str) -> None:
    data = os.urandom(1000)
    (registered,) = await up.register(await up.batch(), item(data))
    address = registered["put"]
    if wrong == "another header":
        address = {**address, "headers": {**address["headers"], "x-amz-acl": "public-read"}}
    body = {"other bytes": os.urandom(1000), "one byte more": data + b"x", "another header": data}[wrong]
    if wrong == "one byte more":
        address = {**address, "headers": {**address["headers"], "content-length": "1001"}}
    assert (await up.put(address, body)).status_code in (400, 403)
    (completed,) = await up.complete(registered["upload_id"])
    assert completed["problem"]["code"] == "missing_parts"
    assert completed["problem"]["retryable"] is True


async def test_parts_resume_where_the_store_says(up: Uploader) -> None:
    data = os.urandom(2 * MANY)
    (registered,) = await up.register(await up.batch(), item(data))
    size, upload = registered["part_size"], registered["upload_id"]
    assert registered["part_count"] == cut(len(data)).count == 3
    signed = await up.sign(upload, data, size, [2])
    assert (await up.put(signed["parts"][0], data[size : 2 * size])).status_code == 200
    (again,) = await up.register(await up.batch(), item(data))
    assert (again["outcome"], again["upload_id"], again["uploaded_parts"]) == ("resumed", upload, [2])
    (early,) = await up.complete(upload)
    assert early["problem"]["missing_parts"] == [1, 3]
    for part in (await up.sign(upload, data, size, [1, 3]))["parts"]:
        start = (part["number"] - 1) * size
        assert (await up.put(part, data[start : start + part["size"]])).status_code == 200
    (completed,) = await up.complete(upload)
    assert completed["state"] == "stored"


async def test_a_part_is_signed_for_one_checksum_only(up: Uploader) -> None:
    data = os.urandom(MANY)
    (registered,) = await up.register(await up.batch(), item(data))
    await up.sign(registered["upload_id"], data, registered["part_size"], [1])
    other = await up.sign(registered["upload_id"], os.urandom(MANY), registered["part_size"], [1])
    assert other["problem"]["code"] == "part_differs"


async def test_a_wrong_whole_checksum_is_refused_and_can_be_sent_again(
    up: Uploader, runtime: Runtime
) -> None:
    data = os.urandom(MANY)
    lie = item(data)
    lie["file"]["crc64nvme"] = "AAAAAAAAAAA="
    (registered,) = await up.register(await up.batch(), lie)
    size, upload = registered["part_size"], registered["upload_id"]
    for part in (await up.sign(upload, data, size, [1, 2]))["parts"]:
        start = (part["number"] - 1) * size
        await up.put(part, data[start : start + part["size"]])
    (completed,) = await up.complete(upload)
    assert completed["problem"]["code"] == "checksum_mismatch"
    assert await states(runtime) == ["uploading"]
    view = await up.call("GET", f"/uploads/{upload}")
    assert view["uploaded_parts"] == []


async def test_a_multipart_upload_that_is_over_counts_where_what_it_made_is_the_file(
    up: Uploader, runtime: Runtime
) -> None:
    """The store joined the parts, and our process died before it wrote so."""
    data = os.urandom(MANY)
    (registered,) = await up.register(await up.batch(), item(data))
    upload = registered["upload_id"]
    await up.sign(upload, data, registered["part_size"], [1])
    async with runtime.db.transaction() as session:
        key, multipart = (await session.execute(text("SELECT key, multipart_id FROM uploads"))).one()

    async def parts_after(body: bytes) -> list[int]:
        checksum_of_it = item(body)["file"]["crc64nvme"]
        await runtime.store.call(
            lambda s3: s3.put_object(
                Bucket=runtime.store.bucket, Key=key, Body=body, ChecksumCRC64NVME=checksum_of_it
            )
        )
        found: list[int] = (await up.call("GET", f"/uploads/{upload}"))["uploaded_parts"]
        return found

    await runtime.store.abort_multipart(key, multipart)
    assert await parts_after(data) == list(range(1, registered["part_count"] + 1))
    assert await parts_after(os.urandom(MANY)) == [], "as long, and not the file"
    assert await parts_after(data) == [], "what was not of use is forgotten, and begun again"


async def test_bytes_that_nobody_registered_are_refused_and_a_worker_deletes_them(
    up: Uploader, app: FastAPI, runtime: Runtime, run_jobs: Callable[[], Awaitable[None]]
) -> None:
    """As an API node on AWS does it, whose role must not delete."""

    def deny(**_: Any) -> None:
        answer = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
        raise ClientError(answer, "DeleteObjects")  # type: ignore[arg-type]

    data = os.urandom(1000)
    (registered,) = await up.register(await up.batch(), item(data))
    async with runtime.db.transaction() as session:
        key = await session.scalar(text("SELECT key FROM uploads"))

    async def stand(body: bytes) -> None:
        await runtime.store.call(lambda s3: s3.put_object(Bucket=runtime.store.bucket, Key=key, Body=body))

    async with ObjectStore(runtime.settings) as theirs:
        theirs._client().meta.events.register("before-call.s3.DeleteObjects", deny)
        app.state.runtime = replace(runtime, store=theirs)
        try:
            for sent_again in (False, True):
                await stand(os.urandom(999))
                (completed,) = await up.complete(registered["upload_id"])
                assert completed["problem"]["code"] == "checksum_mismatch"
                assert completed["problem"]["retryable"] is False
                assert await runtime.store.head(key) is not None
                if sent_again:
                    await stand(data)
                await run_jobs()
                assert (await runtime.store.head(key) is not None) == sent_again
                assert await states(runtime) == ["uploading"]
            (completed,) = await up.complete(registered["upload_id"])
            assert completed["state"] == "stored"
        finally:
            app.state.runtime = runtime


async def test_every_mistake_of_every_file_is_named_at_once(up: Uploader) -> None:
    good = item(b"good" * 300, "good.mp4")
    bad = item(
        b"bad!" * 300, "bad.mp4", title="Tram", keywords=["one"], categories=["transprot"], colour="red"
    )
    first, second = await up.register(await up.batch(), good, bad)
    assert first["outcome"] == "created"
    assert second["outcome"] == "invalid"
    assert {problem["pointer"] for problem in second["problems"]} == {
        "/metadata/title",
        "/metadata/keywords",
        "/metadata/colour",
    }
    (third,) = await up.register(await up.batch(), item(b"bad!" * 300, categories=["transprot"]))
    (problem,) = third["problems"]
    assert problem["pointer"] == "/metadata/categories/0"
    assert "`transport`" in problem["hint"]


async def test_the_same_bytes_are_one_clip(up: Uploader) -> None:
    data = os.urandom(500)
    batch = await up.batch()
    first, second = await up.register(batch, item(data, "a.mp4"), item(data, "b.mp4"))
    assert (first["outcome"], second["outcome"]) == ("created", "already_yours")
    assert first["clip_id"] == second["clip_id"]
    assert [one["outcome"] for one in await up.register(batch, item(data, "b.mp4"))] == ["already_yours"]
    assert [one["outcome"] for one in await up.register(batch, item(data, "a.mp4"))] == ["resumed"]


async def test_two_processes_registering_at_once_make_each_clip_once(up: Uploader, runtime: Runtime) -> None:
    files = [item(os.urandom(300), f"{number}.mp4") for number in range(40)]
    batches = [await up.batch() for _ in range(4)]
    answers = await asyncio.gather(*(up.register(batch, *files) for batch in batches))
    for of_one_file in zip(*answers, strict=True):
        assert len({answer["clip_id"] for answer in of_one_file}) == 1
        assert sorted(answer["outcome"] for answer in of_one_file) == ["created", *["resumed"] * 3]
    assert len(await states(runtime)) == 40


async def test_eight_completions_at_once_store_once(up: Uploader, runtime: Runtime) -> None:
    data = os.urandom(MANY)
    (registered,) = await up.register(await up.batch(), item(data))
    size, upload = registered["part_size"], registered["upload_id"]
    for part in (await up.sign(upload, data, size, [1, 2]))["parts"]:
        start = (part["number"] - 1) * size
        await up.put(part, data[start : start + part["size"]])
    answers = await asyncio.gather(*(up.complete(upload) for _ in range(8)))
    assert {answer[0]["state"] for answer in answers} <= {"stored", "completing"}
    assert not [answer for answer in answers if answer[0]["problem"]]
    async with runtime.db.transaction() as session:
        assert (
            await session.scalar(text("SELECT count(*) FROM procrastinate_jobs WHERE task_name='ingest.run'"))
            == 1
        )


async def test_a_completion_whose_process_died_is_finished_by_the_sweep(
    up: Uploader, runtime: Runtime
) -> None:
    from paletta_server.uploads.tasks import reap

    data = os.urandom(1000)
    (registered,) = await up.register(await up.batch(), item(data))
    await up.put(registered["put"], data)
    async with runtime.db.transaction() as session:
        await session.execute(
            text("UPDATE uploads SET state = 'completing', claimed_at = now() - interval '5 minutes'")
        )
    await reap(runtime)
    assert await states(runtime) == ["stored"]


async def test_the_sweep_expires_what_was_abandoned_but_never_what_is_complete(
    up: Uploader, runtime: Runtime
) -> None:
    from paletta_server.uploads.tasks import reap

    left, whole = os.urandom(1000), os.urandom(1000)
    batch = await up.batch()
    first, second = await up.register(batch, item(left, "left.mp4"), item(whole, "whole.mp4"))
    await up.put(second["put"], whole)
    await long_ago(runtime)
    await reap(runtime)
    assert await states(runtime) == ["expired", "stored"]
    (again,) = await up.register(batch, item(left, "left.mp4"))
    assert again["outcome"] == "created", "the same bytes may be sent anew"
    assert again["clip_id"] != first["clip_id"]


async def long_ago(runtime: Runtime) -> None:
    """Whatever was done so far was done before any expiry."""
    async with runtime.db.transaction() as session:
        await session.execute(text("UPDATE uploads SET expires_at = now() - interval '1 second'"))
        await session.execute(
            text(
                "UPDATE upload_batches SET touched_at = now() - interval '9 days', heard_at = now() - interval '9 days'"
            )
        )


async def test_what_waits_for_its_turn_is_not_abandoned_while_its_batch_is_being_sent(
    up: Uploader, runtime: Runtime
) -> None:
    from paletta_server.uploads.tasks import reap

    large, waiting = os.urandom(16 * MIB + 5), os.urandom(1000)
    batch = await up.batch()
    sending, _ = await up.register(batch, item(large, "large.mp4"), item(waiting, "waiting.mp4"))
    await up.register(await up.batch(), item(os.urandom(1000), "forgotten.mp4"))
    await long_ago(runtime)
    await up.sign(sending["upload_id"], large, sending["part_size"], [1])
    await reap(runtime)
    assert await states(runtime) == ["uploading", "uploading", "expired"]


async def spoil(runtime: Runtime, name: str) -> str:
    """Give a file's upload a key that no request can be made of; the upload's id."""
    async with runtime.db.transaction() as session:
        row = await session.execute(
            text("UPDATE uploads SET key = '' WHERE file_name = :name RETURNING uid"), {"name": name}
        )
        return str(row.scalar_one())


def failures(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What was said of uploads that failed, without what the application's own tasks may say meanwhile."""
    return [record for record in caplog.records if record.exc_info and "upload" in vars(record)]


async def test_an_upload_that_fails_unexpectedly_is_left_to_the_next_sweep_and_keeps_no_other_from_its_end(
    up: Uploader, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    from paletta_server.uploads.tasks import reap

    whole, batch = os.urandom(1000), await up.batch()
    _, _, last = await up.register(
        batch,
        item(os.urandom(1000), "broken.mp4"),
        item(os.urandom(1000), "left.mp4"),
        item(whole, "whole.mp4"),
    )
    await up.put(last["put"], whole)
    quiet = await up.batch()
    broken = await spoil(runtime, "broken.mp4")
    await long_ago(runtime)
    await reap(runtime)
    assert await states(runtime) == ["uploading", "expired", "stored"]
    assert (await up.call("GET", f"/upload-batches/{quiet}"))["status"] == "settled"
    (said,) = failures(caplog)
    assert vars(said)["upload"] == broken


async def test_a_sweep_of_many_uploads_asks_for_each_page_in_as_few_words(
    up: Uploader, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement has room for 65,535 parameters: it may not name all that was seen before."""
    from paletta_server.uploads import tasks

    monkeypatch.setattr(tasks, "REAP_AT_ONCE", 2)
    names = [f"{number}.mp4" for number in range(5)]
    await up.register(await up.batch(), *(item(os.urandom(300), name) for name in names))
    for name in names[1:]:  # these are to be looked at again next time
        await spoil(runtime, name)
    await long_ago(runtime)
    asked: list[int] = []

    def note(_c: Any, _k: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "FROM uploads" in statement and "LIMIT" in statement and "claimed_at <" in statement:
            asked.append(len(parameters))

    engine = runtime.db.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        await tasks.reap(runtime)
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert await states(runtime) == ["expired", *["uploading"] * 4]
    assert len(asked) == 4, "three pages, and that there is no more"
    assert len(set(asked)) == 1, asked


async def test_an_upload_that_cannot_be_expired_keeps_no_other_open(
    up: Uploader, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    from paletta_server.uploads.tasks import reap

    names = ("a.mp4", "kept.mp4", "b.mp4", "c.mp4")
    registered = await up.register(await up.batch(), *(item(os.urandom(300), name) for name in names))
    quiet = await up.batch()
    await long_ago(runtime)
    async with runtime.db.transaction() as session:
        await session.execute(
            text(
                "ALTER TABLE uploads ADD CONSTRAINT kept CHECK (state <> 'expired' OR file_name <> 'kept.mp4')"
            )
        )
    try:
        await reap(runtime)
        assert await states(runtime) == ["expired", "uploading", "expired", "expired"]
        assert (await up.call("GET", f"/upload-batches/{quiet}"))["status"] == "settled"
        (said,) = failures(caplog)
        assert vars(said)["upload"] == registered[1]["upload_id"]
    finally:
        async with runtime.db.transaction() as session:
            await session.execute(text("ALTER TABLE uploads DROP CONSTRAINT kept"))
    await reap(runtime)
    assert await states(runtime) == ["expired"] * 4


async def test_an_upload_that_fails_unexpectedly_is_a_problem_of_its_own_to_its_client(
    up: Uploader, runtime: Runtime
) -> None:
    whole = os.urandom(1000)
    first, second = await up.register(
        await up.batch(), item(os.urandom(1000), "broken.mp4"), item(whole, "whole.mp4")
    )
    await up.put(second["put"], whole)
    await spoil(runtime, "broken.mp4")
    failed, stored = await up.complete(first["upload_id"], second["upload_id"])
    assert (failed["state"], failed["problem"]["code"]) == ("uploading", "internal")
    assert failed["problem"]["retryable"] is True
    assert (stored["state"], stored["problem"]) == ("stored", None)


async def test_progress_is_told_from_where_the_watcher_left_off(up: Uploader) -> None:
    data = os.urandom(700)
    batch = await up.batch()
    (registered,) = await up.register(batch, item(data))
    now = await up.call("GET", f"/upload-batches/{batch}/progress")
    assert [one["stage"] for one in now["items"]] == ["uploading"]
    waiting = asyncio.create_task(
        up.call("GET", f"/upload-batches/{batch}/progress", params={"after": now["version"], "wait": 20})
    )
    await up.put(registered["put"], data)
    await up.complete(registered["upload_id"])
    later = await waiting
    assert later["version"] > now["version"]
    assert [one["stage"] for one in later["items"]] == ["stored"]
    nothing = await up.call(
        "GET", f"/upload-batches/{batch}/progress", params={"after": later["version"], "wait": 0}
    )
    assert nothing["items"] == []


async def test_a_cancelled_upload_is_gone_for_good(up: Uploader, runtime: Runtime) -> None:
    data = os.urandom(MANY)
    (registered,) = await up.register(await up.batch(), item(data))
    upload = registered["upload_id"]
    signed = await up.sign(upload, data, registered["part_size"], [1])
    await up.call("POST", f"/uploads/{upload}/cancel")
    assert (await up.complete(upload))[0]["problem"]["code"] == "upload_over"
    assert (await up.sign(upload, data, registered["part_size"], [2]))["problem"]["code"] == "upload_over"
    from paletta_server.core.jobs import run_worker

    await run_worker(runtime, name="test", concurrency=1, wait=False)
    assert (await up.put(signed["parts"][0], data[: registered["part_size"]])).status_code == 404


async def test_an_upload_that_is_over_claims_no_parts(up: Uploader, runtime: Runtime) -> None:
    given_up, abandoned, sent = (os.urandom(300) for _ in range(3))
    batch = await up.batch()
    ids = {}
    for data in (given_up, abandoned, sent):
        (registered,) = await up.register(batch, item(data))
        assert (await up.put(registered["put"], data)).status_code == 200
        ids[data] = registered["upload_id"]

    async def parts(data: bytes) -> tuple[str, list[int]]:
        view = await up.call("GET", f"/uploads/{ids[data]}")
        return view["state"], view["uploaded_parts"]

    assert await parts(given_up) == ("uploading", [1])
    await up.call("POST", f"/uploads/{ids[given_up]}/cancel")
    await up.complete(ids[sent])
    async with runtime.db.transaction() as session:
        expire = "UPDATE uploads SET state = 'expired', stage = 'expired' WHERE uid = :uid"
        await session.execute(text(expire), {"uid": ids[abandoned]})
    assert await parts(given_up) == ("cancelled", [])
    assert await parts(abandoned) == ("expired", [])
    assert await parts(sent) == ("stored", [1])


async def test_foreign_batches_and_uploads_do_not_exist(
    up: Uploader, client: httpx.AsyncClient, make_user: MakeUser
) -> None:
    data = os.urandom(300)
    batch = await up.batch()
    (registered,) = await up.register(batch, item(data))
    for role in ("contributor", "admin"):
        other = Uploader(client, (await make_user(role)).headers)
        for method, path in [
            ("GET", f"/upload-batches/{batch}"),
            ("GET", f"/upload-batches/{batch}/progress"),
            ("POST", f"/upload-batches/{batch}/seal"),
            ("POST", f"/upload-batches/{batch}/cancel"),
            ("GET", f"/uploads/{registered['upload_id']}"),
            ("POST", f"/uploads/{registered['upload_id']}/cancel"),
        ]:
            assert (await other.call(method, path, 404))["code"] == "not_found"
        assert (await other.complete(registered["upload_id"]))[0]["problem"]["code"] == "not_found"
        signed = await other.sign(registered["upload_id"], data, MIB, [1])
        assert signed["problem"]["code"] == "not_found"


async def test_the_same_run_asked_for_twice_is_one_batch(up: Uploader) -> None:
    ref = str(uuid.uuid4())
    first = await up.call("POST", "/upload-batches", 201, json={"client_ref": ref, "name": "x"})
    again = await up.call("POST", "/upload-batches", 200, json={"client_ref": ref, "name": "x"})
    assert first["id"] == again["id"]


async def test_a_near_duplicate_tag_is_pointed_out(up: Uploader) -> None:
    batch = await up.batch()
    await up.register(batch, item(os.urandom(300), "a.mp4"))
    words: dict[str, Any] = {"keywords": ["trams", "lisbon", "street", "yellow", "hill"]}
    (second,) = await up.register(batch, item(os.urandom(300), "b.mp4", **words))
    assert second["outcome"] == "created"
    (warning,) = second["warnings"]
    assert (warning["pointer"], warning["hint"]) == ("/metadata/keywords/0", "did you mean `tram`?")


async def test_a_completion_that_finds_parts_missing_says_so_to_all_who_asked(up: Uploader) -> None:
    data = os.urandom(MANY)
    (registered,) = await up.register(await up.batch(), item(data))
    await up.sign(registered["upload_id"], data, registered["part_size"], [1])
    answers = await asyncio.gather(*(up.complete(registered["upload_id"]) for _ in range(6)))
    for (answer,) in answers:
        assert answer["state"] == "completing" or answer["problem"]["retryable"], answer


async def test_a_claim_that_was_taken_over_writes_nothing(up: Uploader, runtime: Runtime) -> None:
    from paletta_server.uploads import completion

    data = os.urandom(1000)
    (registered,) = await up.register(await up.batch(), item(data))
    await up.put(registered["put"], data)
    async with runtime.db.transaction() as session:
        upload_id = await session.scalar(text("SELECT id FROM uploads"))
        await session.execute(
            text("UPDATE uploads SET state = 'completing', claim = 'another', claimed_at = now()")
        )
    await completion._write(runtime, {upload_id: "ours"}, stored=[], released=[upload_id])
    assert await states(runtime) == ["completing"], "the successor's claim stands"
    await completion._write(runtime, {upload_id: "ours"}, stored=[upload_id], released=[])
    assert await states(runtime) == ["completing"]


async def test_a_cancelled_batch_stays_cancelled(up: Uploader, runtime: Runtime) -> None:
    batch = await up.batch()
    await up.register(batch, item(os.urandom(300)))
    await up.call("POST", f"/upload-batches/{batch}/seal")
    assert (await up.call("POST", f"/upload-batches/{batch}/cancel"))["status"] == "cancelled"
    answer = await up.call(
        "POST", f"/upload-batches/{batch}/items", 409, json={"items": [item(os.urandom(300))]}
    )
    assert answer["code"] == "batch_cancelled"
    async with runtime.db.transaction() as session:
        assert await session.scalar(text("SELECT count(*) FROM clips WHERE deleted_at IS NULL")) == 0


async def test_a_batch_that_gets_files_again_is_open_again(up: Uploader) -> None:
    batch = await up.batch()
    await up.register(batch, item(os.urandom(300), "a.mp4"))
    await up.call("POST", f"/upload-batches/{batch}/seal")
    await up.register(batch, item(os.urandom(300), "b.mp4"))
    assert (await up.call("GET", f"/upload-batches/{batch}"))["status"] == "open"


async def test_the_quota_never_stops_what_was_begun(up: Uploader, runtime: Runtime) -> None:
    from paletta_server.uploads import registration

    tight = runtime.settings.model_copy(update={"uploads_open_max": 2})
    small = type(runtime)(tight, runtime.db, runtime.store, runtime.notify)
    files = [item(os.urandom(300), f"{number}.mp4") for number in range(2)]
    batch = await up.batch()
    await up.register(batch, *files)
    async with runtime.db.transaction() as session:
        owner = await session.scalar(text("SELECT owner_id FROM upload_batches"))
    from paletta_server.accounts.security import Principal
    from paletta_server.uploads.schemas import NewItem

    user = Principal(owner, "user_x", "x@example.org", True, "contributor", (), 0)
    one_more = item(os.urandom(300), "more.mp4")
    asked = [NewItem.model_validate(one) for one in (*files, one_more)]
    answers = await registration.register(small, user, batch, asked)
    assert [answer.outcome for answer in answers] == ["resumed", "resumed", "invalid"]
    assert answers[2].problems[0].code == "too_many_open"


async def test_a_call_signs_only_so_many_parts(up: Uploader) -> None:
    data = os.urandom(100)
    (registered,) = await up.register(await up.batch(), item(data))
    wanted = {
        "upload_id": registered["upload_id"],
        "parts": [{"number": 1, "crc64nvme": "AAAAAAAAAAA="}] * 200,
    }
    problem = await up.call("POST", "/uploads/sign", 422, json={"uploads": [wanted, wanted]})
    assert problem["code"] == "too_many_parts"


@pytest.mark.parametrize("name", ["..", "../../etc/x.mp4", "a/b.mp4", "C:\\x.mp4", " . ", "a\nb.mp4"])
async def test_a_name_is_a_name_and_no_path(up: Uploader, name: str) -> None:
    odd = item(os.urandom(300))
    odd["file"]["name"] = name
    (answer,) = await up.register(await up.batch(), odd)
    assert [problem["code"] for problem in answer["problems"]] == ["bad_name"]


async def test_a_name_may_hold_what_file_systems_allow(up: Uploader) -> None:
    """A colon, for one: the Mac's Finder writes one for each slash that a person types."""
    odd = item(os.urandom(300), "Tram 12:30 <a|b> *?.mov")
    (answer,) = await up.register(await up.batch(), odd)
    assert (answer["outcome"], answer["problems"]) == ("created", [])
    assert (await up.call("GET", f"/uploads/{answer['upload_id']}"))["file"] == odd["file"]["name"]


async def test_the_same_ref_twice_is_refused(up: Uploader) -> None:
    twice = {"items": [item(os.urandom(300), "a.mp4"), item(os.urandom(300), "a.mp4")]}
    problem = await up.call("POST", f"/upload-batches/{await up.batch()}/items", 422, json=twice)
    assert problem["code"] == "repeated_ref"
