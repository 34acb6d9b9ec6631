"""What `storage audit --fix` must not do: withdraw, mail and delete where bucket or database are the wrong ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import text

from paletta_server.operations import inventory
from paletta_server.operations.brake import Allowance, Look, TooMuchLost, allowance
from paletta_server.operations.mending import bring_back, mend
from paletta_server.operations.storage_audit import Fault
from tests.conftest import Person
from tests.support.explained import listening, ways
from tests.support.orders import Sold
from tests.support.stack import MailSink
from tests.support.stock import NOW, Stock

STATE = (
    "SELECT processing || ' ' || stage FROM clips JOIN uploads ON clip_id = clips.id WHERE clips.uid = :uid"
)


@pytest.mark.parametrize(
    ("look", "words"),
    [
        (Look(), None),
        (Look(expected=2, found=1, originals=1, lost=1, ours=1), None),
        (Look(expected=2, originals=1, lost=1), "none of the 2 objects"),
        (Look(expected=2000, found=1990, originals=1000, lost=10, ours=1990), None),
        (
            Look(expected=2000, found=1989, originals=1000, lost=11, ours=1989),
            "11 of 1,000 originals are missing",
        ),
        (Look(expected=20000, found=19900, originals=10000, lost=100, ours=19900), None),
        (Look(expected=20000, found=19899, originals=10000, lost=101, ours=19899), "101 of 10,000"),
        (Look(ours=10, orphaned=10), None),
        (Look(expected=11, found=11, ours=23, orphaned=12), "refers to only 11 of 23 objects"),
    ],
)
def test_where_it_stops(look: Look, words: str | None) -> None:
    reason = look.refusal()
    assert (words is None) == (reason is None), reason
    assert (words or "") in (reason or "")


async def test_an_empty_bucket_and_an_empty_database_are_noticed(stock: Stock) -> None:
    _, original, preview = await stock.clip("tram")
    assert (await allowance(stock.runtime, NOW)).left == 10
    for number in range(12):
        await stock.put(f"media/clip_x/run_x/{number}", b"another service's")
    assert (await allowance(stock.runtime)).left == 10, "they are young yet"
    with pytest.raises(TooMuchLost, match="refers to only 2 of 14 objects"):
        await allowance(stock.runtime, NOW)
    await stock.runtime.store.delete([original, preview])
    with pytest.raises(TooMuchLost, match="none of the 2 objects"):
        await allowance(stock.runtime)


async def test_damage_that_only_reading_finds_stops_as_well(stock: Stock) -> None:
    names = ("tram", "ferry", "harbour")
    made = [await stock.clip(name) for name in names]
    faults = []
    for uid, original, _ in made:
        await stock.runtime.store.delete([original])
        clip_id = int(await stock.one("SELECT id FROM clips WHERE uid = :uid", uid=uid))
        faults.append(Fault("missing", original, "", ("original",), clip_id))
    with pytest.raises(TooMuchLost):
        await mend(stock.runtime, faults, allowance=Allowance(2))
    states = [await stock.one(STATE, uid=uid) for uid, _, _ in made]
    assert states == ["failed failed", "failed failed", "ready live"]


async def test_an_original_that_is_there_after_all_withdraws_nothing(stock: Stock) -> None:
    """The store is asked once more: one answer of it may be wrong."""
    uid, original, _ = await stock.clip("tram")
    clip_id = int(await stock.one("SELECT id FROM clips WHERE uid = :uid", uid=uid))
    fault = Fault("missing", original, "the store does not have it", ("original",), clip_id)
    await mend(stock.runtime, [fault])
    assert fault.outcome == "it is as it should be now"
    assert await stock.one(STATE, uid=uid) == "ready live"


async def test_a_withdrawn_clip_whose_original_is_there_again_is_made_again(
    stock: Stock, mailbox: MailSink, run_jobs: Callable[[], Awaitable[None]]
) -> None:
    back, original, _ = await stock.clip("tram")
    sent_again, other, _ = await stock.clip("ferry")
    lost, _, _ = await stock.clip("harbour")
    await stock.runtime.store.delete([original, other, await original_of(stock, lost)])
    await stock.audit(fix=True)
    assert [await stock.one(STATE, uid=uid) for uid in (back, sent_again, lost)] == ["failed failed"] * 3
    assert await bring_back(stock.runtime) == 0
    new = await stock.up.send(b"the original of ferry")
    assert new["clip_id"] != sent_again
    await stock.put(original, b"the original of tram")
    await stock.put(other, b"the original of ferry")
    await stock.put(await original_of(stock, lost), b"The Original of harbour")
    await stock.sql("DELETE FROM procrastinate_jobs WHERE task_name = 'ingest.run'")
    assert await bring_back(stock.runtime) == 1
    assert await stock.one(STATE, uid=back) == "pending stored"
    assert await stock.one("SELECT (reason IS NULL)::text FROM clips WHERE uid = :uid", uid=back) == "true"
    assert await stock.one("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'ingest.run'") == "1"
    assert await stock.one(STATE, uid=sent_again) == await stock.one(STATE, uid=lost) == "failed failed"
    assert await bring_back(stock.runtime) == 0
    await stock.sql("DELETE FROM procrastinate_jobs WHERE task_name = 'ingest.run'")
    await run_jobs()
    subjects = [mail["Subject"] for mail in mailbox.messages]
    assert subjects.count(f"We have lost the file of your clip {back}") == 1
    assert [one for one in subjects if "have found" in one] == [f"We have found the file of your clip {back}"]


async def original_of(stock: Stock, uid: str) -> str:
    return await stock.one("SELECT original_key FROM clips WHERE uid = :uid", uid=uid)


async def test_the_multipart_of_what_is_stored_is_left_alone(stock: Stock) -> None:
    """A store may list what it has completed, and would drop the object with it."""
    uid, original, _ = await stock.clip("tram")
    multipart = await stock.runtime.store.create_multipart(original)
    await stock.sql("UPDATE uploads SET multipart_id = :id WHERE clip_uid = :uid", id=multipart, uid=uid)
    for state in ("stored", "verified"):
        await stock.sql("UPDATE uploads SET state = :state", state=state)
        report, found = await stock.audit(fix=True)
        assert found[original].what == "stale_multipart"
        assert found[original].outcome == "left to the store: its upload is stored"
        assert report.remaining == 0
    assert await stock.one("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'uploads.abort'") == "0"


async def test_counting_may_take_its_time(stock: Stock) -> None:
    async with stock.runtime.db.transaction() as session:
        assert await session.scalar(text("SHOW statement_timeout")) == "30s"
        await inventory.count(session)
        assert await session.scalar(text("SHOW statement_timeout")) == "0"


async def test_what_refers_to_an_object_is_found_by_an_index(stock: Stock, sold: tuple[Sold, Person]) -> None:
    """Each lost or unknown object asks for its own, among all that was ever stored."""
    await stock.clip("tram")
    async with stock.runtime.db.transaction() as session:
        await session.execute(text("SET LOCAL session_replication_role = replica"))  # copies refer to nothing
        for table, own in MANY.items():
            await (await session.connection()).exec_driver_sql(copies(table, own))
        await session.execute(text(f"ANALYZE {', '.join(MANY)}"))
        async with listening(session) as heard:
            assert await inventory.among(session, ["originals/clip_a/obj_a"]) == {}
        read = await ways(session, heard)
    assert {"ix_clips_original_key", "ix_renditions_key", "ix_uploads_key", "ix_order_item_files_key"} <= read
    assert not [one for one in read if one.startswith("all of")], read


MANY = {
    "clips": ("id", "uid", "sha256", "original_key"),
    "renditions": ("id", "clip_id", "key"),
    "uploads": ("id", "uid", "clip_id", "sha256", "key"),
    "orders": ("id", "uid", "number"),
    "order_items": ("id", "uid", "order_id"),
    "order_item_files": ("order_item_id", "key"),
}
"""What each copy of a row has for itself."""


def copies(table: str, own: tuple[str, ...]) -> str:
    changed = ", ".join(
        f"'{name}', one.{name} {'+' if name.endswith('id') and name != 'uid' else '||'} n" for name in own
    )
    return (
        f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT copy.* FROM (SELECT * FROM {table} LIMIT 1) AS one,"
        " generate_series(10000, 15000) AS n,"
        f" jsonb_populate_record(NULL::{table}, to_jsonb(one) || jsonb_build_object({changed})) AS copy"
    )
