"""What every gateway must do, tried on all of them: Stripe's SDK against a strict Stripe of our own, the sandbox,
invoices, and the model that the drills use."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from paletta_server.commands.doctor import Trouble
from paletta_server.commands.doctor_outside import payments
from paletta_server.core.runtime import Runtime
from paletta_server.orders import service as orders
from paletta_server.orders.models import Order
from paletta_server.payments import evidence, gateways, service
from paletta_server.payments.gateway import (
    SENT_BY_HAND,
    CheckoutRequest,
    Evidence,
    Failed,
    Forged,
    Gateway,
    GatewayDown,
    Line,
    Listed,
    Refused,
)
from paletta_server.payments.gateways import invoice
from paletta_server.payments.gateways.invoice import InvoiceGateway
from paletta_server.payments.models import Payment
from paletta_server.payments.sandbox import desk
from tests.conftest import MakeUser
from tests.support import fake_stripe
from tests.support.fake_stripe import FakeStripe
from tests.support.model_gateway import ModelGateway
from tests.support.orders import Till
from tests.support.payments import Counter, at_its_address
from tests.support.serving import serving

NAMES = ("stripe", "sandbox", "invoice", "model")
AMOUNT = 15232


def request(key: str = "pay_2345678abcde", **changes: Any) -> CheckoutRequest:
    made = CheckoutRequest(
        key=key,
        order="P-2026-000042",
        currency="USD",
        amount=AMOUNT,
        lines=(Line("Yellow tram climbs a steep street", 5831), Line("Überall & “anderswo”", 9401)),
        email="ada@example.org",
        expires_at=datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1),
        return_url="https://shop.example/checkout/return/pay_2345678abcde",
        purchase_order="PO 7",
    )
    return replace(made, **changes)


@dataclass
class Subject:
    """A gateway, and how its customers pay."""

    gateway: Gateway
    pay: Callable[[str], Awaitable[None]]
    dispute: Callable[[str], Awaitable[str]] | None = None
    """Has a bank dispute a paid checkout, and tells the dispute's reference."""


@pytest.fixture
async def stripe_at_home(runtime: Runtime) -> AsyncIterator[tuple[FakeStripe, Runtime]]:
    """A Stripe on this machine, and a service that uses it."""
    fake = FakeStripe()
    async with serving(fake.app) as address:
        changes = {
            "stripe_secret_key": SecretStr(fake_stripe.KEY),
            "stripe_webhook_secret": SecretStr(fake_stripe.WEBHOOK_SECRET),
            "stripe_api_base": address,
            "gateways": ("stripe", "sandbox", "invoice"),
        }
        yield fake, replace(runtime, settings=runtime.settings.model_copy(update=changes))


@pytest.fixture(params=NAMES)
async def subject(
    request: pytest.FixtureRequest, stripe_at_home: tuple[FakeStripe, Runtime], make_user: MakeUser
) -> Subject:
    fake, runtime = stripe_at_home
    name = request.param
    if name == "stripe":

        async def pay_stripe(reference: str) -> None:
            fake.pay(reference)

        async def dispute_stripe(reference: str) -> str:
            intent = fake.sessions[reference]["payment_intent"]
            dispute = fake.dispute(fake.intents[intent]["latest_charge"])
            fake.move_dispute(dispute, funds="withdrawn")
            return dispute

        return Subject(gateways.of(runtime, "stripe"), pay_stripe, dispute_stripe)
    if name == "sandbox":

        async def press(reference: str) -> None:
            async with runtime.db.transaction() as session:
                await desk.act(session, reference, "success", desk.Telling(copies=0))

        async def dispute_there(reference: str) -> str:
            async with runtime.db.transaction() as session:
                checkout = await desk.act(session, reference, "dispute", desk.Telling(copies=0))
                [dispute] = await desk.disputes_of(session, checkout)
                return dispute.reference

        return Subject(gateways.of(runtime, "sandbox"), press, dispute_there)
    if name == "invoice":
        admin = await make_user("admin")
        operator = (await Till.of(runtime, admin.email, admin.email)).customer

        async def receive(reference: str) -> None:
            async with runtime.db.transaction() as session:
                await invoice.receive(session, reference, note=None, by=operator)

        return Subject(gateways.of(runtime, "invoice"), receive)
    model = ModelGateway()

    async def pay_model(reference: str) -> None:
        model.pay(model.books[reference])

    async def dispute_model(reference: str) -> str:
        return model.dispute(model.books[reference])

    return Subject(model, pay_model, dispute_model)


# ---- all of them


async def test_the_same_key_opens_one_checkout(subject: Subject) -> None:
    asked = request()
    first, second = await asyncio.gather(*(subject.gateway.open_checkout(asked) for _ in range(2)))
    assert first == second
    assert first.expires_at == asked.expires_at
    state = await subject.gateway.fetch(first.reference)
    assert (state.status, state.currency, state.captured) == ("open", "USD", 0)
    other = await subject.gateway.open_checkout(request("pay_another22222"))
    assert other.reference != first.reference
    with pytest.raises(Refused):
        await subject.gateway.open_checkout(replace(asked, amount=AMOUNT + 1, lines=(Line("x", AMOUNT + 1),)))


async def test_paying_captures_the_sum_once(subject: Subject) -> None:
    reference = (await subject.gateway.open_checkout(request())).reference
    await subject.pay(reference)
    state = await subject.gateway.fetch(reference)
    assert (state.status, state.captured, state.currency) == ("succeeded", AMOUNT, "USD")
    assert state.charge
    await subject.gateway.close_checkout(reference)
    assert await subject.gateway.fetch(reference) == state, "what is paid cannot be closed"


async def test_a_closed_checkout_stays_closed(subject: Subject) -> None:
    reference = (await subject.gateway.open_checkout(request())).reference
    for _ in range(2):
        await subject.gateway.close_checkout(reference)
        assert (await subject.gateway.fetch(reference)).status == "expired"
    again = await subject.gateway.open_checkout(request(key="pay_another22222"))
    assert again.reference != reference


async def test_refunds_are_made_once_and_never_exceed_the_charge(subject: Subject) -> None:
    reference = (await subject.gateway.open_checkout(request())).reference
    await subject.pay(reference)
    charge = str((await subject.gateway.fetch(reference)).charge)
    for key, amount in (("refund_1", 5000), ("refund_1", 5000), ("refund_2", 232), ("refund_3", 1)):
        await subject.gateway.refund(charge, key=key, payment="pay_2345678abcde", amount=amount)
    told = (await subject.gateway.fetch(reference)).refunds
    status = "pending" if subject.gateway.name in SENT_BY_HAND else "succeeded"
    assert {one.uid: (one.amount, one.status) for one in told} == {
        "refund_1": (5000, status), "refund_2": (232, status), "refund_3": (1, status),
    }  # fmt: skip
    assert len({one.reference for one in told}) == 3
    with pytest.raises(Refused):
        await subject.gateway.refund(charge, key="refund_1", payment="pay_2345678abcde", amount=5001)
    with pytest.raises(Refused):
        await subject.gateway.refund(charge, key="refund_4", payment="pay_2345678abcde", amount=10_000)
    assert len((await subject.gateway.fetch(reference)).refunds) == 3


async def test_an_unknown_checkout_is_refused(subject: Subject) -> None:
    with pytest.raises(Refused):
        await subject.gateway.fetch("nothing_of_ours")


async def test_an_event_without_a_signature_is_forged(subject: Subject) -> None:
    with pytest.raises(Forged):
        subject.gateway.parse_event(b"{}", {})


@pytest.fixture
async def disputed(subject: Subject) -> tuple[Subject, str, str]:
    """A checkout that was paid and is disputed, and the dispute."""
    if subject.dispute is None:
        pytest.skip("no bank stands behind it")
    reference = (await subject.gateway.open_checkout(request())).reference
    await subject.pay(reference)
    return subject, reference, await subject.dispute(reference)


EVIDENCE = {name: f"{name}: 12 Überall" for name in evidence.TEXTS} | {"customer_ip": "192.0.2.7"}


async def test_evidence_is_taken_once(disputed: tuple[Subject, str, str]) -> None:
    subject, reference, dispute = disputed
    gateway = subject.gateway
    [told] = (await gateway.fetch(reference)).disputes
    assert (told.reference, told.status, told.answered) == (dispute, "needs_response", False)
    files = {}
    for field in evidence.FILES:
        names = {
            await gateway.upload_evidence(
                key=f"evidence_{field}", name=f"{field}.pdf", content_type="application/pdf", data=b"%PDF-1.7"
            )
            for _ in range(2)
        }
        assert len(names) == 1, "the same key sends one file"
        files[field] = names.pop()
    sent = Evidence(EVIDENCE, files)
    for _ in range(2):
        await gateway.submit_evidence(dispute, key="answer_1", evidence=sent)
    [told] = (await gateway.fetch(reference)).disputes
    assert (told.status, told.answered) == ("under_review", True)
    with pytest.raises(Refused):
        await gateway.submit_evidence(dispute, key="answer_2", evidence=sent)
    with pytest.raises(Refused):
        await gateway.accept_dispute(dispute, key="answer_3")


async def test_a_dispute_that_is_given_up_is_lost(disputed: tuple[Subject, str, str]) -> None:
    subject, reference, dispute = disputed
    for _ in range(2):
        await subject.gateway.accept_dispute(dispute, key="answer_1")
    [told] = (await subject.gateway.fetch(reference)).disputes
    assert (told.status, told.answered) == ("lost", False)
    assert sum(move.amount for move in told.movements) == -AMOUNT
    with pytest.raises(Refused):
        await subject.gateway.submit_evidence(dispute, key="answer_2", evidence=Evidence(EVIDENCE, {}))
    with pytest.raises(Refused):
        await subject.gateway.accept_dispute("dispute_nobody", key="answer_3")


async def test_checkouts_are_listed_page_by_page(subject: Subject) -> None:
    before = datetime.now(UTC) - timedelta(minutes=1)
    made = [
        (await subject.gateway.open_checkout(request(f"pay_{n}222222222222"))).reference for n in range(5)
    ]
    await subject.pay(made[2])
    found: list[Listed] = []
    cursor: str | None = None
    while True:
        page = await subject.gateway.list_checkouts(before, cursor)
        found += page.checkouts
        cursor = page.cursor
        if cursor is None:
            break
    assert sorted(one.reference for one in found) == sorted(made)
    assert {one.payment for one in found} == {f"pay_{n}222222222222" for n in range(5)}
    assert {one.reference: one.captured for one in found if one.captured} == {made[2]: AMOUNT}
    if subject.gateway.name != "model":
        late = await subject.gateway.list_checkouts(datetime.now(UTC) + timedelta(minutes=1))
        assert late.checkouts == ()


async def test_an_invoice_has_no_disputes(runtime: Runtime) -> None:
    gateway = InvoiceGateway(runtime.db)
    assert not gateway.takes_files
    for asking in (
        gateway.upload_evidence(key="k", name="a.pdf", content_type="application/pdf", data=b"%PDF"),
        gateway.submit_evidence("d", key="k", evidence=Evidence({}, {})),
        gateway.accept_dispute("d", key="k"),
    ):
        with pytest.raises(Refused):
            await asking


async def test_money_for_an_invoice_is_back_when_an_operator_has_sent_it(
    runtime: Runtime, make_user: MakeUser
) -> None:
    gateway, admin = InvoiceGateway(runtime.db), await make_user("admin")
    operator = (await Till.of(runtime, admin.email, admin.email)).customer
    reference = (await gateway.open_checkout(request())).reference

    async def decided(key: str, kind: invoice.Outcome) -> list[tuple[str, str | None]]:
        async with runtime.db.transaction() as session:
            await invoice.decide(session, key, kind, note=f"{kind}: 7", by=operator)
        return [(one.status, one.failure) for one in (await gateway.fetch(reference)).refunds]

    async with runtime.db.transaction() as session:
        assert await invoice.receive(session, reference, note=None, by=operator)
    for key in ("refund_1", "refund_2"):
        await gateway.refund(reference, key=key, payment="pay_2345678abcde", amount=AMOUNT // 2)
    assert await decided("refund_1", "sent") == [("succeeded", None), ("pending", None)]
    assert await decided("refund_2", "failed") == [("succeeded", None), ("failed", "failed: 7")]
    assert await decided("refund_1", "failed") == [("failed", "failed: 7"), ("failed", "failed: 7")]
    await gateway.refund(reference, key="refund_3", payment="pay_2345678abcde", amount=AMOUNT)
    with pytest.raises(Refused):
        await decided("refund_4", "sent")


# ---- Stripe alone


@pytest.fixture
async def shop(
    stripe_at_home: tuple[FakeStripe, Runtime], app: FastAPI, make_user: MakeUser
) -> AsyncIterator[tuple[FakeStripe, Counter]]:
    """A shop that takes money by Stripe."""
    fake, runtime = stripe_at_home
    customer, seller = await make_user("customer"), await make_user("contributor")
    before = app.state.runtime
    app.state.runtime = runtime
    try:
        async with at_its_address(app) as here:
            yield fake, Counter(here, await Till.of(here, customer.email, seller.email))
    finally:
        app.state.runtime = before


async def test_unreachable_is_not_refused(stripe_at_home: tuple[FakeStripe, Runtime]) -> None:
    fake, runtime = stripe_at_home
    gateway = gateways.of(runtime, "stripe")
    asked = request()
    fake.lose = ["question"]
    with pytest.raises(GatewayDown):
        await gateway.open_checkout(asked)
    assert fake.sessions == {}
    reference = (await gateway.open_checkout(asked)).reference
    assert list(fake.sessions) == [reference]
    wrong = runtime.settings.model_copy(update={"stripe_secret_key": SecretStr("sk_test_wrong")})
    with pytest.raises(GatewayDown):
        await gateways.of(replace(runtime, settings=wrong), "stripe").fetch(reference)


async def test_the_doctor_asks_stripe(stripe_at_home: tuple[FakeStripe, Runtime]) -> None:
    fake, runtime = stripe_at_home

    async def trouble(**changes: object) -> tuple[str, str]:
        with pytest.raises(Trouble) as found:
            await payments(runtime.settings.model_copy(update=changes))
        return found.value.outcome, f"{found.value} {found.value.fix}"

    assert await payments(runtime.settings) == "stripe, sandbox, invoice"
    asked = len(fake.requests)
    assert await payments(runtime.settings.model_copy(update={"gateways": ("invoice",)})) == "invoice"
    assert len(fake.requests) == asked

    outcome, said = await trouble(stripe_secret_key=None)
    assert outcome == "failed"
    assert "PALETTA_STRIPE_SECRET_KEY" in said
    assert len(fake.requests) == asked
    outcome, said = await trouble(stripe_secret_key=SecretStr("sk_test_wrong"))
    assert outcome == "failed"
    assert said.startswith("Stripe: ")
    assert "PALETTA_STRIPE_SECRET_KEY" in said
    outcome, said = await trouble(stripe_api_base="http://127.0.0.1:1")
    assert outcome == "failed"
    outcome, said = await trouble(stripe_webhook_secret=None)
    assert outcome == "warning"
    assert f"{runtime.settings.public_url}/v1/webhooks/stripe" in said
    outcome, said = await trouble(env="production")
    assert outcome == "warning"
    assert "test key" in said
    outcome, said = await trouble(gateways=())
    assert outcome == "warning"
    assert "nobody can pay" in said


async def test_what_stripe_broke_down_over_is_begun_anew(shop: tuple[FakeStripe, Counter]) -> None:
    """It answers a key with the same error for a day: neither customer nor order wait for that."""
    fake, counter = shop
    sold = await counter.order(gateway="stripe")
    fake.lose = ["answer"]
    with pytest.raises(Failed):
        await counter.begin(sold.order.id)
    payment = await counter.begin(sold.order.id)
    assert len(fake.sessions) == 2, "nobody has the first one's address"
    fake.pay(str(payment.reference))
    await service.settle(counter.runtime, payment.id)
    fake.lose = ["answer"]
    given = await service.refund(counter.runtime, sold.order.id, None, "asked for", None)
    assert given.status == "succeeded", "the refund had gone through, and looking found it"
    account = await counter.account(sold.order.id)
    account.check()
    assert account.order.status == "refunded"


async def test_an_order_can_be_given_up_though_stripe_broke_down(shop: tuple[FakeStripe, Counter]) -> None:
    fake, counter = shop
    sold = await counter.order(gateway="stripe")
    fake.lose = ["answer"]
    with pytest.raises(Failed):
        await counter.begin(sold.order.id)
    await counter.age(Order, expires_at="1 minute")
    await service.reconcile(counter.runtime)
    assert (await counter.account(sold.order.id)).order.status == "expired"


async def test_what_we_send_to_stripe(stripe_at_home: tuple[FakeStripe, Runtime]) -> None:
    fake, runtime = stripe_at_home
    await gateways.of(runtime, "stripe").open_checkout(request())
    [(_, path, sent)] = fake.requests
    assert path == "checkout/sessions"
    assert (
        sent["client_reference_id"]
        == sent["payment_intent_data"]["metadata"]["payment"]
        == "pay_2345678abcde"
    )
    assert [one["price_data"]["unit_amount"] for one in sent["line_items"].values()] == ["5831", "9401"]
    with pytest.raises(fake_stripe.Refusal, match="unknown parameter: line_items"):
        fake_stripe.check({"line_items": {"0": {"price_in_cents": "1"}}}, fake_stripe.SessionCreateParams)


async def test_a_sale_by_stripe_from_page_to_lost_dispute(shop: tuple[FakeStripe, Counter]) -> None:
    fake, counter = shop
    sold = await counter.order(gateway="stripe")
    payment = await counter.begin(sold.order.id)
    async with httpx.AsyncClient(base_url=counter.runtime.settings.public_url) as client:
        fake.decline(str(payment.reference))
        await fake.deliver(client)
        await counter.work()
        account = await counter.account(sold.order.id)
        assert (account.order.status, account.payment.failure) == ("pending", "insufficient_funds")
        fake.pay(str(payment.reference))
        await fake.deliver(client)
        await counter.work()
        (await counter.account(sold.order.id)).check()
        first, _ = sold.items
        for amount in (100, 200, 300):
            await service.refund(counter.runtime, sold.order.id, {first.id: amount}, "asked for", None)
        account = await counter.account(sold.order.id)
        assert account.order.refunded == 600
        charge = str(account.payment.charge)
        dispute = fake.dispute(charge, "warning_needs_response")
        await fake.deliver(client)
        await counter.work()
        assert (await counter.account(sold.order.id)).rights == ["granted", "granted"], (
            "an inquiry takes no money"
        )
        fake.move_dispute(dispute, status="needs_response", funds="withdrawn")
        await fake.deliver(client)
        await counter.work()
        assert (await counter.account(sold.order.id)).rights == ["suspended", "suspended"]
        fake.move_dispute(dispute, status="lost")
        await fake.deliver(client)
        await counter.work()
        account = await counter.account(sold.order.id)
        assert account.rights == ["revoked", "revoked"]
        assert account.disputes[0].outcome == "lost"
        account.check()


async def test_a_refund_that_fails_later_counts_no_more(shop: tuple[FakeStripe, Counter]) -> None:
    fake, counter = shop
    sold = await counter.order(gateway="stripe")
    fake.pay(str((await counter.begin(sold.order.id)).reference))
    await counter.work()
    async with httpx.AsyncClient(base_url=counter.runtime.settings.public_url) as client:
        await fake.deliver(client)
        await counter.work()
        fake.refunds_as = "pending"
        refund = await service.refund(counter.runtime, sold.order.id, None, "asked for", None)
        account = await counter.account(sold.order.id)
        assert (refund.status, account.order.status) == ("pending", "paid")
        assert account.payment.pending_refunds == sold.order.total
        fake.decide_refund(str(refund.reference), "failed")
        await fake.deliver(client)
        await counter.work()
    account = await counter.account(sold.order.id)
    account.check()
    assert (account.refunds[0].status, account.payment.pending_refunds) == ("failed", 0)
    assert account.refunds[0].failure == "lost_or_stolen_card"
    assert account.rights == ["granted", "granted"]


@pytest.mark.parametrize("ends", ["cancelled", "expired"])
async def test_an_order_given_up_while_a_bank_decides(shop: tuple[FakeStripe, Counter], ends: str) -> None:
    """What cannot be closed is not tried for ever; an order past its time waits, and late money pays either."""
    fake, counter = shop
    sold = await counter.order(gateway="stripe")
    payment = await counter.begin(sold.order.id)
    fake.pay_by_bank(str(payment.reference))
    if ends == "cancelled":
        await service.cancel(counter.runtime, sold.order.id)
        async with counter.runtime.db.transaction() as session:
            assert await orders.close_unpaid(session, sold.order.id, "cancelled")
    else:
        await counter.age(Order, expires_at="1 minute")
        await service.reconcile(counter.runtime)
        async with counter.runtime.db.transaction() as session:
            assert await orders.expired(session) == [], "it does not keep others waiting"
    await service.settle(counter.runtime, payment.id)
    before = len(fake.requests)
    async with asyncio.timeout(60):
        await counter.work()
    assert [path for _, path, _ in fake.requests[before:] if path.endswith("expire")] == []
    account = await counter.account(sold.order.id)
    assert account.order.status == ("cancelled" if ends == "cancelled" else "pending")
    assert account.payment.status == "open"
    fake.bank_pays(str(payment.reference))
    await service.settle(counter.runtime, payment.id)
    account = await counter.account(sold.order.id)
    account.check()
    assert (account.order.status, account.rights) == ("paid", ["granted", "granted"])


async def test_an_order_paid_twice_is_paid_once_and_the_rest_goes_back(
    shop: tuple[FakeStripe, Counter],
) -> None:
    """The first checkout is taken for over, a second is paid, and then the first was paid too."""
    fake, counter = shop
    sold = await counter.order(gateway="stripe")
    first = await counter.begin(sold.order.id)
    async with counter.runtime.db.transaction() as session:
        (await session.get_one(Payment, first.id)).status = "failed"
    second = await counter.begin(sold.order.id)
    assert second.reference != first.reference
    for payment in (second, first):
        fake.pay(str(payment.reference))
        await service.settle(counter.runtime, payment.id)
    await counter.work()
    account = await counter.account(sold.order.id)
    account.check()
    assert [(one.status, one.captured, one.refunded) for one in account.payments] == [
        ("surplus", sold.order.total, sold.order.total),
        ("succeeded", sold.order.total, 0),
    ]
    assert account.rights == ["granted", "granted"]


@pytest.mark.parametrize("seed", range(6))
async def test_stripes_events_shuffled_repeated_and_lost(shop: tuple[FakeStripe, Counter], seed: int) -> None:
    fake, counter = shop
    chance = random.Random(seed)
    sales = [await counter.order(gateway="stripe") for _ in range(3)]
    async with httpx.AsyncClient(base_url=counter.runtime.settings.public_url) as client:
        for sold in sales:
            payment = await counter.begin(sold.order.id)
            if chance.random() < 0.5:
                fake.decline(str(payment.reference))
            fake.pay(str(payment.reference))
        await fake.deliver(client, chance=chance, drop=0.3, repeat=0.5)
        await counter.work()
        for charge in [one["id"] for one in fake.charges.values() if one["paid"]]:
            if chance.random() < 0.6:
                dispute = fake.dispute(charge)
                fake.move_dispute(dispute, funds="withdrawn")
                if chance.random() < 0.5:
                    fake.move_dispute(dispute, status="won", funds="reinstated")
        await fake.deliver(client, chance=chance, drop=0.3, repeat=0.5)
        await counter.work()
    await counter.age(Payment, next_check_at="1 second")
    await service.reconcile(counter.runtime)
    for sold in sales:
        account = await counter.account(sold.order.id)
        account.check()
        assert account.order.status == "paid"
