"""What a batch's owner is mailed: when it settles, and when the last of it was reviewed; nothing without news."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
from sqlalchemy import text

from paletta_server.core.runtime import Runtime
from paletta_server.uploads import progress
from tests.conftest import MakeUser, Person
from tests.support.stack import MailSink
from tests.support.uploading import Uploader, item

RunJobs = Callable[[], Awaitable[None]]


@pytest.fixture
async def ana(make_user: MakeUser) -> Person:
    return await make_user("contributor")


@pytest.fixture
async def up(client: httpx.AsyncClient, ana: Person, runtime: Runtime) -> AsyncIterator[Uploader]:
    async with runtime.db.transaction() as session:
        await session.execute(text("INSERT INTO categories (slug, name) VALUES ('transport', 'Transport')"))
    made = Uploader(client, ana.headers)
    yield made
    await made.store.aclose()


async def ingested(runtime: Runtime, stage: str) -> None:
    """Every upload there is as ingest leaves it, without transcoding."""
    review = {"live": "approved", "in_review": "submitted"}[stage]
    async with runtime.db.transaction() as session:
        await session.execute(
            text("UPDATE clips SET processing = 'ready', review = :review, technical = '{}', duration = 4"),
            {"review": review},
        )
        ids = list(await session.scalars(text("UPDATE uploads SET state = 'verified' RETURNING id")))
        await progress.report(session, ids, stage)


async def test_a_reviewed_batch_is_told_once_with_every_reason(
    up: Uploader,
    ana: Person,
    client: httpx.AsyncClient,
    make_user: MakeUser,
    runtime: Runtime,
    run_jobs: RunJobs,
    mailbox: MailSink,
) -> None:
    moderator = Uploader(client, (await make_user("admin")).headers)
    batch = await up.batch("lisbon")
    good, soft = [await up.send(os.urandom(300), batch, ref=name) for name in ("good.mp4", "soft.mp4")]
    await up.call("POST", f"/upload-batches/{batch}/seal")
    await ingested(runtime, "in_review")
    await run_jobs()
    assert [mail["Subject"] for mail in mailbox.to(ana.email)] == ["Your upload lisbon: 2 waiting for review"]
    await moderator.call("POST", f"/admin/clips/{good['clip_id']}/approve")
    await run_jobs()
    assert len(mailbox.to(ana.email)) == 1, "one still waits"
    await moderator.call("POST", f"/admin/clips/{soft['clip_id']}/reject", json={"reason": "soft focus"})
    await run_jobs()
    await run_jobs()
    _, mail = mailbox.to(ana.email)
    assert mail["Subject"] == "Your upload lisbon: 1 live, 1 rejected"
    assert f"({soft['clip_id']}): soft focus" in mail.get_content()
    assert "is reviewed." in mail.get_content()


async def test_a_finished_folder_again_is_no_news(
    up: Uploader, ana: Person, runtime: Runtime, run_jobs: RunJobs, mailbox: MailSink
) -> None:
    data = os.urandom(300)
    first = await up.batch("lisbon")
    await up.send(data, first)
    await up.call("POST", f"/upload-batches/{first}/seal")
    await ingested(runtime, "live")
    again = await up.batch("lisbon")
    assert [one["outcome"] for one in await up.register(again, item(data))] == ["already_yours"]
    assert (await up.call("POST", f"/upload-batches/{again}/seal"))["status"] == "settled"
    await run_jobs()
    assert [mail["Subject"] for mail in mailbox.to(ana.email)] == ["Your upload lisbon: 1 live"]
    more = os.urandom(300)
    await up.send(more, again, ref="more.mp4")
    await up.call("POST", f"/upload-batches/{again}/seal")
    await ingested(runtime, "live")
    await run_jobs()
    assert [mail["Subject"] for mail in mailbox.to(ana.email)][1:] == ["Your upload lisbon: 2 live"]


@pytest.mark.parametrize("first", ["deleted", "approved"])
async def test_a_clip_that_its_owner_deletes_is_not_waited_for(
    up: Uploader,
    ana: Person,
    client: httpx.AsyncClient,
    make_user: MakeUser,
    runtime: Runtime,
    run_jobs: RunJobs,
    mailbox: MailSink,
    first: str,
) -> None:
    moderator = Uploader(client, (await make_user("admin")).headers)
    batch = await up.batch("lisbon")
    good, unwanted = [await up.send(os.urandom(300), batch, ref=name) for name in ("good.mp4", "no.mp4")]
    await up.call("POST", f"/upload-batches/{batch}/seal")
    await ingested(runtime, "in_review")
    for step in ("deleted", "approved") if first == "deleted" else ("approved", "deleted"):
        await run_jobs()
        assert len(mailbox.to(ana.email)) == 1, "that it waits for review"
        if step == "deleted":
            await up.call("DELETE", f"/clips/{unwanted['clip_id']}", 204)
        else:
            await moderator.call("POST", f"/admin/clips/{good['clip_id']}/approve")
    await run_jobs()
    _, mail = mailbox.to(ana.email)
    assert mail["Subject"] == "Your upload lisbon: 1 live, 1 deleted"
    view = await up.call("GET", f"/upload-batches/{batch}")
    assert view["counts"] == {"live": 1, "deleted": 1}


async def test_an_owner_who_deletes_everything_needs_no_mail(
    up: Uploader, ana: Person, runtime: Runtime, run_jobs: RunJobs, mailbox: MailSink
) -> None:
    batch = await up.batch("lisbon")
    sent = [await up.send(os.urandom(300), batch, ref=name) for name in ("a.mp4", "b.mp4")]
    await up.call("POST", f"/upload-batches/{batch}/seal")
    await ingested(runtime, "in_review")
    for one in sent:
        await up.call("DELETE", f"/clips/{one['clip_id']}", 204)
    await run_jobs()
    assert [mail["Subject"] for mail in mailbox.to(ana.email)] == ["Your upload lisbon: 2 deleted"]
