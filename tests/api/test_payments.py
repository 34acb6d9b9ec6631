"""Paying in the sandbox, from the page to the entitlement, and everything that may go wrong on the way."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
from fastapi import FastAPI
from pydantic import ValidationError

from paletta_server.core.errors import NotFound
from paletta_server.core.settings import Settings
from paletta_server.orders.models import Order
from paletta_server.payments import gateways, inbox, service
from paletta_server.payments.models import ExternalEvent, Payment
from paletta_server.payments.sandbox import desk
from paletta_server.payments.sandbox.signing import HEADER, sign
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


async def test_whoever_comes_back_before_any_event_is_thanked_and_served(
    counter: Counter, browser: httpx.AsyncClient
) -> None:
    sold = await counter.order()
    url = str((await counter.begin(sold.order.id)).url)
    pressed = await browser.post(url, data={"action": "success", "copies": "0"})
    back = await browser.get(pressed.headers["location"])
    assert (back.status_code, "Thank you" in back.text) == (200, True)
    account = await counter.account(sold.order.id)
    account.check()
    assert account.rights == ["granted", "granted"]


# ---- the sandbox's page


async def test_a_declined_card_leaves_the_order_payable(counter: Counter, browser: httpx.AsyncClient) -> None:
    sold = await counter.order()
    url = str((await counter.begin(sold.order.id)).url)
    await browser.post(url, data={"action": "decline"})
    await counter.work()
    account = await counter.account(sold.order.id)
    assert (account.order.status, account.payment.status) == ("pending", "open")
    assert account.payment.failure == "the card was declined"
    assert "The card was declined." in (await browser.get(url)).text
    assert (await counter.begin(sold.order.id)).url == url, "paying again goes on at the same page"
    await browser.post(url, data={"action": "authenticate"})
    assert "Your bank asks" in (await browser.get(url)).text
    await browser.post(url, data={"action": "authenticated"})
    await counter.work()
    (await counter.account(sold.order.id)).check()
    assert "Paid" in (await browser.get(url)).text


async def test_a_dispute_holds_the_files_back_until_the_bank_decides(
    counter: Counter, browser: httpx.AsyncClient
) -> None:
    ends = {"dispute-won": "granted", "dispute-lost": "revoked"}
    for end, right in ends.items():
        sold = await counter.order()
        url = str((await counter.begin(sold.order.id)).url)
        await browser.post(url, data={"action": "dispute"})
        await counter.work()
        account = await counter.account(sold.order.id)
        assert account.rights == ["suspended", "suspended"]
        assert account.payment.disputed == account.order.total
        account.check()
        await browser.post(url, data={"action": end})
        await counter.work()
        account = await counter.account(sold.order.id)
        assert account.rights == [right, right]
        account.check()


async def test_a_strangers_form_presses_no_button(counter: Counter, browser: httpx.AsyncClient) -> None:
    sold = await counter.order()
    url = str((await counter.begin(sold.order.id)).url)
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "none"}):
        answer = await browser.post(url, data={"action": "success"}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "cross_site")
    assert (await browser.get(url)).headers["content-security-policy"].startswith("default-src 'none'")
    assert (await browser.get(f"{url}0")).status_code == 404
    assert (await counter.account(sold.order.id)).payment.captured == 0


async def test_events_may_come_twice_backwards_or_never(counter: Counter, browser: httpx.AsyncClient) -> None:
    for form in ({"copies": "3", "backwards": "true"}, {"copies": "0"}):
        sold = await counter.order()
        url = str((await counter.begin(sold.order.id)).url)
        await browser.post(url, data={"action": "success", **form})
        await counter.work()
        account = await counter.account(sold.order.id)
        if form["copies"] == "0":
            assert account.order.status == "pending", "nobody told us"
            await counter.age(Payment, next_check_at="1 second")
            await service.reconcile(counter.runtime)
            account = await counter.account(sold.order.id)
        account.check()
        assert account.order.status == "paid"
        assert len([event for event in account.events if event.kind == "captured"]) == 1


async def test_the_sandbox_is_closed_in_production(counter: Counter, app: FastAPI) -> None:
    sold = await counter.order()
    url = str((await counter.begin(sold.order.id)).url)
    strict = counter.runtime.settings.model_copy(update={"env": "production"})
    app.state.runtime = replace(counter.runtime, settings=strict)
    async with httpx.AsyncClient(headers={"Sec-Fetch-Site": "same-origin"}) as client:
        for answer in (
            await client.get(url),
            await client.post(url, data={"action": "success"}),
            await client.post(f"{counter.runtime.settings.public_url}/v1/webhooks/sandbox", content=b"{}"),
        ):
            assert answer.status_code == 404
    with pytest.raises(NotFound):
        gateways.of(app.state.runtime, "sandbox")
    with pytest.raises(ValidationError):
        Settings(_env_file=None, env="production", public_url="https://shop.example", gateways=("sandbox",))


# ---- without a browser


async def test_the_owner_pays_by_command(
    counter: Counter, customer: Person, make_user: MakeUser, browser: httpx.AsyncClient
) -> None:
    sold = await counter.order()
    path = f"/v1/orders/{sold.order.number}/sandbox"
    stranger = await make_user("admin")
    refused = await browser.post(path, json={"action": "success"}, headers=stranger.headers)
    assert refused.status_code == 404, "not even an operator"
    answer = await browser.post(path, json={"action": "decline"}, headers=customer.headers)
    assert (answer.status_code, answer.json()["failure"]) == (200, "the card was declined")
    answer = await browser.post(path, json={"action": "success"}, headers=customer.headers)
    assert answer.json()["status"] == "complete"
    await counter.work()
    assert (await counter.account(sold.order.id)).order.status == "paid"
    again = await browser.post(path, json={"action": "success"}, headers=customer.headers)
    assert (again.status_code, again.json()["code"]) == (409, "checkout_over")
    invoiced = await counter.order(gateway="invoice", purchase_order="PO 7")
    answer = await browser.post(f"/v1/orders/{invoiced.uid}/sandbox", json={}, headers=customer.headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "not_sandbox")


# ---- invoices, refunds and what operators see


async def test_an_invoice_is_paid_when_an_operator_says_so(
    counter: Counter, customer: Person, make_user: MakeUser, browser: httpx.AsyncClient
) -> None:
    sold = await counter.order(gateway="invoice", purchase_order="PO 7")
    assert (await counter.begin(sold.order.id)).url is None
    admin = await make_user("admin")
    path = f"/v1/admin/orders/{sold.order.number}/mark-paid"
    assert (await browser.post(path, json={}, headers=customer.headers)).status_code == 403
    for _ in range(2):
        answer = await browser.post(path, json={"reference": "SEPA 4711"}, headers=admin.headers)
        assert (answer.status_code, answer.json()["status"]) == (200, "paid")
        assert [one["captured"] for one in answer.json()["payments"]] == [sold.order.total]
    (await counter.account(sold.order.id)).check()
    late = await counter.order(gateway="invoice", purchase_order="PO 8")
    await counter.begin(late.order.id)
    await counter.age(Order, expires_at="1 hour")
    await service.reconcile(counter.runtime)
    assert (await counter.account(late.order.id)).order.status == "expired"
    answer = await browser.post(f"/v1/admin/orders/{late.uid}/mark-paid", json={}, headers=admin.headers)
    assert answer.json()["status"] == "paid", "money that comes late buys what it was meant for"


async def test_refunds_take_back_what_was_given_back_whole(
    counter: Counter, customer: Person, make_user: MakeUser, browser: httpx.AsyncClient
) -> None:
    sold = await counter.order()
    await browser.post(f"/v1/orders/{sold.uid}/sandbox", json={}, headers=customer.headers)
    await counter.work()
    admin = await make_user("admin")
    first, _ = sold.items
    path, headers = f"/v1/admin/orders/{sold.uid}/refunds", {**admin.headers, "Idempotency-Key": "one"}
    part = {"reason": "the file was damaged", "items": {first.uid: 1000}}
    made = [await browser.post(path, json=part, headers=headers) for _ in range(2)]
    assert [one.status_code for one in made] == [201, 201]
    assert made[0].json()["id"] == made[1].json()["id"], "asked twice, given once"
    other = {"reason": "more", "items": {first.uid: 1001}}
    reused = await browser.post(path, json=other, headers=headers)
    assert (reused.status_code, reused.json()["code"]) == (409, "key_reused")
    account = await counter.account(sold.order.id)
    assert (account.order.status, account.rights) == ("partially_refunded", ["granted", "granted"])
    too_much = {"reason": "more", "items": {first.uid: first.amount + first.tax - 999}}
    refused = await browser.post(path, json=too_much, headers=admin.headers)
    assert (refused.status_code, refused.json()["code"]) == (409, "over_refund")
    rest = {"reason": "the rest of it", "items": {first.uid: first.amount + first.tax - 1000}}
    assert (await browser.post(path, json=rest, headers=admin.headers)).json()["status"] == "succeeded"
    account = await counter.account(sold.order.id)
    assert account.rights == ["revoked", "granted"]
    await browser.post(path, json={"reason": "everything"}, headers=admin.headers)
    account = await counter.account(sold.order.id)
    assert (account.order.status, account.rights) == ("refunded", ["revoked", "revoked"])
    account.check()
    seen = (await browser.get(f"/v1/orders/{sold.uid}/refunds", headers=customer.headers)).json()["items"]
    assert [(one["status"], one["amount"]) for one in seen[:2]] == [
        ("succeeded", 1000),
        ("succeeded", first.amount + first.tax - 1000),
    ]
    assert sum(one["amount"] for one in seen) == account.order.total
    assert not any("reason" in one for one in seen), "the operators' words are theirs"
    strangers = await browser.get(f"/v1/orders/{sold.uid}/refunds", headers=admin.headers)
    assert strangers.status_code == 404
    nothing = await browser.post(path, json={"reason": "again"}, headers=admin.headers)
    assert nothing.json()["code"] == "nothing_left"


async def test_a_disputed_payment_is_not_refunded_too(
    counter: Counter, customer: Person, make_user: MakeUser, browser: httpx.AsyncClient
) -> None:
    sold = await counter.order()
    await browser.post(f"/v1/orders/{sold.uid}/sandbox", json={"action": "dispute"}, headers=customer.headers)
    await counter.work()
    admin = await make_user("admin")
    answer = await browser.post(
        f"/v1/admin/orders/{sold.uid}/refunds", json={"reason": "sorry"}, headers=admin.headers
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "disputed")


async def test_an_order_that_costs_nothing_is_paid_at_once(counter: Counter) -> None:
    sold = await counter.order(0)
    payment = await counter.begin(sold.order.id)
    assert (payment.status, payment.url) == ("succeeded", None)
    account = await counter.account(sold.order.id)
    assert (account.order.status, account.rights) == ("paid", ["granted"])


async def test_unpaid_orders_expire_after_their_page_was_closed(
    counter: Counter, browser: httpx.AsyncClient
) -> None:
    sold, paid = await counter.order(), await counter.order()
    url, paid_url = [str((await counter.begin(one.order.id)).url) for one in (sold, paid)]
    await browser.post(paid_url, data={"action": "success", "copies": "0"})
    await counter.age(Order, expires_at="1 minute")
    await service.reconcile(counter.runtime)
    assert (await counter.account(sold.order.id)).order.status == "expired"
    assert "This checkout is over" in (await browser.get(url)).text
    late = await counter.account(paid.order.id)
    assert late.order.status == "paid", "money that came in time counts, however late we hear of it"
    late.check()


# ---- the inbox


def _event(secret: str, *, at: int | None = None, **changes: object) -> tuple[bytes, dict[str, str]]:
    told = {"id": "event_1", "type": "payment.succeeded", "checkout": "co", "payment": "pay"} | changes
    body = json.dumps(told).encode()
    return body, {HEADER: sign(body, secret, at=at)}


async def test_forged_and_replayed_events_are_refused(counter: Counter, browser: httpx.AsyncClient) -> None:
    secret = counter.runtime.settings.sandbox_secret
    assert secret is not None
    good = secret.get_secret_value()
    body, headers = _event(good)
    _, foreign = _event("another secret")
    now = int(time.time())
    stale, early = _event(good, at=now - 301)[1], _event(good, at=now + 400)[1]
    cut = {HEADER: headers[HEADER].partition(",")[0]}
    for bad in (foreign, stale, early, cut, {}, {HEADER: "t=,v1="}, {HEADER: "nonsense"}):
        answer = await browser.post("/v1/webhooks/sandbox", content=body, headers=bad)
        assert answer.status_code == 400, bad
    tampered = await browser.post("/v1/webhooks/sandbox", content=body + b" ", headers=headers)
    assert (tampered.status_code, tampered.json()["code"]) == (400, "bad_signature")
    assert await counter.events() == []
    too_long = b" " * (512 * 1024 + 1)
    assert (await browser.post("/v1/webhooks/sandbox", content=too_long)).json()["code"] == "body_too_large"
    for closed in ("stripe", "invoice", "nobody"):
        answer = await browser.post(f"/v1/webhooks/{closed}", content=body, headers=headers)
        assert answer.status_code == 404, "no secret, no door"


async def test_an_event_is_stored_once_and_unknown_ones_are_kept(
    counter: Counter, browser: httpx.AsyncClient
) -> None:
    secret = counter.runtime.settings.sandbox_secret
    assert secret is not None
    unknown, headers = _event(secret.get_secret_value())
    aside, aside_headers = _event(
        secret.get_secret_value(), id="event_2", type="balance.available", checkout=None, payment=None
    )
    for _ in range(3):
        assert (
            await browser.post("/v1/webhooks/sandbox", content=unknown, headers=headers)
        ).status_code == 200
        await browser.post("/v1/webhooks/sandbox", content=aside, headers=aside_headers)
    await counter.work()
    outcomes = {event.external_id: event.outcome for event in await counter.events()}
    assert outcomes == {"event_1": "no such payment", "event_2": "kept"}
    await counter.age(ExternalEvent, handled_at="31 days")
    async with counter.runtime.db.transaction() as session:
        assert await inbox.prune(session) == 2


async def test_an_event_may_be_quicker_than_what_it_is_about(counter: Counter) -> None:
    """The gateway tells of a checkout before we have written down that we opened it."""
    sold = await counter.order()
    payment = await counter.begin(sold.order.id)
    reference = payment.reference
    async with counter.runtime.db.transaction() as session:
        await desk.act(session, str(reference), "success", desk.Telling())
        row = await session.get_one(Payment, payment.id)
        row.reference, row.url, row.status = None, None, "created"
    await counter.work()
    account = await counter.account(sold.order.id)
    assert (account.payment.reference, account.order.status) == (reference, "paid")
    account.check()
