"""What was bought and lies in the archive: asked for when it is paid, waited for honestly, told of when it is there.

The store is moto's, which has storage classes and RestoreObject; its copies come back when a test says so.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from paletta_server.core import bucket
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.core.storage import ObjectStore, StoreError
from paletta_server.delivery import restoring
from tests.cli.conftest import Run
from tests.conftest import Person
from tests.support import aws
from tests.support.orders import Sold, Till, Wanted, revoke
from tests.support.stack import MailSink
from tests.support.working import work_off

HD, ORIGINAL = b"an hd file " * 1000, b"the original file " * 5000
NOT_THERE_YET, SOME_FAILED = 8, 6


@pytest.fixture(scope="module")
def amazon() -> Iterator[str]:
    with aws.server() as address:
        yield address


@dataclass
class Archive:
    """A shop whose originals are archived."""

    runtime: Runtime
    till: Till
    buyer: Person
    client: httpx.AsyncClient

    async def sell(self, *wanted: Wanted) -> Sold:
        sold = await self.till.sell(*(wanted or [Wanted("Tram", files={"hd": HD, "original": ORIGINAL})]))
        for item, tier in sold.data:
            if tier == "original":
                await self.put_away(f"sale/{item}/{tier}", sold.data[item, tier])
        return sold

    async def put_away(self, key: str, data: bytes, storage_class: str = "DEEP_ARCHIVE") -> None:
        store = self.runtime.store
        await store.call(
            lambda s3: s3.put_object(Bucket=store.bucket, Key=key, Body=data, StorageClass=storage_class)  # type: ignore[arg-type]
        )
        self.inside(key).status = "IN_PROGRESS"

    def inside(self, key: str) -> Any:
        """The object, in moto's own hands."""
        return aws.inside(self.runtime.store.bucket, key)

    def arrive(self, sold: Sold, number: int = 0) -> None:
        self.inside(f"sale/{sold.items[number].uid}/original").status = "RESTORED"

    async def work(self) -> None:
        """Be a worker until the queues are empty."""
        for _ in range(3):  # jobs defer jobs
            await work_off(self.runtime)

    async def ask(self, sold: Sold, tier: str) -> Any:
        wish = {"files": [{"item_id": sold.items[0].uid, "tier": tier}]}
        answer = await self.client.post("/v1/downloads", json=wish, headers=self.buyer.headers)
        assert answer.status_code == 200, answer.text
        return answer.json()["files"][0]

    async def rows(self) -> list[Any]:
        async with self.runtime.db.transaction() as session:
            found = await session.execute(
                text("SELECT key, ended_at IS NOT NULL FROM restorations ORDER BY id")
            )
            return list(found.all())


@pytest.fixture
async def archive(
    app: FastAPI,
    runtime: Runtime,
    settings: Settings,
    people: dict[str, Person],
    client: httpx.AsyncClient,
    amazon: str,
) -> AsyncIterator[Archive]:
    theirs = settings.model_copy(
        update={
            "s3_endpoint": amazon,
            "s3_bucket": f"archive-{secrets.token_hex(6)}",
            "s3_originals_class": "DEEP_ARCHIVE",
        }
    )
    with aws.archive_by_hand():
        async with ObjectStore(theirs) as store:
            await bucket.bootstrap(store, theirs)
            other = replace(runtime, settings=theirs, store=store)
            app.state.runtime = other
            try:
                till = await Till.of(other, people["admin"].email, people["contributor"].email)
                yield Archive(other, till, people["admin"], client)
            finally:
                app.state.runtime = runtime


async def test_from_the_purchase_to_the_file(
    archive: Archive, paletta: Run, mailbox: MailSink, tmp_path: Path
) -> None:
    sold = await archive.sell()
    await archive.work()
    assert await archive.rows() == [(f"sale/{sold.items[0].uid}/original", False)], (
        "asked for when it was paid"
    )
    assert (
        'ongoing-request="true"'
        in archive.inside((await archive.rows())[0][0]).response_dict["x-amz-restore"]
    )

    waiting = await archive.ask(sold, "original")
    assert waiting["problem"]["code"] == "restoring"
    assert waiting["url"] is None
    assert waiting["problem"]["ready_at"].endswith("+00:00")
    assert "on its way back from the archive, and should be there by " in waiting["problem"]["detail"]
    assert (await archive.ask(sold, "hd"))["url"], "what is not archived can be had meanwhile"

    page = (link := _link(mailbox.to(archive.buyer.email)[-1])) and await archive.client.get(link)
    assert "On its way back from the archive: there by " in page.text
    assert page.text.count("Download</a>") == 1, "the HD file"

    ran = await paletta("orders", "download", sold.order.number, "--to", "films", "--json", as_="admin")
    assert ran.code == NOT_THERE_YET, ran
    document = json.loads(ran.out)
    assert [(one["result"], one["code"]) for one in document["files"]] == [("not there yet", "restoring")]
    ran = await paletta("orders", "download", sold.order.number, "--to", "films", as_="admin")
    assert "1 not there yet" in ran.err
    assert "a mail tells you when they are there" in ran.err
    assert not list((tmp_path / "films").rglob("*.mov"))

    before = len(mailbox.to(archive.buyer.email))
    await restoring.watch(archive.runtime)
    assert await archive.rows() == [(f"sale/{sold.items[0].uid}/original", False)]
    archive.arrive(sold)
    await asyncio.gather(restoring.watch(archive.runtime), restoring.watch(archive.runtime))
    await restoring.watch(archive.runtime)
    await archive.work()
    (mail,) = mailbox.to(archive.buyer.email)[before:]
    assert mail["Subject"] == f"Order {sold.order.number}: your originals are there"
    page = await archive.client.get(_link(mail))
    assert page.text.count("Download</a>") == 2
    ran = await paletta("orders", "download", sold.order.number, "--to", "films", as_="admin")
    assert ran.code == 0, ran
    (landed,) = (tmp_path / "films").rglob("*.mov")
    assert landed.read_bytes() == ORIGINAL


def _link(mail: Any) -> str:
    import re

    found = re.search(r"/orders/\S+", mail.get_body(("plain",)).get_content())
    assert found is not None
    return found[0]


async def test_a_copy_that_lapsed_is_asked_for_again(archive: Archive, mailbox: MailSink) -> None:
    sold = await archive.sell()
    await archive.work()
    archive.arrive(sold)
    await restoring.watch(archive.runtime)
    assert (await archive.ask(sold, "original"))["url"]
    inside = archive.inside(f"sale/{sold.items[0].uid}/original")
    inside.set_expiry(None)  # a week later
    inside.status = "IN_PROGRESS"
    assert (await archive.ask(sold, "original"))["problem"]["code"] == "restoring"
    assert inside.expiry_date is not None, "it was asked for"
    assert await archive.rows() == [(inside.name, False)]
    page = await archive.client.get(
        _link(mailbox.to(archive.buyer.email)[-1]) + f"/files/{sold.items[0].uid}/original"
    )
    assert (page.status_code, "On its way back" in page.text or "on its way back" in page.text) == (503, True)


async def test_a_request_that_was_lost_is_made_again(archive: Archive) -> None:
    sold = await archive.sell()
    await archive.work()
    inside = archive.inside(f"sale/{sold.items[0].uid}/original")
    inside.set_expiry(None)
    await restoring.watch(archive.runtime)
    assert inside.expiry_date is not None
    assert await archive.rows() == [(inside.name, False)]


async def test_whoever_has_no_right_any_more_gets_no_mail(archive: Archive, mailbox: MailSink) -> None:
    sold = await archive.sell()
    await archive.work()
    async with archive.runtime.db.transaction() as session:
        await revoke(session, [item.id for item in sold.items])
    await archive.work()
    before = len(mailbox.to(archive.buyer.email))
    archive.arrive(sold)
    await restoring.watch(archive.runtime)
    await archive.work()
    assert len(mailbox.to(archive.buyer.email)) == before


async def test_one_that_is_gone_fails_the_rest_does_not_wait(
    archive: Archive, paletta: Run, mailbox: MailSink
) -> None:
    files = {"original": ORIGINAL}
    sold = await archive.sell(Wanted("Tram", files=files), Wanted("Bus", files=files))
    await archive.work()
    await archive.runtime.store.delete([f"sale/{sold.items[1].uid}/original"])
    ran = await paletta("orders", "download", sold.order.number, "--to", "films", as_="admin")
    assert ran.code == SOME_FAILED, ran
    assert "1 failed, 1 not there yet" in ran.err
    archive.arrive(sold)
    await restoring.watch(archive.runtime)
    await archive.work()
    assert [done for _, done in await archive.rows()] == [True, True], "nothing is watched for ever"


@pytest.mark.parametrize("storage_class", ["STANDARD", "INTELLIGENT_TIERING", "GLACIER_IR"])
async def test_classes_that_answer_at_once_wait_for_nothing(archive: Archive, storage_class: str) -> None:
    sold = await archive.till.sell(Wanted("Tram", files={"original": ORIGINAL}))
    await archive.put_away(f"sale/{sold.items[0].uid}/original", ORIGINAL, storage_class)
    assert (await archive.ask(sold, "original"))["url"]
    assert await archive.rows() == []


async def test_what_is_archived_is_not_damaged_and_not_gone(archive: Archive, tmp_path: Path) -> None:
    await archive.put_away("originals/a/b", ORIGINAL)
    for reading in (
        archive.runtime.store.sha256("originals/a/b"),
        archive.runtime.store.download("originals/a/b", tmp_path / "x"),
    ):
        with pytest.raises(StoreError) as caught:
            await reading
        assert caught.value.code == "InvalidObjectState"
