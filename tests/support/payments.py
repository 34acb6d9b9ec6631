"""A shop with money in it: orders to pay, what became of them, and a worker that knows where the API is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from fastapi import FastAPI
from sqlalchemy import func, select, text

from paletta_server.core.runtime import Runtime
from paletta_server.delivery.models import Entitlement
from paletta_server.earnings import service as earnings
from paletta_server.earnings.checking import Difference
from paletta_server.orders.models import Order, OrderItem
from paletta_server.payments import service
from paletta_server.payments.models import Dispute, ExternalEvent, Payment, PaymentEvent, Refund, RefundItem
from tests.support.orders import Sold, Till, Wanted
from tests.support.serving import serving
from tests.support.working import work_off


@dataclass(frozen=True)
class Account:
    """Everything that the database says of one order."""

    order: Order
    items: list[OrderItem]
    payments: list[Payment]
    events: list[PaymentEvent]
    refunds: list[Refund]
    disputes: list[Dispute]
    entitlements: dict[int, str]
    """Status by item."""
    ledger: list[Difference]
    """Where the ledger is not what all of this says."""
    kept: set[int]
    """Items whose last refund was goodwill."""

    @property
    def payment(self) -> Payment:
        (only,) = self.payments
        return only

    @property
    def rights(self) -> list[str | None]:
        return [self.entitlements.get(item.id) for item in self.items]

    def check(self) -> None:
        """What must hold at any time, whatever came in whatever order."""
        assert self.ledger == []
        for payment in self.payments:
            mine = [event for event in self.events if event.payment_id == payment.id]
            failed = {event.reference for event in mine if event.kind == "refund_failed"}

            def add(kind: str, mine: list[PaymentEvent] = mine) -> int:
                return sum(event.amount for event in mine if event.kind == kind)

            arrived = sum(
                event.amount
                for event in mine
                if event.kind == "refund_succeeded" and event.reference not in failed
            )
            assert payment.captured == add("captured")
            assert payment.captured in (0, payment.amount), "captured once, or not at all"
            assert payment.refunded == arrived
            assert payment.disputed == add("dispute_withdrawn") - add("dispute_reinstated")
            assert payment.refunded + payment.pending_refunds <= payment.captured, "over-refunded"
            if payment.status == "surplus":
                assert payment.captured
        paying = [one for one in self.payments if one.status == "succeeded"]
        assert len(paying) <= 1, "an order is paid by one payment"
        paid = self.order.status in ("paid", "partially_refunded", "refunded")
        assert paid == bool(paying), "captured money of an order pays it, and nothing else does"
        assert (self.order.paid_at is not None) == paid
        assert bool(self.entitlements) == paid
        if paying:
            assert self.order.refunded == paying[0].refunded == sum(item.refunded for item in self.items)
            assert paying[0].captured == self.order.total
        royalty_base = sum(item.amount + item.tax - item.refunded for item in self.items)
        assert royalty_base == self.order.total - self.order.refunded
        lost = any(
            one.outcome == "lost" or (one.outcome == "withdrawn" and one.withdrawn)
            for one in self._quarrels(paying)
        )
        held = any(one.outcome is None and one.withdrawn for one in self._quarrels(paying))
        for item in self.items if paid else ():
            whole = self.order.status == "refunded" or (0 < item.amount + item.tax == item.refunded)
            ended = lost or (whole and item.id not in self.kept)
            expected = "revoked" if ended else "suspended" if held else "granted"
            assert self.entitlements[item.id] == expected

    def _quarrels(self, paying: list[Payment]) -> list[Dispute]:
        return [one for one in self.disputes if paying and one.payment_id == paying[0].id]


@dataclass
class Counter:
    """Where orders are paid."""

    runtime: Runtime
    till: Till

    async def order(self, *prices: int, gateway: str = "sandbox", **more: Any) -> Sold:
        """An unpaid order of items at these prices, in cents."""
        wanted = [
            Wanted(title=f"Clip {place}", price=price, tax=price // 5)
            for place, price in enumerate(prices or (4900, 7900))
        ]
        return await self.till.sell(*wanted, paid=False, store=False, gateway=gateway, **more)

    async def account(self, order_id: int) -> Account:
        return await account(self.runtime, order_id)

    async def begin(self, order_id: int) -> Payment:
        return await service.begin(self.runtime, order_id)

    async def work(self) -> None:
        """Be a worker until nothing is left to do now; what is scheduled for later is done now too."""
        while True:
            await self.hurry()
            await work_off(self.runtime)
            async with self.runtime.db.transaction() as session:
                if not await session.scalar(
                    text("SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo'")
                ):
                    return

    async def hurry(self) -> None:
        async with self.runtime.db.transaction() as session:
            await session.execute(
                text("UPDATE procrastinate_jobs SET scheduled_at = NULL WHERE status = 'todo'")
            )

    async def events(self) -> list[ExternalEvent]:
        async with self.runtime.db.transaction() as session:
            return list(await session.scalars(select(ExternalEvent).order_by(ExternalEvent.id)))

    async def age(self, model: type[Any], **columns: str) -> None:
        """Move times of all rows into the past: `age(Order, expires_at="2 hours")`."""
        async with self.runtime.db.transaction() as session:
            for column, interval in columns.items():
                await session.execute(
                    text(f"UPDATE {model.__tablename__} SET {column} = now() - interval '{interval}'")
                )


async def account(runtime: Runtime, order_id: int) -> Account:
    async with runtime.db.transaction() as session:
        # As it was at one moment: a worker may be at it.
        await session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        order = await session.get_one(Order, order_id)
        rows = {
            model: list(
                await session.scalars(select(model).where(model.order_id == order_id).order_by(model.id))
            )
            for model in (OrderItem, Payment, Refund, Dispute, Entitlement)
        }
        payments = [row.id for row in rows[Payment]]
        events = await session.scalars(
            select(PaymentEvent).where(PaymentEvent.payment_id.in_(payments)).order_by(PaymentEvent.id)
        )
        given = await session.execute(
            select(RefundItem.order_item_id, Refund.keeps_rights)
            .join(Refund, Refund.id == RefundItem.refund_id)
            .where(Refund.order_id == order_id, Refund.status == "succeeded")
            .order_by(Refund.id)
        )
        last: dict[int, bool] = dict(given.all())  # type: ignore[arg-type]
        return Account(
            order,
            rows[OrderItem],
            rows[Payment],
            list(events),
            rows[Refund],
            rows[Dispute],
            {row.order_item_id: row.status for row in rows[Entitlement]},
            await earnings.differences(session, orders=[order_id]),
            {item for item, keeps in last.items() if keeps},
        )


async def count(runtime: Runtime, model: type[Any]) -> int:
    async with runtime.db.transaction() as session:
        return await session.scalar(select(func.count()).select_from(model)) or 0


@asynccontextmanager
async def at_its_address(app: FastAPI, **changes: Any) -> AsyncIterator[Runtime]:
    """The application on a port of this machine that its settings name, so that a gateway can call it."""
    runtime: Runtime = app.state.runtime
    async with serving(app) as address:
        settings = runtime.settings.model_copy(update={"public_url": address, **changes})
        app.state.runtime = replace(runtime, settings=settings)
        try:
            yield app.state.runtime
        finally:
            app.state.runtime = runtime
