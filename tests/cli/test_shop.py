"""`paletta cart`, `checkout` and `admin prices`, as customers and operators type them."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
from fastapi import FastAPI

from paletta_server.core.jobs import run_worker
from paletta_server.core.runtime import Runtime
from tests.cli.conftest import Run
from tests.conftest import MakeUser, Person
from tests.support.clips import Shelf
from tests.support.shop import BOOK, priced, set_prices, withdraw


@pytest.fixture
async def people(make_user: MakeUser) -> dict[str, Person]:
    return {role: await make_user(role) for role in ("customer", "contributor", "admin")}


@pytest.fixture
async def shop(client: httpx.AsyncClient, people: dict[str, Person], shelf: Shelf) -> list[str]:
    """Two clips for sale; their ids."""
    await set_prices(client, people["admin"])
    return [await shelf.put(name, title=f"A {name} in the street") for name in ("tram", "ferry")]


@pytest.fixture
async def worker(app: FastAPI, url: str) -> AsyncIterator[None]:
    """Somebody who delivers the gateway's events to where the service really is, and handles them."""
    runtime: Runtime = app.state.runtime
    there = replace(runtime, settings=runtime.settings.model_copy(update={"public_url": url}))
    app.state.runtime = there
    task = asyncio.create_task(run_worker(there, name="test", concurrency=1))
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    app.state.runtime = runtime


async def test_a_cart_is_filled_and_shown(paletta: Run, shop: list[str]) -> None:
    tram, ferry = shop
    done = await paletta("cart", "add", tram, "--tier", "hd", "--licence", "business", as_="customer")
    assert (done.code, done.out) == (0, f"{tram}\tA tram in the street\tHD\tbusiness\t99.00\n")
    assert done.err == "total 99.00 USD\n"
    await paletta("cart", "add", ferry[:9], as_="customer")
    done = await paletta("cart", as_="customer")
    assert done.out.splitlines()[1] == f"{ferry}\tA ferry in the street\toriginal\tindividual\t149.00"
    assert done.err == "total 248.00 USD\n"
    done = await paletta("cart", "remove", tram, "--json", as_="customer")
    assert [item["clip_id"] for item in json.loads(done.out)["items"]] == [ferry]
    assert (await paletta("cart", "clear", "--yes", as_="customer")).err == "the cart is empty\n"
    done = await paletta("cart", as_="customer")
    assert (done.out, done.err) == ("", "the cart is empty: `paletta cart add CLIP…` fills it\n")


async def test_a_cart_fits_a_terminal(on_a_terminal: Run, people: dict[str, Person], shop: list[str]) -> None:
    done = await on_a_terminal("cart", "add", *shop, PALETTA_TOKEN=people["customer"].token)
    assert done.code == 0, done.out
    assert max(map(len, done.out.splitlines())) <= 80
    assert "A tram in the street" in done.out


async def test_a_list_goes_into_the_cart(
    paletta: Run, shop: list[str], runtime: Runtime, people: dict[str, Person]
) -> None:
    await paletta("collections", "create", "street", *shop, as_="customer")
    await withdraw(runtime, shop[1])
    done = await paletta("collections", "to-cart", "street", "--tier", "hd", as_="customer")
    assert (done.code, done.out) == (0, f"{shop[0]}\tA tram in the street\tHD\tindividual\t49.00\n")
    assert "1 clip left the shop" in done.err
    await withdraw(runtime, shop[0])
    done = await paletta("collections", "to-cart", "street", as_="customer")
    assert (done.code, "nothing in `street` is for sale" in done.err) == (1, True)
    foreign = await paletta("collections", "to-cart", "street", as_="admin")
    assert (foreign.code, "no collection" in foreign.err) == (1, True)


async def test_a_purchase_by_command(paletta: Run, shop: list[str], worker: None) -> None:
    await paletta("cart", "add", *shop, as_="customer")
    done = await paletta("checkout", "--yes", "--pay-with", "sandbox:success", "--json", as_="customer")
    assert done.code == 0, done.err
    order = json.loads(done.out)
    assert (order["status"], order["total"], len(order["items"])) == ("paid", 29800, 2)
    assert f"paid: `paletta orders download {order['number']}` fetches the clips" in done.err
    done = await paletta("cart", "add", shop[0], as_="customer")
    assert (done.code, "is yours already" in done.err) == (1, True)


async def test_an_upgrade_costs_the_difference(paletta: Run, shop: list[str], worker: None) -> None:
    await paletta("cart", "add", shop[0], "--tier", "hd", as_="customer")
    await paletta("checkout", "--yes", "--pay-with", "sandbox:success", as_="customer")
    done = await paletta("cart", "add", shop[0], as_="customer")
    assert (
        done.err
        == f"`{shop[0]}` is an upgrade: 149.00 less the 49.00 that you paid before\ntotal 100.00 USD\n"
    )


async def test_a_declined_card_leaves_the_order_payable(paletta: Run, shop: list[str]) -> None:
    await paletta("cart", "add", shop[0], as_="customer")
    done = await paletta("checkout", "--yes", "--pay-with", "sandbox:decline", as_="customer")
    assert done.code == 1
    assert "error: the card was declined\nhint: the order stays payable: `paletta orders pay P-" in done.err


async def test_an_invoice_wants_a_number_and_does_not_wait(paletta: Run, shop: list[str]) -> None:
    await paletta("cart", "add", shop[0], as_="customer")
    done = await paletta("checkout", "--yes", "--by", "invoice", as_="customer")
    assert (done.code, "--purchase-order NUMBER" in done.err) == (1, True)
    done = await paletta("checkout", "--yes", "--purchase-order", "PO 4711", "--json", as_="customer")
    order = json.loads(done.out)
    assert (done.code, order["status"], order["purchase_order"]) == (0, "pending", "PO 4711")


async def test_scripts_must_agree_beforehand(paletta: Run, shop: list[str]) -> None:
    await paletta("cart", "add", shop[0], as_="customer")
    done = await paletta("checkout", as_="customer")
    assert (done.code, "--yes" in done.err) == (2, True)
    assert len((await paletta("cart", as_="customer")).out.splitlines()) == 1


async def test_prices_are_planned_and_applied(
    paletta: Run, shop: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    book = tmp_path_factory.mktemp("prices") / "book.yaml"
    book.write_text(priced("hd", "individual", "59.00"), encoding="utf-8")
    done = await paletta("admin", "prices", "plan", str(book), as_="admin")
    assert (done.code, done.out) == (0, "~ prices.hd.individual: 49.00 → 59.00\n")
    assert (await paletta("admin", "prices", "apply", str(book), as_="admin")).code == 0
    done = await paletta("admin", "prices", "apply", str(book), as_="admin")
    assert (done.code, done.err) == (0, "nothing to change\n")
    book.write_text(BOOK.replace('"49.00"', "cheap"), encoding="utf-8")
    done = await paletta("admin", "prices", "apply", str(book), as_="admin")
    line = BOOK[: BOOK.index('"49.00"')].count("\n") + 1
    assert done.code == 3
    assert done.out.startswith(f"{book}:{line}:")
    assert "error: `cheap` is not an amount" in done.out
    assert (await paletta("admin", "prices", "plan", str(book), as_="customer")).code == 4


async def test_an_order_is_paid_later_or_given_up(paletta: Run, shop: list[str], worker: None) -> None:
    await paletta("cart", "add", *shop, as_="customer")
    done = await paletta("checkout", "--yes", "--no-wait", "--json", as_="customer")
    assert done.code == 0, done.err
    number = json.loads(done.out)["number"]
    assert "pay here:\nhttp://127.0.0.1:" in done.err
    done = await paletta("orders", "cancel", number, as_="customer")
    assert (done.code, f"give up order {number} of 298.00 USD?" in done.err) == (2, True), done
    done = await paletta("orders", "cancel", number, "--yes", as_="customer")
    assert done.err == f"order {number} is cancelled; its clips are in the cart again\n"
    done = await paletta("checkout", "--yes", "--no-wait", "--json", as_="customer")
    number = json.loads(done.out)["number"]
    done = await paletta("orders", "pay", number, "--pay-with", "sandbox:success", as_="customer")
    assert (done.code, f"paid: `paletta orders download {number}`" in done.err) == (0, True)
    done = await paletta("orders", "pay", number, as_="customer")
    assert (done.code, "is paid" in done.err) == (1, True)
    for order, words in ((number, "is paid\n"), ("P-1999-000001", "no order `P-1999-000001`")):
        done = await paletta("orders", "cancel", order, as_="customer")  # and nobody is asked
        assert (done.code, words in done.err) == (1, True), done
