"""Guesses and floods of mail are slowed down, and nobody is locked out by a stranger."""

import asyncio
from datetime import timedelta

import httpx
import pytest
from sqlalchemy import delete, func, update

from paletta_server.accounts import throttle
from paletta_server.accounts.models import Throttle
from paletta_server.core.errors import TooManyRequests
from paletta_server.core.runtime import Runtime
from tests.conftest import MakeUser
from tests.support.accounts import OTHER, login


async def failures(runtime: Runtime, email: str, count: int) -> None:
    """Let an account have that many failures behind it, and no wait left; its known addresses stay known."""
    async with runtime.db.transaction() as session:
        await session.execute(delete(Throttle).where(Throttle.key == throttle.account_key(email)))
        session.add(Throttle(key=throttle.account_key(email), failures=count))


async def forget_known_addresses(runtime: Runtime) -> None:
    """`make_user` logs in, which makes this machine one of the account's own."""
    async with runtime.db.transaction() as session:
        await session.execute(delete(Throttle))


async def test_failures_slow_an_account_down_and_success_clears_them(
    client: httpx.AsyncClient, make_user: MakeUser, runtime: Runtime
) -> None:
    person = await make_user()
    await forget_known_addresses(runtime)
    key = throttle.account_key(person.email)
    waits = []
    for _ in range(16):
        assert (await login(client, person.email, OTHER)).status_code == 401
        async with runtime.db.transaction() as session:
            row = await session.get_one(Throttle, key)
            waits.append((row.blocked_until - row.window_start).seconds if row.blocked_until else 0)
            row.blocked_until = func.now() + timedelta(minutes=59, seconds=45)
        refused = await login(client, person.email, person.password)
        assert refused.status_code == 429, "even the right password has to wait"
        assert 3000 < int(refused.headers["retry-after"]) <= 3600
        assert "try again in 60 min" in refused.json()["detail"], "rounded up, lest it be too early"
        async with runtime.db.transaction() as session:
            await session.execute(update(Throttle).values(blocked_until=None))
            await session.execute(delete(Throttle).where(Throttle.key.startswith("ip:")))
    assert waits == [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]
    assert (await login(client, person.email, person.password)).status_code == 200
    async with runtime.db.transaction() as session:
        assert await session.get(Throttle, key) is None


async def test_guesses_of_a_stranger_do_not_keep_the_owner_out(
    client: httpx.AsyncClient, make_user: MakeUser, runtime: Runtime
) -> None:
    person = await make_user()
    assert (await login(client, person.email, person.password)).status_code == 200  # from 127.0.0.1
    await failures(runtime, person.email, 20)
    await throttle.attempt(runtime.db, person.email, "203.0.113.9")
    with pytest.raises(TooManyRequests):
        await throttle.attempt(runtime.db, person.email, "203.0.113.10")
    assert (await login(client, person.email, person.password)).status_code == 200


async def test_one_network_address_gets_thirty_failures_a_minute(runtime: Runtime) -> None:
    for number in range(throttle.PER_ADDRESS.limit):
        await throttle.attempt(runtime.db, f"a{number}@example.org", "2001:db8::1")
    with pytest.raises(TooManyRequests):
        await throttle.attempt(runtime.db, "fresh@example.org", "2001:db8::2")  # the same /64
    await throttle.attempt(runtime.db, "fresh@example.org", "2001:db8:0:1::2")


async def test_a_burst_of_guesses_is_counted_one_by_one(
    client: httpx.AsyncClient, make_user: MakeUser, runtime: Runtime
) -> None:
    """Counted after the fact, all twelve would have been hashed before the first was known to be wrong."""
    person = await make_user("customer")
    await forget_known_addresses(runtime)
    await failures(runtime, person.email, 20)
    answers = await asyncio.gather(*(login(client, person.email, OTHER) for _ in range(12)))
    assert sorted(answer.status_code for answer in answers) == [401] + [429] * 11


async def test_mails_to_one_address_are_limited(client: httpx.AsyncClient, make_user: MakeUser) -> None:
    person = await make_user()
    for address in (person.email, "nobody@example.org"):
        limit = throttle.MAILS_PER_ACCOUNT.limit
        answers = [
            await client.post("/v1/auth/password-reset", json={"email": address}) for _ in range(limit + 1)
        ]
        assert [answer.status_code for answer in answers] == [202] * limit + [429]
