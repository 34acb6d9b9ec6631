"""Take-downs: a clip leaves the shop and stays away whatever its owner does; its buyers keep it, or not for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from botocore.awsrequest import AWSResponse
from fastapi import FastAPI
from sqlalchemy import text

from paletta_server.clips import review
from paletta_server.clips.review import Terms
from paletta_server.core.jobs import defer
from paletta_server.core.runtime import Runtime
from tests.api.test_downloads import SAME_SITE, fetched, link_in, words_of
from tests.conftest import MakeUser, Person
from tests.support.clips import Shelf
from tests.support.locks import blocked
from tests.support.orders import Sold, Till, Wanted, revoke, suspend
from tests.support.shop import Customer
from tests.support.stack import MailSink
from tests.support.uploading import METADATA, Uploader, item

RunJobs = Callable[[], Awaitable[None]]
FILES = {"hd": b"an hd file", "original": b"the original file"}
WHY = "the museum asks for it"


class Moderator(Uploader):
    """An operator who takes clips down and restores them."""

    async def take_down(self, *clips: str, expect: int = 200, **more: Any) -> Any:
        body = {"clips": clips, "reason": WHY, **more}
        return await self.call("POST", "/admin/clips/take-down", expect, json=body)

    async def restore(self, *clips: str, expect: int = 200) -> Any:
        return await self.call("POST", "/admin/clips/restore", expect, json={"clips": clips})


@pytest.fixture
async def moderator(client: httpx.AsyncClient, admin: Person) -> AsyncIterator[Moderator]:
    made = Moderator(client, admin.headers)
    yield made
    await made.store.aclose()


@pytest.fixture
async def owner(runtime: Runtime, shelf: Shelf) -> str:
    """The address of the contributor whose clips are on the shelf."""
    async with runtime.db.transaction() as session:
        return str(await session.scalar(text("SELECT email FROM users WHERE role = 'contributor'")))


@pytest.fixture
async def till(runtime: Runtime, customer: Customer, owner: str) -> Till:
    return await Till.of(runtime, customer.person.email, owner)


async def rows(runtime: Runtime, query: str, **values: Any) -> list[Any]:
    async with runtime.db.transaction() as session:
        return [tuple(row) for row in await session.execute(text(query), values)]


async def audited(runtime: Runtime) -> list[tuple[str, str]]:
    query = "SELECT action, object FROM audit_logs WHERE action LIKE 'clip:%' ORDER BY id"
    return await rows(runtime, query)


async def sell(runtime: Runtime, till: Till, *clips: str, **more: Any) -> Sold:
    """One order of these clips."""
    keys = dict(await rows(runtime, "SELECT uid, id FROM clips"))
    return await till.sell(*(Wanted(clip, files=FILES, clip_id=keys[clip]) for clip in clips), **more)


# ---- out of the shop, and back


async def labels(runtime: Runtime, clip: str) -> dict[str, dict[str, str]]:
    """The tags of the clip's objects, by the last part of their keys."""

    def look(s3: Any) -> dict[str, dict[str, str]]:
        found = s3.list_objects_v2(Bucket=runtime.store.bucket, Prefix=f"media/{clip}/")["Contents"]
        return {
            one["Key"].rpartition("/")[2]: {
                tag["Key"]: tag["Value"]
                for tag in s3.get_object_tagging(Bucket=runtime.store.bucket, Key=one["Key"])["TagSet"]
            }
            for one in found
        }

    return await runtime.store.call(look)


async def test_previews_that_anybody_could_fetch_are_withheld_meanwhile(
    app: FastAPI,
    shelf: Shelf,
    moderator: Moderator,
    runtime: Runtime,
    run_jobs: RunJobs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    through_edges = runtime.settings.model_copy(update={"cloudfront_domain": "films.example.net"})
    monkeypatch.setitem(app.state._state, "runtime", replace(runtime, settings=through_edges))
    # Tests before this one leave objects of clips that are named alike.
    await runtime.store.delete([one.key async for one in runtime.store.every_object("media/")])
    tram, other = await shelf.put("tram", media=True), await shelf.put("other", media=True)
    sold = f"media/{tram}/hd.mp4"
    async with runtime.db.transaction() as session:
        await session.execute(
            text("UPDATE renditions SET key = :key WHERE kind = 'hd' AND key LIKE :tram"),
            {"key": sold, "tram": f"sale/{tram}/%"},
        )
    await runtime.store.call(lambda s3: s3.put_object(Bucket=runtime.store.bucket, Key=sold, Body=b"film"))
    await runtime.store.label(f"media/{tram}/comp.mp4", "cost", "films")
    await moderator.take_down(tram)
    await run_jobs()
    seen = await labels(runtime, tram)
    assert seen.pop("hd.mp4") == {}, "buyers keep what they paid for"
    assert seen.pop("comp.mp4") == {"cost": "films", "paletta-access": "withheld"}
    assert list(seen.values()) == [{"paletta-access": "withheld"}] * len(seen)
    assert len(seen) == 6
    assert not any((await labels(runtime, other)).values())
    await moderator.restore(tram)
    await run_jobs()
    assert {name: tags for name, tags in (await labels(runtime, tram)).items() if tags} == {
        "comp.mp4": {"cost": "films"}
    }
    poster = f"media/{tram}/poster-1.jpg"
    await moderator.take_down(tram)
    await run_jobs()
    await runtime.store.label(poster, "paletta-access", None)  # as it comes back from a backup
    async with runtime.db.transaction() as session:
        await defer(session, "clips.previews_again")
    await run_jobs()
    assert (await labels(runtime, tram))["poster-1.jpg"] == {"paletta-access": "withheld"}
    await moderator.restore(tram)
    await run_jobs()
    await runtime.store.delete([f"media/{tram}/comp.mp4"])
    await moderator.take_down(tram)
    await run_jobs()  # what is not there is let be
    assert "comp.mp4" not in await labels(runtime, tram)


@pytest.mark.parametrize(
    ("status", "code", "left"),
    [(501, "NotImplemented", []), (405, "MethodNotAllowed", []), (403, "AccessDenied", ["todo"])],
)
async def test_a_store_without_tags_is_let_be_and_one_that_refuses_is_asked_again(
    runtime: Runtime, shelf: Shelf, run_jobs: RunJobs, status: int, code: str, left: list[str]
) -> None:
    tram = await shelf.put("tram", media=True)
    async with runtime.db.transaction() as session:
        await session.execute(text("UPDATE clips SET review = 'taken_down' WHERE uid = :uid"), {"uid": tram})
        clip_id = await session.scalar(text("SELECT id FROM clips WHERE uid = :uid"), {"uid": tram})
        await defer(session, "clips.previews", clip_id=clip_id)
        await defer(session, "clips.previews_again")
    body = f"<Error><Code>{code}</Code><Message>not here</Message></Error>".encode()

    def refuse(request: Any, **_: Any) -> AWSResponse:
        return AWSResponse(request.url, status, {}, SimpleNamespace(stream=lambda *_, **__: iter([body])))

    events = runtime.store._client().meta.events
    events.register("before-send.s3.GetObjectTagging", refuse)
    try:
        await run_jobs()
    finally:
        events.unregister("before-send.s3.GetObjectTagging", refuse)
    waiting = await rows(
        runtime,
        "SELECT task_name, status::text FROM procrastinate_jobs WHERE task_name LIKE 'clips.previews%'",
    )
    assert waiting == [("clips.previews", one) for one in left]


async def test_straight_from_the_store_nothing_needs_a_label(
    shelf: Shelf, moderator: Moderator, runtime: Runtime
) -> None:
    await moderator.take_down(await shelf.put("tram"))
    assert await rows(runtime, "SELECT 1 FROM procrastinate_jobs WHERE task_name = 'clips.previews'") == []


async def test_a_clip_leaves_the_shop_and_comes_back(
    shelf: Shelf, moderator: Moderator, customer: Customer, client: httpx.AsyncClient, runtime: Runtime
) -> None:
    tram = await shelf.put("tram")
    await customer.add(tram)
    before = (await rows(runtime, "SELECT max(seq) FROM clip_changes"))[0][0]
    answer = await moderator.take_down(tram)
    assert answer == {
        "taken_down": [
            {
                "id": tram, "title": METADATA["title"], "stage": "taken_down", "withheld": False,
                "paid_items": 0, "paid_orders": 0,
            }
        ],
        "failed": [], "dry_run": False,
    }  # fmt: skip
    assert (await client.get(f"/v1/clips/{tram}")).status_code == 404
    assert (await customer.cart())["items"][0]["problem"] == "withdrawn"
    followed = "SELECT count(*) FROM clip_changes WHERE seq > :before AND clip_id = (SELECT id FROM clips)"
    assert (await rows(runtime, followed, before=before))[0][0] >= 1, "the search index hears of it"
    own = await shelf.up.call("GET", f"/clips/{tram}")
    assert (own["stage"], own["reason"]) == ("taken_down", WHY)
    (listed,) = (await shelf.up.call("GET", "/me/clips", params={"stage": "taken_down"}))["items"]
    assert (listed["stage"], listed["reason"]) == ("taken_down", WHY)
    (upload,) = await rows(runtime, "SELECT uid FROM uploads")
    seen = await shelf.up.call("GET", f"/uploads/{upload[0]}")
    assert (seen["stage"], seen["reason"]) == ("taken_down", WHY)

    (back,) = (await moderator.restore(tram))["restored"]
    assert (back["id"], back["stage"]) == (tram, "live")
    assert (await client.get(f"/v1/clips/{tram}")).status_code == 200
    assert (await customer.cart())["items"][0]["problem"] is None
    own = await shelf.up.call("GET", f"/clips/{tram}")
    assert (own["stage"], own["reason"]) == ("live", None)
    assert await audited(runtime) == [("clip:taken_down", tram), ("clip:restored", tram)]
    details = await rows(runtime, "SELECT details FROM audit_logs WHERE action = 'clip:taken_down'")
    assert details == [({"reason": WHY, "legal": False, "sold_withheld": False},)]


@pytest.mark.parametrize(
    ("stage", "reason"), [("in_review", None), ("rejected", "is 2.1 s long, at least 3 wanted")]
)
async def test_a_restored_clip_is_where_it_was(
    shelf: Shelf, moderator: Moderator, stage: str, reason: str | None
) -> None:
    tram = await shelf.put("tram", stage=stage)
    await moderator.take_down(tram)
    assert (await moderator.call("GET", "/admin/clips"))["items"] == []
    (listed,) = (await moderator.call("GET", "/admin/clips", params={"review": "taken_down"}))["items"]
    assert (listed["id"], listed["reason"]) == (tram, WHY)
    assert (await moderator.restore(tram))["restored"][0]["stage"] == stage
    own = await shelf.up.call("GET", f"/clips/{tram}")
    assert (own["stage"], own["reason"]) == (stage, reason)


@pytest.mark.parametrize("stage", ["processing", "failed"])
async def test_what_nobody_can_have_seen_is_not_taken_down(
    shelf: Shelf, moderator: Moderator, stage: str
) -> None:
    tram = await shelf.put("tram", stage=stage)
    assert (await moderator.take_down(tram, expect=409))["code"] == "never_decided"


async def test_a_clip_taken_down_by_hand_goes_to_a_moderator(
    shelf: Shelf, moderator: Moderator, runtime: Runtime
) -> None:
    """As operators did before there was a command."""
    tram = await shelf.put("tram", stage="taken_down")
    assert (await moderator.restore(tram))["restored"][0]["stage"] == "in_review"


# ---- nothing gets around it


async def test_an_edit_brings_nothing_back(
    shelf: Shelf, moderator: Moderator, app: FastAPI, runtime: Runtime
) -> None:
    tram, ferry = await shelf.put("tram"), await shelf.put("ferry")
    await moderator.take_down(tram, ferry)
    app.state.runtime = replace(runtime, settings=runtime.settings.model_copy(update={"review": "manual"}))
    try:
        edited = await shelf.up.call("PATCH", f"/clips/{tram}", json={"title": "Quite another thing"})
        assert edited["stage"] == "taken_down"
        entry = {"clip_id": tram, "metadata": {**METADATA, "description": "From a manifest."}}
        assert (await shelf.up.call("POST", "/clips/apply", json={"items": [entry]}))["applied"]
        assert (await shelf.up.call("GET", f"/clips/{tram}"))["stage"] == "taken_down"
        assert (await moderator.call("GET", "/admin/clips"))["items"] == []
        refused = await moderator.call("POST", f"/admin/clips/{tram}/approve", 409)
        assert "restore" in refused["hint"]
    finally:
        app.state.runtime = runtime
    stages = {one["id"]: one["stage"] for one in (await moderator.restore(tram, ferry))["restored"]}
    assert stages == {tram: "in_review", ferry: "live"}, "nobody has reviewed the new title"


async def test_the_same_bytes_are_told_what_became_of_them(shelf: Shelf, moderator: Moderator) -> None:
    tram = await shelf.put("tram")
    again = item(shelf.data["tram.mov"], "renamed.mov")
    await moderator.take_down(tram)

    async def refused() -> None:
        batch = await shelf.up.batch()
        (answer,) = await shelf.up.register(batch, again)
        (problem,) = answer["problems"]
        assert (answer["outcome"], problem["code"]) == ("invalid", "taken_down")
        assert problem["message"] == f"this film is `{tram}`, which was taken down: {WHY}"
        (planned,) = (await shelf.up.call("POST", "/uploads/rehearse", json={"items": [again]}))["items"]
        assert planned["problems"] == answer["problems"]

    await refused()
    await shelf.up.call("DELETE", f"/clips/{tram}", 204)
    await refused()
    await moderator.restore(tram)
    (answer,) = await shelf.up.register(await shelf.up.batch(), again)
    assert answer["outcome"] == "created", "its owner deleted it, and may send it again"


async def test_a_restored_clip_stands_for_its_bytes(shelf: Shelf, moderator: Moderator) -> None:
    tram = await shelf.put("tram")
    await moderator.take_down(tram)
    await moderator.restore(tram)
    (answer,) = await shelf.up.register(await shelf.up.batch(), item(shelf.data["tram.mov"]))
    assert (answer["outcome"], answer["clip_id"], answer["stage"]) == ("already_yours", tram, "live")


async def test_a_registration_that_a_take_down_overtakes_makes_no_second_clip(
    shelf: Shelf, runtime: Runtime
) -> None:
    tram, batch = await shelf.put("tram"), await shelf.up.batch()
    async with runtime.db.transaction() as session:
        clip = await review.find_any(session, tram)
        await review.hold(session, [clip.id])
        registering = asyncio.create_task(shelf.up.register(batch, item(shelf.data["tram.mov"])))
        await blocked(runtime)
        review.take_down(clip, Terms(WHY, legal=False, withhold_sold=False))
    (answer,) = await registering
    assert (answer["outcome"], answer["clip_id"]) == ("already_yours", tram)
    assert await rows(runtime, "SELECT uid FROM clips") == [(tram,)]


async def test_a_clip_sent_again_after_its_deletion_is_another(
    shelf: Shelf, moderator: Moderator, runtime: Runtime
) -> None:
    """Either of the two may be taken down, and what stands for the bytes is the one that is left."""
    old = await shelf.put("tram")
    await shelf.up.call("DELETE", f"/clips/{old}", 204)
    (new,) = await shelf.up.register(await shelf.up.batch(), item(shelf.data["tram.mov"]))
    assert new["outcome"] == "created"
    await moderator.take_down(old, legal=True)
    (same,) = await shelf.up.register(await shelf.up.batch(), item(shelf.data["tram.mov"]))
    assert (same["outcome"], same["clip_id"]) == ("resumed", new["clip_id"])


# ---- who decides, and how


async def test_of_two_who_take_down_at_once_one_wins(
    shelf: Shelf, moderator: Moderator, runtime: Runtime
) -> None:
    tram = await shelf.put("tram")
    body = {"clips": [tram], "reason": WHY}
    answers = await asyncio.gather(
        *(
            moderator.client.post("/v1/admin/clips/take-down", headers=moderator.headers, json=body)
            for _ in range(2)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert await audited(runtime) == [("clip:taken_down", tram)]
    assert (await moderator.restore(tram))["failed"] == []
    again = await moderator.restore(tram, expect=409)
    assert (again["code"], again["detail"]) == ("not_taken_down", "this clip is approved, not taken down")


async def test_each_clip_of_a_call_succeeds_or_fails_by_itself(shelf: Shelf, moderator: Moderator) -> None:
    tram, kart = await shelf.put("tram"), await shelf.put("kart", stage="processing")
    answer = await moderator.take_down("clip_zebra2222", kart, tram, "tram22", legal=True)
    assert [one["id"] for one in answer["taken_down"]] == [tram], "named twice, taken down once"
    told = [(one["clip"], one["problem"]["code"], one["problem"]["status"]) for one in answer["failed"]]
    assert told == [("clip_zebra2222", "not_found", 404), (kart, "never_decided", 409)]
    assert (await moderator.take_down("clip_zebra2222", expect=404))["code"] == "not_found"
    assert (await moderator.restore("clip_zebra2222", expect=404))["code"] == "not_found"
    for short in ({"reason": "  x "}, {"clips": []}, {"clips": ["tram22"] * 101}):
        await moderator.call(
            "POST", "/admin/clips/take-down", 422, json={"clips": [tram], "reason": WHY} | short
        )


async def test_a_plan_changes_nothing(
    shelf: Shelf, moderator: Moderator, till: Till, runtime: Runtime, run_jobs: RunJobs, mailbox: MailSink,
    owner: str,
) -> None:  # fmt: skip
    tram = await shelf.put("tram")
    await sell(runtime, till, tram)
    answer = await moderator.take_down(tram, legal=True, dry_run=True)
    assert (answer["dry_run"], answer["taken_down"][0]["stage"]) == (True, "live")
    assert answer["taken_down"][0]["paid_items"] == 1
    await run_jobs()
    assert (await audited(runtime), mailbox.to(owner)) == ([], [])
    assert (await shelf.up.call("GET", f"/clips/{tram}"))["stage"] == "live"


@pytest.mark.parametrize("role", ["customer", "contributor"])
async def test_only_operators_take_down(
    shelf: Shelf, client: httpx.AsyncClient, make_user: MakeUser, runtime: Runtime, role: str
) -> None:
    """Not its own contributor, either."""
    tram = await shelf.put("tram")
    for headers in ((await make_user(role)).headers, shelf.up.headers):
        for path, body in (("take-down", {"clips": [tram], "reason": WHY}), ("restore", {"clips": [tram]})):
            answer = await client.post(f"/v1/admin/clips/{path}", headers=headers, json=body)
            assert answer.status_code == 403, answer.text
    assert await audited(runtime) == []


async def test_one_mail_for_each_contributor_of_a_decision(
    shelf: Shelf, client: httpx.AsyncClient, moderator: Moderator, till: Till, owner: str, make_user: MakeUser,
    runtime: Runtime, run_jobs: RunJobs, mailbox: MailSink,
) -> None:  # fmt: skip
    tram, ferry = await shelf.put("tram"), await shelf.put("ferry", title="A ferry leaves at dawn")
    other = await make_user("contributor")
    theirs = (
        await (await Till.of(runtime, other.email, other.email)).sell(Wanted("Bus"), store=False)
    ).items[0]
    await run_jobs()
    mailbox.clear()
    await moderator.take_down(tram, ferry, theirs.clip_uid, legal=True)
    await run_jobs()
    (mail,) = mailbox.to(owner)
    assert mail["Subject"] == "2 of your clips were taken down"
    body = mail.get_content()
    for wanted in (
        f"({tram}, tram.mov)",
        f"A ferry leaves at dawn ({ferry}",
        f"Why: {WHY}",
        "cannot fetch them",
    ):
        assert wanted in body, wanted
    assert theirs.clip_uid not in body
    (mail,) = [one for one in mailbox.to(other.email) if "taken down" in one["Subject"]]
    assert mail["Subject"] == "Your clip Bus was taken down"
    mailbox.clear()
    await moderator.restore(tram, ferry)
    await run_jobs()
    (mail,) = mailbox.to(owner)
    assert mail["Subject"] == "2 of your clips were restored"
    assert f"({tram}): in the shop again" in mail.get_content()


async def test_a_batch_hears_of_its_review_when_the_last_of_it_is_taken_down(
    shelf: Shelf, moderator: Moderator, owner: str, run_jobs: RunJobs, mailbox: MailSink, runtime: Runtime
) -> None:
    """What was live already is no news to its batch, nor what is all of it."""
    tram, kart = await shelf.put("tram", stage="in_review"), await shelf.put("kart", stage="in_review")
    ferry = await shelf.put("ferry")
    async with runtime.db.transaction() as session:
        first = await session.scalar(text("SELECT min(id) FROM upload_batches"))
        await session.execute(
            text("UPDATE batch_items SET batch_id = :first WHERE ref <> 'kart.mov'"), {"first": first}
        )
        await session.execute(text("UPDATE upload_batches SET status = 'settled', settled_at = now()"))

    async def told(*clips: str) -> list[str]:
        mailbox.clear()
        await moderator.take_down(*clips)
        await run_jobs()
        return sorted(str(mail["Subject"]) for mail in mailbox.to(owner))

    mine = f"Your clip {METADATA['title']} was taken down"
    assert await told(ferry) == [mine]
    assert await told(kart) == [mine]
    assert await told(tram) == [mine, "Your upload lisbon: 2 taken down"]
    await moderator.restore(ferry)
    await run_jobs()
    assert await told(ferry) == [mine], "nothing of it waited"


# ---- what was sold


async def test_buyers_keep_what_they_paid_for(
    shelf: Shelf, moderator: Moderator, customer: Customer, till: Till, runtime: Runtime
) -> None:
    tram = await shelf.put("tram")
    first, second = await sell(runtime, till, tram), await sell(runtime, till, tram, store=False)
    await sell(runtime, till, tram, paid=False, store=False)
    given_back = await sell(runtime, till, tram, store=False)
    async with runtime.db.transaction() as session:
        await revoke(session, [given_back.items[0].id])
        await suspend(session, second.order.id)
    refused = await moderator.take_down(tram, withhold_sold=True, expect=422)
    assert refused["code"] == "not_legal"
    (gone,) = (await moderator.take_down(tram))["taken_down"]
    assert (gone["paid_items"], gone["paid_orders"], gone["withheld"]) == (2, 2, False)
    [file] = (await ask(customer, first))["files"]
    assert (await fetched(file["url"])).content == FILES["original"]


async def ask(customer: Customer, *sold: Sold, status: int = 200) -> Any:
    files = [{"item_id": one.uid} for order in sold for one in order.items]
    return await customer.call("POST", "/v1/downloads", status, json={"files": files})


async def test_what_is_withheld_hinders_nothing_else(
    shelf: Shelf, moderator: Moderator, customer: Customer, till: Till, runtime: Runtime, run_jobs: RunJobs,
    mailbox: MailSink,
) -> None:  # fmt: skip
    tram, ferry = await shelf.put("tram"), await shelf.put("ferry")
    both, alone = await sell(runtime, till, tram, ferry), await sell(runtime, till, tram)
    await run_jobs()
    page, lonely = sorted(
        (link_in(mail) for mail in mailbox.to(customer.person.email)),
        key=lambda path: path != page_of(mailbox, customer, both),
    )
    (gone,) = (await moderator.take_down(tram, legal=True))["taken_down"]
    assert (gone["withheld"], gone["paid_items"], gone["paid_orders"]) == (True, 2, 2)

    withheld, fine = (await ask(customer, both))["files"]
    assert (withheld["url"], withheld["problem"]["code"], withheld["problem"]["status"]) == (
        None,
        "withheld",
        451,
    )
    assert WHY not in str(withheld["problem"]), "the reason is between the shop and the contributor"
    assert (await fetched(fine["url"])).content == FILES["original"]
    refused = await ask(customer, alone, status=451)
    assert (refused["code"], refused["title"]) == ("withheld", "Unavailable for legal reasons")
    assert f"`{tram}` of order {alone.order.number} is withheld for legal reasons" in refused["detail"]
    bought = (await customer.call("GET", "/v1/me/purchases"))["items"]
    assert {(one["clip_id"], one["status"]) for one in bought} == {(tram, "withheld"), (ferry, "granted")}

    shown = await shelf.up.client.get(page)
    assert "is withheld for legal reasons" in shown.text
    assert f"/files/{both.items[0].uid}/" not in shown.text
    assert f"/files/{both.items[1].uid}/original" in shown.text
    answer = await shelf.up.client.get(f"{page}/files/{both.items[0].uid}/original")
    assert (answer.status_code, "is withheld for legal reasons" in answer.text) == (451, True)
    assert (await shelf.up.client.get(f"{page}/files/{both.items[1].uid}/original")).status_code == 303
    nothing = await shelf.up.client.get(lonely)
    assert "Nothing of this order can be fetched at present" in nothing.text
    assert (await shelf.up.client.post(f"{lonely}/mail", headers=SAME_SITE)).status_code == 451
    refused = await customer.call("POST", f"/v1/orders/{alone.uid}/email", 451)
    assert refused["code"] == "withheld"
    given = await rows(
        runtime, "SELECT clip_id FROM download_grants JOIN entitlements e ON e.id = entitlement_id"
    )
    ferries = await rows(runtime, "SELECT id FROM clips WHERE uid = :uid", uid=ferry)
    assert given == ferries * 2, "no address of the withheld one was given out"

    await moderator.restore(tram)
    assert all(one["url"] for one in (await ask(customer, both, alone))["files"])
    assert (await shelf.up.client.get(f"{page}/files/{both.items[0].uid}/original")).status_code == 303


def page_of(mailbox: MailSink, customer: Customer, sold: Sold) -> str:
    (found,) = [m for m in mailbox.to(customer.person.email) if sold.order.number in m["Subject"]]
    return link_in(found)


async def test_a_certificate_says_that_files_are_withheld(
    shelf: Shelf, moderator: Moderator, customer: Customer, till: Till, runtime: Runtime
) -> None:
    tram = await shelf.put("tram")
    sold = await sell(runtime, till, tram)
    await moderator.take_down(tram, legal=True)
    [bought] = (await customer.call("GET", "/v1/me/purchases"))["items"]
    checked = (await shelf.up.client.get(f"/v1/certificates/{bought['certificate']}")).json()
    assert (checked["status"], checked["revoked_at"]) == ("withheld", None)
    path = f"/v1/me/purchases/{sold.items[0].uid}/certificate"
    paper = words_of((await shelf.up.client.get(path, headers=customer.person.headers)).content)
    assert "Files withheld" in paper
    assert "Not in force" not in paper


async def test_a_right_that_has_ended_stays_ended(
    shelf: Shelf, moderator: Moderator, customer: Customer, till: Till, runtime: Runtime
) -> None:
    tram = await shelf.put("tram")
    sold = await sell(runtime, till, tram)
    async with runtime.db.transaction() as session:
        await suspend(session, sold.order.id)
    await moderator.take_down(tram, legal=True)
    assert (await ask(customer, sold, status=451))["code"] == "withheld", "whatever the dispute comes to"
    async with runtime.db.transaction() as session:
        await revoke(session, [sold.items[0].id])
    assert (await ask(customer, sold, status=403))["code"] == "revoked"


async def test_a_deletion_withholds_no_less(
    shelf: Shelf, moderator: Moderator, customer: Customer, till: Till, runtime: Runtime, run_jobs: RunJobs
) -> None:
    tram = await shelf.put("tram")
    sold = await sell(runtime, till, tram)
    await moderator.take_down(tram, legal=True)
    await shelf.up.call("DELETE", f"/clips/{tram}", 204)
    await run_jobs()
    assert (await ask(customer, sold, status=451))["code"] == "withheld"
    (listed,) = (await moderator.call("GET", "/admin/clips", params={"review": "taken_down"}))["items"]
    assert (listed["id"], listed["stage"]) == (tram, "deleted")
    assert (await moderator.restore(tram))["restored"][0]["stage"] == "deleted"
    [file] = (await ask(customer, sold))["files"]
    assert (await fetched(file["url"])).content == FILES["original"], "its buyers have it again"
    assert (await shelf.up.client.get(f"/v1/clips/{tram}")).status_code == 404, "its owner deleted it"


async def test_what_a_contributor_deleted_can_still_be_withheld(
    shelf: Shelf, moderator: Moderator, customer: Customer, till: Till, runtime: Runtime
) -> None:
    tram = await shelf.put("tram")
    sold = await sell(runtime, till, tram)
    await shelf.up.call("DELETE", f"/clips/{tram}", 204)
    await moderator.take_down(tram, legal=True)
    assert (await ask(customer, sold, status=451))["code"] == "withheld"


async def test_a_legal_reason_may_follow(
    shelf: Shelf, moderator: Moderator, customer: Customer, till: Till, runtime: Runtime
) -> None:
    tram = await shelf.put("tram")
    sold = await sell(runtime, till, tram)
    await moderator.take_down(tram, legal=True, withhold_sold=False)
    assert (await ask(customer, sold))["files"][0]["url"]
    again = await moderator.take_down(tram, expect=409)
    assert (again["code"], "`--legal`" in again["hint"]) == ("already_taken_down", True)
    (gone,) = (await moderator.take_down(tram, legal=True, reason="a court order"))["taken_down"]
    assert gone["withheld"]
    assert (await shelf.up.call("GET", f"/clips/{tram}"))["reason"] == "a court order"
    for more in ({}, {"legal": True}):
        assert (await moderator.take_down(tram, expect=409, **more))["code"] == "already_taken_down"
    assert (await ask(customer, sold, status=451))["code"] == "withheld"
    (gone,) = (await moderator.take_down(tram, legal=True, withhold_sold=False))["taken_down"]
    assert (gone["stage"], gone["withheld"]) == ("taken_down", False)
    assert (await ask(customer, sold))["files"][0]["url"]
    assert (await moderator.restore(tram))["restored"][0]["stage"] == "live", "as before the first of them"


async def test_an_order_paid_after_the_take_down_waits_as_well(
    shelf: Shelf, moderator: Moderator, customer: Customer, till: Till, runtime: Runtime
) -> None:
    tram = await shelf.put("tram")
    await moderator.take_down(tram, legal=True)
    late = await sell(runtime, till, tram)
    assert (await ask(customer, late, status=451))["code"] == "withheld"
