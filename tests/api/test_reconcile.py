"""What differs between our books and the gateways' is found and settled; what needs a person is listed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.earnings.checking import Page as Checked
from paletta_server.payments import elsewhere, gateways, service
from paletta_server.payments.gateway import GatewayDown
from paletta_server.payments.models import Payment
from paletta_server.payments.sandbox import desk
from paletta_server.payments.sandbox.gateway import SandboxGateway
from tests.conftest import MakeUser, Person
from tests.support.orders import Sold, Till
from tests.support.payments import Counter, at_its_address

SINCE = "2020-01-01T00:00:00Z"


class Desk:
    def __init__(self, counter: Counter, client: httpx.AsyncClient, operator: Person) -> None:
        self.counter, self.client, self.operator = counter, client, operator

    async def paid(self, *, heard: bool = True, **how: Any) -> tuple[Sold, Payment]:
        """An order whose money is at the gateway; `heard`: and in our books."""
        sold = await self.counter.order()
        payment = await self.counter.begin(sold.order.id)
        await self.press(payment, "success", **how)
        if heard:
            await service.settle(self.counter.runtime, payment.id)
        return sold, payment

    async def press(self, payment: Payment, *actions: desk.Action, **how: Any) -> None:
        async with self.counter.runtime.db.transaction() as session:
            for action in actions:
                await desk.act(session, str(payment.reference), action, desk.Telling(copies=0, **how))

    async def call(self, path: str, status: int = 200, **body: Any) -> Any:
        answer = await self.client.post(f"/v1/admin/{path}", json=body, headers=self.operator.headers)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    async def compare(self, **wanted: Any) -> list[tuple[str, str | None, str | None, bool]]:
        found = await self.call("reconcile/payments", **wanted)
        return [
            (one["what"].split()[0], one["ours"], one["theirs"], one["fixed"]) for one in found["differences"]
        ]

    async def attention(self) -> list[Any]:
        answer = await self.client.get("/v1/admin/attention", headers=self.operator.headers)
        return list(answer.json()["items"])

    async def run(self, statement: str, **values: Any) -> None:
        async with self.counter.runtime.db.transaction() as session:
            await session.execute(text(statement), values)


@pytest.fixture
async def shop(app: FastAPI, make_user: MakeUser, client: httpx.AsyncClient) -> AsyncIterator[Desk]:
    customer, seller = await make_user("customer"), await make_user("contributor")
    operator = await make_user("admin")
    async with at_its_address(app) as runtime:
        yield Desk(Counter(runtime, await Till.of(runtime, customer.email, seller.email)), client, operator)


async def test_books_that_agree_have_no_differences(shop: Desk) -> None:
    sold, _ = await shop.paid()
    await service.refund(shop.counter.runtime, sold.order.id, None, "asked for", None, amount=100)
    open_ = await shop.counter.order()
    await shop.counter.begin(open_.order.id)
    page = await shop.call("reconcile/payments", limit=1)
    rest = await shop.call("reconcile/payments", limit=5, cursor=page["next_cursor"])
    assert (page["compared"], rest["compared"], rest["next_cursor"]) == (1, 1, None)
    assert page["differences"] == rest["differences"] == []


async def test_what_nobody_told_us_is_found_and_settled(shop: Desk) -> None:
    sold, payment = await shop.paid(heard=False)
    found = await shop.compare(order=sold.order.number)
    assert found == [("status", "open", "succeeded", False), ("captured", "0.00", "153.60", False)]
    fixed = await shop.compare(order=sold.order.number, fix=True)
    assert [one[0] for one in fixed if one[3]] == ["status", "captured"]
    assert await shop.compare() == []
    await shop.press(payment, "dispute")
    assert [one[:3] for one in await shop.compare()] == [
        ("disputed", "0.00", "153.60"), ("dispute", None, "needs_response"),
    ]  # fmt: skip
    assert all(one[3] for one in await shop.compare(fix=True))
    (await shop.counter.account(sold.order.id)).check()


async def test_what_settling_cannot_mend_stays_a_difference(shop: Desk) -> None:
    sold, _ = await shop.paid()
    made = await service.refund(shop.counter.runtime, sold.order.id, None, "asked for", None, amount=100)
    await shop.run("DELETE FROM sandbox_refunds")
    lost = [("refunded", "1.00", "0.00", False), ("refund", "succeeded", None, False)]
    assert await shop.compare() == lost
    assert await shop.compare(fix=True) == lost
    await shop.run("UPDATE payments SET reference = 'checkout_test_gone'")
    assert await shop.compare(fix=True) == [("checkout", "checkout_test_gone", None, False)]
    assert made.status == "succeeded"


async def test_a_gateway_that_does_not_answer_is_a_difference(
    shop: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shop.paid()

    class Away(SandboxGateway):
        async def fetch(self, reference: str) -> Any:
            raise GatewayDown("away")

    monkeypatch.setitem(gateways.MAKERS, "sandbox", Away)
    assert [one[0] for one in await shop.compare(fix=True)] == ["answer"]


async def test_what_only_the_gateway_knows_is_listed(shop: Desk) -> None:
    sold, payment = await shop.paid(heard=False)
    await shop.paid()
    await shop.run("UPDATE payments SET reference = NULL WHERE id = :id", id=payment.id)
    wanted = {"gateway": "sandbox", "since": SINCE}
    found = await shop.call("reconcile/listing", **wanted)
    [one] = found["differences"]
    assert (one["order"], one["payment"], one["ours"]) == (sold.order.number, payment.uid, None)
    [one] = (await shop.call("reconcile/listing", **wanted, fix=True))["differences"]
    assert one["fixed"]
    account = await shop.counter.account(sold.order.id)
    account.check()
    assert account.order.status == "paid"
    assert (await shop.call("reconcile/listing", **wanted))["differences"] == []
    for body, code in (({"gateway": "bank"}, "no_such_gateway"), ({"cursor": "here"}, "bad_cursor")):
        assert (await shop.call("reconcile/listing", 422, **{**wanted, **body}))["code"] == code


@dataclass(frozen=True)
class Wrong:
    what: str = "royalty"
    object: str = "P-2026-000001"
    currency: str = "USD"
    expected: int | None = 100
    found: int | None = None


async def test_ledgers_are_compared_too(shop: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def page(_session: AsyncSession, **_: object) -> Checked:
        return Checked(1, [Wrong()], None)

    monkeypatch.setattr(elsewhere, "LEDGERS", (page,))
    [one] = (await shop.call("reconcile/ledgers"))["differences"]
    assert (one["order"], one["what"], one["ours"], one["theirs"]) == (
        "P-2026-000001", "royalty", None, "1.00 USD",
    )  # fmt: skip


async def test_a_ledger_is_compared_page_by_page(shop: Desk) -> None:
    """However many orders there are, no request looks at more than a page of them."""
    for _ in range(3):
        await shop.paid()
    await shop.run("UPDATE royalties SET amount = amount + 1")
    found, cursor, pages = [], None, 0
    while cursor is not None or not pages:
        more = {"cursor": cursor} if cursor else {}
        page = await shop.call("reconcile/ledgers", limit=1, **more)
        assert page["compared"] <= 1
        found += page["differences"]
        cursor, pages = page["next_cursor"], pages + 1
    assert pages > 3
    assert {one["what"] for one in found} == {"royalty at the sale"}
    assert len(found) == len({one["order"] for one in found}) == 6, "each item of each order, once"
    whole = await shop.call("reconcile/ledgers")
    assert [one["order"] for one in whole["differences"]] == [one["order"] for one in found]
    assert (await shop.call("reconcile/ledgers", 422, cursor="0:orders-x"))["code"] == "bad_cursor"


# ---- what needs a person


async def test_what_needs_a_person_is_listed_until_somebody_looked(shop: Desk) -> None:
    assert await shop.attention() == []
    sold, payment = await shop.paid()
    made = await service.refund(shop.counter.runtime, sold.order.id, None, "asked for", None, amount=100)
    await shop.run("UPDATE sandbox_refunds SET status = 'failed'")
    await service.settle(shop.counter.runtime, payment.id)
    surplus, twice = await shop.paid()
    await shop.run("UPDATE payments SET status = 'surplus' WHERE id = :id", id=twice.id)
    unfit, little = await shop.paid(heard=False)
    await shop.run(
        "UPDATE orders SET total = total + 1, subtotal = subtotal + 1 WHERE id = :id", id=unfit.order.id
    )
    await service.settle(shop.counter.runtime, little.id)
    stuck, _ = await shop.paid()
    waiting = await service.refund(shop.counter.runtime, stuck.order.id, None, "asked for", None, amount=1)
    await shop.run("UPDATE refunds SET status = 'requested' WHERE id = :id", id=waiting.id)
    await shop.run("UPDATE refunds SET created_at = now() - interval '2 hours'")
    await shop.run(
        "INSERT INTO external_events (source, external_id, kind, payload, outcome, handled_at)"
        " VALUES ('stripe', 'evt_1', 'charge.updated', '{}', 'refused', now()),"
        " ('stripe', 'evt_2', 'charge.updated', '{}', 'settled', now())"
    )
    disputed, quarrel = await shop.paid()
    await shop.press(quarrel, "dispute")
    await service.settle(shop.counter.runtime, quarrel.id)
    await shop.run("UPDATE disputes SET due_by = now() + interval '30 days'")
    expected = {
        "refund_failed": sold.order.number, "surplus_kept": surplus.order.number,
        "amount_differs": unfit.order.number, "refund_stuck": stuck.order.number, "event_unhandled": None,
    }  # fmt: skip
    found = await shop.attention()
    assert {one["kind"]: one["order"] for one in found} == expected
    await shop.run("UPDATE disputes SET due_by = now() + interval '6 days'")
    assert {one["kind"]: one["order"] for one in await shop.attention()} == {
        **expected, "dispute_due": disputed.order.number,
    }  # fmt: skip
    for one in found:
        for _ in range(2):
            await shop.call("attention", 204, subject=one["subject"], note="spoke to them")
    assert [one["kind"] for one in await shop.attention()] == ["dispute_due"]
    unknown = await shop.call("attention", 404, subject="refund_failed:refund_nobody", note="x")
    assert unknown["code"] == "not_found"
    assert made.status == "succeeded"


async def test_a_failed_refund_that_was_tried_again_needs_nobody(shop: Desk) -> None:
    sold, payment = await shop.paid()
    await service.refund(shop.counter.runtime, sold.order.id, None, "asked for", None, amount=100)
    await shop.run("UPDATE sandbox_refunds SET status = 'failed'")
    await service.settle(shop.counter.runtime, payment.id)
    assert [one["kind"] for one in await shop.attention()] == ["refund_failed"]
    await service.refund(shop.counter.runtime, sold.order.id, None, "asked for", None, amount=100)
    assert await shop.attention() == []


async def test_an_order_is_found_by_what_somebody_remembers(shop: Desk) -> None:
    sold, payment = await shop.paid()
    other = await shop.counter.order()
    await shop.press(payment, "dispute")
    await service.settle(shop.counter.runtime, payment.id)
    email = (
        await shop.client.get(f"/v1/admin/orders/{sold.order.number}", headers=shop.operator.headers)
    ).json()["email"]

    async def found(**wanted: Any) -> list[str]:
        answer = await shop.client.get("/v1/admin/orders", params=wanted, headers=shop.operator.headers)
        assert answer.status_code == 200, answer.text
        return [one["number"] for one in answer.json()["items"]]

    both = [other.order.number, sold.order.number]
    assert await found() == await found(email=email[:12].upper()) == await found(gateway="sandbox") == both
    assert await found(number=sold.order.number.lower()) == await found(status="paid") == both[1:]
    assert await found(disputed=True) == both[1:]
    assert await found(unpaid=True) == both[:1]
    assert await found(since=SINCE, until="2021-01-01T00:00:00Z") == await found(email="nobody_%") == []


async def test_operators_cancel_and_mail_for_customers(shop: Desk) -> None:
    sold = await shop.counter.order()
    await shop.counter.begin(sold.order.id)
    done = await shop.call(f"orders/{sold.order.number}/cancel")
    assert done["status"] == "cancelled"
    assert (await shop.call(f"orders/{sold.order.number}/resend", 409))["code"] == "order_not_paid"
    async with shop.counter.runtime.db.transaction() as session:
        cart = await session.scalar(text("SELECT user_id FROM carts"))
    assert cart == sold.order.user_id
    paid, _ = await shop.paid()
    sent = await shop.call(f"orders/{paid.order.number}/resend", 202)
    assert sent["order_id"] == paid.uid
    await shop.counter.work()
    shown = await shop.client.get(f"/v1/admin/orders/{paid.uid}", headers=shop.operator.headers)
    mails = [one["subject"] for one in shown.json()["mails"]]
    assert [one.replace(paid.order.number, "1") for one in mails] == [
        "Order 1: a new download link",
        "Order 1: your clips are ready",
    ]
    assert ("order:link_resent", shop.operator.email) in [
        (one["action"], one["by"]) for one in shown.json()["trail"]
    ]
