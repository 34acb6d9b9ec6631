"""Orders: made of a cart, frozen, waited for, given up."""

import asyncio
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from paletta_server.core.runtime import Runtime
from paletta_server.orders import service
from tests.conftest import MakeUser, Person
from tests.support.accounts import RunJobs
from tests.support.clips import Shelf
from tests.support.shop import Customer, priced, set_prices, withdraw


async def test_an_order_freezes_prices_and_files(
    customer: Customer, shelf: Shelf, client: httpx.AsyncClient, admin: Person, runtime: Runtime
) -> None:
    clip = await shelf.put("tram")
    await customer.add(clip, tier="original", licence="business")
    order = (await customer.check_out(licensee="Moving Pictures Ltd"))["order"]
    assert (order["status"], order["total"], order["licensee"]) == ("pending", 29900, "Moving Pictures Ltd")
    assert order["number"].startswith("P-20")
    [item] = order["items"]
    assert [file["tier"] for file in item["files"]] == ["hd", "original"]
    assert (await customer.cart())["items"] == []
    await set_prices(client, admin, priced("original", "business", "999.00"))
    await withdraw(runtime, clip)
    again = await customer.call("GET", f"/v1/orders/{order['number']}")
    assert (again["total"], again["items"]) == (29900, order["items"])


async def test_the_same_request_again_is_the_same_order(customer: Customer, shelf: Shelf) -> None:
    await customer.add(await shelf.put("tram"))
    first = await customer.check_out(key="once")
    await customer.add(await shelf.put("ferry"))
    assert (await customer.check_out(key="once"))["order"]["id"] == first["order"]["id"]
    assert (await customer.check_out(key="twice"))["order"]["id"] != first["order"]["id"]


async def test_a_key_stands_for_one_request(customer: Customer, shelf: Shelf) -> None:
    await customer.add(await shelf.put("tram"))
    await customer.check_out(key="once")
    other = await customer.check_out(key="once", licensee="Somebody Else Ltd", status=409)
    assert other["code"] == "key_reused"
    await customer.check_out(key="", status=422)


async def test_two_checkouts_of_one_cart_make_one_order(customer: Customer, shelf: Shelf) -> None:
    await customer.add(await shelf.put("tram"))
    answers = await asyncio.gather(
        *(customer.client.post("/v1/checkout", json={}, headers=customer.person.headers) for _ in range(4))
    )
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    refused = next(answer.json() for answer in answers if answer.status_code == 409)
    assert (refused["code"], "orders pay P-" in refused["hint"]) == ("cart_empty", True)
    assert len((await customer.call("GET", "/v1/orders"))["items"]) == 1


async def test_a_total_that_was_not_shown_is_not_charged(customer: Customer, shelf: Shelf) -> None:
    await customer.add(await shelf.put("tram"))
    assert (await customer.check_out(409, expected_total=1))["code"] == "total_changed"
    assert len((await customer.cart())["items"]) == 1


async def test_a_clip_that_waits_for_payment_is_not_ordered_twice(customer: Customer, shelf: Shelf) -> None:
    clip = await shelf.put("tram")
    await customer.add(clip)
    order = (await customer.check_out())["order"]
    refused = await customer.add(clip, 422)
    assert (refused["code"], order["number"] in refused["detail"]) == ("waiting_for_payment", True)


async def test_giving_up_puts_the_clips_back(customer: Customer, shelf: Shelf) -> None:
    clip = await shelf.put("tram")
    await customer.add(clip, tier="hd", licence="premium")
    order = (await customer.check_out())["order"]
    cancelled = await customer.call("POST", f"/v1/orders/{order['id']}/cancel")
    assert cancelled["status"] == "cancelled"
    [item] = (await customer.cart())["items"]
    assert (item["clip_id"], item["tier"], item["licence"]) == (clip, "hd", "premium")
    assert (await customer.call("POST", f"/v1/orders/{order['id']}/cancel", 409))[
        "code"
    ] == "order_not_pending"
    assert (await customer.call("POST", f"/v1/orders/{order['id']}/pay", 409))["code"] == "order_not_pending"


async def test_the_wait_ends_when_the_order_is_paid(
    customer: Customer, shelf: Shelf, runtime: Runtime
) -> None:
    await customer.add(await shelf.put("tram"))
    order = (await customer.check_out())["order"]
    waiting = asyncio.create_task(customer.call("GET", f"/v1/orders/{order['id']}/wait?wait=20"))
    async with runtime.db.transaction() as session:
        key = await session.scalar(text("SELECT id FROM orders WHERE uid = :uid"), {"uid": order["id"]})
        assert await service.mark_paid(session, key)
        assert not await service.mark_paid(session, key)
    assert (await waiting)["status"] == "paid"


@pytest.mark.parametrize("role", ["customer", "contributor", "admin"])
async def test_anothers_order_is_not_there(
    role: str, customer: Customer, shelf: Shelf, client: httpx.AsyncClient, make_user: MakeUser
) -> None:
    await customer.add(await shelf.put("tram"))
    order = (await customer.check_out())["order"]
    stranger = Customer(client, await make_user(role))
    for name in (order["id"], order["number"]):
        await stranger.call("GET", f"/v1/orders/{name}", 404)
        await stranger.call("GET", f"/v1/orders/{name}/wait?wait=0", 404)
        await stranger.call("POST", f"/v1/orders/{name}/pay", 404)
        await stranger.call("POST", f"/v1/orders/{name}/cancel", 404)
    assert (await stranger.call("GET", "/v1/orders"))["items"] == []


async def test_sold_files_outlive_the_clip(
    customer: Customer,
    shelf: Shelf,
    client: httpx.AsyncClient,
    runtime: Runtime,
    run_jobs: RunJobs,
    tmp_path: Path,
) -> None:
    clip = await shelf.put("tram", media=True)
    await customer.add(clip)
    order = (await customer.check_out())["order"]
    async with runtime.db.transaction() as session:
        keys = list(
            await session.scalars(
                text(
                    "SELECT key FROM order_item_files JOIN order_items ON id = order_item_id WHERE clip_uid = :uid"
                ),
                {"uid": clip},
            )
        )
        key = await session.scalar(text("SELECT id FROM orders WHERE uid = :uid"), {"uid": order["id"]})
        await service.mark_paid(session, key)
    source = tmp_path / "object"
    source.write_bytes(b"sold")
    for stored in keys:
        await runtime.store.upload(source, stored, content_type="video/mp4", cache_seconds=60)
    assert (await client.delete(f"/v1/clips/{clip}", headers=shelf.up.headers)).status_code == 204
    await run_jobs()
    assert all([await runtime.store.head(stored) for stored in keys])
    assert await runtime.store.head(f"media/{clip}/comp.mp4") is None
