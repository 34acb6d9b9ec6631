"""Tokens, profile, applications: what an account can do once it is in."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import event, func, select, update

from paletta_server.accounts import service, throttle, tokens
from paletta_server.accounts.models import ApiToken, User
from paletta_server.audit.models import AuditLog
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from tests.conftest import MakeUser, Person
from tests.support.accounts import RunJobs, bearer, contributors_by_hand, login
from tests.support.stack import MailSink


async def make_token(client: httpx.AsyncClient, token: str, **body: Any) -> httpx.Response:
    return await client.post("/v1/me/tokens", json={"name": "script", **body}, headers=bearer(token))


async def age(runtime: Runtime, **values: Any) -> None:
    async with runtime.db.transaction() as session:
        await session.execute(update(ApiToken).values(**values))


async def code_of_me(client: httpx.AsyncClient, token: str) -> tuple[int, str | None]:
    answer = await client.get("/v1/me", headers=bearer(token))
    return answer.status_code, answer.json().get("code")


async def test_login_gives_a_device_token_with_its_limits(
    client: httpx.AsyncClient, make_user: MakeUser, settings: Settings
) -> None:
    person = await make_user()
    made = await login(
        client, person.email, person.password, device="ana@studio", scopes=["uploads"], expires_in_days=7
    )
    body = made.json()
    listed = (await client.get("/v1/me/tokens", headers=person.headers)).json()
    first, second = listed["items"]
    assert (first["id"], first["name"], first["device"]) == (body["token_id"], "ana@studio", "ana@studio")
    assert (first["kind"], first["scopes"], first["current"]) == ("device", ["uploads"], False)
    assert second["current"] is True
    assert "token" not in first
    more = await login(client, person.email, person.password, expires_in_days=365)
    created, expires = await _times(client, person, more.json()["token_id"])
    assert expires - created == timedelta(days=settings.token_absolute_days), (
        "a device's token lives no longer"
    )


async def _times(client: httpx.AsyncClient, person: Person, token_id: str) -> tuple[Any, Any]:
    from datetime import datetime

    listed = (await client.get("/v1/me/tokens", headers=person.headers)).json()["items"]
    [found] = [item for item in listed if item["id"] == token_id]
    return datetime.fromisoformat(found["created_at"]), datetime.fromisoformat(found["expires_at"])


async def test_a_token_that_is_mistyped_cut_or_made_up_is_refused(
    client: httpx.AsyncClient, make_user: MakeUser, runtime: Runtime
) -> None:
    person = await make_user()
    asked: list[str] = []
    engine = runtime.db.engine.sync_engine

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "api_tokens" in statement:  # what the service does beside is none of this
            asked.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        typo = person.token[:-10] + ("a" if person.token[-10] != "a" else "b") + person.token[-9:]
        for bad in (typo, person.token[:-1], tokens.mint(tokens.RESET), "x"):
            assert await code_of_me(client, bad) == (401, "invalid_token"), bad
        assert asked == [], "a typo does not cost a query"
        assert await code_of_me(client, tokens.mint(tokens.DEVICE)) == (401, "invalid_token")
        assert asked
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert (await client.get("/v1/me")).json()["code"] == "not_logged_in"
    basic = await client.get("/v1/me", headers={"Authorization": f"Basic {person.token}"})
    assert basic.status_code == 401


async def test_expiry_idleness_and_revocation_end_a_token_at_once(
    client: httpx.AsyncClient, make_user: MakeUser, runtime: Runtime, settings: Settings
) -> None:
    person = await make_user()
    personal = (await make_token(client, person.token)).json()["token"]
    idle = timedelta(days=settings.token_idle_days)
    await age(runtime, last_used_at=func.now() - idle)
    assert await code_of_me(client, person.token) == (401, "token_expired")
    assert (await code_of_me(client, personal))[0] == 200, "scripts may rest"
    await age(runtime, last_used_at=func.now(), expires_at=func.now())
    for token in (person.token, personal):
        assert await code_of_me(client, token) == (401, "token_expired")
    await age(runtime, expires_at=func.now() + idle)
    assert (await client.post("/v1/auth/logout", headers=person.headers)).status_code == 204
    assert await code_of_me(client, person.token) == (401, "invalid_token")


async def test_last_use_is_noted_once_a_minute(
    client: httpx.AsyncClient, make_user: MakeUser, runtime: Runtime
) -> None:
    person = await make_user()

    async def last_used() -> Any:
        async with runtime.db.transaction() as session:
            return await session.scalar(select(ApiToken.last_used_at))

    fresh = await last_used()
    await client.get("/v1/me", headers=person.headers)
    assert await last_used() == fresh
    await age(runtime, last_used_at=func.now() - timedelta(minutes=2))
    await client.get("/v1/me", headers=person.headers)
    assert await last_used() > fresh


async def test_noting_a_use_waits_for_nobody(
    client: httpx.AsyncClient, make_user: MakeUser, runtime: Runtime
) -> None:
    """A long poll must not keep the other requests of its token, or its revocation, waiting."""
    person = await make_user()
    await age(runtime, last_used_at=func.now() - timedelta(minutes=2))
    from paletta_server.accounts.security import look_up

    async with runtime.db.transaction() as polling:
        await look_up(polling, person.token, idle=timedelta(days=1), fresh=timedelta(minutes=10))
        async with runtime.db.transaction() as other:
            await other.execute(select(ApiToken).with_for_update(nowait=True))
            await other.execute(select(User).with_for_update(nowait=True))


async def test_revoking_one_and_all_others(
    client: httpx.AsyncClient, make_user: MakeUser, runtime: Runtime
) -> None:
    person, stranger = await make_user(), await make_user()
    made = [(await make_token(client, person.token, name=f"t{n}")).json() for n in range(3)]
    foreign = await client.delete(f"/v1/me/tokens/{made[0]['id']}", headers=stranger.headers)
    assert foreign.status_code == 404
    assert (await code_of_me(client, made[0]["token"]))[0] == 200
    one = await client.delete(f"/v1/me/tokens/{made[0]['id'][:9]}", headers=person.headers)
    assert one.status_code == 204
    assert (await code_of_me(client, made[0]["token"]))[0] == 401
    assert (await client.delete("/v1/me/tokens", headers=person.headers)).status_code == 204
    assert (await code_of_me(client, made[1]["token"]))[0] == 401
    assert (await code_of_me(client, person.token))[0] == 200
    assert (await code_of_me(client, stranger.token))[0] == 200
    left = (await client.get("/v1/me/tokens", headers=person.headers)).json()["items"]
    assert [item["current"] for item in left] == [True]


async def test_a_token_makes_none_stronger_than_itself(
    client: httpx.AsyncClient, make_user: MakeUser, mailbox: MailSink, run_jobs: RunJobs
) -> None:
    person = await make_user()
    made = await make_token(client, person.token, scopes=["profile", "uploads"], expires_in_days=365)
    assert made.status_code == 201
    narrow = made.json()["token"]
    assert narrow.startswith("plt_p_")
    beyond = await make_token(client, narrow, scopes=["profile", "clips"])
    assert (beyond.status_code, beyond.json()["code"]) == (403, "scope_escalation")
    narrower = await make_token(client, narrow, scopes=["uploads"])
    assert narrower.json()["scopes"] == ["uploads"]
    silent = await make_token(client, narrow)
    assert silent.json()["scopes"] == ["profile", "uploads"], "no scopes asked for: no more than its own"
    assert (await make_token(client, person.token, expires_in_days=366)).status_code == 422
    assert (await make_token(client, person.token, scopes=["everything"])).status_code == 422
    assert (await make_token(client, narrower.json()["token"])).json()["code"] == "missing_scope"
    await run_jobs()
    subjects = [mail["subject"] for mail in mailbox.to(person.email)]
    assert subjects == ["A personal token was made"] * 3


async def test_a_personal_token_makes_none_that_outlives_it(
    client: httpx.AsyncClient, make_user: MakeUser
) -> None:
    person = await make_user()
    short = (await make_token(client, person.token, scopes=["profile"], expires_in_days=3)).json()
    child = (await make_token(client, short["token"], expires_in_days=365)).json()
    assert child["expires_at"] == short["expires_at"]
    free = (await make_token(client, person.token, expires_in_days=365)).json()
    assert free["expires_at"] > short["expires_at"], "who logged in with the password may"
    earlier = (await make_token(client, short["token"], expires_in_days=1)).json()
    assert earlier["expires_at"] < short["expires_at"]


async def test_what_is_not_there_is_called_by_its_word(
    client: httpx.AsyncClient, make_user: MakeUser
) -> None:
    person = await make_user("contributor")
    for method, path, words in (
        ("DELETE", "/v1/me/tokens/zebra2", "no token `tok_zebra2`"),
        ("GET", "/v1/uploads/zebra2", "no upload `upl_zebra2`"),
        ("GET", "/v1/clips/zebra2", "no clip `clip_zebra2`"),
    ):
        answer = (await client.request(method, path, headers=person.headers)).json()
        assert (answer["detail"], answer.get("hint")) == (words, None)
    short = (await client.get("/v1/clips/z", headers=person.headers)).json()
    assert (short["detail"], short["hint"]) == ("no clip `clip_z`", "of an id at least 4 letters are needed")


async def test_a_value_that_cannot_be_is_told_without_the_library_s_words(client: httpx.AsyncClient) -> None:
    body = {"email": "not an address", "password": "nine brass otters hum"}
    answer = (await client.post("/v1/auth/register", json=body)).json()
    assert answer["code"] == "invalid_request"
    assert "Value error" not in answer["detail"]


async def test_disabled_and_deleted_accounts_are_refused_at_the_next_request(
    client: httpx.AsyncClient, make_user: MakeUser, runtime: Runtime
) -> None:
    disabled, deleted = await make_user(), await make_user()
    async with runtime.db.transaction() as session:
        await session.execute(update(User).where(User.uid == disabled.uid).values(status="disabled"))
        await session.execute(update(User).where(User.uid == deleted.uid).values(deleted_at=func.now()))
    assert await code_of_me(client, disabled.token) == (403, "account_disabled")
    assert await code_of_me(client, deleted.token) == (401, "invalid_token")
    assert (await login(client, disabled.email, disabled.password)).json()["code"] == "account_disabled"
    assert (await login(client, disabled.email)).json()["code"] == "bad_credentials", "only its owner learns"
    assert (await login(client, deleted.email, deleted.password)).json()["code"] == "bad_credentials"


# ---- profile


async def test_editing_the_profile(client: httpx.AsyncClient, make_user: MakeUser) -> None:
    ana, ben = await make_user("customer"), await make_user("customer")

    async def edit(person: Person, **body: Any) -> httpx.Response:
        return await client.patch("/v1/me", json=body, headers=person.headers)

    edited = await edit(ana, display_name="  Ana\x1b[31m\nLópez ", username="ana_films")
    assert edited.status_code == 200
    assert edited.json()["display_name"] == "Ana [31m López"
    assert (await edit(ana, institution="Studio")).json()["username"] == "ana_films", "the rest stays"
    assert (await edit(ana, institution=None)).json()["institution"] is None
    taken = await edit(ben, username="ana_films", institution="Other")
    assert (taken.status_code, taken.json()["code"]) == (409, "username_taken")
    assert (await client.get("/v1/me", headers=ben.headers)).json()["institution"] is None
    assert (await edit(ana, role="admin")).status_code == 422
    assert (await edit(ana, username="Not Fine")).status_code == 422


# ---- applications


@pytest.fixture
def by_hand(app: FastAPI, runtime: Runtime) -> Iterator[None]:
    with contributors_by_hand(app):
        yield


async def test_applications_are_decided_once_by_an_admin(
    client: httpx.AsyncClient,
    make_user: MakeUser,
    by_hand: None,
    runtime: Runtime,
    mailbox: MailSink,
    run_jobs: RunJobs,
) -> None:
    admin, ana, ben = await make_user("admin"), await make_user("customer"), await make_user("customer")

    async def apply(person: Person) -> Any:
        body = {"statement": "ten years of birds"}
        return (await client.post("/v1/me/contributor-application", json=body, headers=person.headers)).json()

    for person in (ana, ana, ben):
        assert await apply(person) == {"status": "pending"}
    path = "/v1/admin/contributor-applications"
    waiting = (await client.get(f"{path}?status=pending", headers=admin.headers)).json()["items"]
    assert [item["user"]["email"] for item in waiting] == [ben.email, ana.email]
    assert waiting[0]["statement"] == "ten years of birds"
    of_ben, of_ana = (item["id"] for item in waiting)

    async def decide(application: str, verb: str, **body: Any) -> httpx.Response:
        return await client.post(f"{path}/{application}/{verb}", json=body or None, headers=admin.headers)

    assert (await decide(of_ana, "approve")).json()["user"]["role"] == "contributor"
    assert (await client.get("/v1/me", headers=ana.headers)).json()["role"] == "contributor"
    again = await decide(of_ana, "approve")
    assert (again.status_code, again.json()["code"]) == (409, "already_decided")
    assert (await decide(of_ben, "reject")).status_code == 422, "a reason is owed"
    rejected = await decide(of_ben, "reject", reason="no releases")
    assert rejected.json()["status"] == "rejected"
    assert (await client.get("/v1/me", headers=ben.headers)).json()["role"] == "customer"
    await run_jobs()
    assert "no releases" in mailbox.to(ben.email)[-1].get_content()
    assert mailbox.to(ana.email)[-1]["subject"] == "You are a contributor now"
    assert await apply(ben) == {"status": "pending"}, "a refusal is not for ever"
    assert await apply(ana) == {"status": "approved"}
    async with runtime.db.transaction() as session:
        events = list(await session.scalars(select(AuditLog.action).where(AuditLog.action.like("app%"))))
    assert events.count("application:submitted") == 3
    assert events.count("application:approved") == events.count("application:rejected") == 1


async def test_two_admins_decide_at_once(
    client: httpx.AsyncClient, make_user: MakeUser, by_hand: None
) -> None:
    import asyncio

    admin, ana = await make_user("admin"), await make_user("customer")
    await client.post("/v1/me/contributor-application", json={}, headers=ana.headers)
    path = "/v1/admin/contributor-applications"
    [waiting] = (await client.get(path, headers=admin.headers)).json()["items"]
    answers = await asyncio.gather(
        client.post(f"{path}/{waiting['id']}/approve", headers=admin.headers),
        client.post(f"{path}/{waiting['id']}/reject", json={"reason": "no releases"}, headers=admin.headers),
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409]


async def test_an_unconfirmed_address_cannot_contribute(
    client: httpx.AsyncClient, make_user: MakeUser, runtime: Runtime
) -> None:
    person = await make_user("customer")
    async with runtime.db.transaction() as session:
        await session.execute(update(User).values(email_verified_at=None))
    answer = await client.post("/v1/me/contributor-application", json={}, headers=person.headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "email_not_verified")


async def test_an_operator_makes_accounts(client: httpx.AsyncClient, runtime: Runtime) -> None:
    from paletta_server.core.errors import Conflict, Invalid

    async with runtime.db.transaction() as session:
        user = await service.create_user(
            session, email="Op@Example.org", password="violet harbour kettle", role="admin", verified=True
        )
        plain, _ = await service.issue_token(session, user)
    assert (await client.get("/v1/me", headers=bearer(plain))).json()["role"] == "admin"
    for email, role, error in (
        ("op@example.org", "customer", Conflict),
        ("x@example.org", "king", Invalid),
        ("nonsense", "customer", Invalid),
    ):
        with pytest.raises(error):
            async with runtime.db.transaction() as session:
                await service.create_user(session, email=email, password="violet harbour kettle", role=role)


async def test_tokens_are_not_made_without_end(
    client: httpx.AsyncClient, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = await make_user()
    monkeypatch.setattr(service, "PERSONAL_TOKENS", 2)
    first, _ = [(await make_token(client, person.token)).json() for _ in range(2)]
    full = await make_token(client, person.token)
    assert (full.status_code, full.json()["code"]) == (409, "too_many")
    await client.delete(f"/v1/me/tokens/{first['id']}", headers=person.headers)
    assert (await make_token(client, person.token)).status_code == 201
    monkeypatch.setattr(throttle, "TOKENS_PER_ACCOUNT", throttle.Window(4, 3600))
    slowed = await make_token(client, person.token)
    assert (slowed.status_code, slowed.json()["code"]) == (429, "too_many_requests")
    other = await make_user()
    assert (await make_token(client, other.token)).status_code == 201
