"""Who owns what: granted once, suspended, revoked and restored."""

from __future__ import annotations

import pytest
from sqlalchemy import select, text

from paletta_server.core.runtime import Runtime
from paletta_server.delivery import service
from paletta_server.delivery.models import Entitlement
from paletta_server.delivery.service import Owned
from paletta_server.orders import service as orders
from tests.conftest import MakeUser
from tests.support.explained import listening, ways
from tests.support.orders import Sold, Till, Wanted, restore, revoke, suspend

FILES = {"hd": b"hd", "uhd4k": b"4k", "original": b"original"}


@pytest.fixture
async def till(runtime: Runtime, make_user: MakeUser) -> Till:
    customer, contributor = await make_user("customer"), await make_user("contributor")
    return await Till.of(runtime, customer.email, contributor.email)


async def statuses(runtime: Runtime, sold: Sold) -> list[str]:
    async with runtime.db.transaction() as session:
        rows = await session.scalars(
            select(Entitlement.status)
            .where(Entitlement.order_id == sold.order.id)
            .order_by(Entitlement.order_item_id)
        )
        return list(rows)


async def mine(runtime: Runtime, till: Till, *sold: Sold) -> dict[int, list[Owned]]:
    ids = {item.clip_id for one in sold for item in one.items}
    async with runtime.db.transaction() as session:
        return await service.owned(session, till.customer, ids)


async def waiting_jobs(runtime: Runtime, name: str) -> int:
    async with runtime.db.transaction() as session:
        query = text("SELECT count(*) FROM procrastinate_jobs WHERE task_name = :name")
        return await session.scalar(query, {"name": name}) or 0


async def test_granted_once_however_often_it_is_asked(runtime: Runtime, till: Till) -> None:
    sold = await till.sell(Wanted(files=FILES), Wanted(tier="hd", files=FILES), store=False)
    for _ in range(3):
        async with runtime.db.transaction() as session:
            await service.grant(session, sold.order, sold.items)
    assert await statuses(runtime, sold) == ["granted", "granted"]
    assert await waiting_jobs(runtime, "delivery.announce") == 1
    have = await mine(runtime, till, sold)
    assert [one.tier for item in sold.items for one in have[item.clip_id]] == ["original", "hd"]


async def test_an_unpaid_order_gives_nothing(runtime: Runtime, till: Till) -> None:
    sold = await till.sell(paid=False, store=False)
    assert await mine(runtime, till, sold) == {}


async def test_a_dispute_suspends_and_its_good_end_restores(runtime: Runtime, till: Till) -> None:
    sold = await till.sell(Wanted(files=FILES), Wanted(files=FILES), store=False)
    async with runtime.db.transaction() as session:
        await revoke(session, [sold.items[1].id])
        await suspend(session, sold.order.id)
        await suspend(session, sold.order.id)
    assert await statuses(runtime, sold) == ["suspended", "revoked"]
    assert await waiting_jobs(runtime, "delivery.announce_dispute") == 1
    assert list(await mine(runtime, till, sold)) == [sold.items[0].clip_id], "held back is owned all the same"
    async with runtime.db.transaction() as session:
        await restore(session, sold.order.id)
    assert await statuses(runtime, sold) == ["granted", "revoked"], "what is revoked stays so"


async def test_granting_again_brings_nothing_back(runtime: Runtime, till: Till) -> None:
    sold = await till.sell(store=False)
    async with runtime.db.transaction() as session:
        await revoke(session, [sold.items[0].id])
        await service.grant(session, sold.order, sold.items)
        await restore(session, sold.order.id)
    assert await statuses(runtime, sold) == ["revoked"]
    assert await mine(runtime, till, sold) == {}


async def test_what_was_paid_counts_upgrades_and_leaves_refunds_and_tax_out(
    runtime: Runtime, till: Till
) -> None:
    first = await till.sell(Wanted(tier="hd", price=5000, tax=950, files=FILES), store=False, tax_rate="0.19")
    [base] = first.items
    second = await till.sell(
        Wanted(
            tier="uhd4k",
            price=10000,
            credit=5000,
            tax=950,
            upgrade_of=base.id,
            clip_id=base.clip_id,
            files=FILES,
        ),
        store=False,
    )
    [upgrade] = second.items

    async def paid() -> list[int]:
        return [one.paid_minor for one in (await mine(runtime, till, first))[base.clip_id]]

    assert await paid() == [5000, 10000]
    async with (
        runtime.db.transaction() as session
    ):  # half of the upgrade comes back, with its share of the tax
        await orders.set_refunds(session, second.order.id, {upgrade.id: 2975})
    assert await paid() == [5000, 7500]
    async with runtime.db.transaction() as session:  # all of the base comes back
        await orders.set_refunds(session, first.order.id, {base.id: 5950})
        await revoke(session, [base.id])
    assert await mine(runtime, till, first) == {}, "an upgrade goes with its base"


async def test_nobody_owns_what_another_bought(runtime: Runtime, till: Till, make_user: MakeUser) -> None:
    sold = await till.sell(store=False)
    stranger = await Till.of(
        runtime, (await make_user("customer")).email, (await make_user("contributor")).email
    )
    assert await mine(runtime, stranger, sold) == {}


async def test_rights_are_locked_by_their_indexes(runtime: Runtime, till: Till) -> None:
    """Each refund locks some, in a table of all that was ever sold."""
    base = await till.sell(store=False)
    [item] = base.items
    upgrade = await till.sell(Wanted(upgrade_of=item.id, clip_id=item.clip_id), store=False)
    async with runtime.db.transaction() as session:
        await session.execute(
            text("SET LOCAL session_replication_role = replica")
        )  # without what they were sold in
        await session.execute(text(MANY))
        await session.execute(text("ANALYZE entitlements"))
        async with listening(session) as heard:
            await service.hold(session, [upgrade.items[0].id])
        read = await ways(session, heard)
    assert read == {"pk_entitlements", "uq_entitlements_order_item_id"}


MANY = """
INSERT INTO entitlements (uid, order_item_id, order_id, user_id, clip_id, tier, licence, certificate)
SELECT uid || n, order_item_id + 10000 + n, order_id + n, user_id, clip_id + n, tier, licence, certificate || n
FROM (SELECT * FROM entitlements LIMIT 1) AS one, generate_series(1, 5000) AS n
"""
