"""From what a visitor does to what an operator reads; and that the reports say what the books say."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from paletta_server.analytics import books
from paletta_server.analytics.collector import Collector
from paletta_server.core.runtime import Runtime
from paletta_server.payments.sandbox import desk
from tests.conftest import MakeUser, Person
from tests.support.analytics import add_up, rows, still, write
from tests.support.clips import Shelf
from tests.support.orders import Till, Wanted
from tests.support.payments import Counter, at_its_address
from tests.support.searching import caught_up
from tests.support.shop import Customer

TRAM = "clip_tram22222222"


@pytest.fixture
async def collector(app: FastAPI) -> AsyncIterator[Collector]:
    async with still(app) as made:
        yield made


@pytest.fixture
def ask(client: httpx.AsyncClient, admin: Person) -> Any:
    """`await ask("sales", by="week")`: a report as an admin reads it."""

    async def read(report: str, **params: Any) -> Any:
        answer = await client.get(f"/v1/admin/stats/{report}", params=params, headers=admin.headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return read


@pytest.fixture
async def till(runtime: Runtime, make_user: MakeUser) -> Till:
    customer, seller = await make_user("customer"), await make_user("contributor")
    return await Till.of(runtime, customer.email, seller.email)


# ---- from a search to a paid order


async def test_the_way_to_an_order_is_counted(
    collector: Collector, app: FastAPI, client: httpx.AsyncClient, shelf: Shelf, customer: Customer, ask: Any
) -> None:
    await shelf.put("tram")
    await caught_up(app)
    headers = customer.person.headers
    for query in ("tram", "  TRAM ", "zeppelin of ana@example.org"):
        await client.get("/v1/clips", params={"q": query, "category": "transport"}, headers=headers)
    await client.get("/v1/clips")  # a stranger looks around
    await client.get(f"/v1/clips/{TRAM}", headers=headers)
    await client.get(f"/v1/clips/{TRAM}", headers=shelf.up.headers)  # its own owner
    await client.get("/v1/clips/clip_nothing")
    await customer.add(TRAM)
    await customer.add("clip_nothing", 404)
    await customer.check_out(409, expected_total=1)
    await customer.check_out()
    await collector.flush()
    runtime: Runtime = app.state.runtime
    await add_up(runtime)
    found = await ask("funnel")
    assert [(one["step"], one["times"], one["visitors"]) for one in found["steps"]] == [
        ("search", 4, 2), ("view", 1, 1), ("cart", 1, 1), ("checkout", 1, 1), ("paid", 0, 0),
    ]  # fmt: skip
    assert [one["of_previous"] for one in found["steps"]] == [None, 0.5, 1.0, 1.0, 0.0]
    assert (len(found["periods"]), found["periods"][-1]["search"]) == (30, 2)
    searched = await ask("search")
    assert searched["top"] == [
        {"query": "tram", "searches": 2, "empty": 0, "hits": 1},
        {"query": "zeppelin of …", "searches": 1, "empty": 1, "hits": 0},
    ]
    assert [one["query"] for one in searched["unanswered"]] == ["zeppelin of …"]
    kept = await rows(runtime, "SELECT kind, filters, items, hits FROM analytics_events ORDER BY number")
    assert kept[:3] == [("search", 1, None, 1), ("search", 1, None, 1), ("search", 1, None, 0)]
    assert kept[4:] == [("view", None, None, None), ("cart", None, 1, None), ("checkout", None, None, None)]


async def test_nobody_can_be_recognised_in_what_is_kept(
    collector: Collector, app: FastAPI, client: httpx.AsyncClient, customer: Customer, runtime: Runtime
) -> None:
    await client.get("/v1/clips", params={"q": "tram"}, headers=customer.person.headers)
    await client.get("/v1/clips", params={"q": "tram"})
    await collector.flush()
    tables = await rows(
        runtime, "SELECT to_jsonb(analytics_events)::text FROM analytics_events UNION ALL"
        " SELECT to_jsonb(analytics_batches)::text FROM analytics_batches",
    )  # fmt: skip
    said = json.dumps(tables)
    ((key, uid),) = await rows(
        runtime, "SELECT id, uid FROM users WHERE email = :email", email=customer.person.email
    )
    assert customer.person.token not in said
    assert "127.0.0.1" not in said
    assert uid not in said
    assert {row[0] for row in await rows(runtime, "SELECT visitor FROM analytics_events")}.isdisjoint({key})
    assert len(await rows(runtime, "SELECT DISTINCT visitor FROM analytics_events")) == 2


async def test_only_admins_read_reports_and_mistakes_are_named(
    client: httpx.AsyncClient, admin: Person, make_user: MakeUser
) -> None:
    customer = await make_user("customer")
    path = "/v1/admin/stats/sales"
    assert (await client.get(path, headers=customer.headers)).status_code == 403
    assert (await client.get("/v1/admin/stats/nothing", headers=admin.headers)).status_code == 404
    for params, code, words in (
        ({"from": "2026-02-02", "to": "2026-02-01"}, "bad_period", "`from` (2026-02-02)"),
        ({"from": "1990-01-01"}, "bad_period", "2000"),
        ({"from": "yesterday"}, "invalid_request", "`from`"),
        ({"by": "year"}, "invalid_request", "`by`"),
        ({"top": 0}, "invalid_request", "`top`"),
    ):
        answer = await client.get(path, params=params, headers=admin.headers)
        assert (answer.status_code, answer.json()["code"]) == (422, code)
        assert words in answer.json()["detail"]


async def test_empty_books_make_empty_reports(collector: Collector, ask: Any) -> None:
    for report in ("overview", "sales", "contributors", "search", "uploads", "storage", "funnel"):
        found = await ask(report, by="month")
        assert found["since"] < found["until"] <= found["as_of"][:10]


# ---- the books


@pytest.fixture
async def counter(app: FastAPI, till: Till) -> AsyncIterator[Counter]:
    async with at_its_address(app) as runtime:
        yield Counter(runtime, till)


async def test_sales_say_what_payments_say(
    counter: Counter, client: httpx.AsyncClient, admin: Person, ask: Any
) -> None:
    """Real payments, refunds and a dispute, through the gateway."""
    runtime = counter.runtime
    orders = [
        await counter.order(),
        await counter.order(1000),
        await counter.order(2000),
        await counter.order(),
    ]
    payments = [await counter.begin(sold.order.id) for sold in orders[:3]]
    async with runtime.db.transaction() as session:
        for payment in payments:
            await desk.act(session, str(payment.reference), "success", desk.Telling())
    await counter.work()
    await add_up(runtime)
    (before,) = (await ask("sales"))["totals"]
    assert (before["orders"], before["units"], before["refunded"]) == (3, 4, 0)
    path = f"/v1/admin/orders/{orders[0].uid}/refunds"
    body = {"reason": "damaged", "items": {orders[0].items[0].uid: 1500}}
    assert (await client.post(path, json=body, headers=admin.headers)).status_code == 201
    async with runtime.db.transaction() as session:
        await desk.act(session, str(payments[1].reference), "dispute", desk.Telling())
    await counter.work()
    await add_up(runtime)
    found = await ask("sales")
    (totals,) = found["totals"]
    accounts = [(await counter.account(sold.order.id)) for sold in orders]
    paid = [one for one in accounts if one.order.paid_at]
    revenue = sum(one.order.total for one in paid)
    assert totals == {
        "currency": "USD", "orders": 3, "units": 4, "revenue": revenue, "tax": sum(one.order.tax for one in paid),
        "average": round(revenue / 3), "refunds": 1, "refunded": 1500, "disputed": accounts[1].payment.disputed,
        "net": sum(one.payment.captured - one.payment.refunded - one.payment.disputed for one in paid),
    }  # fmt: skip
    assert totals["disputed"] == 1200
    assert sum(one["revenue"] for one in found["clips"]) == revenue
    assert sum(one["refunded"] for one in found["clips"]) == sum(one.order.refunded for one in paid)
    placed = (await ask("funnel"))["steps"][-1]
    assert (placed["times"], placed["visitors"]) == (3, 1)


async def test_sales_equal_the_orders_day_by_day(
    runtime: Runtime, till: Till, admin: Person, ask: Any, client: httpx.AsyncClient
) -> None:
    """Orders of a quarter in three currencies, some never paid, written as history is: with their times."""
    for number in range(36):
        currency = ("USD", "EUR", "JPY")[number % 3]
        wanted = [
            Wanted(f"Clip {n}", price=1000 + 111 * number + n, tax=7 * n) for n in range(1 + number % 3)
        ]
        await till.sell(*wanted, paid=number % 5 != 0, store=False, currency=currency)
    moved = (
        "(SELECT current_date - 1 - CAST(id % 80 AS int) * interval '1 day' + id % 24 * interval '1 hour')"
    )
    await rows(runtime, f"UPDATE orders SET paid_at = {moved} WHERE paid_at IS NOT NULL RETURNING 1")
    await add_up(runtime)  # what is given back later changes days that were summed
    await rows(
        runtime,
        "UPDATE order_items SET refunded = amount / 2 WHERE id % 4 = 0 AND order_id IN"
        " (SELECT id FROM orders WHERE paid_at IS NOT NULL) RETURNING 1",
    )
    await add_up(runtime)
    ((first,),) = await rows(runtime, "SELECT CAST(current_date - 89 AS text)")
    asked = {"from": first, "top": 100}
    for by in ("day", "week", "month"):
        found = await ask("sales", by=by, **asked)
        truth = await rows(
            runtime,
            "SELECT CAST(CAST(date_trunc(:by, paid_at AT TIME ZONE 'UTC') AS date) AS text), currency, count(*),"
            " sum(total), sum(tax) FROM orders WHERE paid_at IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2",
            by=by,
        )
        told = [
            (one["period"], one["currency"], one["orders"], one["revenue"], one["tax"])
            for one in found["periods"]
            if one["orders"]
        ]
        assert sorted(told) == [(*row[:2], *map(int, row[2:])) for row in truth]
    books_say = await rows(
        runtime,
        "SELECT currency, count(*), sum(amount + order_items.tax), sum(order_items.refunded) FROM order_items"
        " JOIN orders ON orders.id = order_id WHERE paid_at IS NOT NULL GROUP BY 1 ORDER BY 1",
    )
    for report, table in (("sales", "clips"), ("contributors", "contributors")):
        best = (await ask(report, **asked))[table]
        sums = {
            currency: tuple(
                sum(one[name] for one in best if one["currency"] == currency)
                for name in ("units", "revenue", "refunded")
            )
            for currency in ("EUR", "JPY", "USD")
        }
        assert [(currency, *figures) for currency, figures in sums.items()] == [
            (row[0], *map(int, row[1:])) for row in books_say
        ]
    assert len((await ask("sales", **asked | {"top": 2}))["clips"]) == 6, "two of each currency"


async def test_a_refund_that_fails_after_all_is_undone(
    runtime: Runtime, till: Till, collector: Collector, ask: Any
) -> None:
    sold = await till.sell(store=False)
    insert = (
        "INSERT INTO payment_events (payment_id, kind, reference, amount, created_at) SELECT id, :kind, :reference,"
        " :amount, now() - make_interval(days => :ago) FROM payments WHERE uid = :payment RETURNING 1"
    )
    for uid, status in (("pay_a", "succeeded"), ("pay_b", "surplus")):
        await rows(
            runtime,
            "INSERT INTO payments (uid, order_id, gateway, status, currency, amount, captured) VALUES"
            " (:uid, :order, 'sandbox', :status, 'USD', 4900, 4900) RETURNING 1",
            uid=uid, status=status, order=sold.order.id,
        )  # fmt: skip
    for payment, kind, reference, amount, ago in (
        ("pay_a", "refund_succeeded", "one", 700, 3),
        ("pay_a", "refund_failed", "one", 700, 1),
        ("pay_a", "refund_failed", "two", 50, 3),  # heard of the other way round
        ("pay_a", "refund_succeeded", "two", 50, 2),
        ("pay_a", "refund_failed", "three", 9, 2),  # never arrived at all
        ("pay_a", "refund_succeeded", "four", 100, 1),
        ("pay_b", "refund_succeeded", "five", 4900, 1),  # paid twice: neither earned nor given back
    ):
        await rows(runtime, insert, payment=payment, kind=kind, reference=reference, amount=amount, ago=ago)
    await add_up(runtime)
    found = [(one["refunds"], one["refunded"]) for one in (await ask("sales"))["periods"]]
    assert found[-4:] == [(1, 700), (0, 0), (0, -600), (0, 0)]


async def test_a_day_that_changes_while_it_is_summed_is_summed_again(runtime: Runtime, till: Till) -> None:
    await till.sell(store=False)
    async with runtime.db.transaction() as session:
        assert await books._step(session) == 1
        await till.sell(store=False)  # committed meanwhile, by somebody else
        assert await books.sum_up(runtime.db) == 0, "one at a time"
    await books.sum_up(runtime.db)
    query = "SELECT sum(orders), sum(units), (SELECT count(*) FROM analytics_changes) FROM analytics_sales"
    assert await rows(runtime, query) == [(2, 2, 0)]


async def test_uploads_and_ingest(runtime: Runtime, shelf: Shelf, collector: Collector, ask: Any) -> None:
    for name, stage in (("tram", "live"), ("ferry", "failed"), ("fgg", "processing")):
        await shelf.put(name, stage=stage)
    run = (
        "INSERT INTO ingest_runs (uid, upload_id, clip_id, attempt, prefix, created_at)"
        " SELECT :uid, id, clip_id, :attempt, 'media/', now() - interval '100 s' FROM uploads LIMIT 1 RETURNING 1"
    )
    end = (
        "UPDATE ingest_runs SET finished_at = created_at + make_interval(secs => :took), status = :status,"
        " error = :error, figures = CAST(:figures AS jsonb) WHERE uid = :uid RETURNING 1"
    )
    for number, (took, status, error, figures) in enumerate(
        (
            (10, "done", None, {"probe": 1.0, "transcode": 8.0}),
            (20, "done", None, {"probe": 1.5}),
            (40, "done", None, {}),
            (1, "failed", "is 2.1 s long", {"findings": ["too_short"]}),
            (1, "failed", "is 1.7 s long", {"findings": ["too_short"]}),
            (1, "failed", "is 1.9 s long", {}),
            (1, "failed", "OSError: no space left", {}),
            (1, "superseded", None, {}),
        )
    ):
        values = {"took": took, "status": status, "error": error, "figures": json.dumps(figures)}
        await rows(runtime, run, uid=f"run_{number}", attempt=number + 1)
        await rows(runtime, end, uid=f"run_{number}", **values)
    await add_up(runtime)
    found = await ask("uploads")
    assert {one["state"]: one["uploads"] for one in found["states"]} == {
        "verified": 1, "rejected": 1, "uploading": 1,
    }  # fmt: skip
    last = found["periods"][-1]
    names = ("uploads", "verified", "rejected", "unfinished", "given_up")
    assert [last[name] for name in names] == [3, 1, 1, 1, 0]
    assert last["bytes"] == sum(len(data) for data in shelf.data.values())
    total, probe, transcode = found["times"]
    assert (total["step"], total["runs"]) == ("total", 3)
    assert total["p50"] == pytest.approx(20, rel=0.03)
    assert total["p95"] == pytest.approx(40, rel=0.03)
    assert (probe["step"], probe["runs"], transcode["runs"]) == ("probe", 2, 1)
    assert {one["reason"]: one["runs"] for one in found["failures"]} == {
        "too_short": 2, "is # s long": 1, "OSError": 1, "interrupted": 1,
    }  # fmt: skip
    await rows(runtime, "DELETE FROM ingest_runs WHERE status = 'done' RETURNING 1")
    await rows(runtime, "UPDATE uploads SET state = 'cancelled' WHERE state = 'uploading' RETURNING 1")
    await add_up(runtime)
    after = await ask("uploads")
    assert (after["times"], after["periods"][-1]["given_up"]) == ([], 1), "what was forgiven does not count"


async def test_storage_by_class(runtime: Runtime, shelf: Shelf, till: Till, ask: Any) -> None:
    await shelf.put("tram")
    await shelf.put("ferry", stage="processing")
    sold = await till.sell(Wanted(files={"hd": b"an hd file", "original": b"the original file"}), store=False)
    await rows(
        runtime, "UPDATE clips SET deleted_at = now() WHERE id = :id RETURNING 1", id=sold.items[0].clip_id
    )
    for _ in range(2):  # counting again replaces
        async with runtime.db.transaction() as session:
            await books.measure_storage(session)
    found = await ask("storage")
    told = {one["kind"]: (one["objects"], one["bytes"]) for one in found["kinds"]}
    assert told == {
        "originals": (1, len(shelf.data["tram.mov"])),
        "sale renditions": (1, 2048),
        "previews": (7, 7 * 2048),
        "kept for buyers": (2, len(b"an hd file") + len(b"the original file")),
        "unfinished uploads": (1, len(shelf.data["ferry.mov"])),
    }
    assert len(found["periods"]) == len(told)


async def test_the_overview_has_a_bit_of_everything(
    runtime: Runtime, till: Till, collector: Collector, ask: Any
) -> None:
    sold = await till.sell(store=False)
    async with runtime.db.transaction() as session:
        await write(session, 10)
    waiting = await ask("overview")
    assert [one["revenue"] for one in waiting["sales"]] == [sold.order.total], "what was sold counts at once"
    assert waiting["funnel"][0]["times"] == 0, "and who looked a little later"
    await add_up(runtime)
    found = await ask("overview")
    assert found["as_of"] > waiting["as_of"]
    assert [one["revenue"] for one in found["sales"]] == [sold.order.total]
    assert found["sales_before"] == []
    assert found["funnel"][0]["visitors"] == 10
    assert found["unanswered"] == [{"query": "tram", "searches": 10, "empty": 5, "hits": 1}]
    assert [one["title"] for one in found["clips"]] == ["Yellow tram climbs a steep street"]
