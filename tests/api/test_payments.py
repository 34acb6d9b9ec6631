"""Paying in the sandbox, from the page to the entitlement, and everything that may go wrong on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from tests.conftest import MakeUser, Person
from tests.support.orders import Till
from tests.support.payments import Counter, at_its_address


@pytest.fixture
async def customer(make_user: MakeUser) -> Person:
    return await make_user("customer")


@pytest.fixture
async def counter(app: FastAPI, make_user: MakeUser, customer: Person) -> AsyncIterator[Counter]:
    seller = await make_user("contributor")
    async with at_its_address(app) as runtime:
        yield Counter(runtime, await Till.of(runtime, customer.email, seller.email))


@pytest.fixture
async def browser(counter: Counter) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody's browser: it says that a form comes from the page it was on."""
    async with httpx.AsyncClient(
        base_url=counter.runtime.settings.public_url, headers={"Sec-Fetch-Site": "same-origin"}
    ) as client:
        yield client


async def test_paying_on_the_page_grants_what_was_ordered(
    counter: Counter, browser: httpx.AsyncClient
) -> None:
    sold = await counter.order()
    payment = await counter.begin(sold.order.id)
    assert payment.url is not None
    shown = await browser.get(payment.url)
    assert shown.status_code == 200
    assert "Test page" in shown.text
    assert sold.order.number in shown.text
    pressed = await browser.post(payment.url, data={"action": "success"})
    assert pressed.status_code == 303
    await counter.work()
    account = await counter.account(sold.order.id)
    account.check()
    assert account.order.status == "paid"
    assert account.rights == ["granted", "granted"]
    back = await browser.get(pressed.headers["location"])
    assert "Thank you" in back.text
    assert {event.outcome for event in await counter.events()} == {"settled"}
