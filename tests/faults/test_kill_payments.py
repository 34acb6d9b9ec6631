"""kill -9 of the API or of a worker around everything that they ask of Stripe: money moves once, and is accounted for.

Between the service and a Stripe of our own stands a proxy that kills at a moment: before a request arrives, while
Stripe is at it, when it has answered and nobody knows, and when the answer has arrived.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import httpx
import psycopg
import pytest
from pydantic import SecretStr

from paletta_server.core.jobs import defer
from paletta_server.core.notify import CHANNEL
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from tests.faults.proxy import Exchange, FaultProxy, Step
from tests.faults.site import EMAIL, Server, Site, StoreAddress
from tests.support import fake_stripe
from tests.support.fake_stripe import FakeStripe
from tests.support.orders import Sold, Till, Wanted
from tests.support.payments import Account, account
from tests.support.serving import serving_in_a_thread

if TYPE_CHECKING:
    from tests.support.stack import Addresses

T = TypeVar("T")
When = Literal["unsent", "sent", "replied", "done"]
STALLED_SECONDS = 5
PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class Moment:
    """A point on the way of a request to Stripe whose path ends like this."""

    method: str
    ending: str
    when: When

    def __str__(self) -> str:
        return f"{self.method} {self.ending} {self.when}"

    @property
    def step(self) -> Step:
        return "head" if self.when == "unsent" else self.when

    def fits(self, one: Exchange) -> bool:
        return one.method == self.method and one.path.endswith(self.ending)


def moments(method: str, ending: str, *when: When) -> list[Moment]:
    return [Moment(method, ending, one) for one in when or ("unsent", "sent", "replied", "done")]


@dataclass
class Shop:
    """A site that takes money by a Stripe in this process, through a proxy."""

    site: Site
    stripe: FakeStripe
    line: FaultProxy

    def kill_at(self, moment: Moment, victim: Server) -> threading.Event:
        """Kill `victim` the next time that something comes to `moment`; set when it happened."""
        fired = threading.Event()

        def watch(one: Exchange, step: Step) -> None:
            if fired.is_set() or step != moment.step or not moment.fits(one):
                return
            victim.kill()
            fired.set()
            if moment.when == "unsent":
                raise ConnectionResetError("who asked is dead, and Stripe never heard of it")

        self.line.watch = watch
        return fired

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.site.token}", **more.pop("headers", {})}
        url = f"http://127.0.0.1:{self.site.port}/v1{path}"
        return httpx.request(method, url, headers=headers, timeout=PATIENCE_SECONDS, **more)

    def ask_through_a_kill(self, moment: Moment, method: str, path: str, **more: Any) -> httpx.Response:
        """Ask the API, which dies at `moment`, and ask again when it is back."""
        fired = self.kill_at(moment, self.site.api)
        with suppress(httpx.TransportError):
            self.ask(method, path, **more)
        assert fired.wait(10), f"the moment never came: {[str(one) for one in self.line.exchanges]}"
        self.line.heal()
        self.site.api.start()
        return self.ask(method, path, **more)

    def order(self) -> Sold:
        """An order that waits for its money."""

        async def sell(runtime: Runtime) -> Sold:
            till = await Till.of(runtime, EMAIL, EMAIL)
            wanted = [Wanted(title=f"Clip {price}", price=price, tax=price // 5) for price in (4900, 7900)]
            return await till.sell(*wanted, paid=False, store=False, gateway="stripe")

        return self.run(sell)

    def account(self, sold: Sold) -> Account:
        async def read(runtime: Runtime) -> Account:
            return await account(runtime, sold.order.id)

        found = self.run(read)
        found.check()
        return found

    def run(self, work: Callable[[Runtime], Awaitable[T]]) -> T:
        async def within() -> T:
            settings = Settings(
                _env_file=None,
                database_url=SecretStr(self.site.database_url),
                s3_endpoint=self.site.store.endpoint,
                s3_access_key=SecretStr(self.site.store.access_key),
                s3_secret_key=SecretStr(self.site.store.secret_key),
            )
            async with Runtime.open(settings) as runtime:
                return await work(runtime)

        return asyncio.run(within())

    def paid_at_stripe(self) -> tuple[Sold, str]:
        """An order whose money Stripe has, of which nobody has told us; and the checkout's id."""
        sold = self.order()
        assert self.ask("POST", f"/orders/{sold.uid}/pay").status_code == 200
        session = self.only_session(sold)
        self.stripe.pay(session)
        self.stripe.outbox.clear()
        return sold, session

    def only_session(self, sold: Sold) -> str:
        """The one checkout that Stripe ever opened for an order."""
        [session] = [
            key for key, one in self.stripe.sessions.items() if one["metadata"]["order"] == sold.order.number
        ]
        return session

    def tell(self) -> None:
        """Stripe's events arrive."""

        async def post() -> None:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.site.port}") as client:
                await self.stripe.deliver(client)

        asyncio.run(post())

    def until(self, sold: Sold, happened: Callable[[Account], bool]) -> Account:
        """The order's account as soon as it is so: changes of orders are announced by the database."""
        with psycopg.connect(self.site.database_url, autocommit=True) as listening:
            listening.execute(f"LISTEN {CHANNEL}")
            while not happened(found := self.account(sold)):
                assert list(listening.notifies(timeout=PATIENCE_SECONDS, stop_after=1)), found
            return found

    def jobs_are_due(self) -> None:
        self.site.sql("UPDATE procrastinate_jobs SET scheduled_at = NULL WHERE status = 'todo'")


@pytest.fixture(scope="module")
def whole_shop(
    stack: Addresses, worker_name: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    from tests.support.stack import make_database

    fake = FakeStripe()
    with serving_in_a_thread(fake.app) as address, FaultProxy(address) as line:
        site = Site(
            tmp_path_factory.mktemp("shop"),
            make_database(stack, f"paletta_payments_{worker_name}"),
            StoreAddress(stack.endpoint, stack.access_key, stack.secret_key),
            f"payments-{worker_name}",
            settings={
                "GATEWAYS": "stripe",
                "STRIPE_SECRET_KEY": fake_stripe.KEY,
                "STRIPE_WEBHOOK_SECRET": fake_stripe.WEBHOOK_SECRET,
                "STRIPE_API_BASE": line.url,
                "STALLED_SECONDS": str(STALLED_SECONDS),
                "SMTP_PORT": "1",
            },
        )
        with site:
            site.sql("UPDATE users SET role = 'admin' WHERE email = %s", EMAIL)
            yield Shop(site, fake, line)


@pytest.fixture
def shop(whole_shop: Shop) -> Iterator[Shop]:
    # Refunds want a password that was just given, and the tests before may have taken longer than that counts.
    whole_shop.site.sql("UPDATE api_tokens SET authenticated_at = now()")
    yield whole_shop
    whole_shop.line.heal()
    whole_shop.stripe.outbox.clear()
    for worker in whole_shop.site.extra:
        worker.kill()
    whole_shop.site.extra.clear()
    api = whole_shop.site.api
    if api.process is None or not api.process.running:  # a test that failed half-way leaves it killed
        api.start()
    whole_shop.site.empty("orders, external_events, procrastinate_jobs")


@pytest.mark.parametrize("moment", moments("POST", "/checkout/sessions"), ids=str)
def test_a_checkout_is_opened_once(shop: Shop, moment: Moment) -> None:
    sold = shop.order()
    answer = shop.ask_through_a_kill(moment, "POST", f"/orders/{sold.uid}/pay")
    assert answer.status_code == 200, answer.text
    session = shop.only_session(sold)
    assert answer.json()["url"] == shop.stripe.sessions[session]["url"]
    shop.stripe.pay(session)
    shop.stripe.outbox.clear()  # no event ever comes
    waited = shop.ask("GET", f"/orders/{sold.uid}/wait").json()
    assert waited["status"] == "paid"
    shop.account(sold)


@pytest.mark.parametrize("moment", moments("POST", "/checkout/sessions", "unsent", "replied"), ids=str)
def test_an_order_given_up_after_the_kill_cannot_be_paid(shop: Shop, moment: Moment) -> None:
    sold = shop.order()
    fired = shop.kill_at(moment, shop.site.api)
    with suppress(httpx.TransportError):
        shop.ask("POST", f"/orders/{sold.uid}/pay")
    assert fired.wait(10)
    shop.line.heal()
    shop.site.api.start()
    cancelled = shop.ask("POST", f"/orders/{sold.uid}/cancel")
    assert cancelled.status_code == 200, cancelled.text
    assert cancelled.json()["status"] == "cancelled"
    assert shop.stripe.sessions[shop.only_session(sold)]["status"] == "expired"
    shop.account(sold)


@pytest.mark.parametrize(
    "moment",
    [*moments("GET", "", "sent", "replied"), *moments("GET", "/disputes", "replied")],
    ids=str,
)
def test_what_was_paid_is_owned_once(shop: Shop, moment: Moment) -> None:
    sold, _ = shop.paid_at_stripe()
    waited = shop.ask_through_a_kill(moment, "GET", f"/orders/{sold.uid}/wait")
    assert waited.json()["status"] == "paid"
    found = shop.account(sold)
    assert found.rights == ["granted", "granted"]
    assert [event.kind for event in found.events] == ["captured"]


@pytest.mark.parametrize("moment", moments("POST", "/expire", "sent", "replied"), ids=str)
def test_giving_up_is_done_once_more(shop: Shop, moment: Moment) -> None:
    sold = shop.order()
    shop.ask("POST", f"/orders/{sold.uid}/pay")
    cancelled = shop.ask_through_a_kill(moment, "POST", f"/orders/{sold.uid}/cancel")
    assert cancelled.status_code == 200 or cancelled.json()["code"] == "order_not_pending"
    assert shop.stripe.sessions[shop.only_session(sold)]["status"] == "expired"
    assert shop.account(sold).order.status == "cancelled"


@pytest.mark.parametrize(
    "moment",
    [*moments("POST", "/refunds", "unsent", "replied"), *moments("GET", "/refunds", "replied")],
    ids=str,
)
def test_money_goes_back_once(shop: Shop, moment: Moment) -> None:
    sold, _ = shop.paid_at_stripe()
    assert shop.ask("GET", f"/orders/{sold.uid}/wait").json()["status"] == "paid"
    given = shop.ask_through_a_kill(
        moment,
        "POST",
        f"/admin/orders/{sold.uid}/refunds",
        json={"reason": "wrong clip", "items": {sold.items[0].uid: 1900}},
        headers={"Idempotency-Key": f"back-{sold.uid}"},
    )
    assert given.status_code == 201, given.text
    found = shop.account(sold)
    assert found.order.refunded == 1900
    assert [refund.status for refund in found.refunds] == ["succeeded"]
    [charge] = [one for one in shop.stripe.charges.values() if one["id"] == found.payment.charge]
    assert charge["amount_refunded"] == 1900, "Stripe gave back what was asked for, once"


# ---- workers


@pytest.mark.parametrize("moment", moments("GET", "", "replied"), ids=str)
def test_an_event_outlives_the_worker_that_had_it(shop: Shop, moment: Moment) -> None:
    sold = shop.order()
    shop.ask("POST", f"/orders/{sold.uid}/pay")
    shop.stripe.pay(shop.only_session(sold))
    first = shop.site.make_worker("first").start()
    fired = shop.kill_at(moment, first)
    shop.tell()
    assert fired.wait(PATIENCE_SECONDS), "no worker looked"
    shop.line.heal()
    shop.site.make_worker("second").start()
    found = shop.until(sold, lambda account: account.order.status == "paid")
    assert [event.kind for event in found.events] == ["captured"]


@pytest.mark.parametrize("moment", moments("POST", "/refunds", "replied"), ids=str)
def test_a_refund_outlives_api_and_worker(shop: Shop, moment: Moment) -> None:
    sold, _ = shop.paid_at_stripe()
    assert shop.ask("GET", f"/orders/{sold.uid}/wait").json()["status"] == "paid"
    fired = shop.kill_at(moment, shop.site.api)
    with suppress(httpx.TransportError):
        shop.ask("POST", f"/admin/orders/{sold.uid}/refunds", json={"reason": "wrong clip"})
    assert fired.wait(10)
    first = shop.site.make_worker("first").start()
    fired = shop.kill_at(moment, first)
    shop.jobs_are_due()
    assert fired.wait(PATIENCE_SECONDS), "no worker sent it"
    shop.line.heal()
    shop.site.make_worker("second").start()
    found = shop.until(sold, lambda account: account.order.status == "refunded")
    assert found.rights == ["revoked", "revoked"]
    [charge] = [one for one in shop.stripe.charges.values() if one["id"] == found.payment.charge]
    assert charge["amount_refunded"] == sold.order.total
    shop.site.api.start()


@pytest.mark.parametrize("moment", moments("POST", "/expire", "replied"), ids=str)
def test_an_order_expires_though_the_reconciler_dies(shop: Shop, moment: Moment) -> None:
    sold = shop.order()
    shop.ask("POST", f"/orders/{sold.uid}/pay")
    shop.site.sql("UPDATE orders SET expires_at = now() - interval '1 second'")

    async def reconcile(runtime: Runtime) -> None:
        async with runtime.db.transaction() as session:
            await defer(session, "payments.reconcile")

    first = shop.site.make_worker("first").start()
    fired = shop.kill_at(moment, first)
    with suppress(Exception):  # the schedule may have been quicker
        shop.run(reconcile)
    assert fired.wait(PATIENCE_SECONDS + 20), "nobody reconciled"
    shop.line.heal()
    shop.site.make_worker("second").start()
    with suppress(Exception):  # the one that was cut off stands in the queue, and comes again
        shop.run(reconcile)
    found = shop.until(sold, lambda account: account.order.status == "expired")
    assert shop.stripe.sessions[shop.only_session(sold)]["status"] == "expired"
    assert found.payment.status == "expired"
