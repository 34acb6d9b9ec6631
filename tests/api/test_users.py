"""What admins do with accounts: listing, making, editing, shutting out; and that one of them always remains."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, text, update

from paletta_server.accounts.models import ApiToken, User
from paletta_server.audit.models import AuditLog
from paletta_server.core.runtime import Runtime
from tests.conftest import MakeUser, Person
from tests.support.accounts import OTHER, PASSWORD, RunJobs, link_in, login, register
from tests.support.locks import blocked
from tests.support.orders import Till, Wanted
from tests.support.stack import MailSink

USERS = "/v1/admin/users"
OUR_PAGE = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
async def admin(make_user: MakeUser) -> Person:
    return await make_user("admin")


class Desk:
    """The API as one admin."""

    def __init__(self, client: httpx.AsyncClient, admin: Person) -> None:
        self.client, self.admin = client, admin

    async def ask(self, method: str, path: str, status: int = 200, **options: Any) -> Any:
        answer = await self.client.request(method, f"{USERS}{path}", headers=self.admin.headers, **options)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def refused(self, method: str, path: str, **options: Any) -> tuple[int, str]:
        answer = await self.client.request(method, f"{USERS}{path}", headers=self.admin.headers, **options)
        return answer.status_code, answer.json()["code"]


@pytest.fixture
def desk(client: httpx.AsyncClient, admin: Person) -> Desk:
    return Desk(client, admin)


async def me(client: httpx.AsyncClient, person: Person) -> int:
    return (await client.get("/v1/me", headers=person.headers)).status_code


async def audited(runtime: Runtime, uid: str) -> list[str]:
    async with runtime.db.transaction() as session:
        found = await session.scalars(
            select(AuditLog.action).where(AuditLog.object == uid).order_by(AuditLog.id)
        )
        return [one.partition(":")[2] for one in found if one.startswith("account:")]


# ---- listing and showing


async def test_the_list_and_its_filters(
    client: httpx.AsyncClient, desk: Desk, make_user: MakeUser, runtime: Runtime
) -> None:
    ana = await make_user("contributor", email="ana@films.example.org")
    ben = await make_user("customer", email="ben_100%@example.org")
    await client.patch("/v1/me", json={"institution": "Harbour School"}, headers=ben.headers)
    async with runtime.db.transaction() as session:
        await session.execute(
            update(User).where(User.uid == ana.uid).values(created_at=func.now() - text("interval '9 days'"))
        )
    await desk.ask("POST", f"/{ben.uid}/disable", json={"reason": "chargebacks"})

    async def found(**params: Any) -> list[str]:
        return [one["email"] for one in (await desk.ask("GET", "", params=params))["items"]]

    assert await found() == [ben.email, ana.email, desk.admin.email], "newest first"
    assert await found(role="contributor") == [ana.email]
    assert await found(status="disabled") == [ben.email]
    assert await found(status="active", role="customer") == []
    assert await found(q="FILMS.") == [ana.email]
    assert await found(q="harbour s") == [ben.email]
    assert await found(q="100%") == [ben.email]
    assert await found(q="%") == [ben.email], "a character like any other"
    week = "2000-01-01T00:00:00Z"
    assert await found(until=week) == []
    async with runtime.db.transaction() as session:
        then = (await session.scalar(select(func.now() - text("interval '2 days'")))).isoformat()  # type: ignore[union-attr]
    assert await found(since=then) == [ben.email, desk.admin.email]
    assert await found(until=then) == [ana.email]
    first = await desk.ask("GET", "", params={"limit": 2})
    rest = await desk.ask("GET", "", params={"limit": 2, "cursor": first["next_cursor"]})
    assert [one["id"] for one in rest["items"]] == [desk.admin.uid] or len(rest["items"]) == 1
    assert first["items"][0]["last_seen_at"]
    assert await desk.refused("GET", "", params={"role": "king"}) == (422, "invalid_request")


async def test_one_account_on_one_screen(
    client: httpx.AsyncClient, desk: Desk, make_user: MakeUser, runtime: Runtime
) -> None:
    ana, ben = await make_user("contributor", email="ana@example.org"), await make_user("customer")
    till = await Till.of(runtime, ben.email, ana.email)
    await till.sell(Wanted(price=4900), Wanted(price=100), store=False)
    await till.sell(Wanted(price=700), store=False, paid=False)
    buyer = await desk.ask("GET", f"/{ben.uid[:11]}")
    assert buyer["orders"] == {"paid": 1, "pending": 1}
    assert buyer["bought"] == [{"currency": "USD", "total": 5000, "refunded": 0}]
    assert (buyer["licences"], buyer["clips"], buyer["sold"]) == (2, 0, [])
    assert buyer["sessions"] == {"device": 1, "personal": 0}
    seller = await desk.ask("GET", "/ANA@example.org")
    assert seller["sold"] == [{"currency": "USD", "items": 2, "amount": 5000}]
    assert (seller["clips"], seller["live"]) == (3, 3)
    assert seller["uploads"] == {"batches": 0, "files": 0, "under_way": 0}
    assert (seller["status"], seller["role"], seller["pending_email"]) == ("active", "contributor", None)
    for unknown in ("user_zzzz", "nobody@example.org", "@", "clip_2222", "..%2f.."):
        answer = await client.get(f"{USERS}/{unknown}", headers=desk.admin.headers)
        assert answer.status_code == 404, unknown


# ---- making


async def test_an_invited_person_chooses_the_password(
    client: httpx.AsyncClient, desk: Desk, mailbox: MailSink, run_jobs: RunJobs, runtime: Runtime
) -> None:
    made = await desk.ask(
        "POST", "", 201, json={"email": "Eve@Example.org", "role": "contributor", "display_name": "Eve"}
    )
    assert (made["email"], made["role"], made["email_verified"]) == ("eve@example.org", "contributor", False)
    assert (await login(client, "eve@example.org")).status_code == 401
    await run_jobs()
    [mail] = mailbox.to("eve@example.org")
    assert mail["Subject"] == "An account was made for you"
    _, secret = link_in(mail)
    chosen = {"token": secret, "new_password": PASSWORD}
    assert (await client.post("/v1/auth/password-reset/confirm", json=chosen)).status_code == 204
    assert (await login(client, "eve@example.org")).json()["user"]["role"] == "contributor"
    assert await audited(runtime, made["id"]) == [
        "created",
        "password_changed",
        "email_verified",
        "logged_in",
    ]
    assert await desk.refused("POST", "", json={"email": "eve@example.org"}) == (409, "email_taken")
    assert await desk.refused("POST", "", json={"email": "eve"}) == (422, "invalid_request")
    assert await desk.refused("POST", "", json={"email": "x@example.org", "password": "x"}) == (
        422,
        "invalid_request",
    )


# ---- editing


async def test_names_are_changed_at_once_and_an_address_once_it_is_proved(
    client: httpx.AsyncClient, desk: Desk, make_user: MakeUser, mailbox: MailSink, run_jobs: RunJobs, runtime: Runtime
) -> None:  # fmt: skip
    ben = await make_user("customer", email="ben@example.org")
    changed = await desk.ask(
        "PATCH",
        f"/{ben.uid}",
        json={"username": "benny", "institution": "School", "email": "new@example.org"},
    )
    assert (changed["username"], changed["institution"], changed["email"]) == (
        "benny",
        "School",
        "ben@example.org",
    )
    assert (await desk.ask("GET", f"/{ben.uid}"))["pending_email"] == "new@example.org"
    await run_jobs()
    assert [mail["Subject"] for mail in mailbox.to("ben@example.org")] == [
        "Your e-mail address is to be changed"
    ]
    page, _ = link_in(mailbox.to("new@example.org")[0])
    assert (await login(client, "new@example.org", ben.password)).status_code == 401
    assert "new@example.org" in (await client.get(page)).text
    assert (await login(client, "ben@example.org", ben.password)).status_code == 200, (
        "looking changes nothing"
    )
    secret = page.partition("=")[2]
    assert "is yours" in (await client.post("/account/verify", data={"token": secret}, headers=OUR_PAGE)).text
    assert (await login(client, "new@example.org", ben.password)).status_code == 200
    assert (await login(client, "ben@example.org", ben.password)).status_code == 401
    assert await me(client, ben) == 200
    await run_jobs()
    assert mailbox.to("ben@example.org")[-1]["Subject"] == "Your e-mail address was changed"
    again = await client.post("/v1/auth/verify-email/confirm", json={"token": secret})
    assert again.json()["code"] == "bad_link", "a link works once"
    assert (await desk.ask("GET", f"/{ben.uid}"))["pending_email"] is None
    assert [one for one in await audited(runtime, ben.uid) if "email" in one] == [
        "email_change_asked",
        "email_changed",
    ]


async def test_an_address_that_somebody_took_meanwhile_is_theirs(
    client: httpx.AsyncClient, desk: Desk, make_user: MakeUser, mailbox: MailSink, run_jobs: RunJobs
) -> None:
    ben = await make_user("customer", email="ben@example.org")
    await desk.ask("PATCH", f"/{ben.uid}", json={"email": "new@example.org"})
    await run_jobs()
    _, secret = link_in(mailbox.to("new@example.org")[0])
    await register(client, "new@example.org")
    assert (await client.post("/account/verify", data={"token": secret}, headers=OUR_PAGE)).status_code == 410
    answer = await client.post("/v1/auth/verify-email/confirm", json={"token": secret})
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_link")
    assert (await desk.ask("GET", f"/{ben.uid}"))["email"] == "ben@example.org"
    assert await desk.refused("PATCH", f"/{ben.uid}", json={"email": "new@example.org"}) == (
        409,
        "email_taken",
    )


async def test_a_newer_address_ends_the_older_link(
    client: httpx.AsyncClient, desk: Desk, make_user: MakeUser, mailbox: MailSink, run_jobs: RunJobs
) -> None:
    ben = await make_user("customer")
    for address in ("one@example.org", "two@example.org"):
        await desk.ask("PATCH", f"/{ben.uid}", json={"email": address})
    await run_jobs()
    _, old = link_in(mailbox.to("one@example.org")[0])
    assert (await client.post("/v1/auth/verify-email/confirm", json={"token": old})).status_code == 422
    _, new = link_in(mailbox.to("two@example.org")[0])
    assert (await client.post("/v1/auth/verify-email/confirm", json={"token": new})).status_code == 204


async def test_what_cannot_be_changed(desk: Desk, make_user: MakeUser) -> None:
    ben, eve = await make_user("customer"), await make_user("customer")
    await desk.ask("PATCH", f"/{ben.uid}", json={"username": "taken"})
    assert await desk.refused("PATCH", f"/{eve.uid}", json={"username": "taken"}) == (409, "username_taken")
    assert await desk.refused("PATCH", f"/{eve.uid}", json={"username": "No Such"}) == (
        422,
        "invalid_request",
    )
    assert await desk.refused("PATCH", f"/{eve.uid}", json={"role": "admin"}) == (422, "invalid_request")
    await desk.ask("DELETE", f"/{eve.uid}")
    assert await desk.refused("PATCH", f"/{eve.uid}", json={"institution": "x"}) == (409, "not_open")
    assert await desk.refused("POST", f"/{eve.uid}/role", json={"role": "contributor"}) == (409, "not_open")


# ---- shutting out


async def test_disabled_at_once_with_a_reason_and_let_in_again(
    client: httpx.AsyncClient, desk: Desk, make_user: MakeUser, mailbox: MailSink, run_jobs: RunJobs, runtime: Runtime
) -> None:  # fmt: skip
    ben = await make_user("customer")
    done = await desk.ask("POST", f"/{ben.uid}/disable", json={"reason": "three chargebacks"})
    assert done["status"] == "disabled"
    await desk.ask("POST", f"/{ben.uid}/disable", json={"reason": "three chargebacks"})
    assert await me(client, ben) in (401, 403)
    refused = await login(client, ben.email, ben.password)
    assert (refused.status_code, refused.json()["code"]) == (403, "account_disabled")
    await run_jobs()
    [mail] = mailbox.to(ben.email)
    assert "three chargebacks" in mail.get_content()
    assert (await desk.ask("GET", f"/{ben.uid}"))["status_reason"] == "three chargebacks"
    await desk.ask("POST", f"/{ben.uid}/enable")
    assert await me(client, ben) == 401, "its tokens are gone for good"
    assert (await login(client, ben.email, ben.password)).status_code == 200
    assert await audited(runtime, ben.uid) == ["created", "logged_in", "disabled", "enabled", "logged_in"]
    assert await desk.refused("POST", f"/{ben.uid}/disable", json={"reason": " "}) == (422, "invalid_request")


async def test_deleted_softly(
    client: httpx.AsyncClient, desk: Desk, make_user: MakeUser, mailbox: MailSink, run_jobs: RunJobs
) -> None:
    ben = await make_user("customer", email="ben@example.org")
    await client.post("/v1/auth/password-reset", json={"email": ben.email})
    await run_jobs()
    _, secret = link_in(mailbox.to(ben.email)[-1])
    for _ in range(2):
        assert (await desk.ask("DELETE", f"/{ben.uid}"))["status"] == "deleted"
    assert (await login(client, ben.email, ben.password)).status_code == 401
    assert await me(client, ben) == 401
    used = await client.post("/v1/auth/password-reset/confirm", json={"token": secret, "new_password": OTHER})
    assert used.status_code == 422
    assert await desk.refused("POST", "", json={"email": ben.email}) == (409, "email_taken")
    await register(client, ben.email)
    await run_jobs()
    assert mailbox.to(ben.email)[-1]["Subject"] == "You already have an account"
    assert (await desk.ask("GET", "", params={"status": "deleted"}))["items"][0]["id"] == ben.uid
    assert (await desk.ask("POST", f"/{ben.uid}/enable"))["status"] == "active"
    assert (await login(client, ben.email, ben.password)).status_code == 200


async def test_a_role_counts_from_the_next_request(
    client: httpx.AsyncClient, desk: Desk, make_user: MakeUser, mailbox: MailSink, run_jobs: RunJobs
) -> None:
    ben = await make_user("customer")
    assert (await client.get("/v1/upload-batches", headers=ben.headers)).status_code == 403
    await desk.ask("POST", f"/{ben.uid}/role", json={"role": "contributor"})
    assert (await client.get("/v1/upload-batches", headers=ben.headers)).status_code == 200
    await desk.ask("POST", f"/{ben.uid}/role", json={"role": "customer"})
    assert (await client.get("/v1/upload-batches", headers=ben.headers)).status_code == 403
    await run_jobs()
    assert len(mailbox.to(ben.email)) == 2


async def test_sessions_are_listed_and_ended(
    client: httpx.AsyncClient, desk: Desk, make_user: MakeUser, runtime: Runtime
) -> None:
    ben = await make_user("customer")
    await login(client, ben.email, ben.password, device="laptop")
    found = (await desk.ask("GET", f"/{ben.uid}/sessions"))["items"]
    assert [one["name"] for one in found] == ["laptop", "unnamed device"]
    assert not any(one["current"] for one in found)
    mine = (await desk.ask("GET", f"/{desk.admin.uid}/sessions"))["items"]
    assert [one["current"] for one in mine] == [True]
    foreign = f"/{ben.uid}/sessions/{mine[0]['id']}"
    assert (await desk.refused("DELETE", foreign))[0] == 404, "another account's token"
    assert await desk.ask("DELETE", f"/{ben.uid}/sessions/{found[0]['id']}") == {"ended": 1}
    assert await me(client, ben) == 200
    assert await desk.ask("DELETE", f"/{ben.uid}/sessions") == {"ended": 1}
    assert await me(client, ben) == 401


# ---- what needs the password once more


async def test_power_needs_a_fresh_login(
    client: httpx.AsyncClient, desk: Desk, make_user: MakeUser, runtime: Runtime
) -> None:
    ben = await make_user("customer")
    async with runtime.db.transaction() as session:
        await session.execute(update(ApiToken).values(authenticated_at=None))
    stale = (403, "login_not_fresh")
    one = f"/{ben.uid}"
    assert await desk.refused("POST", f"{one}/role", json={"role": "admin"}) == stale
    assert await desk.refused("POST", f"{one}/disable", json={"reason": "none"}) == stale
    assert await desk.refused("POST", f"{one}/enable") == stale
    assert await desk.refused("POST", f"{one}/erase", json={"id": ben.uid}) == stale
    assert await desk.refused("DELETE", one) == stale
    assert await desk.refused("POST", "", json={"email": "x@example.org", "role": "admin"}) == stale
    assert await desk.refused("POST", "", json={"email": "x@example.org", "role": "contributor"}) == stale
    assert await desk.refused("PATCH", one, json={"email": "x@example.org"}) == stale
    await desk.ask("POST", "", 201, json={"email": "x@example.org", "role": "customer"})
    await desk.ask("PATCH", one, json={"institution": "School"})
    assert await audited(runtime, ben.uid) == ["created", "logged_in", "edited"]


# ---- one admin remains

REMOVALS = {
    "role": ("POST", "/role", {"json": {"role": "customer", "own_account": True}}),
    "disable": ("POST", "/disable", {"json": {"reason": "none", "own_account": True}}),
    "delete": ("DELETE", "", {"params": {"own_account": "true"}}),
    "erase": ("POST", "/erase", {"json": {"own_account": True}}),
}


def removal(how: str, uid: str, *, own: bool = True) -> tuple[str, str, dict[str, Any]]:
    method, path, options = REMOVALS[how]
    body = dict(options.get("json", {}))
    if how == "erase":
        body["id"] = uid
    if not own:
        body["own_account"] = False
        return method, f"/{uid}{path}", {} if how == "delete" else {"json": body}
    return method, f"/{uid}{path}", {"params": options["params"]} if how == "delete" else {"json": body}


@pytest.mark.parametrize("how", REMOVALS)
async def test_the_last_admin_stays(desk: Desk, make_user: MakeUser, how: str) -> None:
    method, path, options = removal(how, desk.admin.uid)
    assert await desk.refused(method, path, **options) == (409, "last_admin")
    await desk.ask("POST", "", 201, json={"email": "invited@example.org", "role": "admin"})
    assert await desk.refused(method, path, **options) == (409, "last_admin"), (
        "who cannot log in yet does not count"
    )
    await make_user("admin")
    careless = removal(how, desk.admin.uid, own=False)
    assert await desk.refused(careless[0], careless[1], **careless[2]) == (409, "own_account")
    await desk.ask(method, path, **options)


@pytest.mark.parametrize("how", REMOVALS)
async def test_of_two_admins_who_remove_each_other_one_remains(
    client: httpx.AsyncClient, runtime: Runtime, make_user: MakeUser, how: str
) -> None:
    one, two = await make_user("admin"), await make_user("admin")

    async def remove(by: Person, whom: Person) -> int:
        method, path, options = removal(how, whom.uid)
        answer = await client.request(method, f"{USERS}{path}", headers=by.headers, **options)
        return answer.status_code

    async with runtime.db.transaction() as session:
        # Both have been let in, and both wait for the same rows.
        await session.execute(select(User.id).where(User.uid == one.uid).with_for_update(key_share=True))
        rivals = [asyncio.create_task(remove(one, two)), asyncio.create_task(remove(two, one))]
        await blocked(runtime, 2)
    assert sorted(await asyncio.gather(*rivals)) == [200, 403]
    async with runtime.db.transaction() as session:
        left = await session.scalar(
            select(func.count()).where(
                User.role == "admin", User.status == "active", User.deleted_at.is_(None)
            )
        )
    assert left == 1
