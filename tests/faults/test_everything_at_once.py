"""Refunds, disputes, role changes and edits of the taxonomy at the same moment, on connections of their own: nothing of
one is lost to another, nobody over-refunds, and the ledger is exact afterwards."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from paletta_server.core.errors import Conflict
from paletta_server.core.runtime import Runtime
from paletta_server.payments import service
from paletta_server.payments.sandbox import desk
from tests.conftest import MakeUser, Person
from tests.support.earnings import exact, hold_is_over, stands
from tests.support.orders import Till
from tests.support.payments import Counter, at_its_address

ROUNDS = 6
TREE = "paletta_taxonomy: 1\ncategories:\n- {{slug: sea, name: Sea {number}}}\n- {{slug: air, name: Air {number}}}\n"


@pytest.fixture
async def seller(make_user: MakeUser) -> Person:
    return await make_user("contributor")


@pytest.fixture
async def admins(make_user: MakeUser) -> list[Person]:
    return [await make_user("admin") for _ in range(2)]


async def paid(counter: Counter) -> tuple[int, int, str]:
    """A paid order, its payment, and what the gateway calls that."""
    sold = await counter.order()
    payment = await counter.begin(sold.order.id)
    async with counter.runtime.db.transaction() as session:
        await desk.act(session, str(payment.reference), "success", desk.Telling(copies=0))
    await service.settle(counter.runtime, payment.id)
    return sold.order.id, payment.id, str(payment.reference)


async def give_back(runtime: Runtime, order_id: int, amount: int) -> None:
    try:
        await service.refund(runtime, order_id, None, "asked for", None, amount=amount)
    except Conflict as error:
        if error.code not in ("over_refund", "disputed", "nothing_left"):
            raise


async def quarrel(runtime: Runtime, payment_id: int, reference: str, end: desk.Action) -> None:
    for action in ("dispute", end):
        try:
            async with runtime.db.transaction() as session:
                await desk.act(session, reference, action, desk.Telling(copies=0))  # type: ignore[arg-type]
        except Conflict:  # all of it was given back before the bank moved
            return
        await service.settle(runtime, payment_id)


@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_the_ledger_is_exact_whatever_meets(
    app: FastAPI,
    client: httpx.AsyncClient,
    make_user: MakeUser,
    seller: Person,
    admins: list[Person],
    tmp_path: Path,
    seed: int,
) -> None:
    draw = random.Random(seed)
    customer = await make_user("customer")
    async with at_its_address(app) as runtime:
        counter = Counter(runtime, await Till.of(runtime, customer.email, seller.email))
        orders = [await paid(counter) for _ in range(3)]
        if seed % 2:
            await hold_is_over(counter)
        acts: list[Callable[[], Awaitable[Any]]] = []

        async def sent(path: str, body: Any, by: Person) -> httpx.Response:
            """Once more where no connection came free on a busy machine: then it was not begun."""
            while (answer := await client.post(path, json=body, headers=by.headers)).status_code == 503:
                assert answer.json()["code"] == "overloaded", answer.text
            return answer

        def role(of: str, by: Person) -> Callable[[], Awaitable[Any]]:
            path = f"/v1/admin/users/{seller.uid}/role"
            return lambda: sent(path, {"role": of}, by)

        def tree(number: int, by: Person) -> Callable[[], Awaitable[Any]]:
            body = {"document": TREE.format(number=number)}
            return lambda: sent("/v1/admin/taxonomy/apply", body, by)

        for order_id, payment_id, reference in orders:
            for amount in draw.choices((100, 2450, 5880, 15360), k=3):
                acts.append(lambda key=order_id, much=amount: give_back(runtime, key, much))  # type: ignore[misc]
            end = draw.choice(("dispute-won", "dispute-lost"))
            acts.append(lambda key=payment_id, at=reference, end=end: quarrel(runtime, key, at, end))  # type: ignore[misc]
            acts.append(lambda key=payment_id: service.settle(runtime, key))  # type: ignore[misc]
        for number, admin in enumerate(admins):
            acts += [role("customer", admin), role("contributor", admin), tree(number, admin)]
        draw.shuffle(acts)
        answers = await asyncio.gather(*(act() for act in acts))
        statuses = {one.status_code for one in answers if isinstance(one, httpx.Response)}
        assert statuses <= {200, 409}, statuses
        for order_id, payment_id, _ in orders:
            await service.settle(runtime, payment_id)
            (await counter.account(order_id)).check()
        await exact(runtime)
        assert set(await stands(runtime, counter.till.contributor)) <= {"pending", "payable"}
        async with runtime.db.transaction() as session:
            changed = text("SELECT count(*) FROM audit_logs WHERE action = 'account:role_changed'")
            assert await session.scalar(changed), "the roles did change meanwhile"
            named = await session.scalars(text("SELECT DISTINCT right(name, 1) FROM categories"))
            assert len(list(named)) == 1, "of two files one is in force, and whole"
