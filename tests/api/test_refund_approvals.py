"""Refunds that want a second operator, goodwill, and restoring: over HTTP, and with rivals on real connections."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from paletta_server.core.errors import Conflict, PalettaError
from paletta_server.core.runtime import Runtime
from paletta_server.payments import approvals, personal, refunds, service, tasks
from paletta_server.payments.models import Payment, Refund
from paletta_server.payments.sandbox import desk
from paletta_server.payments.sandbox.models import SandboxRefund
from tests.conftest import MakeUser, Person
from tests.support.orders import Sold, Till
from tests.support.payments import Counter, at_its_address, count
from tests.support.stack import MailSink

LIMIT = 6000
OPERATORS = ("olga@example.org", "omar@example.org")


@dataclass(frozen=True)
class Actor:
    """An operator, as the rules see one."""

    user_id: int


@dataclass
class Desk:
    """A shop with two operators, and a limit above which both have to agree."""

    counter: Counter
    client: httpx.AsyncClient
    people: dict[str, Person]
    keys: dict[str, int]

    async def paid(self, *prices: int, **more: Any) -> Sold:
        sold = await self.counter.order(*prices, **more)
        payment = await self.counter.begin(sold.order.id)
        async with self.counter.runtime.db.transaction() as session:
            await desk.act(session, str(payment.reference), "success", desk.Telling(copies=0))
        await service.settle(self.counter.runtime, payment.id)
        return sold

    async def press(self, sold: Sold, *actions: desk.Action) -> None:
        payment = (await self.counter.account(sold.order.id)).payment
        for action in actions:
            async with self.counter.runtime.db.transaction() as session:
                await desk.act(session, str(payment.reference), action, desk.Telling(copies=0))
            await service.settle(self.counter.runtime, payment.id)

    async def call(self, who: str, path: str, status: int = 200, **body: Any) -> Any:
        headers = self.people[who].headers
        answer = await self.client.post(f"/v1/admin/{path}", json=body, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def ask(self, sold: Sold, who: str = "olga", status: int = 201, **body: Any) -> Any:
        return await self.call(who, f"orders/{sold.order.number}/refunds", status, reason="asked for", **body)

    async def rights(self, sold: Sold) -> list[str | None]:
        return (await self.counter.account(sold.order.id)).rights

    def actor(self, who: str) -> Any:
        return Actor(self.keys[who])


@pytest.fixture
async def shop(app: FastAPI, make_user: MakeUser, client: httpx.AsyncClient) -> Any:
    customer, seller = await make_user("customer"), await make_user("contributor")
    people = {address.split("@")[0]: await make_user("admin", email=address) for address in OPERATORS}
    async with at_its_address(app, refund_approval_above=LIMIT, operator_emails=OPERATORS) as runtime:
        async with runtime.db.transaction() as session:
            rows = await session.execute(text("SELECT email, id FROM users WHERE role = 'admin'"))
            keys = {email.split("@")[0]: key for email, key in rows}
        till = await Till.of(runtime, customer.email, seller.email)
        yield Desk(Counter(runtime, till), client, people, keys)


async def test_a_large_refund_waits_for_somebody_else(shop: Desk, mailbox: MailSink) -> None:
    sold = await shop.paid()
    made = await shop.ask(sold)
    assert (made["status"], made["requested_by"]) == ("awaiting_approval", "olga@example.org")
    account = await shop.counter.account(sold.order.id)
    assert (account.payment.pending_refunds, account.order.refunded) == (sold.order.total, 0)
    again = await shop.ask(sold, status=409)
    assert again["code"] == "nothing_left", "what waits is reserved"
    async with shop.counter.runtime.db.transaction() as session:
        assert await personal.unsettled(session, shop.counter.till.customer) == 1, "and not settled yet"
    own = await shop.call("olga", f"refunds/{made['id']}/approve", 403)
    assert own["code"] == "own_refund"
    done = await shop.call("omar", f"refunds/{made['id']}/approve")
    assert (done["status"], done["decided_by"]) == ("succeeded", "omar@example.org")
    repeated = await shop.call("omar", f"refunds/{made['id']}/approve")
    assert repeated["status"] == "succeeded"
    late = await shop.call("omar", f"refunds/{made['id']}/reject", 409, reason="changed my mind")
    assert late["code"] == "not_waiting"
    await shop.counter.work()
    account = await shop.counter.account(sold.order.id)
    account.check()
    assert account.order.status == "refunded"
    assert await count(shop.counter.runtime, SandboxRefund) == 1
    trail = await shop.client.get(
        f"/v1/admin/orders/{sold.order.number}", headers=shop.people["omar"].headers
    )
    told = [(one["action"], one["by"]) for one in trail.json()["trail"] if one["action"].startswith("refund")]
    assert told == [
        ("refund:requested", "olga@example.org"), ("refund:approved", "omar@example.org"),
        ("refund:succeeded", None),
    ]  # fmt: skip


async def test_operators_hear_of_what_waits(shop: Desk, mailbox: MailSink) -> None:
    sold = await shop.paid()
    await shop.ask(sold)
    await shop.counter.work()
    for address in OPERATORS:
        told = [
            str(mail["Subject"]) for mail in mailbox.to(address) if sold.order.number in str(mail["Subject"])
        ]
        assert told == [f"Order {sold.order.number}: a refund waits"]


async def test_small_ones_add_up_to_a_large_one(shop: Desk) -> None:
    sold = await shop.paid()
    first, _ = sold.items
    assert (await shop.ask(sold, items={first.uid: 3000}))["status"] == "succeeded"
    split = await shop.ask(sold, amount=LIMIT - 3000 + 1)
    assert split["status"] == "awaiting_approval"
    assert (await shop.call("omar", f"refunds/{split['id']}/approve"))["status"] == "succeeded"
    assert (await shop.ask(sold, amount=3000))["status"] == "succeeded", "what two agreed to does not count"
    (await shop.counter.account(sold.order.id)).check()


async def test_what_is_rejected_or_too_late_frees_the_money(shop: Desk) -> None:
    sold = await shop.paid()
    withdrawn = await shop.ask(sold)
    body = await shop.call("olga", f"refunds/{withdrawn['id']}/reject", reason="a slip of mine")
    assert (body["status"], body["failure"]) == ("rejected", "a slip of mine")
    refused = await shop.call("omar", f"refunds/{withdrawn['id']}/approve", 409)
    assert refused["code"] == "not_waiting"
    late = await shop.ask(sold)
    await shop.counter.age(Refund, expires_at="1 minute")
    refused = await shop.call("omar", f"refunds/{late['id']}/approve", 409)
    assert refused["code"] == "expired"
    await tasks.reconcile(shop.counter.runtime)
    account = await shop.counter.account(sold.order.id)
    assert [(one.status, one.decided_by is None) for one in account.refunds] == [
        ("rejected", False), ("rejected", True),
    ]  # fmt: skip
    assert account.payment.pending_refunds == 0
    account.check()
    assert await count(shop.counter.runtime, SandboxRefund) == 0
    customer = await shop.client.get(
        f"/v1/orders/{sold.order.number}/refunds", headers=shop.people["omar"].headers
    )
    assert customer.status_code == 404


async def test_what_was_not_agreed_to_leaves_an_operator_their_limit(shop: Desk) -> None:
    sold = await shop.paid()
    withdrawn = await shop.ask(sold, amount=LIMIT + 1)
    await shop.call("olga", f"refunds/{withdrawn['id']}/reject", reason="a slip of mine")
    late = await shop.ask(sold, amount=LIMIT + 1)
    assert late["status"] == "awaiting_approval"
    await shop.counter.age(Refund, expires_at="1 minute")
    await tasks.reconcile(shop.counter.runtime)
    assert (await shop.ask(sold, amount=LIMIT))["status"] == "succeeded", "all that one may give back alone"
    assert (await shop.ask(sold, amount=1))["status"] == "awaiting_approval"


async def test_what_came_in_between_stops_an_approval(shop: Desk) -> None:
    sold = await shop.paid()
    made = await shop.ask(sold)
    await shop.press(sold, "dispute")
    refused = await shop.call("omar", f"refunds/{made['id']}/approve", 409)
    assert refused["code"] == "disputed"
    await shop.press(sold, "dispute-lost")
    refused = await shop.call("omar", f"refunds/{made['id']}/approve", 409)
    assert refused["code"] == "over_refund"
    assert await count(shop.counter.runtime, SandboxRefund) == 0


# ---- rivals


def outcome(result: Any) -> str:
    return result.code if isinstance(result, PalettaError) else str(result.status)


async def test_two_approvals_and_a_rejection_at_once(shop: Desk) -> None:
    runtime = shop.counter.runtime
    for turn in range(4):
        sold = await shop.paid()
        made = await shop.ask(sold)
        asked = [approvals.approve(runtime, shop.actor("omar"), made["id"]) for _ in range(3)]
        asked.insert(3 * (turn % 2), approvals.reject(runtime, shop.actor("olga"), made["id"], reason="no"))
        results = [outcome(one) for one in await asyncio.gather(*asked, return_exceptions=True)]
        rejected = results.pop(3 * (turn % 2))
        approved = results
        account = await shop.counter.account(sold.order.id)
        account.check()
        if rejected == "rejected":
            assert approved == ["not_waiting"] * 3
            assert account.order.refunded == 0
        else:
            assert rejected == "not_waiting"
            assert set(approved) <= {"requested", "succeeded"}
            assert account.order.refunded == sold.order.total
        assert len(account.refunds) == 1


async def test_eight_refunds_and_their_approvals_at_once(shop: Desk) -> None:
    """Everybody asks for more than half; whatever is approved when, no more goes back than came in."""
    runtime, sold = shop.counter.runtime, await shop.paid()
    share = sold.order.total // 2 + 1

    async def ask(place: int) -> str:
        first, second = ("olga", "omar") if place % 2 else ("omar", "olga")
        try:
            made = await service.refund(
                runtime, sold.order.id, None, f"asked {place}", shop.actor(first), amount=share
            )
            assert made.status == "awaiting_approval"
            return (await approvals.approve(runtime, shop.actor(second), made.uid)).status
        except Conflict as error:
            return error.code

    outcomes = sorted(await asyncio.gather(*(ask(place) for place in range(8))))
    assert outcomes == ["over_refund"] * 7 + ["succeeded"]
    account = await shop.counter.account(sold.order.id)
    account.check()
    assert account.order.refunded == share
    assert await count(runtime, SandboxRefund) == 1


async def test_an_approval_against_a_dispute(shop: Desk) -> None:
    """The gateway has the dispute already; whoever settles first decides, and the sum is right either way."""
    runtime = shop.counter.runtime
    for _ in range(3):
        sold = await shop.paid()
        made = await shop.ask(sold)
        payment = (await shop.counter.account(sold.order.id)).payment
        async with runtime.db.transaction() as session:
            await desk.act(session, str(payment.reference), "dispute", desk.Telling(copies=0))
        result, _ = await asyncio.gather(
            approvals.approve(runtime, shop.actor("omar"), made["id"]),
            service.settle(runtime, payment.id),
            return_exceptions=True,
        )
        await service.settle(runtime, payment.id)
        account = await shop.counter.account(sold.order.id)
        account.check()
        assert outcome(result) in ("disputed", "succeeded", "requested", "failed")
        assert account.disputes[0].withdrawn == sold.order.total


# ---- the plan, parts, goodwill


async def test_a_plan_says_what_will_happen_and_changes_nothing(shop: Desk) -> None:
    sold = await shop.paid()
    first, second = sold.items
    path = f"orders/{sold.order.number}/refunds/plan"
    plan = await shop.call("olga", path, reason="x", items={first.uid: None, second.clip_uid: 100})
    assert [(one["id"], one["right"], one["left"]) for one in plan["items"]] == [
        (first.uid, "ends", 0), (second.uid, "stays", second.amount + second.tax - 100),
    ]  # fmt: skip
    assert (plan["amount"], plan["approval"]) == (first.amount + first.tax + 100, False)
    whole = await shop.call("olga", path, reason="x", keep=True)
    assert {one["right"] for one in whole["items"]} == {"goodwill"}
    assert whole["approval"]
    for body, status, code in (
        ({"items": {"item_2222": 1}}, 404, "not_found"),
        ({"items": {first.uid: 1, first.clip_uid: 1}}, 422, "same_item"),
        ({"items": {first.uid: 1}, "amount": 1}, 422, "invalid_request"),
        ({"amount": 0}, 422, "bad_amount"),
        ({"amount": sold.order.total + 1}, 409, "over_refund"),
    ):
        refused = await shop.call("olga", path, status, reason="x", **body)
        assert refused["code"] == code
    assert await count(shop.counter.runtime, Refund) == 0


async def test_an_amount_is_spread_to_the_cent(shop: Desk) -> None:
    sold = await shop.paid(100, 200, 300)
    made = await shop.ask(sold, amount=101)
    assert sum(made["items"].values()) == 101
    (await shop.counter.account(sold.order.id)).check()


async def test_goodwill_outlives_everything_that_came_before_it(shop: Desk) -> None:
    sold = await shop.paid()
    first, _ = sold.items
    await shop.ask(sold, items={first.uid: None}, keep=True)
    payment = (await shop.counter.account(sold.order.id)).payment
    await service.settle(shop.counter.runtime, payment.id)
    assert await shop.rights(sold) == ["granted", "granted"]
    rest = await shop.ask(sold)
    await shop.call("omar", f"refunds/{rest['id']}/approve")
    account = await shop.counter.account(sold.order.id)
    assert (account.order.status, account.rights) == ("refunded", ["granted", "revoked"])
    async with shop.counter.runtime.db.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO order_item_files (order_item_id, tier, key, size, sha256, content_type, extension)"
                " SELECT id, 'hd', 'sale/' || uid, 1, 'x', 'video/mp4', '.mp4' FROM order_items"
            )
        )
    held = await held_keys(shop.counter.runtime, sold)
    assert held == {f"sale/{first.uid}"}, "its files are kept for it"


async def held_keys(runtime: Runtime, sold: Sold) -> frozenset[str]:
    from paletta_server.orders import service as orders

    async with runtime.db.transaction() as session:
        return (await orders.held(session, [f"sale/{item.uid}" for item in sold.items])).sold


async def test_a_refund_that_fails_late_leaves_no_goodwill_behind(shop: Desk) -> None:
    sold = await shop.paid()
    first, _ = sold.items
    await shop.ask(sold, items={first.uid: None}, keep=True)
    async with shop.counter.runtime.db.transaction() as session:
        await session.execute(text("UPDATE sandbox_refunds SET status = 'failed'"))
    await shop.counter.age(Payment, next_check_at="1 minute")
    await tasks.reconcile(shop.counter.runtime)
    await shop.ask(sold, items={first.uid: None})
    assert await shop.rights(sold) == ["revoked", "granted"]


async def test_what_ended_is_restored_and_stays_so(shop: Desk) -> None:
    sold = await shop.paid()
    first, second = sold.items
    path = f"orders/{sold.order.number}/restore"
    nothing = await shop.call("olga", path, 409, reason="sorry")
    assert nothing["code"] == "nothing_to_restore"
    await shop.ask(sold, items={first.uid: None})
    assert await shop.rights(sold) == ["revoked", "granted"]
    await shop.call("olga", path, reason="sorry", items=[first.clip_uid])
    payment = (await shop.counter.account(sold.order.id)).payment
    await service.settle(shop.counter.runtime, payment.id)
    assert await shop.rights(sold) == ["granted", "granted"]
    await shop.press(sold, "dispute")
    assert await shop.rights(sold) == ["suspended", "suspended"]
    refused = await shop.call("olga", path, 409, reason="sorry")
    assert refused["code"] == "disputed"
    await shop.press(sold, "dispute-lost")
    assert await shop.rights(sold) == ["revoked", "revoked"], "goodwill does not cover what came after it"
    await shop.call("olga", path, reason="they paid by bank after all", items=[second.uid])
    await service.settle(shop.counter.runtime, payment.id)
    assert await shop.rights(sold) == ["revoked", "granted"]


async def test_an_old_login_moves_no_money(shop: Desk) -> None:
    sold = await shop.paid()
    made = await shop.ask(sold)
    async with shop.counter.runtime.db.transaction() as session:
        await session.execute(text("UPDATE api_tokens SET authenticated_at = now() - interval '1 hour'"))
    for path, body in (
        (f"refunds/{made['id']}/approve", {}),
        (f"refunds/{made['id']}/reject", {"reason": "x"}),
        (f"orders/{sold.order.number}/restore", {"reason": "x"}),
        (f"orders/{sold.order.number}/refunds", {"reason": "x"}),
    ):
        assert (await shop.call("omar", path, 403, **body))["code"] == "login_not_fresh"


def test_kinds_of_digest_stay_apart() -> None:
    plain = refunds.Wish({1: 100}, reason="x").digest
    assert len({plain, refunds.Wish({1: 100}, keep=True, reason="x").digest,
                refunds.Wish(None, 100, reason="x").digest}) == 3  # fmt: skip
