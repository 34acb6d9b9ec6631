"""Whether the ledger is what payments, sold items and payouts say, found out without what keeps it so.

Reads across domains in one question for each thing to compare, so that a million orders can be looked through.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core.errors import Invalid
from paletta_server.earnings import allocation

CHUNK = 2000


@dataclass(frozen=True, slots=True)
class Difference:
    """`what` should be `expected` (minor units; None: not there at all) for `object`, and is `found`.

    `object`: an order's number, an item's or a payout's public id, a transaction's key. `order_id`: the key of the
    order it is about.
    """

    what: str
    object: str
    currency: str
    expected: int | None
    found: int | None
    order_id: int | None = None


ORDERS = text("""
SELECT id FROM orders o WHERE id > :after AND (
  EXISTS (SELECT FROM payments p WHERE p.order_id = o.id AND (p.captured > 0 OR p.status = 'succeeded')
    AND (CAST(:since AS timestamptz) IS NULL OR greatest(p.created_at, p.checked_at) >= :since))
  OR EXISTS (SELECT FROM ledger_transactions t WHERE t.order_id = o.id
    AND (CAST(:since AS timestamptz) IS NULL OR t.created_at >= :since)))
ORDER BY id LIMIT :most
""")
MONEY = text("""
WITH said AS (
  SELECT p.order_id, p.currency,
    sum(CASE WHEN e.kind = 'captured' THEN -e.amount
      WHEN e.kind = 'refund_succeeded' AND NOT EXISTS (SELECT FROM payment_events f
        WHERE f.payment_id = p.id AND f.kind = 'refund_failed' AND f.reference = e.reference) THEN e.amount
      ELSE 0 END) AS customers,
    sum(CASE e.kind WHEN 'dispute_withdrawn' THEN e.amount WHEN 'dispute_reinstated' THEN -e.amount ELSE 0 END)
      AS chargebacks
  FROM payments p JOIN payment_events e ON e.payment_id = p.id WHERE p.order_id = ANY(:orders) GROUP BY 1, 2
), booked AS (
  SELECT t.order_id, e.currency,
    coalesce(sum(e.amount) FILTER (WHERE e.account = 'customers'), 0) AS customers,
    coalesce(sum(e.amount) FILTER (WHERE e.account = 'chargebacks'), 0) AS chargebacks
  FROM ledger_transactions t JOIN ledger_entries e ON e.transaction_id = t.id
  WHERE t.order_id = ANY(:orders) GROUP BY 1, 2
)
SELECT o.id, o.number, currency, what, expected, found
FROM said FULL JOIN booked USING (order_id, currency) JOIN (SELECT id, number FROM orders) o ON o.id = order_id
CROSS JOIN LATERAL (VALUES
  ('customers', coalesce(said.customers, 0), coalesce(booked.customers, 0)),
  ('chargebacks', coalesce(said.chargebacks, 0), coalesce(booked.chargebacks, 0))) AS one (what, expected, found)
WHERE expected <> found ORDER BY o.id
""")
ITEMS = text("""
SELECT o.id AS order_id, i.uid, o.currency, i.amount, i.tax, i.refunded, i.contributor_id,
  r.rate, r.amount AS royalty_at_sale, r.contributor_id AS royalty_to, r.released_at IS NOT NULL AS released, b.*,
  CASE WHEN disputed.amount > 0 THEN 0 WHEN i.refunded < i.amount + i.tax OR g.last THEN least(g.amount, i.refunded)
    WHEN i.goodwill_at IS NOT NULL THEN i.refunded ELSE 0 END AS goodwill
FROM orders o JOIN order_items i ON i.order_id = o.id LEFT JOIN royalties r ON r.order_item_id = i.id
CROSS JOIN LATERAL (
  SELECT
    coalesce(sum(e.amount) FILTER (WHERE t.kind = 'sale' AND e.account = 'customers'), 0) AS sold,
    coalesce(sum(e.amount) FILTER (WHERE t.kind = 'refund' AND e.account = 'customers'), 0) AS given_back,
    coalesce(sum(e.amount) FILTER (WHERE t.kind = 'dispute' AND e.account = 'chargebacks'), 0) AS taken,
    coalesce(sum(e.amount) FILTER (WHERE e.account = 'tax'), 0) AS tax_kept,
    coalesce(sum(e.amount) FILTER (WHERE e.account = 'platform'), 0) AS platform_kept,
    coalesce(sum(e.amount) FILTER (WHERE e.account = 'pending'), 0) AS pending,
    coalesce(sum(e.amount) FILTER (WHERE e.account = 'payable'), 0) AS payable,
    coalesce(sum(e.amount) FILTER (WHERE e.user_id <> i.contributor_id), 0) AS astray
  FROM ledger_transactions t JOIN ledger_entries e ON e.transaction_id = t.id
  WHERE t.order_id = o.id AND t.order_item_id = i.id
) b
CROSS JOIN LATERAL (
  SELECT coalesce(sum(x.amount) FILTER (WHERE f.keeps_rights), 0) AS amount,
    coalesce((array_agg(f.keeps_rights ORDER BY f.id DESC))[1], false) AS last
  FROM refund_items x JOIN refunds f ON f.id = x.refund_id JOIN payments p ON p.id = f.payment_id
  WHERE x.order_item_id = i.id AND f.order_id = o.id AND f.status = 'succeeded' AND p.status = 'succeeded'
) g CROSS JOIN LATERAL (
  SELECT coalesce(sum(CASE e.kind WHEN 'dispute_withdrawn' THEN e.amount WHEN 'dispute_reinstated' THEN -e.amount
    ELSE 0 END), 0) AS amount
  FROM payments p JOIN payment_events e ON e.payment_id = p.id WHERE p.order_id = o.id AND p.status = 'succeeded'
) disputed
WHERE o.id = ANY(:orders) AND o.paid_at IS NOT NULL
  AND EXISTS (SELECT FROM payments p WHERE p.order_id = o.id AND p.status = 'succeeded')
ORDER BY i.id
""")
UNBALANCED = """
SELECT e.transaction_id, e.currency, sum(e.amount) AS found
FROM ledger_entries e JOIN ledger_transactions t ON t.id = e.transaction_id
WHERE {} GROUP BY 1, 2 HAVING sum(e.amount) <> 0 ORDER BY 1
"""
UNBALANCED_OF = {
    "orders": text(UNBALANCED.format("t.order_id = ANY(:keys)")),
    "payouts": text(UNBALANCED.format("t.payout_id = ANY(:keys)")),
    "others": text(UNBALANCED.format("t.order_id IS NULL AND t.payout_id IS NULL")),
}
PAYOUT_KEYS = text("""
SELECT id FROM payouts p WHERE id > :after
  AND (CAST(:since AS timestamptz) IS NULL OR greatest(p.created_at, p.decided_at) >= :since)
ORDER BY id LIMIT :most
""")
PAYOUTS = text("""
SELECT p.uid, p.currency, what, expected, found
FROM payouts p CROSS JOIN LATERAL (
  SELECT
    coalesce(sum(e.amount) FILTER (WHERE e.account = 'payable'), 0) AS payable,
    coalesce(sum(e.amount) FILTER (WHERE e.account = 'in_transit'), 0) AS in_transit,
    coalesce(sum(e.amount) FILTER (WHERE e.account = 'paid'), 0) AS paid
  FROM ledger_transactions t JOIN ledger_entries e ON e.transaction_id = t.id
  WHERE t.payout_id = p.id AND e.user_id = p.user_id AND e.currency = p.currency
) b CROSS JOIN LATERAL (VALUES
  ('payable', CASE p.status WHEN 'failed' THEN 0 ELSE -p.amount END, b.payable),
  ('in_transit', CASE p.status WHEN 'in_transit' THEN p.amount ELSE 0 END, b.in_transit),
  ('paid', CASE p.status WHEN 'paid' THEN p.amount ELSE 0 END, b.paid)) AS one (what, expected, found)
WHERE p.id = ANY(:keys) AND expected <> found ORDER BY p.id
""")


@dataclass(frozen=True, slots=True)
class Page:
    """`compared`: how many orders or payouts. `cursor`: where it goes on, None at the end."""

    compared: int
    differences: list[Difference]
    cursor: str | None


async def differences(
    session: AsyncSession, since: datetime | None = None, *, orders: Sequence[int] | None = None
) -> list[Difference]:
    """Where the ledger is not what it should be, as far as something happened `since` (None: ever).

    With `orders` only these are looked at, by key, and nothing else.
    """
    if orders is not None:
        return await _of_orders(session, orders)
    found: list[Difference] = []
    cursor: str | None = None
    while True:
        one = await page(session, since=since, cursor=cursor)
        found += one.differences
        if (cursor := one.cursor) is None:
            return found


async def page(
    session: AsyncSession, *, since: datetime | None = None, cursor: str | None = None, most: int = CHUNK
) -> Page:
    """A part of `differences`: so many orders, then payouts, then what belongs to neither. Raises `Invalid`
    (`bad_cursor`)."""
    what, after = _place(cursor)
    values = {"since": since, "after": after, "most": most}
    if what == "orders":
        keys = list(await session.scalars(ORDERS, values))
        found = await _of_orders(session, keys) + await _unbalanced(session, what, keys)
        return Page(len(keys), found, f"orders-{keys[-1]}" if len(keys) == most else "payouts-0")
    if what == "payouts":
        keys = list(await session.scalars(PAYOUT_KEYS, values))
        found = await _of_payouts(session, keys) + await _unbalanced(session, what, keys)
        return Page(len(keys), found, f"payouts-{keys[-1]}" if len(keys) == most else "others-0")
    return Page(0, await _unbalanced(session, what, []), None)


def _place(cursor: str | None) -> tuple[str, int]:
    what, _, after = (cursor or "orders-0").partition("-")
    if what not in UNBALANCED_OF or not (after.isascii() and after.isdigit() and len(after) < 19):
        raise Invalid("that is not where the ledger goes on", code="bad_cursor")
    return what, int(after)


async def _unbalanced(session: AsyncSession, what: str, keys: Sequence[int]) -> list[Difference]:
    """Transactions that do not sum to zero."""
    if what != "others" and not keys:
        return []
    rows = await session.execute(UNBALANCED_OF[what], {"keys": list(keys)} if what != "others" else {})
    return [Difference("sum", str(row.transaction_id), row.currency, 0, int(row.found)) for row in rows]


async def _of_payouts(session: AsyncSession, keys: Sequence[int]) -> list[Difference]:
    if not keys:
        return []
    return [
        Difference(row.what, row.uid, row.currency, int(row.expected), int(row.found))
        for row in await session.execute(PAYOUTS, {"keys": list(keys)})
    ]


async def _of_orders(session: AsyncSession, ids: Sequence[int]) -> list[Difference]:
    if not ids:
        return []
    values = {"orders": list(ids)}
    found = [
        Difference(row.what, row.number, row.currency, int(row.expected), int(row.found), row.id)
        for row in await session.execute(MONEY, values)
    ]
    for row in (await session.execute(ITEMS, values)).mappings():
        found += [
            Difference(what, row["uid"], row["currency"], expected, got, row["order_id"])
            for what, expected, got in _item(dict(row))
            if expected != got
        ]
    return found


def _item(row: Mapping[str, Any]) -> Iterator[tuple[str, int | None, int | None]]:
    """What should stand there for a sold item, and what does."""
    amount, tax, rate = row["amount"], row["tax"], row["rate"]
    if rate is None:
        yield "royalty", amount, None
        return
    kept = amount + tax - row["refunded"] - int(row["taken"])
    parts = allocation.shares(kept, amount, tax, rate, int(row["goodwill"]))
    pending, payable = int(row["pending"]), int(row["payable"])
    yield "royalty at the sale", allocation.royalty(amount, rate), row["royalty_at_sale"]
    yield "contributor", row["contributor_id"], row["royalty_to"]
    yield "another's", 0, int(row["astray"])
    yield "sale", -(amount + tax), int(row["sold"])
    yield "refund", row["refunded"], int(row["given_back"])
    yield "tax", parts.tax, int(row["tax_kept"])
    yield "platform", parts.platform, int(row["platform_kept"])
    yield "royalty", parts.royalty, pending + payable
    if row["released"]:
        yield "pending after the hold", 0, pending
    else:
        yield "payable before the hold is over", 0, payable
