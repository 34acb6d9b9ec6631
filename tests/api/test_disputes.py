"""Disputes over HTTP: evidence drafted, changed and sent once, deadlines told, and rivals on real connections."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select, text

from paletta_server.accounts.security import Principal
from paletta_server.core.errors import PalettaError
from paletta_server.core.runtime import Runtime
from paletta_server.payments import alarms, answering, evidence, gateways, service, tasks
from paletta_server.payments.gateway import GatewayDown, Refused
from paletta_server.payments.models import Dispute, DisputeFile
from paletta_server.payments.sandbox import desk
from paletta_server.payments.sandbox.gateway import SandboxGateway
from paletta_server.payments.sandbox.models import SandboxDispute
from tests.conftest import MakeUser, Person
from tests.support.model_gateway import Book, ModelGateway
from tests.support.orders import Sold, Till
from tests.support.payments import Counter, at_its_address
from tests.support.stack import MailSink

OPERATOR = "olga@example.org"
PDF = base64.b64encode(b"%PDF-1.7 a letter").decode()


class Desk:
    """A shop with an operator and a disputed order."""

    def __init__(self, counter: Counter, client: httpx.AsyncClient, operator: Person) -> None:
        self.counter, self.client, self.operator = counter, client, operator

    async def disputed(self) -> tuple[Sold, str]:
        sold = await self.counter.order()
        payment = await self.counter.begin(sold.order.id)
        await self.press(str(payment.reference), payment.id, "success", "dispute")
        return sold, (await self.counter.account(sold.order.id)).disputes[0].uid

    async def press(self, reference: str, payment_id: int, *actions: desk.Action) -> None:
        async with self.counter.runtime.db.transaction() as session:
            for action in actions:
                await desk.act(session, reference, action, desk.Telling(copies=0))
        await service.settle(self.counter.runtime, payment_id)

    async def end(self, sold: Sold, action: desk.Action) -> None:
        payment = (await self.counter.account(sold.order.id)).payment
        await self.press(str(payment.reference), payment.id, action)

    async def call(self, method: str, path: str, status: int = 200, **options: Any) -> Any:
        answer = await self.client.request(
            method, f"/v1/admin/{path}", headers=self.operator.headers, **options
        )
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    async def principal(self) -> Principal:
        async with self.counter.runtime.db.transaction() as session:
            key = await session.scalar(text("SELECT id FROM users WHERE email = :email"), {"email": OPERATOR})
        return Actor(int(key or 0))  # type: ignore[return-value]


class Actor:
    def __init__(self, user_id: int) -> None:
        self.user_id = user_id


@pytest.fixture
async def shop(app: FastAPI, make_user: MakeUser, client: httpx.AsyncClient) -> AsyncIterator[Desk]:
    customer, seller = await make_user("customer"), await make_user("contributor")
    operator = await make_user("admin", email=OPERATOR)
    async with at_its_address(app, operator_emails=(OPERATOR,)) as runtime:
        yield Desk(Counter(runtime, await Till.of(runtime, customer.email, seller.email)), client, operator)


async def test_evidence_is_drafted_changed_and_sent_once(shop: Desk) -> None:
    sold, dispute = await shop.disputed()
    async with shop.counter.runtime.db.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO download_grants (entitlement_id, tier, user_id, via, ip, client, expires_at)"
                " SELECT id, 'hd', user_id, 'api', '192.0.2.7', 'paletta/1', now() FROM entitlements LIMIT 1"
            )
        )
    shown = await shop.call("GET", f"disputes/{dispute[:14]}")
    drafted = shown["evidence"]
    assert (shown["fields"], shown["file_fields"]) == (evidence.TEXTS, evidence.FILES)
    assert {one["source"] for one in drafted.values()} == {"draft"}
    assert sold.order.number in drafted["product_description"]["text"]
    assert "worldwide and for ever" in drafted["product_description"]["text"], "the terms of the licence"
    assert "from 192.0.2.7  paletta/1" in drafted["access_log"]["text"]
    assert (shown["can_answer"], shown["takes_files"], shown["response"]) == (True, True, "none")

    fields = {"explanation": "They wrote that they like it.", "access_log": "", "customer_name": "Ada L."}
    changed = await shop.call(
        "PATCH", f"disputes/{dispute}/evidence", json={"fields": fields, "version": shown["version"]}
    )
    assert changed["evidence"]["explanation"] == {"text": fields["explanation"], "source": "operator"}
    assert "access_log" not in changed["evidence"]
    back = await shop.call("PATCH", f"disputes/{dispute}/evidence", json={"fields": {"customer_name": None}})
    assert back["evidence"]["customer_name"]["source"] == "draft"
    stale = await shop.call(
        "PATCH", f"disputes/{dispute}/evidence", 409, json={"fields": fields, "version": shown["version"]}
    )
    assert stale["code"] == "changed_since"
    await shop.call("PUT", f"disputes/{dispute}/files/customer_communication", json={"data": PDF})

    sent = await shop.call("POST", f"disputes/{dispute}/submit")
    assert (sent["response"], sent["status"]) == ("submitted", "under_review")
    assert sent["responded_by"] == OPERATOR
    assert {one["source"] for one in sent["evidence"].values()} == {"sent"}
    assert {one["field"] for one in sent["files"]} == {"customer_communication", "receipt"}
    async with shop.counter.runtime.db.transaction() as session:
        there = await session.scalar(select(SandboxDispute))
    assert there is not None
    assert there.evidence["texts"]["explanation"] == fields["explanation"]
    assert set(there.evidence["files"]) == {"customer_communication", "receipt"}

    for method, path, options in (
        ("POST", "submit", {}),
        ("POST", "accept", {}),
        ("PATCH", "evidence", {"json": {"fields": fields}}),
        ("PUT", "files/other", {"json": {"data": PDF}}),
        ("DELETE", "files/receipt", {}),
    ):
        assert (await shop.call(method, f"disputes/{dispute}/{path}", 409, **options))["code"] == "answered"
    await shop.end(sold, "dispute-won")
    account = await shop.counter.account(sold.order.id)
    account.check()
    assert account.rights == ["granted", "granted"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("PATCH", "evidence", {"fields": {"colour": "red"}}, 422, "unknown_field"),
        ("PATCH", "evidence", {"fields": {"explanation": "\x1b[31mred"}}, 422, "bad_text"),
        ("PATCH", "evidence", {"fields": {"explanation": "x" * 20_001}}, 422, "invalid_request"),
        ("PUT", "files/colour", {"data": PDF}, 422, "unknown_field"),
        ("PUT", "files/other", {"data": "???"}, 422, "bad_file"),
        ("PUT", "files/other", {"data": base64.b64encode(b"MZ a program").decode()}, 422, "bad_file"),
        (
            "PUT",
            "files/other",
            {"data": base64.b64encode(b"%PDF" + bytes(4 * 1024 * 1024)).decode()},
            422,
            "bad_file",
        ),
        ("DELETE", "files/other", None, 404, "not_found"),
    ],
)
async def test_what_is_no_evidence_is_refused(
    shop: Desk, method: str, path: str, body: Any, status: int, code: str
) -> None:
    _, dispute = await shop.disputed()
    refused = await shop.call(method, f"disputes/{dispute}/{path}", status, json=body)
    assert refused["code"] == code


async def test_a_dispute_given_up_is_lost_for_good(shop: Desk) -> None:
    sold, dispute = await shop.disputed()
    done = await shop.call("POST", f"disputes/{dispute}/accept")
    assert (done["response"], done["status"], done["outcome"]) == ("accepted", "lost", "lost")
    account = await shop.counter.account(sold.order.id)
    account.check()
    assert account.rights == ["revoked", "revoked"]
    listed = await shop.call("GET", f"disputes?open=false&order={sold.order.number}")
    assert [one["id"] for one in listed["items"]] == [dispute]
    assert (await shop.call("GET", "disputes?open=true"))["items"] == []


async def test_too_late_is_too_late(shop: Desk) -> None:
    _, dispute = await shop.disputed()
    await shop.counter.age(Dispute, due_by="1 minute")
    assert (await shop.call("POST", f"disputes/{dispute}/submit", 409))["code"] == "too_late"
    assert (await shop.call("POST", "disputes/dispute_2222/submit", 404))["code"] == "not_found"


async def test_an_answer_wants_the_password(shop: Desk) -> None:
    _, dispute = await shop.disputed()
    async with shop.counter.runtime.db.transaction() as session:
        await session.execute(text("UPDATE api_tokens SET authenticated_at = now() - interval '1 hour'"))
    for path in ("submit", "accept"):
        assert (await shop.call("POST", f"disputes/{dispute}/{path}", 403))["code"] == "login_not_fresh"


# ---- rivals and accidents


async def test_answers_at_once_are_one_answer(shop: Desk) -> None:
    """Three submit and one gives up, each on a connection of its own: the bank hears one of them."""
    runtime, user = shop.counter.runtime, await shop.principal()
    for _ in range(3):
        sold, dispute = await shop.disputed()
        results = await asyncio.gather(
            *(answering.submit(runtime, user, dispute) for _ in range(3)),
            answering.accept(runtime, user, dispute),
            return_exceptions=True,
        )
        codes = [one.code for one in results if isinstance(one, PalettaError)]
        [won] = [one for one in results if isinstance(one, Dispute)]
        assert len(codes) == 3
        assert set(codes) <= {"answered", "dispute_closed", "not_waiting"}
        account = await shop.counter.account(sold.order.id)
        account.check()
        expected = {"submitted": "under_review", "accepted": "lost"}
        assert account.disputes[0].status == expected[won.response]


class Unreliable(SandboxGateway):
    """The sandbox behind a bad line: `loses` names calls whose question or answer is lost."""

    loses: list[tuple[str, str]]

    def _lost(self, call: str, when: str) -> None:
        if (call, when) in self.loses:
            self.loses.remove((call, when))
            raise GatewayDown(f"the {when} was lost")

    async def upload_evidence(self, **file: Any) -> str:
        self._lost("upload", "question")
        reference = await super().upload_evidence(**file)
        self._lost("upload", "answer")
        return reference

    async def submit_evidence(self, dispute: str, **more: Any) -> None:
        self._lost("submit", "question")
        await super().submit_evidence(dispute, **more)
        self._lost("submit", "answer")

    async def accept_dispute(self, dispute: str, *, key: str) -> None:
        self._lost("accept", "question")
        await super().accept_dispute(dispute, key=key)
        self._lost("accept", "answer")


@pytest.fixture
def losing(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What the line to the gateway loses next."""
    loses: list[tuple[str, str]] = []

    def make(runtime: Runtime) -> SandboxGateway:
        made = Unreliable(runtime)
        made.loses = loses
        return made

    monkeypatch.setitem(gateways.MAKERS, "sandbox", make)
    return loses


@pytest.mark.parametrize("when", ["question", "answer"])
@pytest.mark.parametrize("call", ["upload", "submit", "accept"])
async def test_an_answer_is_given_whatever_the_line_loses(
    shop: Desk, losing: list[tuple[str, str]], call: str, when: str
) -> None:
    sold, dispute = await shop.disputed()
    verb = "accept" if call == "accept" else "submit"
    losing += [(call, when)]
    said = await shop.call("POST", f"disputes/{dispute}/{verb}")
    assert said["response"] == {"accept": "accepting", "submit": "submitting"}[verb]
    assert (await shop.call("POST", f"disputes/{dispute}/{verb}", 409))["code"] == "answered"
    await shop.counter.age(Dispute, responded_at="1 hour")
    await tasks.reconcile(shop.counter.runtime)
    account = await shop.counter.account(sold.order.id)
    assert account.disputes[0].response == {"accept": "accepted", "submit": "submitted"}[verb]
    async with shop.counter.runtime.db.transaction() as session:
        assert await session.scalar(text("SELECT count(*) FROM sandbox_files")) == (verb == "submit")


async def test_a_refused_answer_can_be_given_again(shop: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    sold, dispute = await shop.disputed()

    class Refusing(SandboxGateway):
        async def submit_evidence(self, dispute: str, **more: Any) -> None:
            raise Refused("the bank does not like it")

    with monkeypatch.context() as patch:
        patch.setitem(gateways.MAKERS, "sandbox", Refusing)
        said = await shop.call("POST", f"disputes/{dispute}/submit")
    assert (said["response"], said["response_failure"]) == ("none", "the bank does not like it")
    needs = (await shop.call("GET", "attention"))["items"]
    assert {one["kind"] for one in needs} == {"dispute_response_failed"}
    assert (await shop.call("POST", f"disputes/{dispute}/submit"))["response"] == "submitted"
    (await shop.counter.account(sold.order.id)).check()


async def test_evidence_sent_by_hand_is_noticed(shop: Desk) -> None:
    sold, dispute = await shop.disputed()
    account = await shop.counter.account(sold.order.id)
    async with shop.counter.runtime.db.transaction() as session:
        await desk.answer_dispute(
            session, account.disputes[0].reference, key="by hand", evidence={"texts": {"explanation": "x"}}
        )
    await service.settle(shop.counter.runtime, account.payment.id)
    shown = await shop.call("GET", f"disputes/{dispute}")
    assert (shown["response"], shown["responded_by"], shown["evidence"]) == ("submitted", None, {})


# ---- who is told when


async def test_operators_hear_of_disputes_and_their_deadlines_once(shop: Desk, mailbox: MailSink) -> None:
    sold, _ = await shop.disputed()
    number = sold.order.number

    async def told() -> list[str]:
        await shop.counter.work()
        subjects = [str(mail["Subject"]).replace(number, "1") for mail in mailbox.to(OPERATOR)]
        mailbox.clear()
        return subjects

    assert "Order 1: disputed" in await told()
    runtime = shop.counter.runtime
    due = (await shop.counter.account(sold.order.id)).disputes[0].due_by
    assert due is not None
    for hours, words in ((200, None), (150, "7 days"), (47, "2 days"), (3, "a day"), (-1, None)):
        for _ in range(2):
            async with runtime.db.transaction() as session:
                await alarms.remind(session, runtime.settings, now=due - timedelta(hours=hours))
        assert await told() == ([f"Order 1: the dispute ends in {words}"] if words else [])
    await shop.end(sold, "dispute-lost")
    assert await told() == ["Order 1: the dispute was lost"]
    await tasks.remind_of_disputes(shop.counter.runtime)
    assert await told() == []


# ---- a bank that asks again


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ModelGateway:
    made = ModelGateway()
    monkeypatch.setitem(gateways.MAKERS, "model", lambda _runtime: made)
    return made


@dataclass
class Bank:
    """A paid order at a gateway whose bank does what a test wants, and its dispute."""

    shop: Desk
    gateway: ModelGateway
    sold: Sold
    book: Book
    dispute: str = ""

    @classmethod
    async def of(cls, shop: Desk, gateway: ModelGateway) -> Bank:
        sold = await shop.counter.order(gateway="model")
        payment = await shop.counter.begin(sold.order.id)
        book = gateway.books[str(payment.reference)]
        gateway.pay(book)
        return cls(shop, gateway, sold, book)

    async def says(self, status: str, *, answers: int | None = None, hours: int | None = None) -> Dispute:
        """The dispute, opened unless it is, has this status; evidence was sent so often; an answer is due."""
        if not self.dispute:
            self.dispute = self.gateway.dispute(self.book, status, take=not status.startswith("warning"))
        else:
            self.gateway.move_dispute(self.book, self.dispute, status)
        told = self.book.disputes[self.dispute]
        self.book.disputes[self.dispute] = replace(
            told,
            answers=told.answers if answers is None else answers,
            due_by=datetime.now(UTC) + timedelta(hours=hours) if hours else told.due_by,
        )
        account = await self.shop.counter.account(self.sold.order.id)
        await service.settle(self.shop.counter.runtime, account.payment.id)
        account = await self.shop.counter.account(self.sold.order.id)
        account.check()
        return account.disputes[0]


@pytest.mark.parametrize(
    ("first", "between", "then"),
    [
        ("warning_needs_response", ("warning_under_review",), "needs_response"),
        ("warning_needs_response", (), "needs_response"),
        ("needs_response", ("under_review", "lost"), "appeal_needs_response"),
        ("needs_response", (), "appeal_needs_response"),
    ],
)
async def test_a_bank_that_asks_again_is_answered_again(
    shop: Desk,
    model: ModelGateway,
    mailbox: MailSink,
    first: str,
    between: tuple[str, ...],
    then: str,
) -> None:
    """An inquiry that becomes a chargeback, and the appeal after a lost one; also where what came between was never
    seen."""
    bank = await Bank.of(shop, model)
    row = await bank.says(first, hours=500)
    await shop.call("PATCH", f"disputes/{row.uid}/evidence", json={"fields": {"refund_terms": "None."}})
    await shop.call("PUT", f"disputes/{row.uid}/files/other", json={"data": PDF})
    assert (await shop.call("POST", f"disputes/{row.uid}/submit"))["response"] == "submitted"
    for status in between:
        assert (await bank.says(status)).response == "submitted"
    await shop.counter.work()
    mailbox.clear()

    row = await bank.says(then, hours=20)
    assert (row.response, row.round, row.response_key) == ("none", 2, None)
    shown = await shop.call("GET", f"disputes/{row.uid}")
    assert (shown["can_answer"], shown["round"]) == (True, 2)
    assert shown["evidence"]["refund_terms"] == {"text": "None.", "source": "operator"}
    assert shown["evidence"]["product_description"]["source"] == "draft", "the draft is made anew"
    assert {one["field"] for one in shown["files"]} == {"other", "receipt"}
    [earlier] = shown["earlier"]
    assert (earlier["round"], earlier["response"], earlier["responded_by"]) == (1, "submitted", OPERATOR)
    assert earlier["evidence"]["refund_terms"] == "None."
    assert {one["field"] for one in earlier["files"]} == {"other", "receipt"}
    needs = (await shop.call("GET", "attention"))["items"]
    assert [one["kind"] for one in needs] == ["dispute_due"]
    await tasks.remind_of_disputes(shop.counter.runtime)
    await shop.counter.work()
    subjects = {str(mail["Subject"]).replace(bank.sold.order.number, "1") for mail in mailbox.to(OPERATOR)}
    assert {"Order 1: the bank asks again", "Order 1: the dispute ends in a day"} <= subjects

    assert (await bank.says(then, hours=20)).response == "none", "what was sent before answers nothing"
    uploads = model.calls.count("upload")
    again = await shop.call("POST", f"disputes/{row.uid}/submit")
    assert (again["response"], again["status"]) == (
        "submitted",
        then.replace("needs_response", "under_review"),
    )
    assert model.calls.count("upload") == uploads + 2, "files go again, under keys of their own"
    assert (await shop.call("GET", "attention"))["items"] == []
    async with shop.counter.runtime.db.transaction() as session:
        files = (await session.scalars(select(DisputeFile).order_by(DisputeFile.id))).all()
    assert len({one.key for one in files}) == len({one.reference for one in files}) == 4


async def test_an_answer_by_hand_counts_in_its_own_round(shop: Desk, model: ModelGateway) -> None:
    bank = await Bank.of(shop, model)
    assert (await bank.says("warning_needs_response")).response == "none"
    assert (await bank.says("warning_under_review", answers=1)).response == "submitted"
    assert (await bank.says("needs_response")).response == "none"
    assert (await bank.says("under_review", answers=2)).response == "submitted"


async def test_a_chargeback_first_seen_after_its_inquiry_was_answered_waits_for_us(
    shop: Desk, model: ModelGateway
) -> None:
    bank = await Bank.of(shop, model)
    assert (await bank.says("needs_response", answers=1)).response == "none"
    shown = await shop.call("POST", f"disputes/{(await bank.says('needs_response')).uid}/accept")
    assert (shown["response"], shown["outcome"]) == ("accepted", "lost")


async def test_what_an_operator_noted_of_a_round_hides_no_later_one(shop: Desk, model: ModelGateway) -> None:
    bank = await Bank.of(shop, model)
    await bank.says("needs_response", hours=20)
    for expected in (1, 2):
        [need] = (await shop.call("GET", "attention"))["items"]
        await shop.call("POST", "attention", 204, json={"subject": need["subject"], "note": "let it go"})
        assert (await shop.call("GET", "attention"))["items"] == []
        assert (await bank.says("under_review", answers=expected)).round == expected
        await bank.says("needs_response", hours=20)
    [need] = (await shop.call("GET", "attention"))["items"]
    assert need["kind"] == "dispute_due"
