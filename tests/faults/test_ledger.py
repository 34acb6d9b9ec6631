"""The ledger through sales, refunds, disputes, late failures, holds and payouts, in whatever order they come.

Everything that may happen to an order (`test_gateway_events`), and between: its hold ends, contributors are paid, banks
send payouts back. After every event the whole ledger is compared with what it follows from, and nobody is paid more
than they have.

PALETTA_LEDGER_SEQUENCES sets how many are tried (200 unless told).
"""

from __future__ import annotations

import os
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test
from sqlalchemy import func, select, text

from paletta_server.accounts import directory
from paletta_server.core.settings import Settings
from paletta_server.earnings import payouts, service
from paletta_server.payments import gateways
from tests.faults.test_gateway_events import Sequence, World
from tests.support.earnings import bank_account, stands

SEQUENCES = int(os.environ.get("PALETTA_LEDGER_SEQUENCES", "200"))
PARTS = 2
"""The sequences are so many tests, for xdist to spread."""
OVER = (
    "UPDATE royalties SET sold_at = now() - interval '31 days' WHERE order_id = :id AND released_at IS NULL"
)
SELLER = """
INSERT INTO users (uid, email, password_hash, role) VALUES (:uid, :email, 'x', 'contributor') RETURNING id
"""
UNDECIDED = "SELECT uid FROM payouts WHERE status = ANY(:statuses) AND user_id = :seller ORDER BY id"


class Till(World):
    """A world with somebody who pays contributors."""

    seller: int
    email: str
    """Whose clips the present sequence sells: nobody who has earned in one before."""

    async def opens(self) -> None:
        async with self.runtime.db.transaction() as session:
            ada = await directory.person(session, "ada@example.org")
        self.operator: Any = type("Acting", (), {"user_id": ada.id, "uid": ada.uid})

    async def sells_for_somebody_new(self, order_id: int) -> None:
        async with self.runtime.db.transaction() as session:
            self.since = await session.scalar(select(func.now()))
            self.email = f"seller-{order_id}@example.org"
            values = {"uid": f"user_{order_id}", "email": self.email}
            self.seller = (await session.execute(text(SELLER), values)).scalars().one()
            await session.execute(
                text("UPDATE order_items SET contributor_id = :seller WHERE order_id = :id"),
                {"seller": self.seller, "id": order_id},
            )
        await bank_account(self.runtime, self.seller)

    async def hold_ends(self, order_id: int) -> None:
        async with self.runtime.db.transaction() as session:
            await session.execute(text(OVER), {"id": order_id})
        await service.release_due(self.runtime)

    async def pays(self) -> None:
        """A run of the present plan, which leaves nothing payable from the minimum on."""
        before = (await self.stands()).get("payable", 0)
        async with self.runtime.db.transaction() as session:
            plan = await payouts.plan(session, self.runtime.settings)
            paid = before if before >= plan.minimum else 0
            mine = [one.amount for one in plan.lines if one.email == self.email]
            assert mine == ([before] if before else [])
            if plan.totals:
                await payouts.run(session, self.runtime.settings, self.operator, digest=plan.digest, key=None)
        assert (await self.stands()).get("payable", 0) == before - paid

    async def stands(self) -> dict[str, int]:
        return await stands(self.runtime, self.seller)

    async def payouts(self, *statuses: str) -> list[str]:
        async with self.runtime.db.transaction() as session:
            values = {"statuses": list(statuses), "seller": self.seller}
            return list(await session.scalars(text(UNDECIDED), values))

    async def arrives(self, uid: str) -> None:
        async with self.runtime.db.transaction() as session:
            run = await session.scalar(
                text("SELECT r.uid FROM payout_runs r JOIN payouts p ON p.run_id = r.id WHERE p.uid = :uid"),
                {"uid": uid},
            )
            await payouts.confirm(session, self.runtime.settings, self.operator, str(run), [uid])

    async def fails(self, uid: str) -> None:
        async with self.runtime.db.transaction() as session:
            await payouts.mark_failed(session, self.runtime.settings, self.operator, [uid], "sent back")

    async def differences(self, *, ever: bool = False) -> list[service.Difference]:
        """Of the present sequence, or ever."""
        async with self.runtime.db.transaction() as session:
            return await service.differences(session, None if ever else self.since)


class Ledger(Sequence):
    """An order of a contributor's clips that was paid, and their account."""

    world: Till

    @initialize()
    def an_order(self) -> None:
        super().an_order()
        self.world.run(self.world.sells_for_somebody_new(self.order_id))
        (book,) = self.books()
        self.gateway.pay(book)
        self.do(self.world.hear(book.request.key))

    def do(self, work: Coroutine[Any, Any, Any]) -> None:
        super().do(work)
        self.agrees()

    def agrees(self) -> None:
        assert self.world.run(self.world.differences()) == []

    @rule(paid=st.booleans())
    def a_month_passes(self, paid: bool) -> None:
        self.do(self.world.hold_ends(self.order_id))
        if paid:
            self.do(self.world.pays())

    @precondition(lambda self: self.world.run(self.world.payouts("in_transit")))
    @rule()
    def a_payout_arrives(self) -> None:
        (uid,) = self.world.run(self.world.payouts("in_transit"))[:1]
        self.do(self.world.arrives(uid))

    @precondition(lambda self: self.world.run(self.world.payouts("in_transit", "paid")))
    @rule(data=st.data())
    def a_payout_comes_back(self, data: st.DataObject) -> None:
        uid = data.draw(st.sampled_from(self.world.run(self.world.payouts("in_transit", "paid"))))
        self.do(self.world.fails(uid))

    def teardown(self) -> None:
        super().teardown()
        # A payout that is still on its way arrives with every other order, and comes back with the rest.
        for uid in self.world.run(self.world.payouts("in_transit"))[:1]:
            self.do(self.world.arrives(uid) if self.order_id % 2 else self.world.fails(uid))
        self.agrees()


@pytest.fixture
def till(settings: Settings) -> Iterator[Till]:
    made = Till(settings)
    made.run(made.opens())
    yield made
    made.close()
    gateways.MAKERS.pop("model", None)


@pytest.mark.parametrize("part", range(PARTS))
def test_the_ledger_is_exact_whatever_comes_in_whatever_order(till: Till, part: int) -> None:
    chosen = settings(
        max_examples=-(-SEQUENCES // PARTS),
        stateful_step_count=7,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    machine = type(f"LedgerSequence{part}", (Ledger,), {"world": till})
    run_state_machine_as_test(machine, settings=chosen)
    assert till.run(till.differences(ever=True)) == []
    done = till.run(_done(till))
    assert min(done.values()) > 0, f"the sequences did not get there: {done}"


async def _done(till: Till) -> dict[str, int]:
    """How often each kind of transaction was posted, but for the rare money of an order that was paid twice."""
    async with till.runtime.db.transaction() as session:
        rows = await session.execute(text("SELECT kind, count(*) FROM ledger_transactions GROUP BY 1"))
        found: dict[str, int] = dict(rows.all())  # type: ignore[arg-type]
    kinds = ("sale", "refund", "dispute", "release", "payout", "payout_returned", "payout_arrived")
    return {kind: found.get(kind, 0) for kind in kinds}
