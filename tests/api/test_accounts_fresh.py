"""What asks for the password once more: money, roles and erasure."""

from datetime import timedelta

import httpx
import pytest
from sqlalchemy import func, select, update

from paletta_server.accounts.models import ApiToken
from paletta_server.audit.models import AuditLog
from paletta_server.core.runtime import Runtime
from tests.conftest import MakeUser, Person
from tests.support.accounts import bearer

MONEY = "/v1/admin/orders/P-2026-000001/mark-paid"


async def code_of(client: httpx.AsyncClient, headers: dict[str, str]) -> str:
    answer = await client.post(MONEY, json={}, headers=headers)
    return str(answer.json()["code"])


async def forget(runtime: Runtime, minutes: float) -> None:
    """Every password was given so long ago."""
    async with runtime.db.transaction() as session:
        await session.execute(
            update(ApiToken).values(authenticated_at=func.now() - timedelta(minutes=minutes))
        )


async def confirm(client: httpx.AsyncClient, person: Person, password: str) -> httpx.Response:
    return await client.post("/v1/auth/confirm", json={"password": password}, headers=person.headers)


async def test_a_login_counts_for_ten_minutes(
    client: httpx.AsyncClient, runtime: Runtime, make_user: MakeUser
) -> None:
    admin = await make_user("admin")
    assert await code_of(client, admin.headers) == "not_found", "the order, not the login"
    await forget(runtime, 9.5)
    assert await code_of(client, admin.headers) == "not_found"
    await forget(runtime, 10.1)
    assert await code_of(client, admin.headers) == "login_not_fresh"
    me = await client.get("/v1/me", headers=admin.headers)
    assert me.status_code == 200, "all the rest goes on"


async def test_the_password_is_given_once_more(
    client: httpx.AsyncClient, runtime: Runtime, make_user: MakeUser
) -> None:
    admin = await make_user("admin")
    await forget(runtime, 60)
    wrong = await confirm(client, admin, "a wrong password that is long")
    assert (wrong.status_code, wrong.json()["code"]) == (403, "bad_credentials")
    assert await code_of(client, admin.headers) == "login_not_fresh"
    assert (await confirm(client, admin, admin.password)).status_code == 204
    assert await code_of(client, admin.headers) == "not_found"
    async with runtime.db.transaction() as session:
        told = await session.scalars(select(AuditLog).where(AuditLog.action == "account:confirmed"))
        assert [one.object for one in told] == [admin.uid]


async def test_guesses_are_slowed_down_as_logins_are(client: httpx.AsyncClient, make_user: MakeUser) -> None:
    admin = await make_user("admin")
    answers = [(await confirm(client, admin, f"guess number {n} of many")).status_code for n in range(12)]
    assert answers[0] == 403
    assert 429 in answers


@pytest.mark.parametrize("scopes", [[], ["admin:orders"]])
async def test_a_token_for_scripts_is_not_enough(
    client: httpx.AsyncClient, make_user: MakeUser, scopes: list[str]
) -> None:
    admin = await make_user("admin")
    body = {"name": "nightly", "scopes": scopes}
    made = (await client.post("/v1/me/tokens", json=body, headers=admin.headers)).json()
    script = bearer(made["token"])
    assert await code_of(client, script) == "login_not_fresh"
    answer = await client.post("/v1/auth/confirm", json={"password": admin.password}, headers=script)
    assert answer.status_code == 204, "unless somebody who knows the password stands behind it"
    assert await code_of(client, script) == "not_found"
