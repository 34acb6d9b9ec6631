"""Review: decisions on several clips, changes that are asked for, the queue, reports and standing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from paletta_server.core.runtime import Runtime
from tests.api.test_batch_mails import ingested
from tests.conftest import MakeUser, Person
from tests.support.clips import Shelf
from tests.support.stack import MailSink
from tests.support.uploading import METADATA, Uploader

RunJobs = Callable[[], Awaitable[None]]
SHAKY = "The camera shakes, jerks or drifts: stabilise the shot, or send a steadier take."


class Moderator(Uploader):
    async def decide(self, verdict: str, *clips: str, expect: int = 200, **more: Any) -> Any:
        body = {"verdict": verdict, "clips": clips, **more}
        return await self.call("POST", "/admin/clips/decide", expect, json=body)

    async def next(self, **wanted: Any) -> Any:
        return (await self.call("POST", "/admin/review/next", json=wanted))["item"]

    async def standing(self, who: str) -> Any:
        return (await self.call("GET", f"/admin/contributors/{who}/standing"))["standing"]


@pytest.fixture
async def moderator(client: httpx.AsyncClient, admin: Person) -> AsyncIterator[Moderator]:
    made = Moderator(client, admin.headers)
    yield made
    await made.store.aclose()


@pytest.fixture
async def second(client: httpx.AsyncClient, make_user: MakeUser) -> AsyncIterator[Moderator]:
    made = Moderator(client, (await make_user("admin")).headers)
    yield made
    await made.store.aclose()


async def sql(runtime: Runtime, query: str) -> list[Any]:
    async with runtime.db.transaction() as session:
        found = await session.execute(text(query))
        return [tuple(row) for row in found] if found.returns_rows else []


async def own(shelf: Shelf, clip: str) -> tuple[str, str | None]:
    found = await shelf.up.call("GET", f"/me/clips/{clip}")
    return found["stage"], found["reason"]


# ---- decisions


async def test_several_are_decided_in_one_call_and_each_by_itself(
    shelf: Shelf, moderator: Moderator, runtime: Runtime
) -> None:
    tram = await shelf.put("tram", stage="in_review")
    ferry = await shelf.put("ferry", stage="in_review")
    kart = await shelf.put("kart")
    answer = await moderator.decide(
        "rejected", tram, "zebra2", kart, ferry, tram, reason_code="stabilisation", reason="From second 3 on."
    )
    assert [clip["id"] for clip in answer["decided"]] == [tram, ferry]
    assert [(one["clip"], one["problem"]["code"]) for one in answer["failed"]] == [
        ("zebra2", "not_found"),
        (kart, "not_in_review"),
    ]
    for clip in (tram, ferry):
        assert await own(shelf, clip) == ("rejected", f"{SHAKY} From second 3 on.")
    logged = await sql(
        runtime, "SELECT object, details FROM audit_logs WHERE action = 'clip:rejected' ORDER BY id"
    )
    assert logged == [
        (clip, {"reason": f"{SHAKY} From second 3 on.", "reason_code": "stabilisation"})
        for clip in (tram, ferry)
    ]


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        ({"verdict": "rejected"}, "reason_missing"),
        ({"verdict": "changes_requested", "reason_code": "other"}, "reason_missing"),
        ({"verdict": "rejected", "reason_code": "ugly"}, "unknown_reason"),
        ({"verdict": "approved", "reason": "very good"}, "reason_unwanted"),
        (
            {"verdict": "rejected", "reason": "soft", "version": 1, "clips": ["a222", "b222"]},
            "version_of_several",
        ),
        ({"verdict": "sold"}, "invalid_request"),
    ],
)
async def test_a_decision_that_makes_no_sense_is_refused(
    moderator: Moderator, wish: dict[str, Any], code: str
) -> None:
    clips = wish.pop("clips", ["tram2222"])
    verdict = wish.pop("verdict")
    assert (await moderator.decide(verdict, *clips, expect=422, **wish))["code"] == code


async def test_of_two_moderators_one_wins(shelf: Shelf, moderator: Moderator, second: Moderator) -> None:
    tram = await shelf.put("tram", stage="in_review")

    async def attempt(who: Moderator, verdict: str, **more: Any) -> int:
        body = {"verdict": verdict, "clips": [tram], **more}
        answer = await who.client.post("/v1/admin/clips/decide", json=body, headers=who.headers)
        return answer.status_code

    answers = await asyncio.gather(
        attempt(moderator, "approved"), attempt(second, "rejected", reason="soft focus")
    )
    assert sorted(answers) == [200, 409]
    assert (await own(shelf, tram))[0] == ("live" if answers[0] == 200 else "rejected")


async def test_who_saw_another_version_is_told(shelf: Shelf, moderator: Moderator) -> None:
    tram = await shelf.put("tram", stage="in_review")
    seen = (await moderator.next())["clip"]["version"]
    await shelf.up.call("PATCH", f"/clips/{tram}", json={"title": "Buy followers here"})
    refused = await moderator.decide("approved", tram, version=seen, expect=409)
    assert refused["code"] == "changed_meanwhile"
    await moderator.decide("approved", tram, version=seen + 1)


async def test_of_many_clips_only_those_that_were_seen_are_approved(
    shelf: Shelf, moderator: Moderator
) -> None:
    tram, ferry = await shelf.put("tram", stage="in_review"), await shelf.put("ferry", stage="in_review")
    listed = (await moderator.call("GET", "/admin/clips"))["items"]
    versions = {one["id"]: one["version"] for one in listed}
    await shelf.up.call("PATCH", f"/clips/{tram}", json={"title": "Buy followers here"})
    done = await moderator.decide("approved", tram, ferry, versions=versions)
    assert [one["id"] for one in done["decided"]] == [ferry]
    assert [(one["clip"], one["problem"]["code"]) for one in done["failed"]] == [(tram, "changed_meanwhile")]
    refused = await moderator.decide("approved", ferry, versions={tram: 1}, expect=422)
    assert refused["code"] == "version_of_another"


# ---- changes


async def test_changes_are_asked_for_made_and_reviewed_again(
    shelf: Shelf, moderator: Moderator, runtime: Runtime
) -> None:
    assert runtime.settings.review == "auto", "whoever was asked is reviewed again, wherever others are not"
    tram = await shelf.put("tram", stage="in_review")
    await moderator.decide("changes_requested", tram, reason="Name the line in the title.")
    assert await own(shelf, tram) == ("changes_requested", "Name the line in the title.")
    (listed,) = (await shelf.up.call("GET", "/me/clips", params={"stage": "changes_requested"}))["items"]
    assert listed["reason"] == "Name the line in the title."
    (upload,) = await sql(runtime, "SELECT uid FROM uploads")
    seen = await shelf.up.call("GET", f"/uploads/{upload[0]}")
    assert (seen["stage"], seen["reason"]) == ("changes_requested", "Name the line in the title.")
    assert await moderator.next() is None, "it is the contributor's turn"
    again = await shelf.up.register(await shelf.up.batch(), _item(shelf, "tram.mov"))
    assert [one["outcome"] for one in again] == ["already_yours"], "it stands for its bytes"

    await shelf.up.call("PATCH", f"/clips/{tram}", json={"title": METADATA["title"]})  # what it says already
    assert (await own(shelf, tram))[0] == "changes_requested"
    await shelf.up.call("PATCH", f"/clips/{tram}", json={"title": "Line 28 climbs a steep street"})
    assert await own(shelf, tram) == ("in_review", None)
    item = await moderator.next()
    assert item["clip"]["id"] == tram
    assert [(past["verdict"], past["reason"]) for past in item["history"]] == [
        ("changes_requested", "Name the line in the title.")
    ]
    await moderator.decide("approved", tram)
    assert await own(shelf, tram) == ("live", None)


async def test_a_changed_manifest_answers_as_well(shelf: Shelf, moderator: Moderator) -> None:
    tram = await shelf.put("tram", stage="in_review")
    await moderator.decide("changes_requested", tram, reason_code="keywords")
    metadata = {**METADATA, "keywords": ["tram", "lisbon", "street", "line 28", "hill"]}
    body = {"items": [{"ref": "tram.mov", "file": "tram.mov", "metadata": metadata}]}
    assert (await shelf.up.call("POST", "/clips/apply", json=body))["applied"] is True
    assert await own(shelf, tram) == ("in_review", None)


async def test_who_asked_may_think_again_and_take_down(shelf: Shelf, moderator: Moderator) -> None:
    tram = await shelf.put("tram", stage="changes_requested")
    twice = await moderator.decide("changes_requested", tram, reason="once more", expect=409)
    assert twice["code"] == "not_in_review"
    body = {"clips": [tram], "reason": "the museum asks for it"}
    await moderator.call("POST", "/admin/clips/take-down", json=body)
    (back,) = (await moderator.call("POST", "/admin/clips/restore", json={"clips": [tram]}))["restored"]
    assert back["stage"] == "changes_requested"
    await moderator.decide("approved", tram)
    assert (await own(shelf, tram))[0] == "live"


def _item(shelf: Shelf, file: str) -> dict[str, Any]:
    from tests.support.uploading import item

    return item(shelf.data[file], file)


# ---- mails


async def test_one_sitting_is_one_mail_also_where_the_rest_waits(
    up: Uploader, moderator: Moderator, runtime: Runtime, run_jobs: RunJobs, mailbox: MailSink
) -> None:
    batch = await up.batch("lisbon")
    names = ("a.mp4", "b.mp4", "c.mp4", "d.mp4")
    a, b, c, d = [(await up.send(os.urandom(300), batch, ref=name))["clip_id"] for name in names]
    await up.call("POST", f"/upload-batches/{batch}/seal")
    await ingested(runtime, "in_review")
    await run_jobs()
    mailbox.clear()
    await moderator.decide("approved", a)
    await moderator.decide("changes_requested", b, reason="Name the line.")
    await run_jobs()
    assert mailbox.messages == [], "they may go on"
    (jobs,) = await sql(
        runtime, "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'uploads.mail_sitting'"
    )
    assert jobs == (1,)
    await _later(runtime, 10)
    await moderator.decide("rejected", c, reason="soft focus")
    await _later(runtime, 10)
    await run_jobs()
    assert mailbox.messages == [], "ten minutes are no pause"
    await _later(runtime, 6)
    await run_jobs()
    (mail,) = mailbox.messages
    assert (
        " ".join(mail["Subject"].split())
        == "Your upload lisbon: 1 live, 1 waiting for review, 1 to be changed, 1 rejected"
    )
    assert "is partly reviewed." in mail.get_content()
    assert f"({b}): Name the line." in mail.get_content()
    assert "paletta clips edit" in mail.get_content()
    await moderator.decide("approved", d)
    await _later(runtime, 60)
    await run_jobs()
    assert [one["Subject"] for one in mailbox.messages[1:]] == [
        "Your upload lisbon: 2 live, 1 to be changed, 1 rejected"
    ]
    await moderator.decide("approved", b)  # who asked for changes thinks again before they come
    await run_jobs()
    assert [one["Subject"] for one in mailbox.messages[2:]] == ["Your upload lisbon: 3 live, 1 rejected"]


async def _later(runtime: Runtime, minutes: int) -> None:
    """As if so much time had gone by."""
    by = f"interval '{minutes} minutes'"
    await sql(runtime, f"UPDATE upload_batches SET untold_since = untold_since - {by}")
    await sql(
        runtime,
        f"UPDATE procrastinate_jobs SET scheduled_at = scheduled_at - {by} WHERE scheduled_at IS NOT NULL",
    )


# ---- the queue


async def test_each_clip_is_offered_to_one_moderator_the_oldest_first(
    shelf: Shelf, moderator: Moderator, second: Moderator, runtime: Runtime
) -> None:
    tram, ferry = await shelf.put("tram", stage="in_review"), await shelf.put("ferry", stage="in_review")
    first, other = await asyncio.gather(moderator.next(), second.next())
    assert {first["clip"]["id"], other["clip"]["id"]} == {tram, ferry}
    mine, theirs = first["clip"]["id"], other["clip"]["id"]
    assert first["contributor"]["email"].startswith("contributor-")
    assert first["claimed_by"] is None
    seen = await moderator.call("POST", f"/admin/review/{theirs}/claim")
    assert seen["claimed_by"].startswith("admin-"), "looking is free, the claim stays theirs"
    assert (await moderator.next())["clip"]["id"] == mine, "one's own is offered again"
    assert await moderator.next(after=ferry) is None
    await sql(runtime, "UPDATE review_claims SET until = now()")
    assert (await moderator.next())["clip"]["id"] == tram
    await moderator.call("DELETE", f"/admin/review/{tram}/claim", 204)
    assert (await second.next())["clip"]["id"] == tram
    await second.call("DELETE", "/admin/review/claims", 204)
    assert await sql(runtime, "SELECT count(*) FROM review_claims WHERE until > now()") == [(0,)]


async def test_the_queue_can_be_narrowed(
    shelf: Shelf, client: httpx.AsyncClient, make_user: MakeUser, moderator: Moderator, tmp_path: Any
) -> None:
    await shelf.put("tram", stage="in_review")
    person = await make_user("contributor")
    others = Shelf.of(client, person.headers, shelf.runtime, tmp_path)
    ferry = await others.put("ferry", stage="in_review")
    (batch,) = (await others.up.call("GET", "/upload-batches"))["items"]
    for which in ({"contributor": person.email}, {"contributor": person.uid}, {"batch": batch["id"]}):
        assert (await moderator.next(**which))["clip"]["id"] == ferry, which
        (listed,) = (await moderator.call("GET", "/admin/clips", params=which))["items"]
        assert (listed["id"], listed["contributor"]["email"]) == (ferry, person.email)
    await moderator.call("GET", "/admin/clips", 404, params={"contributor": "nobody@example.org"})
    await moderator.call("GET", "/admin/clips", 404, params={"batch": "batch_zz22"})
    await others.up.store.aclose()


async def test_what_a_clip_looks_like_is_shown_to_moderators(
    shelf: Shelf, moderator: Moderator, runtime: Runtime
) -> None:
    ferry = await shelf.put("ferry")
    tram = await shelf.put("tram", stage="in_review")
    await sql(
        runtime,
        "INSERT INTO likenesses (clip_id, other_id, frames, kept, distance) SELECT a.id, b.id, 7, 8, 2"
        f" FROM clips a, clips b WHERE a.uid = '{tram}' AND b.uid = '{ferry}'",
    )
    (alike,) = (await moderator.next())["alike"]
    assert (alike["id"], alike["stage"], alike["own"], alike["frames"], alike["kept"]) == (
        ferry,
        "live",
        True,
        7,
        8,
    )
    (listed,) = (await moderator.call("GET", "/admin/clips"))["items"]
    assert (listed["alike"], listed["alike_others"]) == ([ferry], 0)


# ---- reports


async def report(who: Person, client: httpx.AsyncClient, clip: str, **body: Any) -> httpx.Response:
    told = {"reason_code": "trademark", "text": "a logo at 0:03", **body}
    return await client.post(f"/v1/clips/{clip}/reports", json=told, headers=who.headers)


async def test_a_report_is_seen_by_moderators_and_settled_with_a_take_down(
    shelf: Shelf, moderator: Moderator, client: httpx.AsyncClient, make_user: MakeUser, mailbox: MailSink,
    run_jobs: RunJobs, runtime: Runtime,
) -> None:  # fmt: skip
    tram = await shelf.put("tram")
    ana, ben = await make_user("customer"), await make_user("customer")
    filed = await report(ana, client, tram)
    assert filed.status_code == 201, filed.text
    twice = await report(ana, client, tram)
    assert (twice.status_code, twice.json()["code"]) == (409, "reported_before")
    assert (await report(ben, client, tram, reason_code="other", text="my house")).status_code == 201
    (listed,) = (await moderator.call("GET", "/admin/reports", params={"clip": tram, "status": "open"}))[
        "items"
    ][1:]
    assert (listed["reporter"], listed["reason_code"], listed["text"]) == (
        ana.email,
        "trademark",
        "a logo at 0:03",
    )
    await run_jobs()
    assert mailbox.messages == [], "nobody is mailed"

    path = f"/admin/reports/{filed.json()['id']}"
    down = {"reason": "A logo can be seen.", "legal": False}
    done = await moderator.call("POST", f"{path}/resolve", json={"note": "agreed", "take_down": down})
    assert (done["report"]["status"], done["taken_down"]["id"], done["open_reports_of_clip"]) == (
        "resolved",
        tram,
        1,
    )
    assert await own(shelf, tram) == ("taken_down", "A logo can be seen.")
    for verb in ("resolve", "dismiss"):
        assert (await moderator.call("POST", f"{path}/{verb}", 409, json={}))["code"] == "report_closed"
    other = (await moderator.call("GET", "/admin/reports", params={"status": "open"}))["items"][0]
    again = {"take_down": down}
    refused = await moderator.call("POST", f"/admin/reports/{other['id']}/resolve", 409, json=again)
    assert refused["code"] == "already_taken_down"
    assert (await moderator.call("GET", f"/admin/reports/{other['id']}"))["status"] == "open", (
        "nothing was changed"
    )
    await moderator.call("POST", f"/admin/reports/{other['id']}/dismiss", json={"note": "not theirs"})
    await run_jobs()
    told = "".join(mail.get_content() for mail in mailbox.messages)
    assert ana.email not in told
    history = await shelf.up.call("GET", f"/me/clips/{tram}")
    assert ana.email not in str(history)
    log = await sql(runtime, "SELECT action FROM audit_logs WHERE action LIKE '%report%' ORDER BY id")
    assert [action for (action,) in log] == [
        "clip:reported",
        "clip:reported",
        "report:resolved",
        "report:dismissed",
    ]
    (email,) = await sql(runtime, "SELECT email FROM users WHERE role = 'contributor'")
    standing = await moderator.standing(email[0])
    assert (standing["all_time"]["reports_upheld"], standing["last_90_days"]["taken_down"]) == (1, 1)


async def test_what_cannot_be_reported(
    shelf: Shelf, client: httpx.AsyncClient, make_user: MakeUser, runtime: Runtime
) -> None:
    tram, ferry = await shelf.put("tram"), await shelf.put("ferry", stage="in_review")
    ana = await make_user("customer")
    cases = [
        (ferry, {}, 404, "not_found"),  # strangers do not know of it
        (tram, {"reason_code": "ugly"}, 422, "unknown_reason"),
        (tram, {"reason_code": "other", "text": ""}, 422, "reason_missing"),
    ]
    for clip, body, status, code in cases:
        answer = await report(ana, client, clip, **body)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    mine = await client.post(
        f"/v1/clips/{tram}/reports", json={"reason_code": "trademark"}, headers=shelf.up.headers
    )
    assert (mine.status_code, mine.json()["code"]) == (409, "own_clip")
    for _ in range(20 - len(cases)):
        await report(ana, client, tram)
    flooded = await report(ana, client, tram)
    assert (flooded.status_code, int(flooded.headers["retry-after"]) > 60) == (429, True)


async def test_of_two_reports_at_once_one_is_open(
    shelf: Shelf, client: httpx.AsyncClient, make_user: MakeUser
) -> None:
    tram, ana = await shelf.put("tram"), await make_user("customer")
    answers = await asyncio.gather(*(report(ana, client, tram) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409]


# ---- standing


async def test_standing_counts_clips_in_all_and_of_late(
    shelf: Shelf, moderator: Moderator, runtime: Runtime
) -> None:
    names = ("tram", "ferry", "kart", "metr")
    tram, ferry, kart, metro = [await shelf.put(name, stage="in_review") for name in names]
    (who,) = await sql(runtime, "SELECT email FROM users WHERE role = 'contributor'")
    nothing = (await moderator.standing(who[0]))["all_time"]
    assert (nothing["approved"], nothing["approval_rate"], nothing["take_down_rate"]) == (0, None, None)
    await moderator.decide("approved", tram, ferry, kart)
    await sql(runtime, "UPDATE review_decisions SET created_at = now() - interval '100 days'")
    await moderator.decide("changes_requested", metro, reason="Name the line.")
    await moderator.decide("rejected", metro, reason="soft focus")
    down = {"clips": [tram, ferry], "reason": "the museum asks for it"}
    await moderator.call("POST", "/admin/clips/take-down", json=down)
    await moderator.call("POST", "/admin/clips/restore", json={"clips": [ferry]})
    standing = await moderator.standing(who[0])
    assert (standing["live"], standing["waiting"]) == (2, 0)
    assert standing["all_time"] == {
        "approved": 3, "rejected": 1, "changes_requested": 1, "taken_down": 1, "reports_upheld": 0,
        "approval_rate": 0.75, "take_down_rate": 0.3333,
    }  # fmt: skip
    recent = standing["last_90_days"]
    assert (recent["approved"], recent["rejected"], recent["taken_down"]) == (0, 1, 1), (
        "a restored one is none"
    )
    listed = (await moderator.call("GET", "/admin/contributors/standing"))["items"]
    assert [one["standing"] for one in listed if one["contributor"]["email"] == who[0]] == [standing]
    await moderator.call("GET", "/admin/contributors/user_zz22/standing", 404)
