"""Everything held on a person: taken out as a document, and erased for good."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, text

from paletta_server.accounts import erasure
from paletta_server.accounts.models import User
from paletta_server.audit import verification
from paletta_server.core.runtime import Runtime
from tests.conftest import MakeUser, Person
from tests.support.accounts import RunJobs, login, register
from tests.support.orders import Sold, Till, Wanted
from tests.support.stack import MailSink

USERS = "/v1/admin/users"


@pytest.fixture
async def admin(make_user: MakeUser) -> Person:
    return await make_user("admin")


@pytest.fixture
async def ben(client: httpx.AsyncClient, make_user: MakeUser) -> Person:
    """A customer who has left traces everywhere."""
    person = await make_user("customer", email="ben@example.org")
    named = {"display_name": "Benjamin Buyer", "username": "benbuyer", "institution": "Buyer Films"}
    assert (await client.patch("/v1/me", json=named, headers=person.headers)).status_code == 200
    await client.post("/v1/me/tokens", json={"name": "Benjamin's laptop"}, headers=person.headers)
    await client.post("/v1/collections", json={"name": "Benjamin's list"}, headers=person.headers)
    return person


@pytest.fixture
async def ana(make_user: MakeUser) -> Person:
    return await make_user("contributor", email="ana@example.org")


@pytest.fixture
async def sold(client: httpx.AsyncClient, runtime: Runtime, ben: Person, ana: Person) -> Sold:
    """Ben bought a clip of Ana's, and fetched it."""
    till = await Till.of(runtime, ben.email, ana.email)
    sold = await till.sell(Wanted(files={"original": b"the film"}), licensee="Buyer Films")
    body = {"files": [{"item_id": sold.items[0].uid, "tier": "original"}]}
    answer = await client.post("/v1/downloads", json=body, headers=ben.headers)
    assert answer.status_code == 200, answer.text
    return sold


async def erase(
    client: httpx.AsyncClient, admin: Person, person: Person, status: int = 200, **body: Any
) -> Any:
    answer = await client.post(
        f"{USERS}/{person.uid}/erase", json={"id": person.uid, **body}, headers=admin.headers
    )
    assert answer.status_code == status, answer.text
    return answer.json()


async def dump(runtime: Runtime) -> dict[str, str]:
    """Every row of the database as text, by table."""
    found = {}
    async with runtime.db.transaction() as session:
        tables = await session.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
        for table in list(tables):
            rows = await session.scalars(text(f"SELECT t::text FROM {table} t"))
            found[table] = "\n".join(str(row) for row in rows)
    return found


# ---- the export


async def test_an_export_has_everything_and_no_secrets(
    client: httpx.AsyncClient, admin: Person, ben: Person, sold: Sold, run_jobs: RunJobs, runtime: Runtime,
    mailbox: MailSink,
) -> None:  # fmt: skip
    await client.post("/v1/auth/password-reset", json={"email": ben.email})
    await run_jobs()
    answer = await client.get(f"{USERS}/{ben.uid}/export", headers=admin.headers)
    assert answer.status_code == 200
    document = json.loads(answer.text)
    assert document["user"] == ben.uid
    assert set(document) - {"user", "exported_at"} == {
        "account", "sessions", "mailed_links", "applications", "mails", "mail_trouble", "orders", "order_items", "cart",
        "sales", "payments", "refunds", "disputes", "dispute_answers", "dispute_files", "entitlements", "downloads",
        "clips", "batches", "uploads", "collections", "own_categories", "own_tags", "audit_log", "payout_account",
        "payouts", "ledger_entries", "clip_reports", "review_decisions",
    }  # fmt: skip
    [account] = document["account"]
    assert (account["email"], account["institution"]) == ("ben@example.org", "Buyer Films")
    assert [one["number"] for one in document["orders"]] == [sold.order.number]
    assert document["order_items"][0]["clip"] == sold.items[0].clip_uid
    assert [one["ip"] for one in document["downloads"]] == ["127.0.0.1"]
    assert document["collections"][0]["name"] == "Benjamin's list"
    assert "account:logged_in" in {one["action"] for one in document["audit_log"]}
    subjects = {one["subject"]: one["body"] for one in document["mails"]}
    assert subjects["Choose a new password"] is None
    assert "Benjamin's laptop" in subjects["A personal token was made"]
    for secret in ("plt_", "password_hash", "$argon2", "digest", "salt", "user_id"):
        assert secret not in answer.text, secret
    async with runtime.db.transaction() as session:
        digests = await session.scalars(text("SELECT encode(digest, 'hex') FROM api_tokens"))
        assert not any(one in answer.text for one in digests)
    again = json.loads((await client.get(f"{USERS}/{ben.uid}/export", headers=admin.headers)).text)
    assert "account:exported" in {one["action"] for one in again["audit_log"]}


async def test_a_sellers_export_has_clips_and_sales(
    client: httpx.AsyncClient, admin: Person, ana: Person, sold: Sold
) -> None:
    document = json.loads((await client.get(f"{USERS}/{ana.uid}/export", headers=admin.headers)).text)
    assert [one["id"] for one in document["clips"]] == [sold.items[0].clip_uid]
    assert document["clips"][0]["keywords"] is None
    [sale] = document["sales"]
    assert (sale["amount"], sale["currency"]) == (4900, "USD")
    assert "Buyer Films" not in json.dumps(document), "whom it was sold to is the buyer's business"


async def test_an_export_of_nobody(client: httpx.AsyncClient, admin: Person) -> None:
    assert (await client.get(f"{USERS}/user_zzzz/export", headers=admin.headers)).status_code == 404


# ---- erasing


async def test_nothing_tells_any_more_who_it_was(
    client: httpx.AsyncClient, admin: Person, ben: Person, sold: Sold, run_jobs: RunJobs, runtime: Runtime,
    mailbox: MailSink,
) -> None:  # fmt: skip
    await client.post("/v1/auth/password-reset", json={"email": ben.email})
    await run_jobs()
    gone = await erase(client, admin, ben)
    assert gone["status"] == "erased"
    assert gone["email"] == f"{ben.uid}@erased.invalid"
    assert (await client.get("/v1/me", headers=ben.headers)).status_code == 401
    assert (await login(client, ben.email, ben.password)).status_code == 401
    await run_jobs()
    assert mailbox.to(ben.email)[-1]["Subject"] == "Your data was erased"
    await erasure.forget_farewell(runtime, f"erased:{ben.uid}")
    rows = await dump(runtime)
    kept = {"orders": {"Buyer Films"}}
    for word in ("ben@example.org", "Benjamin", "benbuyer", "Buyer Films"):
        holders = {table for table, all_rows in rows.items() if word in all_rows}
        assert holders == {table for table, words in kept.items() if word in words}, word
    async with runtime.db.transaction() as session:
        left = text(
            "SELECT count(*) FROM audit_origins JOIN audit_logs l ON l.id = log_id JOIN users u ON u.id = l.user_id"
            " WHERE u.uid = :uid"
        )
        assert await session.scalar(left, {"uid": ben.uid}) == 0
        assert await session.scalar(text("SELECT count(*) FROM download_grants WHERE ip IS NOT NULL")) == 0
        anonymous = (
            "SELECT count(*) FROM audit_origins JOIN audit_logs l ON l.id = log_id WHERE l.user_id IS NULL"
        )
        assert await session.scalar(text(anonymous)) == 0, "what the service does comes from nowhere"
    assert (await verification.verify(runtime.db)).findings == [], "the log is as intact as before"


async def test_what_law_wants_stays(
    client: httpx.AsyncClient, admin: Person, ben: Person, sold: Sold, runtime: Runtime
) -> None:
    async with runtime.db.transaction() as session:
        code = await session.scalar(text("SELECT certificate FROM entitlements"))
    before = (await client.get(f"/v1/certificates/{code}")).json()
    await erase(client, admin, ben)
    after = (await client.get(f"/v1/certificates/{code}")).json()
    assert after == before, "whoever holds the paper can still have it checked"
    assert after["licensee"] == "Buyer Films"
    shown = (await client.get(f"{USERS}/{ben.uid}", headers=admin.headers)).json()
    assert shown["orders"] == {"paid": 1}
    assert shown["erased_at"]
    log = await client.get("/v1/admin/audit-log", params={"object": ben.uid}, headers=admin.headers)
    assert [one["action"] for one in log.json()["items"]][:2] == ["account:erased", "account:erasure_begun"]


async def test_the_address_is_free_again_and_the_id_is_not(
    client: httpx.AsyncClient, admin: Person, ben: Person, run_jobs: RunJobs, mailbox: MailSink
) -> None:
    await erase(client, admin, ben)
    again = await erase(client, admin, ben)
    assert again["status"] == "erased"
    refused = await client.post(f"{USERS}/{ben.uid}/enable", headers=admin.headers)
    assert (refused.status_code, refused.json()["code"]) == (409, "erased")
    await register(client, "ben@example.org")
    found = (await client.get(USERS, params={"q": "ben@"}, headers=admin.headers)).json()["items"]
    assert [one["status"] for one in found] == ["active"]
    assert found[0]["id"] != ben.uid


async def test_a_sellers_clips_leave_the_shop_and_stay_with_their_buyers(
    client: httpx.AsyncClient, admin: Person, ana: Person, ben: Person, sold: Sold, run_jobs: RunJobs
) -> None:
    async def live() -> int:
        shown = (await client.get(f"{USERS}/{ana.uid}", headers=admin.headers)).json()
        return int(shown["live"])

    assert await live() == 1
    await erase(client, admin, ana)
    await run_jobs()
    assert await live() == 0
    body = {"files": [{"item_id": sold.items[0].uid, "tier": "original"}]}
    [link] = (await client.post("/v1/downloads", json=body, headers=ben.headers)).json()["files"]
    async with httpx.AsyncClient(trust_env=False) as store:
        assert (await store.get(link["url"])).content == b"the film"


DISPUTE = """
WITH paid AS (
  INSERT INTO payments (uid, order_id, gateway, currency, amount, status, reference, request)
  SELECT 'pay_abcdefghjkmn', id, 'sandbox', currency, total, 'succeeded', 'sbx_1',
    jsonb_build_object('email', 'ben@example.org') FROM orders RETURNING id, order_id
), lost AS (
  INSERT INTO disputes (uid, payment_id, order_id, gateway, reference, status, currency, amount, outcome, closed_at,
    evidence)
  SELECT 'dis_abcdefghjkmn', id, order_id, 'sandbox', 'dp_1', 'won', 'USD', 4900, 'won', now(),
    '{"customer_email": "ben@example.org", "customer_ip": "192.0.2.77"}' FROM paid RETURNING id
), file AS (
  INSERT INTO dispute_files (dispute_id, field, name, content_type, data, key)
  SELECT id, 'other', 'letter.pdf', 'application/pdf', 'from Benjamin', 'k' FROM lost
), before AS (
  INSERT INTO dispute_answers (dispute_id, round, status, response, evidence)
  SELECT id, 1, 'warning_closed', 'submitted', '{"customer_ip": "192.0.2.78"}' FROM lost
), page AS (
  INSERT INTO sandbox_checkouts (reference, key, request, currency, amount, expires_at)
  VALUES ('sbx_1', 'pay_abcdefghjkmn', '{"email": "ben@example.org"}', 'USD', 4900, now()) RETURNING id
), told AS (
  INSERT INTO sandbox_events (event_id, checkout_id, body, delivered_at)
  SELECT 'e1', id, 'ben@example.org', now() FROM page
)
INSERT INTO sandbox_disputes (reference, checkout_id, amount, reason, due_by, evidence)
SELECT 'dp_1', id, 4900, 'fraudulent', now(), '{"customer_ip": "192.0.2.77"}' FROM page
"""


async def test_what_their_bank_was_told_goes_too(
    client: httpx.AsyncClient, admin: Person, ben: Person, sold: Sold, runtime: Runtime
) -> None:
    async with runtime.db.transaction() as session:
        await session.execute(text(DISPUTE.replace(":", "\\:")))
    document = json.loads((await client.get(f"{USERS}/{ben.uid}/export", headers=admin.headers)).text)
    assert document["disputes"][0]["evidence"]["customer_ip"] == "192.0.2.77"
    assert document["dispute_answers"][0]["evidence"]["customer_ip"] == "192.0.2.78"
    assert [one["name"] for one in document["dispute_files"]] == ["letter.pdf"]
    await erase(client, admin, ben)
    rows = await dump(runtime)
    for word in ("192.0.2.77", "192.0.2.78", "Benjamin", "letter.pdf"):
        assert {table for table, all_rows in rows.items() if word in all_rows} == set(), word
    holders = {table for table, all_rows in rows.items() if "ben@example.org" in all_rows}
    assert holders <= {"outbox_emails"}, "the farewell, until it is out"
    assert "dis_abcdefghjkmn" in rows["disputes"], "that there was one, and how it ended, stays"


async def test_mails_to_a_former_address_are_theirs(
    client: httpx.AsyncClient, admin: Person, ben: Person, sold: Sold, run_jobs: RunJobs, runtime: Runtime,
    mailbox: MailSink,
) -> None:  # fmt: skip
    await run_jobs()
    async with runtime.db.transaction() as session:
        await session.execute(
            text("UPDATE users SET email = 'benjamin@example.org' WHERE email = 'ben@example.org'")
        )
    document = json.loads((await client.get(f"{USERS}/{ben.uid}/export", headers=admin.headers)).text)
    assert [one for one in document["mails"] if sold.order.number in one["subject"]]
    stranger = await register(client, "ben@example.org")
    assert stranger.status_code == 202
    await run_jobs()
    await erase(client, admin, ben)
    await run_jobs()
    async with runtime.db.transaction() as session:
        left = text("SELECT subject FROM outbox_emails WHERE recipient = 'ben@example.org'")
        assert not [one for one in await session.scalars(left) if sold.order.number in one]
        assert await session.scalar(
            text("SELECT count(*) FROM outbox_emails WHERE recipient = 'ben@example.org'")
        )


async def test_a_sellers_words_go_with_the_clips(
    client: httpx.AsyncClient, admin: Person, ana: Person, sold: Sold, run_jobs: RunJobs, runtime: Runtime
) -> None:
    async with runtime.db.transaction() as session:
        await session.execute(
            text(
                "UPDATE clips SET description = 'Shot by Ana', file_name = 'ana.mov', copyright = 'Ana',"
                ' releases = \'{"model"\\: ["Maria"]}\', location = \'{"city"\\: "Ana town"}\''
            )
        )
    await erase(client, admin, ana)
    await run_jobs()
    rows = await dump(runtime)
    assert not {
        table for table, all_rows in rows.items() if re.search("Shot by Ana|ana.mov|Maria|Ana town", all_rows)
    }
    async with runtime.db.transaction() as session:
        assert await session.scalar(text("SELECT releases IS NULL FROM clips")) is True


async def test_money_on_its_way_comes_first(
    client: httpx.AsyncClient, admin: Person, ana: Person, ben: Person, runtime: Runtime
) -> None:
    till = await Till.of(runtime, ben.email, ana.email)
    pending = await till.sell(paid=False, store=False)
    refused = await erase(client, admin, ben, 409)
    assert refused["code"] == "unsettled"
    assert pending.order.number in refused["detail"]
    assert (await client.get("/v1/me", headers=ben.headers)).status_code == 200, "nothing was begun"


async def test_an_abbreviation_erases_nobody(client: httpx.AsyncClient, admin: Person, ben: Person) -> None:
    refused = await erase(client, admin, ben, 422, id=ben.uid[:10])
    assert refused["code"] == "id_differs"
    assert (await client.get("/v1/me", headers=ben.headers)).status_code == 200


async def test_an_erasure_that_was_cut_short_is_finished_by_a_job(
    client: httpx.AsyncClient, admin: Person, ben: Person, sold: Sold, runtime: Runtime, run_jobs: RunJobs
) -> None:
    """The process dies between two of its transactions: the account is closed, and a job goes on."""
    async with runtime.db.transaction() as session:
        user = await session.scalar(select(User).where(User.uid == ben.uid))
        assert user is not None
        user.deleted_at = await session.scalar(select(func.now()))
        key = user.id
    async with runtime.db.transaction() as session:
        await erasure.delivery.forget(session, key)
    for _ in range(2):
        await erasure.finish(runtime, key)
    shown = (await client.get(f"{USERS}/{ben.uid}", headers=admin.headers)).json()
    assert (shown["status"], shown["collections"], shown["display_name"]) == ("erased", 0, None)
    await run_jobs()


async def test_an_open_account_is_never_finished_by_a_stray_job(ben: Person, runtime: Runtime) -> None:
    async with runtime.db.transaction() as session:
        key = await session.scalar(select(User.id).where(User.uid == ben.uid))
    assert key is not None
    await erasure.finish(runtime, key)
    async with runtime.db.transaction() as session:
        user = await session.get_one(User, key)
        assert (user.email, user.erased_at) == ("ben@example.org", None)
