"""What a sale, a refund, a dispute and time make of a contributor's account."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from paletta_server.core.runtime import Runtime
from paletta_server.earnings import service, tasks
from paletta_server.earnings.ledger import Entry, Posting, append
from paletta_server.orders import service as orders
from paletta_server.payments import gateways, restoring
from paletta_server.payments import service as payments
from paletta_server.payments.gateways import invoice
from paletta_server.payments.sandbox import desk
from paletta_server.payments.schemas import RestoreIn
from tests.conftest import MakeUser, Person
from tests.support.earnings import IBAN, exact, hold_is_over, shared, stands
from tests.support.model_gateway import ModelGateway
from tests.support.orders import Sold, Till, Wanted
from tests.support.payments import Counter, at_its_address
from tests.support.stack import MailSink


@pytest.fixture
async def seller(make_user: MakeUser) -> Person:
    return await make_user("contributor")


@pytest.fixture
async def counter(app: FastAPI, make_user: MakeUser, seller: Person) -> AsyncIterator[Counter]:
    customer = await make_user("customer")
    async with at_its_address(app) as runtime:
        yield Counter(runtime, await Till.of(runtime, customer.email, seller.email))


REFUNDED = """
WITH items AS (UPDATE order_items SET refunded = 1200),
  orders AS (UPDATE orders SET refunded = 1200, status = 'partially_refunded'),
  paying AS (UPDATE payments SET refunded = 1200 RETURNING id)
INSERT INTO payment_events (payment_id, kind, reference, amount) SELECT id, 'refund_succeeded', 're_1', 1200 FROM paying
"""


async def press(counter: Counter, sold: Sold, action: desk.Action, **how: Any) -> None:
    """Something happens at the gateway, and the shop hears of it."""
    payment = (await counter.account(sold.order.id)).payment
    async with counter.runtime.db.transaction() as session:
        await desk.act(session, str(payment.reference), action, desk.Telling(copies=0, **how))
    await payments.settle(counter.runtime, payment.id)


async def sell(counter: Counter, *prices: int, **how: Any) -> Sold:
    sold = await counter.order(*prices)
    await counter.begin(sold.order.id)
    await press(counter, sold, "success", **how)
    return sold


async def mine(counter: Counter) -> dict[str, int]:
    await exact(counter.runtime)
    return await stands(counter.runtime, counter.till.contributor)


async def give_back(counter: Counter, sold: Sold, amounts: dict[int, int] | None = None) -> None:
    await payments.refund(counter.runtime, sold.order.id, amounts, "asked for", None)


async def test_what_was_earned_is_paid_or_given_up_before_a_person_is_erased(
    counter: Counter, client: httpx.AsyncClient, seller: Person, make_user: MakeUser
) -> None:
    admin = await make_user("admin")

    async def erase(**body: Any) -> httpx.Response:
        path = f"/v1/admin/users/{seller.uid}/erase"
        return await client.post(path, json={"id": seller.uid, **body}, headers=admin.headers)

    await sell(counter, 12000)
    await hold_is_over(counter)
    await sell(counter, 4900)
    refused = await erase()
    assert (refused.status_code, refused.json()["code"]) == (409, "earnings_left")
    assert "84.50 USD" in refused.json()["detail"]
    assert await mine(counter) == {"pending": 2450, "payable": 6000}, "nothing was given up yet"
    platform = (await shared(counter.runtime))["platform"]
    done = await erase(waive_earnings=True)
    assert done.status_code == 200, done.text
    await hold_is_over(counter)
    assert not any((await mine(counter)).values())
    assert (await shared(counter.runtime))["platform"] == platform + 8450
    log = await client.get("/v1/admin/audit-log", params={"object": seller.uid}, headers=admin.headers)
    assert "account:earnings_waived" in {one["action"] for one in log.json()["items"]}


# ---- sales


async def test_half_of_a_sale_before_tax_is_the_contributors_and_on_hold(counter: Counter) -> None:
    await sell(counter, 4900, 7901)  # tax 980 and 1580
    assert await mine(counter) == {"pending": 2450 + 3950}, "3950.5 goes to the even neighbour"
    assert await shared(counter.runtime) == {
        "customers": -15361,
        "tax": 2560,
        "platform": 2450 + 3951,
    }


async def test_settling_again_posts_nothing(counter: Counter) -> None:
    sold = await sell(counter)
    before = await mine(counter)
    async with counter.runtime.db.transaction() as session:
        await service.post(session, await _locked(session, sold))
        await service.post(session, await _locked(session, sold))
    assert await mine(counter) == before
    async with counter.runtime.db.transaction() as session:
        assert await session.scalar(text("SELECT count(*) FROM ledger_transactions")) == 2


async def _locked(session: Any, sold: Sold) -> Any:
    return await orders.lock(session, sold.order.id)


async def test_an_exclusive_clip_brings_more_and_an_agreement_counts_for_all(
    counter: Counter, client: httpx.AsyncClient, admin: Person, seller: Person
) -> None:
    async def exclusive(price: int) -> Sold:
        sold = await counter.order(price)
        async with counter.runtime.db.transaction() as session:
            await session.execute(
                text("UPDATE order_items SET exclusive = true WHERE order_id = :id"), {"id": sold.order.id}
            )
        await counter.begin(sold.order.id)
        await press(counter, sold, "success")
        return sold

    first = await exclusive(10000)
    assert await mine(counter) == {"pending": 6000}
    path = f"/v1/admin/royalties/{seller.email}"
    answer = await client.put(path, json={"rate": "72.5"}, headers=admin.headers)
    assert (answer.status_code, answer.json()["rate"]) == (200, "72.5")
    assert await mine(counter) == {"pending": 6000}, "what is sold keeps its rate"
    await exclusive(10000)
    assert await mine(counter) == {"pending": 6000 + 7250}
    await give_back(counter, first)
    assert await mine(counter) == {"pending": 7250}, "a refund reverses at the rate of the sale"
    listed = (await client.get("/v1/admin/royalties", headers=admin.headers)).json()["items"]
    assert [(one["scope"], one["rate"]) for one in listed] == [
        ("standard", "50"),
        ("exclusive", "60"),
        (seller.uid, "72.5"),
    ]
    assert (await client.delete(path, headers=admin.headers)).status_code == 204
    assert (await client.delete(path, headers=admin.headers)).json()["code"] == "no_rate"
    await sell(counter, 1000)
    assert await mine(counter) == {"pending": 7250 + 500}
    async with counter.runtime.db.transaction() as session:
        rows = await session.execute(
            text("SELECT action, details FROM audit_logs WHERE action LIKE 'royalty%' ORDER BY id")
        )
        assert [tuple(row) for row in rows] == [
            ("royalty_rate:set", {"before": None, "after": "72.5"}),
            ("royalty_rate:unset", {"before": "72.5"}),
        ]


async def test_who_may_have_a_rate(client: httpx.AsyncClient, admin: Person, make_user: MakeUser) -> None:
    customer = await make_user("customer")
    cases = [
        (customer.uid, "55", 409, "not_a_contributor"), ("nobody@example.org", "55", 404, "not_found"),
        ("user_2222", "55", 404, "not_found"), ("standard", "120", 422, "bad_rate"),
    ]  # fmt: skip
    for whose, rate, status, code in cases:
        answer = await client.put(f"/v1/admin/royalties/{whose}", json={"rate": rate}, headers=admin.headers)
        assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_an_upgrade_brings_a_royalty_on_what_was_really_paid(counter: Counter) -> None:
    sold = await counter.till.sell(Wanted(price=10000, credit=4000, tax=1200), paid=False, store=False)
    await counter.begin(sold.order.id)
    await press(counter, sold, "success")
    assert await mine(counter) == {"pending": 3000}


async def test_what_costs_nothing_brings_nothing(counter: Counter) -> None:
    sold = await counter.order(0)
    payment = await counter.begin(sold.order.id)
    assert payment.status == "succeeded"
    assert await mine(counter) == {}
    async with counter.runtime.db.transaction() as session:
        assert await session.scalar(text("SELECT rate FROM royalties")) == 5000


async def test_an_invoice_is_posted_when_it_is_paid(counter: Counter) -> None:
    sold = await counter.order(8000, gateway="invoice", purchase_order="PO-1")
    payment = await counter.begin(sold.order.id)
    assert await mine(counter) == {}
    async with counter.runtime.db.transaction() as session:
        assert await invoice.receive(session, str(payment.reference), note=None, by=counter.till.customer)
    await payments.settle(counter.runtime, payment.id)
    assert await mine(counter) == {"pending": 4000}


# ---- refunds and disputes


async def test_partial_refunds_add_up_to_the_whole(counter: Counter) -> None:
    sold = await sell(counter, 4901, 7900)
    first, second = sold.items
    for amount in (1, 1000, 1, 3333):
        await give_back(counter, sold, {first.id: amount})
        await exact(counter.runtime)
    await give_back(counter, sold, {second.id: 1})
    assert (await mine(counter))["pending"] < 2450 + 3950
    await give_back(counter, sold)
    assert await mine(counter) == {}
    assert await shared(counter.runtime) == {}, "not a unit is left anywhere"


async def kept(counter: Counter, sold: Sold, *amounts: int | None) -> None:
    """Goodwill: money back for the first item, whose licence goes on."""
    for amount in amounts:
        await payments.refund(
            counter.runtime, sold.order.id, {sold.items[0].id: amount}, "sorry", None, keep=True
        )
        await exact(counter.runtime)


async def test_goodwill_is_the_shops_own(counter: Counter) -> None:
    """What is given back while the licence goes on costs the contributor nothing."""
    sold = await sell(counter, 10000)
    await kept(counter, sold, 6000)
    assert await mine(counter) == {"pending": 5000}
    assert await shared(counter.runtime) == {"customers": -6000, "tax": 1000}
    await kept(counter, sold, None)
    assert await mine(counter) == {"pending": 5000}
    assert await shared(counter.runtime) == {"platform": -5000}
    assert (await counter.account(sold.order.id)).rights == ["granted"]


async def test_what_ends_the_licence_ends_the_royalty(counter: Counter) -> None:
    """A refund of the rest without goodwill, and a bank that takes the money; winning brings both back."""
    sold = await sell(counter, 10000)
    await kept(counter, sold, 3000)
    await press(counter, sold, "dispute")
    assert await mine(counter) == {}
    await press(counter, sold, "dispute-won")
    assert await mine(counter) == {"pending": 5000}
    await give_back(counter, sold)
    assert (await counter.account(sold.order.id)).rights == ["revoked"]
    assert await mine(counter) == {}
    assert await shared(counter.runtime) == {}


async def test_restoring_is_goodwill_afterwards(counter: Counter) -> None:
    sold = await sell(counter, 10000)
    await give_back(counter, sold)
    assert await mine(counter) == {}
    acting: Any = type("Acting", (), {"user_id": counter.till.customer})
    await restoring.restore(counter.runtime, acting, sold.uid, RestoreIn(reason="a mistake of ours"))
    assert await mine(counter) == {"pending": 5000}
    assert await shared(counter.runtime) == {"platform": -5000}


async def test_money_that_did_not_pay_the_order_is_no_goodwill(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too little came and went back, with `--keep`; then the order was paid. Nothing of that was the shop's gift."""
    model = ModelGateway()
    monkeypatch.setitem(gateways.MAKERS, "model", lambda _runtime: model)
    sold = await counter.order(10000, gateway="model")
    wrong = await counter.begin(sold.order.id)
    book = model.books[str(wrong.reference)]
    book.status, book.captured = "succeeded", sold.order.total - 1
    await payments.settle(counter.runtime, wrong.id)
    await kept(counter, sold, sold.order.total - 1)
    right = await counter.begin(sold.order.id)
    model.pay(model.books[str(right.reference)])
    await payments.settle(counter.runtime, right.id)
    assert await mine(counter) == {"pending": 5000}
    await give_back(counter, sold, {sold.items[0].id: 6000})
    assert await mine(counter) == {"pending": 2500}, "half of it was given back, and the royalty with it"
    await give_back(counter, sold)
    assert await mine(counter) == {}


async def test_a_refund_that_fails_late_gives_the_royalty_back(counter: Counter) -> None:
    sold = await sell(counter, refunds_as="failed")
    before = await mine(counter)
    await give_back(counter, sold)
    account = await counter.account(sold.order.id)
    assert [refund.status for refund in account.refunds] == ["failed"]
    assert await mine(counter) == before


async def test_a_dispute_takes_the_royalty_and_winning_it_brings_it_back(counter: Counter) -> None:
    sold = await sell(counter, 10000)
    await press(counter, sold, "dispute")
    assert await mine(counter) == {}
    assert await shared(counter.runtime) == {"customers": -12000, "chargebacks": 12000}
    await press(counter, sold, "dispute-won")
    assert await mine(counter) == {"pending": 5000}


async def test_a_lost_dispute_of_what_was_refunded_in_part_is_no_debt_of_the_contributor(
    counter: Counter,
) -> None:
    sold = await sell(counter, 10000)
    await give_back(counter, sold, {sold.items[0].id: 6000})
    assert await mine(counter) == {"pending": 2500}
    await press(counter, sold, "dispute")
    await press(counter, sold, "dispute-lost")
    assert await mine(counter) == {}, "and not below zero"
    assert await shared(counter.runtime) == {"customers": -6000, "chargebacks": 12000, "losses": -6000}


async def test_money_for_an_order_that_is_paid_already_belongs_to_nobody(counter: Counter) -> None:
    sold = await sell(counter, 10000)
    async with counter.runtime.db.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO payments (uid, order_id, gateway, currency, amount, status, captured)"
                " SELECT 'pay_other', order_id, gateway, currency, amount, 'surplus', amount FROM payments"
            )
        )
        await session.execute(
            text(
                "INSERT INTO payment_events (payment_id, kind, reference, amount)"
                " SELECT id, 'captured', 'twice', amount FROM payments WHERE uid = 'pay_other'"
            )
        )
        await service.post(session, await _locked(session, sold))
    assert await mine(counter) == {"pending": 5000}
    assert (await shared(counter.runtime))["unallocated"] == 12000


# ---- the hold


async def test_a_royalty_is_payable_after_a_month(counter: Counter) -> None:
    sold = await sell(counter, 10000)
    await tasks.release(counter.runtime)
    assert await mine(counter) == {"pending": 5000}
    async with counter.runtime.db.transaction() as session:
        await session.execute(text("UPDATE royalties SET sold_at = now() - interval '30 days'"))
    await tasks.release(counter.runtime)
    await tasks.release(counter.runtime)
    assert await mine(counter) == {"payable": 5000}
    await give_back(counter, sold, {sold.items[0].id: 1200})
    assert await mine(counter) == {"payable": 4500}, "what comes back later is taken from what is payable"
    await give_back(counter, sold)
    assert await mine(counter) == {}


async def test_one_order_that_cannot_be_released_keeps_no_other_waiting(counter: Counter) -> None:
    first = await sell(counter, 10000)
    await sell(counter, 20000)
    async with counter.runtime.db.transaction() as session:
        await session.execute(
            text(
                "ALTER TABLE royalties ADD CONSTRAINT in_the_way CHECK (released_at IS NULL OR"
                f" order_id <> {first.order.id}) NOT VALID"
            )
        )
    try:
        await hold_is_over(counter)
    finally:
        async with counter.runtime.db.transaction() as session:
            await session.execute(text("ALTER TABLE royalties DROP CONSTRAINT in_the_way"))
    assert await mine(counter) == {"pending": 5000, "payable": 10000}
    await service.release_due(counter.runtime)
    assert await mine(counter) == {"payable": 15000}


# ---- catching up


async def test_what_was_sold_before_there_was_a_ledger_is_posted(counter: Counter) -> None:
    sold = await sell(counter, 10000)
    await sell(counter, 2000)
    await give_back(counter, sold, {sold.items[0].id: 1200})
    before = await mine(counter)
    async with counter.runtime.db.transaction() as session:
        await session.execute(text("SET LOCAL session_replication_role = replica"))
        await session.execute(text("TRUNCATE ledger_transactions, ledger_entries, royalties"))
        await session.execute(text("UPDATE orders SET paid_at = paid_at - interval '40 days'"))
    async with counter.runtime.db.transaction() as session:
        missing = await service.differences(session)
        assert {one.what for one in missing} == {"customers", "royalty"}
    await tasks.catch_up(counter.runtime)
    assert await mine(counter) == before
    await service.release_due(counter.runtime)
    assert await mine(counter) == {"payable": before["pending"]}, "the hold counts from the sale"


async def test_what_a_node_of_the_version_before_left_out_is_posted(counter: Counter) -> None:
    """It settles a refund without posting it."""
    sold = await sell(counter, 10000)
    async with counter.runtime.db.transaction() as session:
        await session.execute(text(REFUNDED))
    async with counter.runtime.db.transaction() as session:
        found = {(one.what, one.expected, one.found) for one in await service.differences(session)}
        assert found >= {("customers", -10800, -12000), ("refund", 1200, 0)}
        assert await service.differences(session, orders=[sold.order.id + 1]) == []
    await tasks.catch_up(counter.runtime)
    assert await mine(counter) == {"pending": 4500}


# ---- the ledger itself


async def test_the_ledger_refuses_what_does_not_sum_to_zero(runtime: Runtime) -> None:
    with pytest.raises(IntegrityError, match="does not sum to zero"):
        async with runtime.db.transaction() as session:
            await append(
                session, [Posting("surplus", [Entry("tax", "USD", 5), Entry("platform", "EUR", -5)])]
            )
    await exact(runtime)


@pytest.mark.parametrize("statement", ["UPDATE {} SET id = DEFAULT", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
@pytest.mark.parametrize("table", ["ledger_entries", "ledger_transactions"])
async def test_the_ledger_is_only_ever_added_to(counter: Counter, statement: str, table: str) -> None:
    await sell(counter)
    with pytest.raises(IntegrityError, match="only ever added to"):
        async with counter.runtime.db.transaction() as session:
            await session.execute(text(statement.format(table)))


@pytest.mark.parametrize(
    "table", ["payment_events", "invoice_entries", "invoice_outcomes", "price_book", "orders"]
)
async def test_what_is_only_added_to_cannot_be_emptied_either(runtime: Runtime, table: str) -> None:
    """Nor through a table that they hang from."""
    with pytest.raises(DBAPIError, match=r"is append-only|only ever added to"):
        async with runtime.db.transaction() as session:
            await session.execute(text(f"TRUNCATE {table} CASCADE"))


# ---- what contributors see


async def test_a_statement_tells_a_months_story(
    counter: Counter, client: httpx.AsyncClient, seller: Person
) -> None:
    sold = await sell(counter, 10000)
    await sell(counter, 500, 700)
    async with counter.runtime.db.transaction() as session:
        # Sales are booked when they were paid: these were, in May, and the rest is of now.
        await session.execute(text("ALTER TABLE ledger_transactions DISABLE TRIGGER append_only"))
        await session.execute(
            text("UPDATE ledger_transactions SET at = '2026-05-31T23:59:59Z' WHERE order_id = :id"),
            {"id": sold.order.id},
        )
        await session.execute(
            text("UPDATE ledger_transactions SET at = '2026-06-01T00:00:00Z' WHERE order_id <> :id"),
            {"id": sold.order.id},
        )
        await session.execute(text("ALTER TABLE ledger_transactions ENABLE TRIGGER append_only"))
    path = "/v1/me/earnings/statement"
    may = (await client.get(path, params={"month": "2026-05"}, headers=seller.headers)).json()
    assert (may["month"], may["next_cursor"]) == ("2026-05", None)
    [sums] = may["sums"]
    assert (sums["opening"], sums["sales"], sums["closing"], sums["on_hold"]) == (0, 5000, 5000, 5000)
    [line] = may["items"]
    shown = {
        "kind": "sale",
        "net": 10000,
        "rate": "50",
        "royalty": 5000,
        "title": "Clip 0",
        "licence": "individual",
    }
    assert line.items() >= shown.items()
    june = (await client.get(path, params={"month": "2026-06", "limit": 1}, headers=seller.headers)).json()
    assert (june["sums"][0]["opening"], june["sums"][0]["closing"]) == (5000, 5600)
    assert [one["royalty"] for one in june["items"]] == [250]
    more = {"month": "2026-06", "cursor": june["next_cursor"]}
    rest = (await client.get(path, params=more, headers=seller.headers)).json()
    assert ([one["royalty"] for one in rest["items"]], rest["next_cursor"]) == ([350], None)
    await give_back(counter, sold, {sold.items[0].id: 1200})
    await hold_is_over(counter)
    now = (await client.get(path, headers=seller.headers)).json()
    assert [(one["kind"], one["net"], one["royalty"]) for one in now["items"]] == [("refund", -1000, -500)]
    assert now["sums"][0]["payable"] == now["sums"][0]["closing"] == 5100
    whole = (await client.get("/v1/me/earnings", headers=seller.headers)).json()
    assert whole["balances"] == [
        {"currency": "USD", "on_hold": 0, "payable": 5100, "in_transit": 0, "paid": 0}
    ]
    assert whole["payout_account"] is False
    customer = await counter.account(sold.order.id)
    for told in (may, june, now, whole):
        assert customer.order.licensee not in str(told)
        assert customer.order.number not in str(told)


async def test_what_is_anothers_is_not_shown(
    counter: Counter, client: httpx.AsyncClient, make_user: MakeUser
) -> None:
    await sell(counter)
    other = await make_user("contributor")
    told = (await client.get("/v1/me/earnings/statement", headers=other.headers)).json()
    assert (told["sums"], told["items"]) == ([], [])
    bad = await client.get("/v1/me/earnings/statement", params={"month": "2026-13"}, headers=other.headers)
    assert (bad.status_code, bad.json()["code"]) == (422, "bad_month")


async def test_bank_details_are_given_masked_mailed_and_removed(
    client: httpx.AsyncClient,
    seller: Person,
    runtime: Runtime,
    mailbox: MailSink,
    run_jobs: Callable[[], Awaitable[None]],
) -> None:
    path = "/v1/me/payout-account"
    assert (await client.get(path, headers=seller.headers)).json()["code"] == "no_payout_account"
    body = {"holder": "Carla Contributor", "iban": IBAN}
    stored = await client.put(path, json=body, headers=seller.headers)
    assert (stored.status_code, stored.json()["number"]) == (200, "DE…3000")
    wrong = await client.put(path, json=body | {"iban": IBAN[:-1] + "1"}, headers=seller.headers)
    assert (wrong.status_code, wrong.json()["pointer"]) == (422, "/iban")
    assert (await client.get(path, headers=seller.headers)).json() == stored.json()
    assert (await client.delete(path, headers=seller.headers)).status_code == 204
    assert (await client.delete(path, headers=seller.headers)).status_code == 404
    await run_jobs()
    subjects = [str(mail["Subject"]) for mail in mailbox.to(seller.email)]
    assert subjects[-2:] == ["Your payouts go to another account", "Your payout account was removed"]
    async with runtime.db.transaction() as session:
        logged = str(list(await session.scalars(text("SELECT details FROM audit_logs"))))
    assert IBAN[4:-4] not in logged
    assert IBAN not in "".join(mail.as_string() for mail in mailbox.messages)


async def test_bank_details_and_rates_need_the_password_of_just_now(
    client: httpx.AsyncClient, seller: Person, admin: Person, runtime: Runtime
) -> None:
    async with runtime.db.transaction() as session:
        await session.execute(text("UPDATE api_tokens SET authenticated_at = now() - interval '1 hour'"))
    calls = [
        ("PUT", "/v1/me/payout-account", seller), ("DELETE", "/v1/me/payout-account", seller),
        ("PUT", "/v1/admin/royalties/standard", admin), ("DELETE", "/v1/admin/royalties/standard", admin),
        ("POST", "/v1/admin/payouts", admin), ("POST", "/v1/admin/payouts/mark-failed", admin),
        ("POST", "/v1/admin/payouts/run_2222/confirm", admin), ("GET", "/v1/admin/payouts/run_2222/export", admin),
    ]  # fmt: skip
    for method, path, who in calls:
        answer = await client.request(
            method, path, headers=who.headers, json=None if method in ("GET", "DELETE") else {}
        )
        assert (path, answer.json()["code"]) == (path, "login_not_fresh")
