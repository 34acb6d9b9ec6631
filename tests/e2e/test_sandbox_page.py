"""The sandbox's checkout in a real browser: what a customer sees, presses and comes back to.

PALETTA_TEST_PICTURES names a folder to keep the pictures in.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from paletta_server.core.runtime import Runtime
from tests.conftest import MakeUser
from tests.support.browser import Browser, chromium
from tests.support.orders import Till, Wanted
from tests.support.payments import Counter, at_its_address

WIDTHS = {"phone": (412, 900), "desk": (1280, 900)}
TITLES = (
    "Yellow tram climbs a steep street in the Alfama, Lisbon, early morning",
    "東京の路面電車 <script>document.title='broken'</script>",
    "x" * 120,
)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("PALETTA_TEST_PICTURES") or tmp_path / "pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
async def counter(app: FastAPI, runtime: Runtime, make_user: MakeUser) -> AsyncIterator[Counter]:
    chromium()
    customer, contributor = await make_user("customer"), await make_user("contributor")
    async with at_its_address(app) as served:
        yield Counter(served, await Till.of(runtime, customer.email, contributor.email))


async def sell(counter: Counter) -> tuple[int, str]:
    """An unpaid order, and the address of its checkout."""
    sold = await counter.till.sell(
        *(Wanted(title, price=4900 + place * 1000, tax=980) for place, title in enumerate(TITLES)),
        paid=False, store=False, gateway="sandbox",
    )  # fmt: skip
    return sold.order.id, str((await counter.begin(sold.order.id)).url)


async def browse(device: str, visit: Callable[[Browser], Any]) -> Any:
    """`visit` with a browser of that size, in a thread: the service runs in this one."""
    width, height = WIDTHS[device]

    def run() -> Any:
        with Browser(width=width, height=height) as tab:
            return visit(tab)

    return await asyncio.to_thread(run)


def fits(tab: Browser) -> bool:
    """Nothing has to be scrolled sideways to be read."""
    return bool(tab.run("document.documentElement.scrollWidth <= window.innerWidth"))


@pytest.mark.parametrize("device", WIDTHS)
async def test_a_customer_is_declined_asked_by_the_bank_and_pays(
    counter: Counter, pictures: Path, device: str
) -> None:
    order, url = await sell(counter)

    def visit(tab: Browser) -> list[str]:
        seen = []

        def note(name: str) -> None:
            tab.picture(pictures / f"sandbox-{name}-{device}.png")
            assert fits(tab), name
            seen.append(tab.text)

        tab.open(url)
        note("pay")
        tab.press("Have the card declined")
        note("declined")
        tab.press("Pay, and let the bank ask first")
        note("bank")
        tab.press("Yes, it was me")
        note("thanks")
        seen.append(tab.address)
        tab.open(url)
        note("paid")
        return seen

    pay, declined, bank, thanks, back, paid = await browse(device, visit)
    assert "Test page." in pay
    for title in TITLES:
        assert title in pay, "as text, not as markup"
    assert "The card was declined." in declined
    assert "Was it you" in bank
    assert back.startswith(f"{counter.runtime.settings.public_url}/checkout/return/")
    assert "Thank you" in thanks
    assert "paletta orders download P-" in thanks
    assert "Dispute this payment at the bank" in paid
    await counter.work()
    account = await counter.account(order)
    account.check()
    assert account.order.status == "paid"


async def test_leaving_without_paying_says_how_to_go_on(counter: Counter, pictures: Path) -> None:
    order, url = await sell(counter)

    def visit(tab: Browser) -> str:
        tab.open(url)
        tab.press("Leave without paying")
        tab.picture(pictures / "sandbox-left-desk.png")
        return tab.text

    said = await browse("desk", visit)
    assert "Not paid yet" in said
    assert "paletta orders pay P-" in said
    assert (await counter.account(order)).payment.captured == 0


async def test_another_sites_page_cannot_press_the_button(
    counter: Counter, tmp_path: Path, pictures: Path
) -> None:
    """A browser says where a form comes from; a page of somebody else's that sends it at once gets nowhere."""
    order, url = await sell(counter)
    evil = tmp_path / "evil.html"
    evil.write_text(
        f'<form method="post" action="{url}"><input name="action" value="success"><button>Win a prize</button></form>'
    )

    def visit(tab: Browser) -> str:
        tab.open(evil.as_uri())
        tab.press("Win a prize")
        return tab.text

    assert "cross_site" in await browse("desk", visit)
    await counter.work()
    assert (await counter.account(order)).payment.captured == 0
