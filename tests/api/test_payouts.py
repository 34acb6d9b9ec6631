"""Paying contributors: the plan, runs, what becomes of payouts, and two at once on connections of their own."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from paletta_server.accounts import directory
from paletta_server.core.errors import Conflict
from paletta_server.earnings import payouts, posting, service
from paletta_server.orders import service as orders
from paletta_server.payments import service as payments
from paletta_server.payments.sandbox import desk
from tests.conftest import MakeUser, Person
from tests.support.earnings import IBAN, bank_account, exact, hold_is_over, stands
from tests.support.locks import blocked
from tests.support.orders import Sold, Till
from tests.support.payments import Counter, at_its_address
from tests.support.stack import MailSink

PATH = "/v1/admin/payouts"


@pytest.fixture
async def seller(make_user: MakeUser) -> Person:
    return await make_user("contributor")


@pytest.fixture
async def counter(app: FastAPI, make_user: MakeUser, seller: Person) -> AsyncIterator[Counter]:
    customer = await make_user("customer")
    async with at_its_address(app) as runtime:
        yield Counter(runtime, await Till.of(runtime, customer.email, seller.email))


class Desk:
    """An operator who pays, through the API."""

    def __init__(self, client: httpx.AsyncClient, admin: Person) -> None:
        self.client, self.admin = client, admin

    async def call(self, method: str, path: str = "", status: int = 200, **options: Any) -> Any:
        headers = {**self.admin.headers, **options.pop("headers", {})}
        answer = await self.client.request(method, PATH + path, headers=headers, **options)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def plan(self) -> Any:
        return await self.call("GET", "/plan")

    async def run(self, status: int = 201, **options: Any) -> Any:
        return await self.call("POST", "", status, json={"digest": (await self.plan())["digest"]}, **options)


@pytest.fixture
def operator(client: httpx.AsyncClient, admin: Person) -> Desk:
    return Desk(client, admin)


async def sell(counter: Counter, *prices: int) -> Sold:
    """Paid, and posted."""
    sold = await counter.order(*prices)
    payment = await counter.begin(sold.order.id)
    async with counter.runtime.db.transaction() as session:
        await desk.act(session, str(payment.reference), "success", desk.Telling(copies=0))
    await payments.settle(counter.runtime, payment.id)
    return sold


async def mine(counter: Counter) -> dict[str, int]:
    await exact(counter.runtime)
    return await stands(counter.runtime, counter.till.contributor)


async def test_from_the_plan_to_the_mail(
    counter: Counter,
    operator: Desk,
    seller: Person,
    client: httpx.AsyncClient,
    mailbox: MailSink,
    run_jobs: Callable[[], Awaitable[None]],
) -> None:
    await sell(counter, 12000)
    await hold_is_over(counter)
    await sell(counter, 1000)
    await bank_account(counter.runtime, counter.till.contributor)
    plan = await operator.plan()
    [line] = plan["lines"]
    assert line.items() >= {"email": seller.email, "amount": 6000, "on_hold": 500, "outcome": "pay"}.items()
    assert (line["account"], plan["totals"]) == ("DE…3000", {"USD": 6000})
    made = await operator.run()
    assert (made["payouts"], made["in_transit"], made["totals"]) == (1, 1, {"USD": 6000})
    assert await mine(counter) == {"pending": 500, "in_transit": 6000}
    assert (await operator.call("GET"))["items"][0].items() <= made.items()
    export = await client.get(f"{PATH}/{made['id']}/export", headers=operator.admin.headers)
    assert export.headers["content-type"] == "text/csv; charset=utf-8"
    [row] = csv.DictReader(io.StringIO(export.text))
    assert (row["account"], row["amount"], row["currency"]) == (IBAN, "60.00", "USD")
    done = await operator.call("POST", f"/{made['id'][:9]}/confirm", json={})
    assert (done["paid"], done["in_transit"]) == (1, 0)
    assert await operator.call("POST", f"/{made['id']}/confirm", json={}) == done, (
        "saying so again changes nothing"
    )
    assert await mine(counter) == {"pending": 500, "paid": 6000}
    await run_jobs()
    [mail] = mailbox.to(seller.email)
    assert mail["Subject"] == "You were paid 60.00 USD"
    assert IBAN not in mail.as_string()
    statement = (await client.get("/v1/me/earnings/statement", headers=seller.headers)).json()
    assert [(one["kind"], one["royalty"]) for one in statement["items"]][-2:] == [
        ("sale", 500),
        ("payout", -6000),
    ]
    assert statement["sums"][0].items() >= {"payouts": -6000, "closing": 500, "paid": 6000}.items()
    async with counter.runtime.db.transaction() as session:
        logged = await session.scalars(
            text("SELECT action FROM audit_logs WHERE action LIKE 'payout%' ORDER BY id")
        )
    assert list(logged) == ["payout:made", "payouts:exported", "payout:paid"]


async def test_what_failed_is_payable_again(
    counter: Counter,
    operator: Desk,
    seller: Person,
    client: httpx.AsyncClient,
    mailbox: MailSink,
    run_jobs: Callable[[], Awaitable[None]],
) -> None:
    await sell(counter, 12000)
    await hold_is_over(counter)
    await bank_account(counter.runtime, counter.till.contributor)
    first = (await operator.run())["items"][0]["id"]
    failed = {"payouts": [first], "reason": "the account is closed"}
    told = await operator.call("POST", "/mark-failed", json=failed)
    assert (told["items"][0]["status"], told["items"][0]["failure"]) == ("failed", "the account is closed")
    await operator.call("POST", "/mark-failed", json=failed)
    assert await mine(counter) == {"payable": 6000}
    made = await operator.run()
    second = made["items"][0]["id"]
    confirmed = await operator.call("POST", f"/{made['id']}/confirm", json={"payouts": [second]})
    assert confirmed["paid"] == 1
    assert await mine(counter) == {"paid": 6000}
    await operator.call("POST", "/mark-failed", json={"payouts": [second], "reason": "the bank sent it back"})
    assert await mine(counter) == {"payable": 6000}
    gone = await operator.call("POST", f"/{made['id']}/confirm", 409, json={"payouts": [second]})
    assert gone["code"] == "payout_failed"
    export = await client.get(f"{PATH}/{made['id']}/export", headers=operator.admin.headers)
    assert len(export.text.splitlines()) == 1, "what failed is not transferred again"
    await run_jobs()
    subjects = [str(mail["Subject"]) for mail in mailbox.to(seller.email)]
    assert sorted(subjects) == ["A payout did not reach you"] * 2 + ["You were paid 60.00 USD"]


async def test_who_is_not_paid_and_why(counter: Counter, operator: Desk, make_user: MakeUser) -> None:
    why = {}
    for price, outcome in (
        (20000, "no_details"),
        (9998, "below_minimum"),
        (20000, "disabled"),
        (20000, "deleted"),
        (20000, "erased"),
        (10000, "pay"),
    ):
        person = await make_user("contributor", email=f"{outcome.replace('_', '-')}@example.org")
        counter.till = await Till.of(counter.runtime, *[(await _customer(counter)), person.email])
        await sell(counter, price)
        if outcome != "no_details":
            await bank_account(counter.runtime, counter.till.contributor)
        why[person.email] = outcome
    await hold_is_over(counter)
    async with counter.runtime.db.transaction() as session:
        await session.execute(text("UPDATE users SET status = 'disabled' WHERE email LIKE 'disabled@%'"))
        await session.execute(text("UPDATE users SET deleted_at = now() WHERE email ~ '^(deleted|erased)@'"))
        await session.execute(text("UPDATE users SET erased_at = now() WHERE email LIKE 'erased@%'"))
    plan = await operator.plan()
    assert {line["email"]: line["outcome"] for line in plan["lines"]} == why
    made = await operator.run()
    assert [(one["email"], one["amount"]) for one in made["items"]] == [("pay@example.org", 5000)]
    nothing = await operator.run(409)
    assert nothing["code"] == "nothing_due"
    await exact(counter.runtime)


async def _customer(counter: Counter) -> str:
    async with counter.runtime.db.transaction() as session:
        return (await directory.people(session, [counter.till.customer]))[counter.till.customer].email


async def test_what_was_refunded_after_its_payout_is_netted_by_the_next(
    counter: Counter, operator: Desk
) -> None:
    first = await sell(counter, 12000)
    await hold_is_over(counter)
    await bank_account(counter.runtime, counter.till.contributor)
    await operator.call("POST", f"/{(await operator.run())['id']}/confirm", json={})
    await payments.refund(counter.runtime, first.order.id, None, "asked for", None)
    assert await mine(counter) == {"payable": -6000, "paid": 6000}
    assert [line["outcome"] for line in (await operator.plan())["lines"]] == ["owes"]
    await sell(counter, 30000)
    await hold_is_over(counter)
    made = await operator.run()
    assert made["totals"] == {"USD": 9000}
    assert await mine(counter) == {"in_transit": 9000, "paid": 6000}


async def test_exactly_what_was_shown_is_paid(counter: Counter, operator: Desk, make_user: MakeUser) -> None:
    await sell(counter, 12000)
    await hold_is_over(counter)
    await bank_account(counter.runtime, counter.till.contributor)
    digest = (await operator.plan())["digest"]
    await sell(counter, 2000)
    await hold_is_over(counter)
    stale = await operator.call("POST", "", 409, json={"digest": digest})
    assert stale["code"] == "plan_changed"
    key = {"Idempotency-Key": "once"}
    made = await operator.run(headers=key)
    [run] = (await operator.call("GET"))["items"]
    assert run["id"] == made["id"]
    async with counter.runtime.db.transaction() as session:
        digest = await session.scalar(text("SELECT digest FROM payout_runs"))
    again = await operator.call("POST", "", 201, json={"digest": digest}, headers=key)
    assert again == made
    other = await operator.call("POST", "", 409, json={"digest": "whatever"}, headers=key)
    assert other["code"] == "key_reused"
    omar = Desk(operator.client, await make_user("admin", email="omar@example.org"))
    foreign = await omar.call("POST", "", 409, json={"digest": digest}, headers=key)
    assert foreign["code"] == "key_reused", "a key is one operator's"
    assert (await operator.call("GET", "/run_2222", 404))["code"] == "not_found"


async def test_plans_of_equal_sums_are_two_plans(counter: Counter, operator: Desk) -> None:
    await bank_account(counter.runtime, counter.till.contributor)
    plans = []
    for _ in range(2):
        await sell(counter, 12000)
        await hold_is_over(counter)
        plans.append(await operator.plan())
        await operator.run()
    assert plans[0]["totals"] == plans[1]["totals"] == {"USD": 6000}
    assert plans[0]["digest"] != plans[1]["digest"]


# ---- two at once


async def due(counter: Counter, price: int = 12000) -> tuple[Sold, str]:
    """Something to pay, and the plan for it."""
    sold = await sell(counter, price)
    await hold_is_over(counter)
    await bank_account(counter.runtime, counter.till.contributor)
    async with counter.runtime.db.transaction() as session:
        return sold, (await payouts.plan(session, counter.runtime.settings)).digest


async def a_run(counter: Counter, operator: Any, digest: str) -> str:
    try:
        async with counter.runtime.db.transaction() as session:
            made = await payouts.run(session, counter.runtime.settings, operator, digest=digest, key=None)
    except Conflict as error:
        return error.code
    return made.id


@pytest.fixture
async def acting(counter: Counter, admin: Person) -> Any:
    """The admin as the service's functions take them."""
    async with counter.runtime.db.transaction() as session:
        found = await directory.person(session, admin.email)
    return type("Acting", (), {"user_id": found.id, "uid": found.uid, "email": found.email})


async def test_two_runs_at_once_pay_once(counter: Counter, acting: Any) -> None:
    _, digest = await due(counter)
    async with counter.runtime.db.transaction() as session:
        await payouts.run(session, counter.runtime.settings, acting, digest=digest, key=None)
        others = [asyncio.create_task(a_run(counter, acting, digest)) for _ in range(3)]
        await blocked(counter.runtime, 3)
    assert await asyncio.gather(*others) == ["nothing_due"] * 3
    assert await mine(counter) == {"in_transit": 6000}


async def test_an_erasure_waits_for_a_run_and_sees_its_payout_on_the_way(
    counter: Counter, acting: Any, client: httpx.AsyncClient, admin: Person, seller: Person
) -> None:
    """Were it not to wait, it would give up for its contributor what is being paid to them."""
    _, digest = await due(counter)
    body = {"id": seller.uid, "waive_earnings": True}
    async with counter.runtime.db.transaction() as session:
        await payouts.run(session, counter.runtime.settings, acting, digest=digest, key=None)
        erasing = asyncio.create_task(
            client.post(f"/v1/admin/users/{seller.uid}/erase", json=body, headers=admin.headers)
        )
        await blocked(counter.runtime)
    refused = await erasing
    assert refused.status_code == 409, refused.text
    assert refused.json()["code"] == "unsettled"
    assert await mine(counter) == {"in_transit": 6000}


async def test_a_refund_in_the_middle_of_a_run(counter: Counter, acting: Any) -> None:
    """Neither waits for the other: what was paid out is owed after."""
    sold, digest = await due(counter)
    async with counter.runtime.db.transaction() as session:
        await payouts.run(session, counter.runtime.settings, acting, digest=digest, key=None)
        await payments.refund(counter.runtime, sold.order.id, {sold.items[0].id: 2400}, "asked for", None)
        assert await stands(counter.runtime, counter.till.contributor) == {"payable": 5000}
    assert await mine(counter) == {"payable": -1000, "in_transit": 6000}


async def test_a_run_against_refunds_again_and_again(counter: Counter, acting: Any) -> None:
    sold, digest = await due(counter, 60000)

    async def refund() -> None:
        await payments.refund(counter.runtime, sold.order.id, {sold.items[0].id: 101}, "asked for", None)

    codes = await asyncio.gather(
        *(refund() for _ in range(4)), *(a_run(counter, acting, digest) for _ in range(3))
    )
    paid = [code for code in codes if code and code.startswith("run_")]
    assert len(paid) <= 1
    stood = await mine(counter)
    assert sum(stood.values()) == 30000 - 168, "404 of 72000 went back: 59663 are left before tax"
    assert stood.get("in_transit", 0) in ({30000} if paid else {0})


async def test_settling_against_the_end_of_a_hold(counter: Counter) -> None:
    """The refund waits for the order's lock, and then finds that the royalty is payable."""
    sold = await sell(counter, 12000)
    async with counter.runtime.db.transaction() as session:
        order = await orders.lock(session, sold.order.id)
        await posting.release(session, order, timedelta(0))
        refund = asyncio.create_task(
            payments.refund(counter.runtime, sold.order.id, {sold.items[0].id: 2400}, "asked for", None)
        )
        await blocked(counter.runtime)
    await refund
    assert await mine(counter) == {"payable": 5000}


async def test_the_end_of_a_hold_against_settling(counter: Counter) -> None:
    sold = await sell(counter, 12000)
    async with counter.runtime.db.transaction() as session:
        await session.execute(text("UPDATE royalties SET sold_at = now() - interval '31 days'"))
    async with counter.runtime.db.transaction() as session:
        order = await orders.lock(session, sold.order.id)
        releasing = [asyncio.create_task(service.release_due(counter.runtime)) for _ in range(2)]
        await blocked(counter.runtime, 2)
        await service.post(session, order)
    await asyncio.gather(*releasing)
    assert await mine(counter) == {"payable": 6000}


async def test_arrived_against_failed(counter: Counter, acting: Any) -> None:
    """Whichever is first, the money is in one place."""
    _, digest = await due(counter)
    made = await a_run(counter, acting, digest)
    async with counter.runtime.db.transaction() as session:
        payout = str(await session.scalar(text("SELECT uid FROM payouts")))
        await payouts.confirm(session, counter.runtime.settings, acting, made, None)

        async def fail() -> None:
            async with counter.runtime.db.transaction() as mine:
                await payouts.mark_failed(mine, counter.runtime.settings, acting, [payout], "sent back")

        failing = asyncio.create_task(fail())
        await blocked(counter.runtime)
    await failing
    assert await mine(counter) == {"payable": 6000}
