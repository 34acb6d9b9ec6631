"""A better tier or licence of what somebody owns is paid as the difference, and stands and falls with its base."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from sqlalchemy import select, text

from paletta_server.core.runtime import Runtime
from paletta_server.delivery import service as delivery
from paletta_server.orders import service as orders
from paletta_server.payments import service
from paletta_server.payments.models import Payment
from paletta_server.payments.sandbox import desk
from tests.conftest import Person
from tests.support.accounts import RunJobs
from tests.support.clips import Shelf
from tests.support.locks import blocked
from tests.support.payments import Account, account
from tests.support.shop import Customer, priced, set_prices
from tests.support.stack import MailSink

BASE = {"tier": "hd", "licence": "premium"}
UPGRADE = {"tier": "original", "licence": "premium"}


class Shop:
    """A customer with a cart, and what banks do."""

    def __init__(self, runtime: Runtime, customer: Customer, operator: dict[str, str]) -> None:
        self.runtime, self.customer, self.operator = runtime, customer, operator

    async def order(self, clip: str, *, gateway: str = "sandbox", **wish: Any) -> int:
        """An order of one clip, by key, waiting for its payment."""
        await self.customer.add(clip, **wish)
        more = {"purchase_order": "PO 1"} if gateway == "invoice" else {}
        made = await self.customer.check_out(gateway=gateway, **more)
        async with self.runtime.db.transaction() as session:
            query = text("SELECT id FROM orders WHERE uid = :uid")
            return int(await session.scalar(query, {"uid": made["order"]["id"]}) or 0)

    async def buy(self, clip: str, **wish: Any) -> int:
        order_id = await self.order(clip, **wish)
        await self.press(order_id, "success")
        return order_id

    async def press(
        self, order_id: int, action: desk.Action, how: desk.Telling = desk.Telling(copies=0)
    ) -> None:
        async with self.runtime.db.transaction() as session:
            payment = await session.scalar(select(Payment).where(Payment.order_id == order_id))
            assert payment is not None
            await desk.act(session, str(payment.reference), action, how)
        await service.settle(self.runtime, payment.id)

    async def lose(self, order_id: int) -> None:
        """A chargeback."""
        await self.press(order_id, "dispute")
        await self.press(order_id, "dispute-lost")

    async def give_up(self, order_id: int) -> None:
        order = (await self.account(order_id)).order
        await self.customer.call("POST", f"/v1/orders/{order.uid}/cancel")
        await self.customer.call("DELETE", "/v1/cart", 204)

    async def transfer(self, order_id: int) -> None:
        """The money for an invoice arrives."""
        number = (await self.account(order_id)).order.number
        path = f"/v1/admin/orders/{number}/mark-paid"
        paid = await self.customer.client.post(path, json={}, headers=self.operator)
        assert paid.status_code == 200, paid.text

    async def refunds_arrive(self, order_id: int) -> None:
        """What the gateway calls pending is with the customer."""
        async with self.runtime.db.transaction() as session:
            await session.execute(text("UPDATE sandbox_refunds SET status = 'succeeded'"))
        await service.settle(self.runtime, (await self.account(order_id)).payment.id)

    async def restore(self, order_id: int) -> httpx.Response:
        number = (await self.account(order_id)).order.number
        path, body = f"/v1/admin/orders/{number}/restore", {"reason": "kindness"}
        return await self.customer.client.post(path, json=body, headers=self.operator)

    async def attention(self, order_id: int) -> list[str]:
        """Why this order is on the operators' list."""
        number = (await self.account(order_id)).order.number
        answer = await self.customer.client.get("/v1/admin/attention", headers=self.operator)
        return [item["kind"] for item in answer.json()["items"] if item["order"] == number]

    async def account(self, order_id: int) -> Account:
        return await account(self.runtime, order_id)

    async def rights(self, *order_ids: int) -> list[str | None]:
        return [right for order_id in order_ids for right in (await self.account(order_id)).rights]

    async def refund(self, order_id: int, **more: Any) -> httpx.Response:
        number = (await self.account(order_id)).order.number
        path = f"/v1/admin/orders/{number}/refunds"
        body = {"reason": "asked for", **more}
        return await self.customer.client.post(path, json=body, headers=self.operator)


@pytest.fixture
async def shop(runtime: Runtime, customer: Customer, admin: Person) -> Shop:
    return Shop(runtime, customer, admin.headers)


@pytest.fixture
async def clip(shelf: Shelf) -> str:
    return await shelf.put("tram")


async def due(shop: Shop, clip: str, **wish: Any) -> tuple[int, int]:
    [entry] = (await shop.customer.add(clip, **wish))["items"]
    await shop.customer.call("DELETE", "/v1/cart", 204)
    return entry["price"], entry["credit"]


async def test_the_difference_is_due(shop: Shop, clip: str) -> None:
    base, _ = await due(shop, clip, **BASE)
    await shop.buy(clip, **BASE)
    price, credit = await due(shop, clip, **UPGRADE)
    assert credit == base < price


async def test_what_is_disputed_counts_towards_nothing(shop: Shop, clip: str) -> None:
    order_id = await shop.buy(clip, **BASE)
    await shop.press(order_id, "dispute")
    assert (await due(shop, clip, **UPGRADE))[1] == 0
    await shop.press(order_id, "dispute-won")
    assert (await due(shop, clip, **UPGRADE))[1] > 0


async def test_nothing_counts_twice(shop: Shop, clip: str) -> None:
    await shop.buy(clip, tier="hd", licence="business")
    await shop.buy(clip, tier="original", licence="business")
    assert (await due(shop, clip, tier="hd", licence="premium"))[1] == 0


async def test_an_upgrade_rests_and_falls_with_its_base(
    shop: Shop, clip: str, run_jobs: RunJobs, mailbox: MailSink
) -> None:
    base, upgrade = await shop.buy(clip, **BASE), await shop.buy(clip, **UPGRADE)
    await run_jobs()
    mailbox.clear()
    await shop.press(base, "dispute")
    assert await shop.rights(base, upgrade) == ["suspended", "suspended"]
    await shop.press(base, "dispute-won")
    assert await shop.rights(base, upgrade) == ["granted", "granted"]
    await shop.press(upgrade, "dispute")
    assert await shop.rights(base, upgrade) == ["granted", "suspended"], "a base does not follow its upgrade"
    await shop.press(upgrade, "dispute-lost")
    assert await shop.rights(base, upgrade) == ["granted", "revoked"]
    await run_jobs()
    numbers = [(await shop.account(one)).order.number for one in (base, upgrade)]
    told = [
        str(mail["Subject"]).replace(numbers[0], "1").replace(numbers[1], "2")
        for mail in mailbox.to(shop.customer.person.email)
    ]
    assert sorted(told) == [
        "Order 1: the payment is disputed",
        "Order 1: your clips are yours again",
        "Order 2: held back with order 1",
        "Order 2: the payment is disputed",
    ]


async def test_a_lost_dispute_of_the_base_ends_the_upgrade(shop: Shop, clip: str) -> None:
    base, upgrade = await shop.buy(clip, **BASE), await shop.buy(clip, **UPGRADE)
    await shop.press(base, "dispute")
    await shop.press(base, "dispute-lost")
    assert await shop.rights(base, upgrade) == ["revoked", "revoked"]
    async with shop.runtime.db.transaction() as session:
        links = await session.scalar(text("SELECT count(*) FROM delivery_links WHERE withdrawn_at IS NULL"))
        ended = await session.scalar(
            text("SELECT count(*) FROM audit_logs WHERE action = 'entitlement:revoked'")
        )
    assert (links, ended) == (0, 2)


async def test_a_base_is_not_refunded_under_its_upgrade(shop: Shop, clip: str) -> None:
    base = await shop.buy(clip, **BASE)
    waiting = await shop.order(clip, gateway="invoice", **UPGRADE)
    refused = await shop.refund(base)
    assert (refused.status_code, refused.json()["code"]) == (409, "extended")
    assert refused.json()["hint"].startswith("cancel order P-")
    number = (await shop.account(waiting)).order.number
    paid = await shop.customer.client.post(
        f"/v1/admin/orders/{number}/mark-paid", json={}, headers=shop.operator
    )
    assert paid.status_code == 200, paid.text
    refused = await shop.refund(base)
    assert refused.json()["hint"] == f"refund order {number} first"
    given = await shop.refund(waiting)
    assert (given.status_code, given.json()["status"]) == (201, "pending"), given.text
    assert (await shop.refund(base)).json()["code"] == "extended", "nobody has sent it yet"
    sent = await shop.customer.client.post(
        f"/v1/admin/refunds/{given.json()['id']}/mark-sent",
        json={"reference": "SEPA 1"},
        headers=shop.operator,
    )
    assert sent.status_code == 200, sent.text
    assert (await shop.account(waiting)).order.status == "refunded"
    assert (await shop.refund(base)).status_code == 201
    assert await shop.rights(base, waiting) == ["revoked", "revoked"]


async def test_what_is_being_given_back_or_was_left_for_nothing_counts_towards_nothing(
    shop: Shop, clip: str
) -> None:
    order_id = await shop.order(clip, **BASE)
    async with shop.runtime.db.transaction() as session:
        payment = await session.scalar(select(Payment).where(Payment.order_id == order_id))
        assert payment is not None
        how = desk.Telling(copies=0, refunds_as="pending")
        await desk.act(session, str(payment.reference), "success", how)
    await service.settle(shop.runtime, payment.id)
    assert (await due(shop, clip, **UPGRADE))[1] > 0
    given = await shop.refund(order_id, keep=True)
    assert given.json()["status"] == "pending"
    assert (await due(shop, clip, **UPGRADE))[1] == 0
    async with shop.runtime.db.transaction() as session:
        await session.execute(text("UPDATE sandbox_refunds SET status = 'succeeded'"))
    await service.settle(shop.runtime, payment.id)
    assert await shop.rights(order_id) == ["granted"]
    assert (await due(shop, clip, **UPGRADE))[1] == 0


async def test_checkout_waits_for_a_refund_of_what_it_counts_on(shop: Shop, clip: str) -> None:
    base = await shop.buy(clip, **BASE)
    await shop.customer.add(clip, **UPGRADE)
    async with shop.runtime.db.transaction() as session:
        await orders.lock(session, base)
        buying = asyncio.create_task(shop.customer.check_out(status=409))
        await blocked(shop.runtime)
        items = await orders.items(session, base)
        await orders.set_refunds(session, base, {item.id: item.amount + item.tax for item in items})
        await delivery.set_rights(session, base, {item.id: "revoked" for item in items})
    assert (await buying)["code"] == "cart_changed"


async def test_an_upgrade_bought_while_its_base_is_given_back(shop: Shop, clip: str) -> None:
    """On connections of their own: the base goes back, or the difference counts, and never both."""
    for _ in range(4):
        base = await shop.buy(clip, **BASE)
        await shop.customer.add(clip, **UPGRADE)
        answers = await asyncio.gather(
            shop.refund(base, keep=True),
            shop.customer.client.post(
                "/v1/checkout", json={"gateway": "sandbox"}, headers=shop.customer.person.headers
            ),
        )
        assert sorted(answer.status_code for answer in answers) == [201, 409], [one.text for one in answers]
        assert {answer.json().get("code") for answer in answers} & {"extended", "cart_changed"}
        await shop.customer.call("DELETE", "/v1/cart", 204)
        async with shop.runtime.db.transaction() as session:
            await session.execute(text("SET LOCAL session_replication_role = replica"))
            for table in ("entitlements", "payment_events", "refund_items", "refunds", "payments"):
                await session.execute(text(f"TRUNCATE {table} CASCADE"))
            await session.execute(text("UPDATE orders SET status = 'cancelled' WHERE status = 'pending'"))


async def test_a_base_can_be_refunded_once_its_upgrade_was_charged_back(shop: Shop, clip: str) -> None:
    base, upgrade = await shop.buy(clip, **BASE), await shop.buy(clip, **UPGRADE)
    assert (await shop.refund(base)).json()["code"] == "extended"
    for action in ("dispute", "dispute-lost"):
        await shop.press(upgrade, action)  # type: ignore[arg-type]
    assert (await shop.refund(base)).status_code == 201
    assert await shop.rights(base, upgrade) == ["revoked", "revoked"]


async def test_late_money_for_a_second_upgrade_of_one_base_goes_back(shop: Shop, clip: str) -> None:
    await shop.buy(clip, **BASE)
    late = await shop.order(clip, gateway="invoice", **UPGRADE)
    order = (await shop.account(late)).order
    await shop.customer.call("POST", f"/v1/orders/{order.uid}/cancel")
    await shop.customer.call("DELETE", "/v1/cart", 204)
    await shop.buy(clip, **UPGRADE)
    paid = await shop.customer.client.post(
        f"/v1/admin/orders/{order.uid}/mark-paid", json={}, headers=shop.operator
    )
    assert paid.status_code == 200, paid.text
    [refund] = (await shop.account(late)).refunds
    assert refund.amount == order.total


async def test_money_for_an_upgrade_of_what_has_ended_goes_back(shop: Shop, clip: str) -> None:
    base = await shop.buy(clip, **BASE)
    upgrade = await shop.order(clip, **UPGRADE)
    await shop.press(base, "dispute")
    await shop.press(base, "dispute-lost")
    await shop.press(upgrade, "success")
    found = await shop.account(upgrade)
    [refund] = found.refunds
    assert (refund.amount, refund.status) == (found.order.total, "requested")
    await service.send(shop.runtime, refund.id)
    found = await shop.account(upgrade)
    assert (found.order.status, found.rights) == ("refunded", ["revoked"])


async def test_an_upgrade_that_is_paid_while_its_base_is_disputed(
    shop: Shop, clip: str, run_jobs: RunJobs, mailbox: MailSink
) -> None:
    base = await shop.buy(clip, **BASE)
    upgrade = await shop.order(clip, **UPGRADE)
    await shop.press(base, "dispute")
    await run_jobs()
    mailbox.clear()
    await shop.press(upgrade, "success")
    assert await shop.rights(base, upgrade) == ["suspended", "suspended"]
    await run_jobs()
    first, second = [(await shop.account(one)).order.number for one in (base, upgrade)]
    told = [str(mail["Subject"]) for mail in mailbox.to(shop.customer.person.email)]
    assert f"Order {second}: held back with order {first}" in told
    assert f"Order {second}: the payment is disputed" not in told


async def test_a_base_that_ends_while_its_upgrade_is_granted(shop: Shop, clip: str) -> None:
    """On connections of their own, many times: whichever comes first, nobody has the better one for the difference."""
    for _ in range(5):
        base = await shop.buy(clip, **BASE)
        upgrade = await shop.order(clip, **UPGRADE)
        async with shop.runtime.db.transaction() as session:
            payment = await session.scalar(select(Payment).where(Payment.order_id == base))
            assert payment is not None
            for action in ("dispute", "dispute-lost"):
                await desk.act(session, str(payment.reference), action, desk.Telling(copies=0))
        await asyncio.gather(service.settle(shop.runtime, payment.id), shop.press(upgrade, "success"))
        assert await shop.rights(base, upgrade) == ["revoked", "revoked"]


async def test_a_price_that_counted_less_is_accepted_anew(shop: Shop, clip: str) -> None:
    base = await shop.buy(clip, **BASE)
    await shop.customer.add(clip, **UPGRADE)
    assert (await shop.refund(base)).status_code == 201
    [entry] = (await shop.customer.cart())["items"]
    assert entry["problem"] == "price_changed"
    refused = await shop.customer.check_out(status=409)
    assert refused["code"] == "cart_changed"


SLOWLY = desk.Telling(copies=0, refunds_as="pending")


async def late(shop: Shop, clip: str, **wish: Any) -> int:
    """An upgrade on invoice that was given up; its money may still come."""
    order_id = await shop.order(clip, gateway="invoice", **(wish or UPGRADE))
    await shop.give_up(order_id)
    return order_id


async def test_late_money_for_an_upgrade_of_what_is_being_given_back_goes_back(shop: Shop, clip: str) -> None:
    base = await shop.order(clip, **BASE)
    await shop.press(base, "success", SLOWLY)
    upgrade = await late(shop, clip)
    assert (await shop.refund(base)).json()["status"] == "pending"
    await shop.transfer(upgrade)
    await shop.refunds_arrive(base)
    found = await shop.account(upgrade)
    assert [refund.amount for refund in found.refunds] == [found.order.total]
    assert await shop.rights(base, upgrade) == ["revoked", "revoked"]


async def test_late_money_while_the_base_of_the_base_is_given_back_goes_back(shop: Shop, clip: str) -> None:
    """The gateway's own hands take what our rules would not let go."""
    base, middle = await shop.buy(clip, tier="hd", licence="business"), await shop.buy(clip, **BASE)
    upgrade = await late(shop, clip)
    async with shop.runtime.db.transaction() as session:
        [item] = await orders.items(session, base)
        refund = await desk_refund(session, base, item.id)
    await shop.transfer(upgrade)
    found = await shop.account(upgrade)
    assert [one.amount for one in found.refunds] == [found.order.total], refund
    assert await shop.rights(middle) == ["granted"]


async def desk_refund(session: Any, order_id: int, item_id: int) -> int:
    """A refund on its way that nobody asked our rules about."""
    return int(
        await session.scalar(
            text(
                "WITH made AS (INSERT INTO refunds"
                " (uid, payment_id, order_id, gateway, status, currency, amount, reason, request_digest)"
                " SELECT 'refund_by_hand', id, order_id, gateway, 'pending', currency, 100, 'by hand', ''"
                " FROM payments WHERE order_id = :order_id RETURNING id)"
                " INSERT INTO refund_items (refund_id, order_item_id, amount) SELECT id, :item_id, 100 FROM made"
                " RETURNING refund_id"
            ),
            {"order_id": order_id, "item_id": item_id},
        )
        or 0
    )


async def test_a_refund_of_the_base_and_late_money_for_its_upgrade_wait_for_each_other(
    shop: Shop, clip: str
) -> None:
    """Whoever is first, the other knows: here the money is, and the refund finds an upgrade."""
    base = await shop.buy(clip, **BASE)
    upgrade = await late(shop, clip)
    async with shop.runtime.db.transaction() as session:
        order = await orders.lock(session, upgrade)
        await orders.mark_paid(session, upgrade)
        assert await delivery.grant(session, order, await orders.items(session, upgrade)) == []
        refunding = asyncio.create_task(shop.refund(base))
        await blocked(shop.runtime)
    assert (await refunding).json()["code"] == "extended"


async def test_late_money_counts_on_what_its_base_is_worth_now(shop: Shop, clip: str) -> None:
    base = await shop.buy(clip, **BASE)
    upgrade = await late(shop, clip)
    assert (await shop.refund(base, amount=100)).status_code == 201
    await shop.transfer(upgrade)
    found = await shop.account(upgrade)
    assert [refund.amount for refund in found.refunds] == [found.order.total]
    assert await shop.rights(base) == ["granted"]


async def test_late_money_does_not_count_on_goodwill(shop: Shop, clip: str) -> None:
    base = await shop.buy(clip, **BASE)
    upgrade = await late(shop, clip)
    await shop.lose(base)
    assert (await shop.restore(base)).status_code == 200
    await shop.transfer(upgrade)
    found = await shop.account(upgrade)
    assert [refund.amount for refund in found.refunds] == [found.order.total]


async def test_late_money_for_what_still_counts_is_kept(shop: Shop, clip: str) -> None:
    base = await shop.buy(clip, **BASE)
    upgrade = await late(shop, clip)
    await shop.transfer(upgrade)
    assert ((await shop.account(upgrade)).refunds, await shop.rights(base, upgrade)) == ([], ["granted"] * 2)


async def test_what_was_paid_for_an_upgrade_that_fell_with_its_base_needs_a_person(
    shop: Shop, clip: str
) -> None:
    base, upgrade = await shop.buy(clip, **BASE), await shop.buy(clip, **UPGRADE)
    assert await shop.attention(upgrade) == []
    await shop.press(base, "dispute")
    assert await shop.attention(upgrade) == [], "it is not decided yet"
    await shop.press(base, "dispute-lost")
    assert await shop.attention(upgrade) == ["upgrade_fell"]
    assert (await shop.refund(upgrade)).status_code == 201
    assert await shop.attention(upgrade) == []


async def test_an_upgrade_that_waits_is_seen_behind_one_that_was_charged_back(shop: Shop, clip: str) -> None:
    base, lost = await shop.buy(clip, **BASE), await shop.buy(clip, **UPGRADE)
    await shop.lose(lost)
    waiting = await shop.order(clip, **UPGRADE)
    refused = await shop.refund(base)
    assert (refused.status_code, refused.json()["code"]) == (409, "extended")
    number = (await shop.account(waiting)).order.number
    assert refused.json()["hint"] == f"cancel order {number} first"
    await shop.give_up(waiting)
    assert (await shop.refund(base)).status_code == 201


async def test_a_base_is_not_restored_under_an_upgrade_whose_money_is_there(shop: Shop, clip: str) -> None:
    base, upgrade = await shop.buy(clip, **BASE), await shop.buy(clip, **UPGRADE)
    await shop.lose(base)
    refused = await shop.restore(base)
    assert (refused.status_code, refused.json()["code"]) == (409, "extended")
    assert refused.json()["hint"] == f"refund order {(await shop.account(upgrade)).order.number} first"
    assert (await shop.refund(upgrade)).status_code == 201
    assert (await shop.restore(base)).status_code == 200
    assert await shop.rights(base, upgrade) == ["granted", "revoked"]


async def cheaper(shop: Shop, admin: Person, tier: str, licence: str, like: tuple[str, str]) -> None:
    """Let one choice cost no more than another."""
    answer = await shop.customer.client.get("/v1/price-book")
    minor = answer.json()["prices"][like[0]][like[1]]
    await set_prices(shop.customer.client, admin, priced(tier, licence, f"{minor / 100:.2f}"))


async def test_a_free_upgrade_falls_with_its_base(shop: Shop, clip: str, admin: Person) -> None:
    base = await shop.buy(clip, tier="hd", licence="business")
    await cheaper(shop, admin, "hd", "premium", ("hd", "business"))
    free = await shop.order(clip, **BASE)
    assert await shop.rights(free) == ["granted"]
    assert (await shop.account(free)).order.total == 0
    given = await shop.refund(base)
    assert given.status_code == 201, given.text
    assert await shop.rights(base, free) == ["revoked", "revoked"]
    assert await shop.attention(free) == []


async def test_what_extends_a_free_upgrade_extends_its_base(shop: Shop, clip: str, admin: Person) -> None:
    base = await shop.buy(clip, tier="hd", licence="business")
    await cheaper(shop, admin, "hd", "premium", ("hd", "business"))
    await shop.order(clip, **BASE)
    upgrade = await shop.buy(clip, **UPGRADE)
    assert (await shop.account(upgrade)).items[0].credit
    refused = await shop.refund(base)
    assert refused.json()["hint"] == f"refund order {(await shop.account(upgrade)).order.number} first"
