"""Database against store: each kind of fault is planted, found and mended, beside what is under way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx

from paletta_server.clips import service as clips
from paletta_server.core import holds
from paletta_server.operations.storage_audit import audit
from paletta_server.uploads import tasks as upload_tasks
from tests.conftest import MakeUser
from tests.support.orders import Till, Wanted
from tests.support.stack import MailSink
from tests.support.stock import Stock
from tests.support.uploading import item


async def test_nothing_is_wrong_where_nothing_is(stock: Stock) -> None:
    await stock.clip("tram")
    report, found = await stock.audit(deep=True, fix=True)
    assert (report.objects, report.remaining, found) == (2, 0, {})


async def test_orphans_go_and_what_is_under_way_stays(stock: Stock) -> None:
    await stock.clip("tram")
    data = b"x" * (17 * 1024 * 1024)
    [big] = await stock.up.register(await stock.up.batch(), item(data, "big.mov"))
    signed = await stock.up.sign(big["upload_id"], data, big["part_size"], [1, 2])
    first = signed["parts"][0]
    await stock.up.put(first, data[: big["part_size"]])
    small = b"stored, and not completed yet"
    [single] = await stock.up.register(await stock.up.batch(), item(small, "small.mov"))
    await stock.up.put(single["put"], small)
    await stock.sql(
        "INSERT INTO ingest_runs (uid, upload_id, clip_id, attempt, status, prefix)"
        " SELECT 'run_living', id, clip_id, 1, 'transcoding', 'media/x/run_living/' FROM uploads ORDER BY id LIMIT 1"
    )
    await stock.put("media/x/run_living/comp.mp4", b"of an attempt under way")
    await stock.put("media/x/run_dead/comp.mp4", b"of an attempt long gone")
    await stock.put("elsewhere/their.txt", b"somebody else's")
    stale = await stock.runtime.store.create_multipart("originals/clip_gone/obj_gone")
    report, found = await stock.audit()
    assert {key: fault.what for key, fault in found.items()} == {
        "media/x/run_dead/comp.mp4": "orphaned",
        "originals/clip_gone/obj_gone": "stale_multipart",
    }
    assert (report.foreign, report.young, report.remaining) == (1, 1, 2)
    young = await audit(stock.runtime)
    assert (young.found, young.young) == ({}, 2), "nothing is old enough by itself"
    report, found = await stock.audit(fix=True)
    assert report.remaining == 0
    assert await stock.runtime.store.head("media/x/run_dead/comp.mp4") is None
    assert await stock.runtime.store.head("media/x/run_living/comp.mp4") is not None
    assert await stock.runtime.store.head("elsewhere/their.txt") is not None
    await upload_tasks.abort(stock.runtime, key="originals/clip_gone/obj_gone", multipart_id=stale)
    assert (await stock.audit())[1] == {}
    # The uploads under way were not touched: they go on and end as they would have.
    await stock.up.put(signed["parts"][1], data[big["part_size"] :])
    completed = await stock.up.complete(big["upload_id"], single["upload_id"])
    assert [one["state"] for one in completed] == ["stored", "stored"]


async def test_a_lost_preview_is_made_again_and_a_lost_original_withdraws_its_clip(
    stock: Stock, mailbox: MailSink, run_jobs: Callable[[], Awaitable[None]]
) -> None:
    again, _, preview = await stock.clip("tram")
    lost, original, _ = await stock.clip("ferry")
    damaged, spoilt, _ = await stock.clip("harbour")
    short, _, cut = await stock.clip("bridge")
    await stock.runtime.store.delete([preview, original])
    stock.runtime.store._client().put_object(  # as many bytes, and others
        Bucket=stock.runtime.store.bucket,
        Key=spoilt,
        Body=b"The original of harbour",
        ChecksumAlgorithm="CRC64NVME",
    )
    await stock.put(cut, b"short")
    report, found = await stock.audit()
    whats = {key: fault.what for key, fault in found.items()}
    assert whats == {
        preview: "missing", original: "missing", spoilt: "wrong_checksum", cut: "wrong_size",
    }  # fmt: skip
    assert report.remaining == 4
    report, found = await stock.audit(fix=True)
    assert report.remaining == 0
    assert found[preview].outcome == found[cut].outcome == "made again"
    stages = "SELECT processing || ' ' || stage FROM clips JOIN uploads ON clip_id = clips.id WHERE clips.uid = :uid"
    assert await stock.one(stages, uid=again) == "pending stored"
    assert await stock.one(stages, uid=short) == "pending stored"
    assert await stock.one(stages, uid=lost) == "failed failed"
    assert await stock.one(stages, uid=damaged) == "failed failed"
    assert await stock.one("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'ingest.run'") == "6"
    assert (await stock.audit())[0].remaining == 0
    await stock.sql("DELETE FROM procrastinate_jobs WHERE task_name = 'ingest.run'")
    await run_jobs()
    subjects = [mail["Subject"] for mail in mailbox.messages]
    assert f"We have lost the file of your clip {lost}" in subjects


async def test_deep_finds_what_a_size_does_not_show(stock: Stock) -> None:
    _, _, preview = await stock.clip("tram")
    await stock.put(preview, b"The Preview of tram")
    assert (await stock.audit())[1] == {}
    _, found = await stock.audit(deep=True)
    assert {key: fault.what for key, fault in found.items()} == {preview: "wrong_checksum"}


async def test_what_was_sold_and_is_gone_remains_a_fault(
    stock: Stock, make_user: MakeUser, client: httpx.AsyncClient
) -> None:
    customer, contributor = await make_user("customer"), await make_user("contributor")
    till = await Till.of(stock.runtime, customer.email, contributor.email)
    uid, _, _ = await stock.clip("tram")
    clip_id = int(await stock.one("SELECT id FROM clips WHERE uid = :uid", uid=uid))
    sold = await till.sell(Wanted(files={"hd": b"an hd file", "original": b"all"}, clip_id=clip_id))
    await stock.sql("UPDATE clips SET deleted_at = now()")  # what was sold outlives its clip
    key = f"sale/{sold.items[0].uid}/hd"
    await stock.runtime.store.delete([key])
    report, found = await stock.audit(fix=True)
    assert found[key].what == "missing"
    assert (found[key].outcome, report.remaining) == (None, 1)
    assert report.found["orphaned"] == 2, "original and preview of the deleted clip"


async def test_a_clip_that_is_made_again_keeps_what_was_decided(stock: Stock) -> None:
    """It is neither approved by itself, nor submitted once more."""
    uid, _, _ = await stock.clip("tram")
    for review in ("approved", "submitted", "rejected", "taken_down"):
        await stock.sql("UPDATE clips SET review = :review, processing = 'processing'", review=review)
        async with stock.runtime.db.transaction() as session:
            clip_id = int(await stock.one("SELECT id FROM clips WHERE uid = :uid", uid=uid))
            row = {
                "kind": "comp",
                "key": "media/x/y/comp.mp4",
                "content_type": "video/mp4",
                "size": 1,
                "sha256": "0",
            }
            made = clips.Made({}, 1.0, 1, 1, 24.0, "h264", [], [row], None)
            assert await clips.publish(session, clip_id, made, review="approved") == review


async def test_nothing_is_deleted_while_somebody_holds_the_store(stock: Stock) -> None:
    await stock.put("media/x/run_dead/comp.mp4", b"of an attempt long gone")
    async with stock.runtime.db.transaction() as session:
        hold = await holds.take(session, "a backup")
    report, _ = await stock.audit(fix=True)
    assert report.remaining == 1
    assert await stock.runtime.store.head("media/x/run_dead/comp.mp4") is not None
    async with stock.runtime.db.transaction() as session:
        assert await holds.renew(session, hold)
        await holds.drop(session, hold)
        assert not await holds.renew(session, hold)
    report, _ = await stock.audit(fix=True)
    assert report.remaining == 0
