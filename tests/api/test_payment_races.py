"""Two at once, on connections of their own: whoever wins, the money is right."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select, text

from paletta_server.core.errors import Conflict
from paletta_server.delivery.models import Entitlement
from paletta_server.payments import inbox, service
from paletta_server.payments.models import ExternalEvent, Payment, Refund
from paletta_server.payments.sandbox import desk
from paletta_server.payments.sandbox.models import SandboxEvent, SandboxRefund
from paletta_server.payments.sandbox.signing import HEADER, sign
from tests.conftest import MakeUser
from tests.support.orders import Sold, Till
from tests.support.payments import Counter, at_its_address, count


@pytest.fixture
async def counter(app: FastAPI, make_user: MakeUser) -> AsyncIterator[Counter]:
    customer, seller = await make_user("customer"), await make_user("contributor")
    async with at_its_address(app) as runtime:
        yield Counter(runtime, await Till.of(runtime, customer.email, seller.email))


async def paid_at_the_gateway(counter: Counter) -> tuple[Sold, Payment]:
    """An order whose money was taken and of which nobody has told us; no event is on its way."""
    sold = await counter.order()
    payment = await counter.begin(sold.order.id)
    async with counter.runtime.db.transaction() as session:
        await desk.act(session, str(payment.reference), "success", desk.Telling(copies=0))
    return sold, payment


async def fulfilled_once(counter: Counter, sold: Sold) -> None:
    account = await counter.account(sold.order.id)
    account.check()
    assert account.order.status == "paid"
    assert len([event for event in account.events if event.kind == "captured"]) == 1
    assert await count(counter.runtime, Entitlement) == len(sold.items)
    async with counter.runtime.db.transaction() as session:
        mails = await session.scalar(
            text("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'delivery.announce'")
        )
    assert mails == 1, "the customer is told once"


async def test_two_webhooks_of_one_event_are_one(counter: Counter) -> None:
    sold, _ = await paid_at_the_gateway(counter)
    async with counter.runtime.db.transaction() as session:
        event = await session.scalar(
            select(SandboxEvent).where(SandboxEvent.body.contains("checkout.completed"))
        )
    assert event is not None
    secret = counter.runtime.settings.sandbox_secret
    assert secret is not None
    body = event.body.encode()
    headers = {HEADER: sign(body, secret.get_secret_value())}
    async with httpx.AsyncClient(base_url=counter.runtime.settings.public_url) as client:
        answers = await asyncio.gather(
            *(client.post("/v1/webhooks/sandbox", content=body, headers=headers) for _ in range(8))
        )
    assert {answer.status_code for answer in answers} == {200}
    [stored] = await counter.events()
    assert stored.payload == json.loads(body)
    await asyncio.gather(*(inbox.handle(counter.runtime, stored.id, attempt=1) for _ in range(4)))
    await fulfilled_once(counter, sold)
    [handled] = await counter.events()
    assert handled.outcome == "settled"


async def test_webhook_against_return_page(counter: Counter) -> None:
    for _ in range(3):
        sold, payment = await paid_at_the_gateway(counter)
        async with counter.runtime.db.transaction() as session:
            event = ExternalEvent(
                source="sandbox",
                external_id=f"event_{payment.uid}",
                kind="checkout.completed",
                payload={},
                subject={"reference": payment.reference},
            )
            session.add(event)
        page = f"{counter.runtime.settings.public_url}/checkout/return/{payment.uid}"
        async with httpx.AsyncClient() as browser:
            await asyncio.gather(
                inbox.handle(counter.runtime, event.id, attempt=1),
                browser.get(page),
                service.settle(counter.runtime, payment.id),
                browser.get(page),
            )
            assert "Thank you" in (await browser.get(page)).text
        await fulfilled_once(counter, sold)
        async with counter.runtime.db.transaction() as session:
            await session.execute(text("DELETE FROM procrastinate_jobs"))
            await session.execute(text("DELETE FROM entitlements"))


async def test_eight_refunds_at_once_give_back_no_more_than_was_paid(counter: Counter) -> None:
    sold, payment = await paid_at_the_gateway(counter)
    await service.settle(counter.runtime, payment.id)
    first, _ = sold.items
    gross = first.amount + first.tax
    half = gross // 2

    async def ask() -> str:
        try:
            made = await service.refund(counter.runtime, sold.order.id, {first.id: half}, "asked for", None)
        except Conflict as error:
            return error.code
        return made.status

    outcomes = sorted(await asyncio.gather(*(ask() for _ in range(8))))
    assert outcomes == ["over_refund"] * 6 + ["succeeded"] * 2
    account = await counter.account(sold.order.id)
    account.check()
    assert account.order.refunded == 2 * half <= gross
    assert await count(counter.runtime, SandboxRefund) == 2, "the gateway was asked for no more"


async def test_eight_refunds_with_one_key_are_one(counter: Counter) -> None:
    sold, payment = await paid_at_the_gateway(counter)
    await service.settle(counter.runtime, payment.id)
    made = await asyncio.gather(
        *(service.refund(counter.runtime, sold.order.id, None, "asked for", None, key="k") for _ in range(8))
    )
    assert len({one.id for one in made}) == 1
    assert await count(counter.runtime, Refund) == await count(counter.runtime, SandboxRefund) == 1
    (await counter.account(sold.order.id)).check()


async def test_beginning_twice_at_once_opens_one_page(counter: Counter) -> None:
    sold = await counter.order()
    payments = await asyncio.gather(*(counter.begin(sold.order.id) for _ in range(6)))
    assert len({(one.id, one.reference, one.url) for one in payments}) == 1
    assert await count(counter.runtime, Payment) == 1


async def test_paying_against_giving_up(counter: Counter) -> None:
    """Either the page closed first and nothing is charged, or the money came first and the order is paid."""
    for _ in range(4):
        sold = await counter.order()
        payment = await counter.begin(sold.order.id)

        async def press(reference: str = str(payment.reference)) -> bool:
            try:
                async with counter.runtime.db.transaction() as session:
                    await desk.act(session, reference, "success", desk.Telling(copies=0))
            except Conflict:
                return False
            return True

        charged, _ = await asyncio.gather(press(), service.cancel(counter.runtime, sold.order.id))
        account = await counter.account(sold.order.id)
        account.check()
        assert (account.order.status == "paid") == charged
        assert account.payment.status == ("succeeded" if charged else "expired")
