"""Registering, confirming, logging in, resetting: through HTTP, with real mail and a real database."""

import re

import httpx
import pytest
from sqlalchemy import func, select, text, update

from paletta_server.accounts import passwords
from paletta_server.accounts.models import ApiToken, MailLink, User
from paletta_server.audit.models import AuditLog
from paletta_server.core.runtime import Runtime
from tests.conftest import MakeUser
from tests.support.accounts import OTHER, PASSWORD, RunJobs, bearer, link_in, login, register
from tests.support.stack import MailSink


async def actions(runtime: Runtime) -> list[str]:
    async with runtime.db.transaction() as session:
        return list(await session.scalars(select(AuditLog.action).order_by(AuditLog.id)))


# ---- from a stranger to a contributor


async def test_from_register_to_contributor(
    client: httpx.AsyncClient, runtime: Runtime, mailbox: MailSink, run_jobs: RunJobs
) -> None:
    answer = await register(client, "Ana@Example.ORG")
    assert answer.status_code == 202
    assert (await login(client, "ana@example.org")).status_code == 401, "the address is not confirmed yet"
    await run_jobs()
    [mail] = mailbox.to("ana@example.org")
    _, secret = link_in(mail)
    confirmed = await client.post("/v1/auth/verify-email/confirm", json={"token": secret})
    assert confirmed.status_code == 204
    logged_in = await login(client, "ana@example.org", device="ana@studio")
    assert logged_in.status_code == 200
    body = logged_in.json()
    assert body["token"].startswith("plt_d_")
    assert body["user"]["role"] == "customer"
    assert body["user"]["email_verified"] is True
    headers = bearer(body["token"])
    applied = await client.post("/v1/me/contributor-application", json={}, headers=headers)
    assert applied.json() == {"status": "approved"}
    assert (await client.get("/v1/me", headers=headers)).json()["role"] == "contributor"
    assert await actions(runtime) == [
        "account:registered",
        "account:email_verified",
        "account:logged_in",
        "application:submitted",
        "application:approved",
        "account:role_changed",
    ]


async def test_secrets_are_not_stored(
    client: httpx.AsyncClient, runtime: Runtime, mailbox: MailSink, run_jobs: RunJobs, make_user: MakeUser
) -> None:
    person = await make_user()
    await client.post("/v1/auth/password-reset", json={"email": person.email})
    await run_jobs()
    _, secret = link_in(mailbox.to(person.email)[-1])
    dump = []
    async with runtime.db.transaction() as session:
        for table in (
            "users",
            "api_tokens",
            "mail_links",
            "outbox_emails",
            "audit_logs",
            "procrastinate_jobs",
        ):
            dump += [str(row) for row in await session.scalars(text(f"SELECT t::text FROM {table} t"))]
    everything = "\n".join(dump)
    for kept_secret in (secret, person.token, person.password):
        assert kept_secret not in everything


# ---- nobody learns which addresses have accounts


async def test_registering_a_known_address_looks_the_same(
    client: httpx.AsyncClient, runtime: Runtime, mailbox: MailSink, run_jobs: RunJobs, make_user: MakeUser
) -> None:
    known = await make_user("customer", email="known@example.org")
    fresh, taken = await register(client, "fresh@example.org"), await register(client, known.email)
    assert (fresh.status_code, taken.status_code) == (202, 202)
    assert fresh.text.replace("fresh", "X") == taken.text.replace("known", "X")
    assert set(fresh.headers) == set(taken.headers)
    # Registering and then logging in must not tell either: with the password just given, both are refused
    # alike.
    after = [await login(client, "fresh@example.org"), await login(client, known.email)]
    assert [answer.status_code for answer in after] == [401, 401]
    bodies = [{**answer.json(), "request_id": ""} for answer in after]
    assert bodies[0] == bodies[1]
    await run_jobs()
    [told] = mailbox.to(known.email)
    assert told["subject"] == "You already have an account"
    assert (await login(client, known.email, known.password)).status_code == 200, "nothing was changed"


async def test_registering_an_unconfirmed_address_again_sends_its_owner_a_new_start(
    client: httpx.AsyncClient, mailbox: MailSink, run_jobs: RunJobs
) -> None:
    """Somebody else may have registered my address: I must not inherit their password."""
    await register(client, "me@example.org", OTHER)
    await register(client, "me@example.org", PASSWORD)
    await run_jobs()
    path, secret = link_in(mailbox.to("me@example.org")[-1])
    assert path.startswith("/account/reset")
    body = {"token": secret, "new_password": PASSWORD}
    assert (await client.post("/v1/auth/password-reset/confirm", json=body)).status_code == 204
    assert (await login(client, "me@example.org", OTHER)).status_code == 401
    assert (await login(client, "me@example.org", PASSWORD)).status_code == 200


async def test_login_answers_and_hashes_alike_for_known_and_unknown(
    client: httpx.AsyncClient, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = await make_user()
    checked: list[str] = []
    hasher = passwords._hasher
    real = hasher.verify_and_update

    def watched(password: str, stored: str) -> tuple[bool, str | None]:
        checked.append(stored.split("$")[3])
        return real(password, stored)

    monkeypatch.setattr(hasher, "verify_and_update", watched)
    answers = [await login(client, known.email), await login(client, "nobody@example.org")]
    assert [answer.status_code for answer in answers] == [401, 401]
    bodies = [{**answer.json(), "request_id": ""} for answer in answers]
    assert bodies[0] == bodies[1]
    assert bodies[0]["code"] == "bad_credentials"
    assert checked == ["m=47104,t=1,p=1"] * 2, "both cost one hash of the same make"


@pytest.mark.parametrize("path", ["/v1/auth/password-reset", "/v1/auth/verify-email"])
async def test_asking_for_mail_answers_alike_and_mails_only_whom_it_should(
    path: str,
    client: httpx.AsyncClient,
    make_user: MakeUser,
    mailbox: MailSink,
    run_jobs: RunJobs,
    runtime: Runtime,
) -> None:
    known, confirmed = await make_user(email="known@example.org"), await make_user()
    async with runtime.db.transaction() as session:
        await session.execute(update(User).where(User.email == known.email).values(email_verified_at=None))
    answers = [
        await client.post(path, json={"email": address})
        for address in (known.email, "other@example.org", confirmed.email)
    ]
    assert [answer.status_code for answer in answers] == [202, 202, 202]
    assert answers[0].text.replace("known", "other") == answers[1].text
    await run_jobs()
    assert len(mailbox.to(known.email)) == 1
    assert mailbox.to("other@example.org") == []
    assert len(mailbox.to(confirmed.email)) == (0 if "verify" in path else 1)


# ---- mailed links


async def test_a_link_is_shown_by_get_spent_by_post_and_works_once(
    client: httpx.AsyncClient, mailbox: MailSink, run_jobs: RunJobs, runtime: Runtime
) -> None:
    await register(client, "ana@example.org")
    await run_jobs()
    path, secret = link_in(mailbox.to("ana@example.org")[0])
    assert (await client.head(path)).status_code in (200, 405)
    for _ in range(2):  # a mail scanner, then the person
        page = await client.get(path)
        assert page.status_code == 200
        assert "ana@example.org" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "http" not in re.sub(r"(?s)<style>.*</style>", "", page.text), "nothing from elsewhere"
    form, ours = {"token": secret}, {"Sec-Fetch-Site": "same-origin"}
    crossed = await client.post("/account/verify", data=form, headers={"Sec-Fetch-Site": "cross-site"})
    assert crossed.status_code == 403
    done = await client.post("/account/verify", data=form, headers=ours)
    assert done.status_code == 200
    assert "confirmed" in done.text
    again = await client.post("/account/verify", data=form, headers=ours)
    assert again.status_code == 410
    assert (await client.get(path)).status_code == 410
    assert (await actions(runtime)).count("account:email_verified") == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 410),
        ({"Origin": "http://127.0.0.1:8750"}, 410),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1:8750"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({}, 403),
    ],
)
async def test_a_form_must_come_from_our_own_page(
    headers: dict[str, str], status: int, client: httpx.AsyncClient
) -> None:
    for page in ("verify", "reset"):
        form = {"token": "x", "new_password": PASSWORD, "repeated": PASSWORD}
        answer = await client.post(f"/account/{page}", data=form, headers=headers)
        assert answer.status_code == status, page


async def test_reset_by_the_page(
    client: httpx.AsyncClient, mailbox: MailSink, run_jobs: RunJobs, make_user: MakeUser
) -> None:
    person = await make_user()
    await client.post("/v1/auth/password-reset", json={"email": person.email})
    await run_jobs()
    path, secret = link_in(mailbox.to(person.email)[0])
    assert 'name="new_password"' in (await client.get(path)).text
    ours = {"Sec-Fetch-Site": "same-origin"}

    async def send(first: str, second: str) -> httpx.Response:
        form = {"token": secret, "new_password": first, "repeated": second}
        return await client.post("/account/reset", data=form, headers=ours)

    refused = await send(OTHER, OTHER + "x")
    assert refused.status_code == 422
    assert "not the same" in refused.text
    weak = await send("passwordpassword1", "passwordpassword1")
    assert weak.status_code == 422
    assert "easy to guess" in weak.text
    assert (await send(OTHER, OTHER)).status_code == 200, "a refused password does not spend the link"
    assert (await send(OTHER, OTHER)).status_code == 410
    assert (await client.get("/v1/me", headers=person.headers)).status_code == 401, "every token ended"
    assert (await login(client, person.email, person.password)).status_code == 401
    assert (await login(client, person.email, OTHER)).status_code == 200
    await run_jobs()
    assert mailbox.to(person.email)[-1]["subject"] == "Your password was changed"


async def test_a_newer_link_an_old_one_and_a_foreign_kind(
    client: httpx.AsyncClient, mailbox: MailSink, run_jobs: RunJobs, make_user: MakeUser, runtime: Runtime
) -> None:
    person = await make_user()
    for _ in range(2):
        await client.post("/v1/auth/password-reset", json={"email": person.email})
        await run_jobs()
    (_, first), (_, second) = [link_in(mail) for mail in mailbox.to(person.email)]

    async def confirm(secret: str, path: str = "password-reset") -> httpx.Response:
        body = {"token": secret, **({"new_password": OTHER} if path == "password-reset" else {})}
        return await client.post(f"/v1/auth/{path}/confirm", json=body)

    for secret, path in (
        (first, "password-reset"),
        (second, "verify-email"),
        (second[:-1] + ("A" if second[-1] != "A" else "B"), "password-reset"),
    ):
        answer = await confirm(secret, path)
        assert (answer.status_code, answer.json()["code"]) == (422, "bad_link")
    async with runtime.db.transaction() as session:
        await session.execute(update(MailLink).values(expires_at=func.now()))
    assert (await confirm(second)).json()["code"] == "bad_link"


# ---- the password itself


async def test_weak_passwords_and_bad_addresses_are_refused(client: httpx.AsyncClient) -> None:
    answer = await register(client, "ana@example.org", "ana@example.org1")
    assert (answer.status_code, answer.json()["code"]) == (422, "weak_password")
    assert (await register(client, "ana@example.org", "short one")).json()["code"] == "weak_password"
    assert (await register(client, "ana@", PASSWORD)).status_code == 422
    long = await register(client, "ana@example.org", "x" * 300)
    assert long.status_code == 422
    assert "xxxxxx" not in long.text, "an error never repeats the password"


async def test_an_old_hash_is_renewed_at_login(
    client: httpx.AsyncClient, runtime: Runtime, make_user: MakeUser
) -> None:
    from pwdlib import PasswordHash
    from pwdlib.hashers.argon2 import Argon2Hasher

    person = await make_user()
    weak = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8192, parallelism=1),)).hash(person.password)
    async with runtime.db.transaction() as session:
        await session.execute(update(User).values(password_hash=weak))
    assert (await login(client, person.email, person.password)).status_code == 200
    async with runtime.db.transaction() as session:
        stored = await session.scalar(select(User.password_hash))
    assert stored
    assert stored.startswith("$argon2id$v=19$m=47104,t=1,p=1$")
    assert (await login(client, person.email, person.password)).status_code == 200


async def test_changing_the_password_ends_other_tokens(
    client: httpx.AsyncClient, runtime: Runtime, make_user: MakeUser
) -> None:
    person = await make_user()
    other = (await login(client, person.email, person.password)).json()["token"]
    body = {"current_password": OTHER, "new_password": PASSWORD}
    wrong = await client.post("/v1/me/password", json=body, headers=person.headers)
    assert (wrong.status_code, wrong.json()["code"]) == (403, "bad_credentials")
    body["current_password"] = person.password
    assert (await client.post("/v1/me/password", json=body, headers=person.headers)).status_code == 204
    assert (await client.get("/v1/me", headers=person.headers)).status_code == 200
    assert (await client.get("/v1/me", headers=bearer(other))).status_code == 401
    assert (await login(client, person.email, PASSWORD)).status_code == 200
    assert "account:password_changed" in await actions(runtime)
    async with runtime.db.transaction() as session:
        living = await session.scalar(
            select(func.count()).select_from(ApiToken).where(ApiToken.revoked_at.is_(None))
        )
    assert living == 2
