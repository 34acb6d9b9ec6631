"""Gateway events shuffled, repeated, delayed and lost, over orders with refunds and disputes: money stays right.

A sequence is one order and everything that Hypothesis has happen to it: customers pay once or twice, banks decline,
take back and decide, operators give back, calls get lost on the way there or back, events come in any order or
never. The books are checked after every event, and at the end, when the reconciler has been round, against the
gateway's own.

PALETTA_SEQUENCES sets how many are tried (2,000 unless told). A failure prints its steps; PALETTA_SHRINK=1 has
Hypothesis look for the shortest, which takes minutes.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from itertools import count
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select, text

import paletta_server.tasks  # noqa: F401 (granting defers jobs)
from paletta_server.core.errors import Conflict
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.earnings import service as earnings
from paletta_server.orders import service as orders
from paletta_server.payments import answering, gateways, inbox, service, tasks
from paletta_server.payments.disputes import wants_answer
from paletta_server.payments.gateway import CheckoutRequest, GatewayDown
from paletta_server.payments.models import Dispute, ExternalEvent, Payment
from paletta_server.payments.settling import settle
from tests.support.model_gateway import Book, ModelGateway
from tests.support.orders import PRICES
from tests.support.payments import account

SEQUENCES = int(os.environ.get("PALETTA_SEQUENCES", "2000"))
SHRINK = "PALETTA_SHRINK" in os.environ
PARTS = 4
"""The sequences are so many tests, for xdist to spread."""
T = TypeVar("T")

WORDS = (
    "warning_needs_response", "warning_under_review", "warning_closed", "needs_response", "under_review", "won",
    "lost", "prevented", "appeal_needs_response", "appeal_under_review", "a_word_of_next_year",
)  # fmt: skip
"""Stripe's statuses of a dispute, and one that it does not have yet."""

PEOPLE = """
WITH person AS (
  INSERT INTO users (uid, email, password_hash, role) VALUES ('user_one', 'ada@example.org', 'x', 'customer')
  RETURNING id
), book AS (INSERT INTO price_book (document, digest) VALUES (CAST(:prices AS jsonb), 'x'))
INSERT INTO clips (uid, owner_id, title, file_name, size, sha256, crc64nvme, original_key)
SELECT 'clip_' || n, person.id, 'A clip', 'a.mov', 1, n, 'x', 'o/' || n FROM person, generate_series(1, 2) n
"""
ORDER = """
WITH made AS (
  INSERT INTO orders (uid, number, user_id, gateway, licensee, currency, subtotal, tax, total, expires_at,
    price_book_id)
  SELECT 'order_' || nextval('order_numbers'), 'P-' || currval('order_numbers'), users.id, 'model', 'Ada', 'USD',
    12800, 2432, 15232, now() + interval '1 hour', price_book.id FROM users, price_book
  WHERE users.uid = 'user_one'
  RETURNING id, user_id, uid
), paying AS (
  INSERT INTO payments (uid, order_id, gateway, currency, amount, status, reference, request)
  SELECT 'pay_' || made.id, made.id, 'model', 'USD', 15232, 'open', 'co_pay_' || made.id,
    jsonb_build_object('order', made.uid, 'lines', jsonb_build_array(jsonb_build_array('All', 15232)),
      'email', 'ada@example.org', 'expires_at', now() + interval '1 hour', 'return_url', 'https://shop.invalid',
      'purchase_order', NULL) FROM made
  RETURNING id
)
INSERT INTO order_items (uid, order_id, clip_id, clip_uid, title, contributor_id, contributor, tier, licence,
  price, amount, tax)
SELECT 'item_' || made.id || '_' || clips.uid, made.id, clips.id, clips.uid, 'A clip', made.user_id, 'Carla', 'hd',
  'individual', part.price, part.price, part.tax
FROM made, clips JOIN (VALUES ('clip_1', 4900, 931), ('clip_2', 7900, 1501)) part (uid, price, tax) USING (uid)
RETURNING order_id, id, (SELECT id FROM paying) AS payment_id
"""
LATER = """
WITH due AS (
  UPDATE payments SET next_check_at = now() WHERE order_id = :id AND next_check_at > now()
)
UPDATE orders SET expires_at = now() - interval '1 second' WHERE id = :id
"""
WRONG = """
WITH mine AS (SELECT * FROM orders WHERE id = :id),
said AS (
  SELECT p.id,
    coalesce(sum(e.amount) FILTER (WHERE e.kind = 'captured'), 0) AS captured,
    coalesce(sum(e.amount) FILTER (WHERE e.kind = 'refund_succeeded' AND NOT EXISTS (
      SELECT FROM payment_events f WHERE f.payment_id = p.id AND f.kind = 'refund_failed'
        AND f.reference = e.reference)), 0) AS refunded,
    coalesce(sum(e.amount) FILTER (WHERE e.kind = 'dispute_withdrawn'), 0)
      - coalesce(sum(e.amount) FILTER (WHERE e.kind = 'dispute_reinstated'), 0) AS disputed
  FROM payments p LEFT JOIN payment_events e ON e.payment_id = p.id WHERE p.order_id = :id GROUP BY p.id
),
paying AS (SELECT * FROM payments WHERE order_id = :id AND status = 'succeeded')
SELECT 'totals are not what the events say' FROM payments p JOIN said USING (id)
  WHERE (p.captured, p.refunded, p.disputed) <> (said.captured, said.refunded, said.disputed)
UNION ALL SELECT 'captured twice by one payment' FROM payments p WHERE order_id = :id AND captured NOT IN (0, amount)
UNION ALL SELECT 'paid and not captured, or the other way round' FROM mine
  WHERE (paid_at IS NOT NULL) <> EXISTS (SELECT FROM paying WHERE captured = mine.total)
UNION ALL SELECT 'refunds of order and payment differ' FROM mine JOIN paying ON true
  WHERE mine.refunded <> paying.refunded
UNION ALL SELECT 'the royalty base is not what was kept' FROM mine
  WHERE total - refunded <> (SELECT sum(amount + tax - refunded) FROM order_items WHERE order_id = :id)
UNION ALL SELECT 'entitled without having paid' FROM mine
  WHERE paid_at IS NULL AND EXISTS (SELECT FROM entitlements WHERE order_id = :id)
UNION ALL SELECT 'paid and not entitled' FROM mine
  WHERE paid_at IS NOT NULL AND 2 <> (SELECT count(*) FROM entitlements WHERE order_id = :id)
UNION ALL SELECT 'entitled to ' || e.status FROM entitlements e JOIN order_items i ON i.id = e.order_item_id
  CROSS JOIN (
    SELECT coalesce(bool_or(d.outcome = 'lost' OR (d.outcome = 'withdrawn' AND d.withdrawn > 0)), false) AS lost,
      coalesce(bool_or(d.outcome IS NULL AND d.withdrawn > 0), false) AS held
    FROM disputes d JOIN paying ON d.payment_id = paying.id
  ) quarrels
  WHERE e.order_id = :id AND e.status <> CASE
    WHEN quarrels.lost OR (i.refunded = i.amount + i.tax AND NOT coalesce((
      SELECT f.keeps_rights FROM refund_items x JOIN refunds f ON f.id = x.refund_id
      WHERE x.order_item_id = i.id AND f.status = 'succeeded' ORDER BY f.id DESC LIMIT 1), false)) THEN 'revoked'
    WHEN quarrels.held THEN 'suspended' ELSE 'granted' END
"""
SWEEP = (
    "UPDATE payments SET next_check_at = NULL",
    "UPDATE refunds SET status = 'failed' WHERE status = 'requested'",
    "UPDATE orders SET status = 'cancelled' WHERE status = 'pending'",
    "DELETE FROM procrastinate_jobs",
)
JOBS = "SELECT id, task_name, args FROM procrastinate_jobs WHERE task_name LIKE 'payments.%' ORDER BY id"


class Operator:
    """Somebody who answers disputes."""

    def __init__(self, user_id: int) -> None:
        self.user_id = user_id
        self.ip = self.token_id = None


class World:
    """A service of its own on a loop of its own: Hypothesis is not asynchronous."""

    def __init__(self, chosen: Settings) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._opened = Runtime.open(chosen)
        self.runtime = self.run(self._opened.__aenter__())
        self._serial = count(1)
        self.run(self._people())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _people(self) -> None:
        async with self.runtime.db.transaction() as session:
            await session.execute(text(PEOPLE), {"prices": json.dumps(PRICES)})
            found = await session.execute(text("SELECT min(id) FROM users"))
            self.somebody: int = found.scalar_one()

    async def order(self, *, clean: bool) -> tuple[int, list[int], CheckoutRequest]:
        """A fresh order of two items with an open checkout; its key, theirs, and what the gateway was asked.

        What a failed sequence left is out of the way.
        """
        async with self.runtime.db.transaction() as session:
            for statement in () if clean else SWEEP:
                await session.execute(text(statement))
            rows = (await session.execute(text(ORDER))).all()
            payment = await session.get_one(Payment, rows[0].payment_id)
        return rows[0].order_id, sorted(row.id for row in rows), service.request_of(payment)

    async def give_up(self, order_id: int) -> None:
        """What `paletta orders cancel` does, without the cart."""
        await service.cancel(self.runtime, order_id)
        async with self.runtime.db.transaction() as session:
            await orders.lock(session, order_id)
            if not await service.undecided(session, order_id):
                await orders.close_unpaid(session, order_id, "cancelled")

    async def answer(self, order_id: int, how: str) -> None:
        """An operator answers whatever dispute of an order is listed first."""
        async with self.runtime.db.transaction() as session:
            found = await session.scalar(select(Dispute).where(Dispute.order_id == order_id).limit(1))
        if found is not None:
            await getattr(answering, how)(self.runtime, Operator(self.somebody), found.uid)

    async def known(self, uid: str) -> int | None:
        async with self.runtime.db.transaction() as session:
            return await session.scalar(select(Payment.id).where(Payment.uid == uid))

    async def hear(self, uid: str) -> None:
        """An event names a payment: what the inbox does with it."""
        async with self.runtime.db.transaction() as session:
            event = ExternalEvent(
                source="model",
                external_id=f"evt_{next(self._serial)}",
                kind="any",
                payload={},
                subject={"payment": uid, "reference": f"co_{uid}"},
            )
            session.add(event)
        await inbox.handle(self.runtime, event.id, attempt=inbox.TRIES)

    async def wrong(self, order_id: int) -> list[str]:
        """What does not fit together at this moment, in one question to the database."""
        async with self.runtime.db.transaction() as session:
            found = await session.scalars(text(WRONG), {"id": order_id})
            return list(found)

    async def ledger(self, order_id: int) -> list[earnings.Difference]:
        async with self.runtime.db.transaction() as session:
            return await earnings.differences(session, orders=[order_id])

    async def work(self) -> None:
        """Do every job of the payments that waits, however long it should."""
        while True:
            async with self.runtime.db.transaction() as session:
                rows = await session.execute(text(JOBS))
                waiting = list(rows.all())
            if not waiting:
                return
            for row in waiting:
                await getattr(tasks, row.task_name.removeprefix("payments."))(self.runtime, **row.args)
                async with self.runtime.db.transaction() as session:
                    await session.execute(
                        text("DELETE FROM procrastinate_jobs WHERE id = :id"), {"id": row.id}
                    )

    async def finish(self, order_id: int) -> None:
        """The reconciler comes round, after the order's time, as often as there is something to do."""
        await self.work()
        async with self.runtime.db.transaction() as session:
            await session.execute(
                text(
                    "UPDATE payments SET next_check_at = now() WHERE order_id = :id AND next_check_at > now()"
                ),
                {"id": order_id},
            )
            await session.execute(
                text("UPDATE orders SET expires_at = now() - interval '1 second' WHERE id = :id"),
                {"id": order_id},
            )
        await service.reconcile(self.runtime)
        await self.work()

    def close(self) -> None:
        self.run(self._opened.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


class Sequence(RuleBasedStateMachine):
    """One order. The customer, the bank, the operators and the network take turns."""

    world: World
    clean = True
    """Whether the sequence before came to its end, or left something to sweep."""

    @initialize()
    def an_order(self) -> None:
        self.gateway = ModelGateway(takes_files=False)
        gateways.MAKERS["model"] = lambda _runtime: self.gateway
        made = self.world.run(self.world.order(clean=type(self).clean))
        self.order_id, self.items, asked = made
        self.world.run(self.gateway.open_checkout(asked))
        type(self).clean = False
        self.told: list[str] = []

    # ---- what the rules are made of

    def books(self, *statuses: str) -> list[Book]:
        return [one for one in self.gateway.books.values() if not statuses or one.status in statuses]

    def happened(self, book: Book) -> None:
        """The gateway has something to tell of this payment."""
        self.told.append(book.request.key)

    def do(self, work: Coroutine[Any, Any, Any]) -> None:
        """Something that the shop does; a lost call and a polite refusal are part of life."""
        with suppress(GatewayDown, Conflict):
            self.world.run(work)

    # ---- the customer and the bank

    @rule()
    def opens(self) -> None:
        self.do(service.begin(self.world.runtime, self.order_id))

    @precondition(lambda self: self.books("open", "processing"))
    @rule(data=st.data(), what=st.sampled_from(["pay", "pay", "pay", "decline", "processing", "expired"]))
    def at_the_page(self, data: st.DataObject, what: str) -> None:
        book = data.draw(st.sampled_from(self.books("open", "processing")))
        if what == "pay":
            self.gateway.pay(book)
        elif what == "decline":
            book.attempts += 1
        elif book.status == "open":
            book.status = "processing" if what == "processing" else "expired"
        self.happened(book)

    @precondition(lambda self: self.books("succeeded"))
    @rule(data=st.data(), word=st.sampled_from(WORDS), take=st.booleans())
    def a_dispute(self, data: st.DataObject, word: str, take: bool) -> None:
        book = data.draw(st.sampled_from(self.books("succeeded")))
        if book.disputes:
            self.gateway.move_dispute(book, data.draw(st.sampled_from(sorted(book.disputes))), word)
        elif book.captured > book.given_back:
            self.gateway.dispute(book, word, take=take and not word.startswith("warning"))
        self.happened(book)

    @precondition(lambda self: any(book.disputes for book in self.books()))
    @rule(how=st.sampled_from(["submit", "submit", "submit", "accept"]))
    def we_answer(self, how: str) -> None:
        self.do(self.world.answer(self.order_id, how))
        for book in self.books("succeeded"):
            self.happened(book)

    # ---- refunds

    @precondition(lambda self: self.books("succeeded"))
    @rule(
        which=st.sampled_from(["first", "second", "both", "some"]),
        how=st.sampled_from(["succeeded", "pending"]),
        keep=st.booleans(),
    )
    def we_give_back(self, which: str, how: Any, keep: bool) -> None:
        self.gateway.refund_as = how
        first, second = self.items
        amounts = {
            "first": {first: 5831}, "second": {second: 9401}, "both": None, "some": {first: 1000, second: 1},
        }[which]  # fmt: skip
        self.do(service.refund(self.world.runtime, self.order_id, amounts, "asked for", None, keep=keep))
        for book in self.books("succeeded"):
            self.happened(book)

    @precondition(lambda self: self.books("succeeded"))
    @rule(data=st.data(), part=st.sampled_from([1, 2, 3]))
    def given_back_by_hand(self, data: st.DataObject, part: int) -> None:
        book = data.draw(st.sampled_from(self.books("succeeded")))
        if amount := (book.captured - book.given_back) // part:
            self.gateway.give_back(book, amount)
            self.happened(book)

    @precondition(lambda self: any(book.refunds for book in self.books()))
    @rule(data=st.data(), status=st.sampled_from(["succeeded", "failed"]))
    def a_refund_is_decided(self, data: st.DataObject, status: Any) -> None:
        book = data.draw(st.sampled_from([one for one in self.books() if one.refunds]))
        self.gateway.decide_refund(book, data.draw(st.sampled_from(sorted(book.refunds))), status)
        self.happened(book)

    # ---- the shop, and the network between

    @rule()
    def the_customer_gives_up(self) -> None:
        self.do(self.world.give_up(self.order_id))

    @rule(what=st.sampled_from(["question", "answer"]))
    def a_call_gets_lost(self, what: str) -> None:
        self.gateway.lose.append(what)

    @precondition(lambda self: self.told)
    @rule(data=st.data(), again=st.booleans())
    def an_event_comes(self, data: st.DataObject, again: bool) -> None:
        """Any of them, at any time; perhaps once more later, perhaps never."""
        place = data.draw(st.integers(0, len(self.told) - 1))
        uid = self.told[place] if again else self.told.pop(place)
        if again and (known := self.world.run(self.world.known(uid))) is not None:
            self.do(settle(self.world.runtime, known))
        else:
            self.do(self.world.hear(uid))
        assert self.world.run(self.world.wrong(self.order_id)) == []

    @rule()
    def jobs_run(self) -> None:
        self.do(self.world.work())

    # ---- and when everything is over

    def teardown(self) -> None:
        if not hasattr(self, "order_id"):
            return
        self.gateway.lose.clear()
        self.world.run(self.world.finish(self.order_id))
        if undecided := self.books("processing"):
            for book in undecided:
                self.gateway.pay(book)
            self.world.run(self.world.finish(self.order_id))
        end = self.world.run(account(self.world.runtime, self.order_id))
        end.check()
        assert self.world.run(self.world.ledger(self.order_id)) == []
        assert end.order.status != "pending"
        known = {one.reference: one for one in end.payments}
        for book in self.books():
            payment = known[book.reference]
            assert payment.captured == book.captured
            assert payment.refunded == book.arrived
            assert payment.disputed == book.withdrawn
        self.every_question_can_be_answered({one.reference: one for one in end.disputes})
        paid = [one for one in end.payments if one.captured]
        assert bool(paid) == (end.order.paid_at is not None), "no money is lost, and none invented"
        assert len([one for one in paid if one.status == "succeeded"]) == min(1, len(paid))
        for surplus in (one for one in paid if one.status == "surplus"):
            assert [one for one in end.refunds if one.payment_id == surplus.id] or surplus.disputed
        assert all(refund.status != "requested" for refund in end.refunds)
        type(self).clean = True

    def every_question_can_be_answered(self, ours: dict[str, Dispute]) -> None:
        """What the bank asked after it was last answered waits for us."""
        for book in self.books():
            for told in book.disputes.values():
                row = ours[told.reference]
                asks = (
                    wants_answer(told.status) and self.gateway.answered_in.get(told.reference) != told.status
                )
                if asks and row.outcome is None:
                    assert (row.status, row.response) == (told.status, "none"), "a question nobody can answer"


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    made = World(settings)
    yield made
    made.close()
    gateways.MAKERS.pop("model", None)


@pytest.mark.parametrize("part", range(PARTS))
def test_money_is_right_whatever_comes_in_whatever_order(world: World, part: int) -> None:
    chosen = settings(
        max_examples=-(-SEQUENCES // PARTS),
        stateful_step_count=8,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink) if SHRINK else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    machine = type(f"Sequence{part}", (Sequence,), {"world": world})
    run_state_machine_as_test(machine, settings=chosen)
