"""Money for invoices: noted as it comes, and on its way back until an operator says that it was sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select, text

from paletta_server.payments import alarms, invoices, service
from tests.conftest import MakeUser, Person
from tests.support.orders import Sold, Till
from tests.support.payments import Counter, at_its_address
from tests.support.stack import MailSink

OPERATOR = "olga@example.org"


@dataclass
class Desk:
    counter: Counter
    client: httpx.AsyncClient
    operator: Person
    customer: Person

    async def call(self, method: str, path: str, status: int = 200, **body: Any) -> Any:
        options = {"json": body} if method == "POST" else {}
        answer = await self.client.request(
            method, f"/v1/admin/{path}", headers=self.operator.headers, **options
        )
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    async def paid(self) -> Sold:
        sold = await self.counter.order(gateway="invoice", purchase_order="PO 7")
        await self.counter.begin(sold.order.id)
        await self.call("POST", f"orders/{sold.order.number}/mark-paid", reference="SEPA 1")
        return sold

    async def refunded(self, sold: Sold) -> str:
        made = await self.call("POST", f"orders/{sold.uid}/refunds", 201, reason="asked for")
        return str(made["id"])

    async def actions(self, sold: Sold) -> list[str]:
        async with self.counter.runtime.db.transaction() as session:
            found = await session.scalars(
                text("SELECT action FROM audit_logs WHERE object = :uid ORDER BY id"), {"uid": sold.uid}
            )
            return list(found)

    async def needs(self) -> list[str]:
        return [one["kind"] for one in (await self.call("GET", "attention"))["items"]]

    async def mailed(self, mailbox: MailSink, to: str) -> list[str]:
        await self.counter.work()
        return [str(mail["Subject"]) for mail in mailbox.to(to)]


@pytest.fixture
async def shop(app: FastAPI, make_user: MakeUser, client: httpx.AsyncClient) -> AsyncIterator[Desk]:
    customer, seller = await make_user("customer"), await make_user("contributor")
    operator = await make_user("admin", email=OPERATOR)
    async with at_its_address(app, operator_emails=(OPERATOR,)) as runtime:
        counter = Counter(runtime, await Till.of(runtime, customer.email, seller.email))
        yield Desk(counter, client, operator, customer)


async def test_a_mark_that_dies_half_way_is_in_the_log_in_the_end(
    shop: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry and its note are one transaction: there is no money without somebody who saw it."""
    sold = await shop.counter.order(gateway="invoice", purchase_order="PO 7")
    await shop.counter.begin(sold.order.id)

    async def dies(*_: Any, **__: Any) -> None:
        raise ConnectionError("the power is gone")

    with monkeypatch.context() as patch:
        patch.setattr(invoices, "record", dies)
        await shop.call("POST", f"orders/{sold.uid}/mark-paid", 503, reference="SEPA 1")
    for _ in range(2):
        await shop.call("POST", f"orders/{sold.uid}/mark-paid", reference="SEPA 1")
    assert (await shop.actions(sold)).count("order:marked_paid") == 1


async def test_a_refund_waits_until_it_was_sent(shop: Desk, mailbox: MailSink) -> None:
    sold = await shop.paid()
    await shop.mailed(mailbox, OPERATOR)
    mailbox.clear()
    refund = await shop.refunded(sold)
    account = await shop.counter.account(sold.order.id)
    account.check()
    assert (account.refunds[0].status, account.order.status) == ("pending", "paid")
    assert account.payment.pending_refunds == sold.order.total, "its money cannot be given back twice"
    assert account.rights == ["granted", "granted"]
    shown = await shop.call("GET", f"refunds/{refund}")
    assert shown["by_hand"]
    listed = await shop.call("GET", "refunds?status=pending")
    assert [one["id"] for one in listed["items"]] == [refund]
    assert await shop.needs() == ["refund_to_send"]
    assert await shop.mailed(mailbox, OPERATOR) == [f"Order {sold.order.number}: send a refund"]
    assert mailbox.to(shop.customer.email) == [], "nothing went back yet"
    await service.settle(shop.counter.runtime, account.payment.id)
    assert await shop.mailed(mailbox, OPERATOR) == [f"Order {sold.order.number}: send a refund"], "once"

    for _ in range(2):
        done = await shop.call("POST", f"refunds/{refund}/mark-sent", reference="SEPA 2")
        assert done["status"] == "succeeded"
    other = await shop.call("POST", f"refunds/{refund}/mark-sent", 409, reference="SEPA 3")
    assert other["code"] == "sent_already", "lest it be sent twice"
    account = await shop.counter.account(sold.order.id)
    account.check()
    assert (account.order.status, account.rights) == ("refunded", ["revoked", "revoked"])
    assert await shop.needs() == []
    assert len(await shop.mailed(mailbox, shop.customer.email)) == 1
    actions = await shop.actions(sold)
    assert (actions.count("refund:sent"), actions.count("refund:succeeded")) == (1, 1)


async def test_operators_are_reminded_of_what_was_not_sent(shop: Desk, mailbox: MailSink) -> None:
    sold = await shop.paid()
    refund = await shop.refunded(sold)
    await shop.mailed(mailbox, OPERATOR)
    mailbox.clear()
    runtime = shop.counter.runtime
    async with runtime.db.transaction() as session:
        now: datetime = (await session.execute(select(func.now()))).scalar_one()
    for days, mails in ((0.5, 0), (1.5, 1), (1.9, 0), (4, 1), (8, 1), (15, 1)):
        for _ in range(2):
            async with runtime.db.transaction() as session:
                await alarms.remind_to_send(session, runtime.settings, now=now + timedelta(days=days))
        told = await shop.mailed(mailbox, OPERATOR)
        assert told == [f"Order {sold.order.number}: a refund was not sent yet"] * mails, days
        mailbox.clear()
    await shop.call("POST", f"refunds/{refund}/mark-sent", reference="SEPA 2")
    async with runtime.db.transaction() as session:
        await alarms.remind_to_send(session, runtime.settings, now=now + timedelta(days=30))
    assert await shop.mailed(mailbox, OPERATOR) == []


async def test_a_refund_that_cannot_be_sent_fails(shop: Desk) -> None:
    sold = await shop.paid()
    refund = await shop.refunded(sold)
    for _ in range(2):
        done = await shop.call("POST", f"refunds/{refund}/mark-failed", reason="the account is closed")
        assert (done["status"], done["failure"]) == ("failed", "the account is closed")
    assert (await shop.call("POST", f"refunds/{refund}/mark-sent", 409, reference="x"))["code"] == (
        "refund_failed"
    )
    account = await shop.counter.account(sold.order.id)
    account.check()
    assert (account.payment.pending_refunds, account.order.status) == (0, "paid")
    again = await shop.refunded(sold)
    await shop.call("POST", f"refunds/{again}/mark-sent", reference="SEPA 3")
    await shop.call("POST", f"refunds/{again}/mark-failed", reason="the bank sent it back")
    account = await shop.counter.account(sold.order.id)
    account.check()
    assert [one.status for one in account.refunds] == ["failed", "failed"]
    assert (account.order.refunded, account.rights) == (0, ["granted", "granted"])
    assert (await shop.actions(sold)).count("refund:marked_failed") == 2


async def test_only_what_a_bank_transfer_gives_back_is_sent_by_hand(shop: Desk) -> None:
    sold = await shop.counter.order()
    await shop.counter.begin(sold.order.id)
    payment = (await shop.counter.account(sold.order.id)).payment
    async with shop.counter.runtime.db.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO refunds (uid, payment_id, order_id, gateway, status, currency, amount, reason)"
                " VALUES ('refund_2345', :payment, :order, 'sandbox', 'pending', 'USD', 1, 'x')"
            ),
            {"payment": payment.id, "order": sold.order.id},
        )
    for path, body in (("mark-sent", {"reference": "x"}), ("mark-failed", {"reason": "x"})):
        refused = await shop.call("POST", f"refunds/refund_2345/{path}", 409, **body)
        assert refused["code"] == "not_an_invoice"
    async with shop.counter.runtime.db.transaction() as session:
        await session.execute(text("UPDATE api_tokens SET authenticated_at = now() - interval '1 hour'"))
    assert (await shop.call("POST", "refunds/refund_2345/mark-sent", 403, reference="x"))["code"] == (
        "login_not_fresh"
    )
