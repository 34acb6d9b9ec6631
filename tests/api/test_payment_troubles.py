"""What gateways and banks do that is in no happy story: they hesitate, change their minds, and answer oddly."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import httpx
import pytest
from procrastinate.exceptions import AlreadyEnqueued
from sqlalchemy import select, text

import paletta_server.tasks  # noqa: F401 (every job there is)
from paletta_server.core.jobs import REST_AT_ONCE, defer, run_worker
from paletta_server.core.runtime import Runtime
from paletta_server.orders import service as orders
from paletta_server.orders.models import Order
from paletta_server.payments import gateways, service
from paletta_server.payments.gateway import GatewayDown, PaymentState, Refused
from paletta_server.payments.models import Payment
from tests.conftest import MakeUser, Person
from tests.support.accounts import RunJobs
from tests.support.model_gateway import Book, ModelGateway
from tests.support.orders import Sold, Till
from tests.support.payments import Counter
from tests.support.stack import MailSink


@pytest.fixture
async def person(make_user: MakeUser) -> Person:
    return await make_user("customer")


@pytest.fixture
async def counter(runtime: Runtime, make_user: MakeUser, person: Person) -> Counter:
    seller = await make_user("contributor")
    return Counter(runtime, await Till.of(runtime, person.email, seller.email))


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ModelGateway:
    made = ModelGateway()
    monkeypatch.setitem(gateways.MAKERS, "model", lambda _runtime: made)
    return made


async def opened(counter: Counter, model: ModelGateway) -> tuple[Sold, Payment, Book]:
    sold = await counter.order(gateway="model")
    payment = await counter.begin(sold.order.id)
    return sold, payment, model.books[str(payment.reference)]


async def bought(counter: Counter, model: ModelGateway) -> tuple[Sold, Payment, Book]:
    sold, payment, book = await opened(counter, model)
    model.pay(book)
    await service.settle(counter.runtime, payment.id)
    return sold, payment, book


# ---- giving up


async def test_an_order_is_not_given_up_while_its_bank_decides(
    client: httpx.AsyncClient, counter: Counter, model: ModelGateway, person: Person
) -> None:
    sold, payment, book = await opened(counter, model)
    book.status = "processing"
    refused = await client.post(f"/v1/orders/{sold.uid}/cancel", headers=person.headers)
    assert (refused.status_code, refused.json()["code"]) == (409, "payment_undecided")
    model.pay(book)
    await service.settle(counter.runtime, payment.id)
    account = await counter.account(sold.order.id)
    account.check()
    assert account.order.status == "paid"


async def test_money_that_does_not_fit_keeps_its_order_open(
    client: httpx.AsyncClient, counter: Counter, model: ModelGateway
) -> None:
    sold, payment, book = await opened(counter, model)
    book.status, book.captured = "succeeded", sold.order.total - 1
    await service.settle(counter.runtime, payment.id)
    await counter.age(Order, expires_at="1 minute")
    await service.reconcile(counter.runtime)
    account = await counter.account(sold.order.id)
    assert (account.order.status, account.entitlements) == ("pending", {})
    page = await client.get(f"/checkout/return/{payment.uid}")
    assert "Nothing was charged" not in page.text
    assert "it is not what the order costs" in page.text
    given = await service.refund(counter.runtime, sold.order.id, None, "too little", None)
    assert (given.status, given.amount) == ("succeeded", sold.order.total - 1)


async def test_an_order_whose_wrong_payment_went_back_can_be_paid(
    client: httpx.AsyncClient, counter: Counter, model: ModelGateway, person: Person
) -> None:
    sold, wrong, book = await opened(counter, model)
    book.status, book.captured = "succeeded", sold.order.total - 1
    await service.settle(counter.runtime, wrong.id)
    assert (await counter.begin(sold.order.id)).id == wrong.id, "the money is there still"
    await service.refund(counter.runtime, sold.order.id, None, "too little", None)
    again = await counter.begin(sold.order.id)
    assert (again.id == wrong.id, again.status) == (False, "open")
    assert (await counter.account(sold.order.id)).order.refunded == 0
    model.pay(model.books[str(again.reference)])
    await service.settle(counter.runtime, again.id)
    await service.settle(counter.runtime, wrong.id)
    account = await counter.account(sold.order.id)
    assert (account.order.status, account.order.refunded) == ("paid", 0)
    assert [(one.status, one.captured - one.refunded) for one in account.payments] == [
        ("surplus", 0),
        ("succeeded", sold.order.total),
    ]
    assert set(account.entitlements.values()) == {"granted"}
    shown = await client.get(f"/v1/orders/{sold.uid}", headers=person.headers)
    assert (shown.json()["status"], shown.json()["refunded"]) == ("paid", 0)


async def test_another_currency_pays_nothing(
    counter: Counter, model: ModelGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    sold, payment, book = await opened(counter, model)
    model.pay(book)
    fetch = model.fetch

    async def in_yen(reference: str) -> PaymentState:
        return replace(await fetch(reference), currency="JPY")

    monkeypatch.setattr(model, "fetch", in_yen)
    await service.settle(counter.runtime, payment.id)
    assert (await counter.account(sold.order.id)).order.status == "pending"


async def test_a_checkout_that_cannot_be_closed_waits_behind_the_others(
    counter: Counter, model: ModelGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    sold, _, _ = await opened(counter, model)

    async def refuse(reference: str) -> None:
        raise Refused(f"{reference} is of no kind that can be closed")

    monkeypatch.setattr(model, "close_checkout", refuse)
    await counter.age(Order, expires_at="1 minute")
    await service.reconcile(counter.runtime)
    assert (await counter.account(sold.order.id)).order.status == "pending"
    async with counter.runtime.db.transaction() as session:
        assert await orders.expired(session) == []


async def test_what_giving_back_money_that_does_not_fit_would_do(
    client: httpx.AsyncClient, counter: Counter, model: ModelGateway, make_user: MakeUser
) -> None:
    sold, payment, book = await opened(counter, model)
    book.status, book.captured = "succeeded", sold.order.total - 1
    await service.settle(counter.runtime, payment.id)
    admin = await make_user("admin")
    path = f"/v1/admin/orders/{sold.order.number}/refunds/plan"
    plan = await client.post(path, json={"reason": "too little"}, headers=admin.headers)
    assert plan.status_code == 200, plan.text
    assert {one["right"] for one in plan.json()["items"]} == {"has ended"}


# ---- what was taken comes back


async def test_a_refund_that_fails_after_all_gives_the_right_back(
    counter: Counter, model: ModelGateway, person: Person, run_jobs: RunJobs, mailbox: MailSink
) -> None:
    sold, payment, book = await bought(counter, model)
    await service.refund(counter.runtime, sold.order.id, None, "asked for", None)
    assert (await counter.account(sold.order.id)).rights == ["revoked", "revoked"]
    [reference] = book.refunds
    model.decide_refund(book, reference, "failed")
    for _ in range(2):
        await service.settle(counter.runtime, payment.id)
    account = await counter.account(sold.order.id)
    account.check()
    assert (account.order.status, account.rights) == ("paid", ["granted", "granted"])
    await run_jobs()
    told = [str(mail["Subject"]) for mail in mailbox.to(person.email)]
    assert told.count(f"Order {sold.order.number}: your clips are yours again") == 1


async def test_a_dispute_that_an_appeal_wins_gives_the_right_back(
    counter: Counter, model: ModelGateway
) -> None:
    sold, payment, book = await bought(counter, model)
    reference = model.dispute(book)
    for word, rights in (
        ("needs_response", "suspended"),
        ("lost", "revoked"),
        ("appeal_under_review", "suspended"),
        ("won", "granted"),
    ):
        model.move_dispute(book, reference, word)
        await service.settle(counter.runtime, payment.id)
        account = await counter.account(sold.order.id)
        account.check()
        assert account.rights == [rights, rights], word


# ---- the reconciler


async def test_what_one_payment_runs_into_keeps_no_other_waiting(
    counter: Counter, model: ModelGateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, bad, _ = await opened(counter, model)
    good, _, book = await opened(counter, model)
    overdue = await counter.order(gateway="model")
    model.pay(book)
    fetch = model.fetch

    async def fetch_or_fall(reference: str) -> PaymentState:
        if reference == bad.reference:
            raise AttributeError("a field that the SDK does not have")
        return await fetch(reference)

    monkeypatch.setattr(model, "fetch", fetch_or_fall)
    async with counter.runtime.db.transaction() as session:
        await session.execute(text("UPDATE payments SET next_check_at = now() - interval '1 minute'"))
        await session.execute(
            text("UPDATE orders SET expires_at = now() - interval '1 minute' WHERE id = :id"),
            {"id": overdue.order.id},
        )
    await service.reconcile(counter.runtime)
    assert (await counter.account(good.order.id)).order.status == "paid"
    assert (await counter.account(overdue.order.id)).order.status == "expired"
    assert "a field that the SDK does not have" in caplog.text


async def test_a_gateway_that_is_away_is_asked_once_a_run(
    counter: Counter, model: ModelGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        await opened(counter, model)
    elsewhere = await counter.order(gateway="invoice")
    await counter.age(Order, expires_at="1 minute")
    await counter.age(Payment, next_check_at="1 minute")
    asked: list[str] = []

    async def away(reference: str) -> PaymentState:
        asked.append(reference)
        raise GatewayDown("no answer")

    monkeypatch.setattr(model, "fetch", away)
    await service.reconcile(counter.runtime)
    assert len(asked) == 1
    assert (await counter.account(elsewhere.order.id)).order.status == "expired", "others are looked after"


class Asleep(ModelGateway):
    """A gateway that has stopped answering, without hanging up."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = 0
        self.awake = asyncio.Event()

    async def fetch(self, reference: str) -> PaymentState:
        self.waiting += 1
        await self.awake.wait()
        self.waiting -= 1
        return await super().fetch(reference)


async def test_a_gateway_that_sleeps_takes_one_slot_of_the_worker(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each turn of the reconciler that comes meanwhile ends at once, and what else is to do is done."""
    asleep = Asleep()
    monkeypatch.setitem(gateways.MAKERS, "model", lambda _runtime: asleep)
    await opened(counter, asleep)

    async def waiting(name: str) -> list[str]:
        async with counter.runtime.db.transaction() as session:
            query = text("SELECT status::text FROM procrastinate_jobs WHERE task_name = :name")
            return list(await session.scalars(query, {"name": name}))

    async def turn() -> None:
        await counter.age(Payment, next_check_at="1 minute")
        async with counter.runtime.db.transaction() as session:
            with suppress(AlreadyEnqueued):  # by the clock
                await defer(session, "payments.reconcile")

    async def until(fits: Callable[[], Awaitable[bool]]) -> None:
        for _ in range(1500):
            if await fits():
                return
            await asyncio.sleep(0.02)
        raise AssertionError(await waiting("payments.reconcile"))

    async def asked() -> bool:
        return asleep.waiting == 1

    async def taken() -> bool:
        return "todo" not in await waiting("payments.reconcile")

    async def alone() -> bool:
        return await waiting("payments.reconcile") == ["doing"]

    async def cleared() -> bool:
        return not await waiting("search.prune")

    await turn()
    working = asyncio.create_task(run_worker(counter.runtime, name="test", concurrency=1))
    try:
        await until(asked)
        for _ in range(REST_AT_ONCE):
            await turn()
            await until(taken)
        async with counter.runtime.db.transaction() as session:
            await defer(session, "search.prune")
        await until(cleared)
        await until(alone)
        assert asleep.waiting == 1
    finally:
        asleep.awake.set()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def test_settling_at_once_never_deadlocks(counter: Counter, model: ModelGateway) -> None:
    """Old news and new news of one payment, from many connections."""
    sold, payment, book = await bought(counter, model)
    for amount in (100, 200, 300):
        model.give_back(book, amount)
        await asyncio.gather(*(service.settle(counter.runtime, payment.id) for _ in range(8)))
    account = await counter.account(sold.order.id)
    account.check()
    assert account.order.refunded == 600


# ---- keys


@pytest.fixture
def operator(client: httpx.AsyncClient, make_user: MakeUser) -> Any:
    async def refund(sold: Sold, key: str, **wanted: Any) -> httpx.Response:
        admin = await make_user("admin")
        headers = {**admin.headers, "Idempotency-Key": key}
        return await client.post(f"/v1/admin/orders/{sold.uid}/refunds", json=wanted, headers=headers)

    return refund


async def test_a_key_stands_for_one_refund(counter: Counter, model: ModelGateway, operator: Any) -> None:
    sold, _, _ = await bought(counter, model)
    part = {"reason": "one frame is black", "items": {sold.items[0].uid: 100}}
    first = await operator(sold, "key-1", **part)
    assert (await operator(sold, "key-1", **part)).json()["id"] == first.json()["id"]
    other = await operator(sold, "key-1", reason="everything")
    assert (other.status_code, other.json()["code"]) == (409, "key_reused")
    assert (await counter.account(sold.order.id)).order.refunded == 100


# ---- invoices


async def test_a_late_transfer_pays_while_the_files_are_held(
    client: httpx.AsyncClient, counter: Counter, make_user: MakeUser
) -> None:
    admin = await make_user("admin")
    numbers = []
    for days in (80, 100):
        sold = await counter.till.sell(paid=False, store=False, gateway="invoice", purchase_order="PO")
        await counter.begin(sold.order.id)
        async with counter.runtime.db.transaction() as session:
            for table, column in (("orders", "expires_at"), ("invoices", "expires_at")):
                await session.execute(text(f"UPDATE {table} SET {column} = now() - interval '1 minute'"))
        await service.reconcile(counter.runtime)
        async with counter.runtime.db.transaction() as session:
            await session.execute(
                text("UPDATE orders SET closed_at = now() - make_interval(days => :days) WHERE id = :id"),
                {"days": days, "id": sold.order.id},
            )
            keys = list(
                await session.scalars(
                    text(
                        "SELECT key FROM order_item_files f JOIN order_items i ON i.id = f.order_item_id"
                        " WHERE i.order_id = :id"
                    ),
                    {"id": sold.order.id},
                )
            )
            held = await orders.held(session, keys)
        assert bool(held.reserved) == (days < 90)
        numbers.append(sold.order.number)
    answers = [
        await client.post(f"/v1/admin/orders/{number}/mark-paid", json={}, headers=admin.headers)
        for number in numbers
    ]
    assert answers[0].json()["status"] == "paid"
    assert (answers[1].status_code, answers[1].json()["code"]) == (409, "closed_too_long")
    async with counter.runtime.db.transaction() as session:
        statuses = list(await session.scalars(select(Order.status).order_by(Order.id)))
    assert statuses == ["paid", "expired"]
