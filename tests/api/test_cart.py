"""Prices, carts and what happens to them while people think."""

import asyncio

import httpx

from paletta_server.core.runtime import Runtime
from tests.conftest import MakeUser, Person
from tests.support.clips import Shelf
from tests.support.shop import BOOK, TAXED, Customer, priced, set_prices, withdraw


async def test_without_prices_nothing_is_for_sale(client: httpx.AsyncClient, make_user: MakeUser) -> None:
    customer = Customer(client, await make_user("customer"))
    answer = await customer.call("GET", "/v1/cart", 409)
    assert (answer["code"], "admin prices apply" in answer["hint"]) == ("no_prices", True)


async def test_applying_prices_twice_changes_nothing(client: httpx.AsyncClient, admin: Person) -> None:
    for changes in (True, False):
        body = {"document": BOOK, "filename": "price-book.yaml"}
        answer = await client.post("/v1/admin/prices/apply", json=body, headers=admin.headers)
        assert bool(answer.json()["changes"]) is changes
    assert (await client.get("/v1/price-book")).json()["prices"]["hd"]["business"] == 9900


async def test_mistakes_in_a_book_are_listed_and_change_nothing(
    client: httpx.AsyncClient, admin: Person
) -> None:
    body = {"document": BOOK.replace('"49.00"', "x"), "filename": "my.yaml"}
    answer = await client.post("/v1/admin/prices/apply", json=body, headers=admin.headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "prices_invalid")
    [problem] = answer.json()["problems"]
    assert (problem["file"], problem["message"]) == ("my.yaml", "`x` is not an amount")
    assert (await client.get("/v1/price-book")).status_code == 409


async def test_a_clip_goes_in_once_at_the_best_tier(customer: Customer, shelf: Shelf) -> None:
    clip = await shelf.put("tram")
    cart = await customer.add(clip)
    assert [(item["clip_id"], item["tier"], item["due"]) for item in cart["items"]] == [
        (clip, "original", 14900)
    ]
    cart = await customer.add(clip[:12], tier="hd", licence="business")
    assert [(item["tier"], item["licence"], item["due"]) for item in cart["items"]] == [
        ("hd", "business", 9900)
    ]
    assert (cart["total"], cart["acceptable"]) == (9900, True)
    for given, kept in (({}, ("hd", "business")), ({"licence": "individual"}, ("hd", "individual"))):
        [item] = (await customer.add(clip, **given))["items"]
        assert (item["tier"], item["licence"]) == kept, "what is not given stays"


async def test_one_cart_on_two_machines_at_once(customer: Customer, shelf: Shelf) -> None:
    clips = [await shelf.put(f"tram{n}") for n in "ab"]
    await asyncio.gather(*(customer.add(clip) for clip in clips for _ in range(3)))
    assert {item["clip_id"] for item in (await customer.cart())["items"]} == set(clips)


async def test_what_cannot_be_bought_is_refused_kindly(
    customer: Customer, shelf: Shelf, client: httpx.AsyncClient
) -> None:
    await customer.add("clip_zzzzzzzzzzzz", 404)
    await customer.add(await shelf.put("dark", stage="in_review"), 404)
    clip = await shelf.put("tram")
    assert (await customer.add(clip, 422, tier="uhd4k"))["code"] == "tier_gone"
    both = {"clips": [{"clip_id": clip}, {"clip_id": clip, "tier": "uhd4k"}]}
    await customer.call("POST", "/v1/cart/items", 422, json=both)
    assert (await customer.cart())["items"] == []
    own = await client.post("/v1/cart/items", json={"clips": [{"clip_id": clip}]}, headers=shelf.up.headers)
    assert (own.status_code, own.json()["code"]) == (422, "own_clip")


async def test_an_editorial_clip_is_not_sold_for_advertising(customer: Customer, shelf: Shelf) -> None:
    clip = await shelf.put("tram", editorial={"text": "Lisbon, Portugal - May 14, 2026: a tram"})
    assert (await customer.add(clip, 422, licence="premium"))["code"] == "not_sold_so"
    await customer.add(clip, licence="business")


async def test_a_new_price_must_be_accepted(
    customer: Customer, shelf: Shelf, client: httpx.AsyncClient, admin: Person
) -> None:
    clip = await shelf.put("tram")
    await customer.add(clip, tier="hd")
    await set_prices(client, admin, priced("hd", "individual", "59.00"))
    cart = await customer.cart()
    assert (cart["items"][0]["problem"], cart["acceptable"]) == ("price_changed", False)
    assert cart["items"][0]["problem_text"] == "was 49.00 USD, is 59.00 USD now"
    assert (await customer.check_out(409))["code"] == "cart_changed"
    stale = await customer.call("POST", f"/v1/cart/accept?version={cart['version'] - 1}", 409)
    assert stale["code"] == "cart_changed"
    cart = await customer.call("POST", f"/v1/cart/accept?version={cart['version']}")
    assert (cart["total"], cart["acceptable"]) == (5900, True)


async def test_a_withdrawn_clip_is_shown_as_such_and_goes_when_accepted(
    customer: Customer, shelf: Shelf, runtime: Runtime
) -> None:
    gone, kept = await shelf.put("went"), await shelf.put("kept")
    for clip in (gone, kept):
        await customer.add(clip)
    await withdraw(runtime, gone)
    cart = await customer.cart()
    assert [item["problem"] for item in cart["items"]] == ["withdrawn", None]
    assert (await customer.check_out(409))["code"] == "cart_changed"
    cart = await customer.call("POST", f"/v1/cart/accept?version={cart['version']}")
    assert [item["clip_id"] for item in cart["items"]] == [kept]


async def test_removing_and_clearing(customer: Customer, shelf: Shelf, runtime: Runtime) -> None:
    clips = [await shelf.put(name) for name in ("tram", "ferry")]
    for clip in clips:
        await customer.add(clip)
    await withdraw(runtime, clips[0])
    cart = await customer.call("DELETE", f"/v1/cart/items/{clips[0]}")
    assert [item["clip_id"] for item in cart["items"]] == [clips[1]]
    await customer.call("DELETE", f"/v1/cart/items/{clips[0]}", 404)
    await customer.call("DELETE", "/v1/cart", 204)
    assert (await customer.cart())["items"] == []


async def test_tax_is_added_once_and_split_exactly(
    customer: Customer, shelf: Shelf, client: httpx.AsyncClient, admin: Person
) -> None:
    await set_prices(client, admin, TAXED)
    for name in ("a", "b", "c"):
        await customer.add(await shelf.put(f"cat{name}"), tier="hd")
    cart = await customer.cart()
    assert (cart["subtotal"], cart["tax"], cart["total"]) == (14700, 2793, 17493)
    order = (await customer.check_out(expected_total=17493))["order"]
    assert (order["total"], sum(item["tax"] for item in order["items"])) == (17493, 2793)
