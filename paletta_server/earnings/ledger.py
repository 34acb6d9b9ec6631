"""Writing to the ledger and adding up its accounts. Nothing here decides what should be posted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.earnings.models import DERIVED, PAYABLE, PENDING, PERSONAL, LedgerEntry, LedgerTransaction


@dataclass(frozen=True, slots=True)
class Entry:
    """An amount for an account; `user_id` for those that a contributor has of their own."""

    account: str
    currency: str
    amount: int
    user_id: int | None = None


@dataclass(frozen=True, slots=True)
class Posting:
    """A transaction to append: entries that sum to zero, and what it is about."""

    kind: str
    entries: Sequence[Entry]
    at: datetime | None = None
    """When it happened; None is now."""
    order_id: int | None = None
    order_item_id: int | None = None
    payout_id: int | None = None


async def append(session: AsyncSession, postings: Sequence[Posting]) -> None:
    """Post all of these; the database refuses, at commit, what does not sum to zero."""
    made = []
    for one in postings:
        row = LedgerTransaction(
            kind=one.kind, order_id=one.order_id, order_item_id=one.order_item_id, payout_id=one.payout_id
        )
        if one.at is not None:
            row.at = one.at
        made.append(row)
    session.add_all(made)
    await session.flush()
    session.add_all(
        LedgerEntry(
            transaction_id=row.id,
            account=entry.account,
            user_id=entry.user_id,
            currency=entry.currency,
            amount=entry.amount,
        )
        for one, row in zip(postings, made, strict=True)
        for entry in one.entries
    )
    await session.flush()


@dataclass(frozen=True, slots=True)
class Key:
    """What of an order is added up together: one account, for one item (None: the order as a whole), by kind.

    A contributor's royalties are `pending` here, whether their hold is over or not.
    """

    item_id: int | None
    kind: str
    account: str
    currency: str


async def of_order(session: AsyncSession, order_id: int) -> dict[Key, int]:
    """What is posted for an order's sale, refunds, disputes and surplus."""
    rows = await session.execute(
        select(
            LedgerTransaction.order_item_id,
            LedgerTransaction.kind,
            LedgerEntry.account,
            LedgerEntry.currency,
            func.sum(LedgerEntry.amount),
        )
        .join(LedgerEntry, LedgerEntry.transaction_id == LedgerTransaction.id)
        .where(LedgerTransaction.order_id == order_id, LedgerTransaction.kind.in_(DERIVED))
        .group_by(
            LedgerTransaction.order_item_id,
            LedgerTransaction.kind,
            LedgerEntry.account,
            LedgerEntry.currency,
        )
    )
    found: dict[Key, int] = {}
    for item_id, kind, account, currency, amount in rows:
        key = Key(item_id, kind, PENDING if account == PAYABLE else account, currency)
        found[key] = found.get(key, 0) + int(amount)
    return found


async def held(session: AsyncSession, order_id: int, item_ids: Sequence[int]) -> dict[tuple[int, str], int]:
    """What is on hold of items of an order, by key and currency."""
    rows = await session.execute(
        select(LedgerTransaction.order_item_id, LedgerEntry.currency, func.sum(LedgerEntry.amount))
        .join(LedgerEntry, LedgerEntry.transaction_id == LedgerTransaction.id)
        .where(
            LedgerTransaction.order_id == order_id,
            LedgerTransaction.order_item_id.in_(item_ids),
            LedgerEntry.account == PENDING,
        )
        .group_by(LedgerTransaction.order_item_id, LedgerEntry.currency)
    )
    return {(item_id, currency): int(amount) for item_id, currency, amount in rows if item_id is not None}


async def newest(session: AsyncSession, account: str) -> dict[tuple[int, str], int]:
    """The key of the last entry on such an account, by person and currency."""
    rows = await session.execute(
        select(LedgerEntry.user_id, LedgerEntry.currency, func.max(LedgerEntry.id))
        .where(LedgerEntry.user_id.is_not(None), LedgerEntry.account == account)
        .group_by(LedgerEntry.user_id, LedgerEntry.currency)
    )
    return {(user_id, currency): key for user_id, currency, key in rows if user_id is not None}


async def balances(
    session: AsyncSession, user_id: int | None = None, *, before: datetime | None = None
) -> Mapping[tuple[int, str], dict[str, int]]:
    """What stands on contributors' accounts, by person and currency, then account; `before` a moment, or now."""
    query = (
        select(LedgerEntry.user_id, LedgerEntry.currency, LedgerEntry.account, func.sum(LedgerEntry.amount))
        .where(LedgerEntry.user_id.is_not(None))
        .group_by(LedgerEntry.user_id, LedgerEntry.currency, LedgerEntry.account)
    )
    if user_id is not None:
        query = query.where(LedgerEntry.user_id == user_id)
    if before is not None:
        query = query.join(LedgerTransaction, LedgerTransaction.id == LedgerEntry.transaction_id).where(
            LedgerTransaction.at < before
        )
    found: dict[tuple[int, str], dict[str, int]] = {}
    for person, currency, account, amount in await session.execute(query):
        assert person is not None
        found.setdefault((person, currency), dict.fromkeys(PERSONAL, 0))[account] = int(amount)
    return found
