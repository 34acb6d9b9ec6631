"""What contributors see: balances, and a month's statement from the ledger. Who bought is never part of it."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts.security import Principal
from paletta_server.core.errors import Invalid
from paletta_server.core.pagination import PageParams, cursor_for
from paletta_server.core.settings import Settings
from paletta_server.earnings import details, ledger
from paletta_server.earnings.models import (
    DISPUTE,
    IN_TRANSIT,
    PAID,
    PAYABLE,
    PAYOUT,
    PENDING,
    PERSONAL,
    PLATFORM,
    REFUND,
    RETURNED,
    SALE,
    LedgerEntry,
    LedgerTransaction,
    Payout,
    Royalty,
)
from paletta_server.earnings.rates import percent
from paletta_server.earnings.schemas import Balance, EarningsView, StatementLine, StatementView, Sums
from paletta_server.orders import service as orders

SHOWN = (SALE, REFUND, DISPUTE, PAYOUT, RETURNED)
"""The end of a hold and a payout's arrival move money between a contributor's own accounts."""
EARNED = (PENDING, PAYABLE)


async def earnings(session: AsyncSession, settings: Settings, user: Principal) -> EarningsView:
    """Everything that the caller has earned so far."""
    found = await ledger.balances(session, user.user_id)
    return EarningsView(
        balances=[
            Balance(
                currency=currency,
                on_hold=stands[PENDING],
                payable=stands[PAYABLE],
                in_transit=stands[IN_TRANSIT],
                paid=stands[PAID],
            )
            for (_, currency), stands in sorted(found.items())
        ],
        hold_days=settings.royalty_hold_days,
        payout_minimum=settings.payout_minimum,
        payout_account=await details.on_file(session, user.user_id),
    )


def bounds(month: str | None) -> tuple[str, datetime, datetime]:
    """A month (`2026-05`; None: this one), its begin and its end, in UTC. Raises `Invalid` (`bad_month`)."""
    month = month or datetime.now(UTC).strftime("%Y-%m")
    found = re.fullmatch(r"(20\d\d)-(0[1-9]|1[0-2])", month, re.ASCII)
    if found is None:
        raise Invalid(f"`{month[:20]}` is not a month", code="bad_month", hint="months are like `2026-05`")
    year, number = int(found[1]), int(found[2])
    after = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
    return month, datetime(year, number, 1, tzinfo=UTC), after


async def statement(
    session: AsyncSession, user: Principal, month: str | None, page: PageParams
) -> StatementView:
    """The caller's month. Raises `Invalid` (`bad_month`, `bad_cursor`)."""
    month, begin, end = bounds(month)
    lines, cursor = await _lines(session, user.user_id, begin, end, page)
    return StatementView(
        month=month, sums=await _sums(session, user.user_id, begin, end), items=lines, next_cursor=cursor
    )


async def _sums(session: AsyncSession, user_id: int, begin: datetime, end: datetime) -> list[Sums]:
    before = await ledger.balances(session, user_id, before=begin)
    after = await ledger.balances(session, user_id, before=end)
    rows = await session.execute(
        select(LedgerEntry.currency, LedgerTransaction.kind, func.sum(LedgerEntry.amount))
        .join(LedgerTransaction, LedgerTransaction.id == LedgerEntry.transaction_id)
        .where(
            LedgerEntry.user_id == user_id,
            LedgerEntry.account.in_(EARNED),
            LedgerTransaction.at >= begin,
            LedgerTransaction.at < end,
        )
        .group_by(LedgerEntry.currency, LedgerTransaction.kind)
    )
    moved = {(currency, kind): int(amount) for currency, kind, amount in rows}
    nothing = dict.fromkeys(PERSONAL, 0)
    made = []
    for _, currency in sorted(after):
        then, now = before.get((user_id, currency), nothing), after[user_id, currency]
        made.append(
            Sums(
                currency=currency,
                opening=sum(then[account] for account in EARNED),
                sales=moved.get((currency, SALE), 0),
                refunds=moved.get((currency, REFUND), 0),
                disputes=moved.get((currency, DISPUTE), 0),
                payouts=moved.get((currency, PAYOUT), 0) + moved.get((currency, RETURNED), 0),
                closing=sum(now[account] for account in EARNED),
                on_hold=now[PENDING],
                payable=now[PAYABLE],
                in_transit=now[IN_TRANSIT],
                paid=now[PAID],
            )
        )
    return made


async def _lines(
    session: AsyncSession, user_id: int, begin: datetime, end: datetime, page: PageParams
) -> tuple[list[StatementLine], str | None]:
    """A page of the month's transactions, in the order in which they were posted."""
    mine = LedgerEntry.user_id == user_id
    earned = func.sum(case((mine & LedgerEntry.account.in_(EARNED), LedgerEntry.amount), else_=0))
    net = func.sum(case((LedgerEntry.account.in_((*EARNED, PLATFORM)), LedgerEntry.amount), else_=0))
    own = select(LedgerEntry.transaction_id).where(mine, LedgerEntry.account.in_(EARNED))
    query = (
        select(LedgerTransaction, LedgerEntry.currency, earned, net)
        .join(LedgerEntry, LedgerEntry.transaction_id == LedgerTransaction.id)
        .where(
            LedgerTransaction.id.in_(own),
            LedgerTransaction.kind.in_(SHOWN),
            LedgerTransaction.at >= begin,
            LedgerTransaction.at < end,
        )
        .group_by(LedgerTransaction.id, LedgerEntry.currency)
        .order_by(LedgerTransaction.id)
        .limit(page.limit + 1)
    )
    if page.after is not None:
        query = query.where(LedgerTransaction.id > page.after)
    rows = (await session.execute(query)).all()
    shown = rows[: page.limit]
    lines = await _described(
        session, [(one, currency, int(mine_), int(all_)) for one, currency, mine_, all_ in shown]
    )
    return lines, cursor_for(shown[-1][0].id) if len(rows) > page.limit else None


async def _described(
    session: AsyncSession, rows: Sequence[tuple[LedgerTransaction, str, int, int]]
) -> list[StatementLine]:
    item_ids = {one.order_item_id for one, *_ in rows if one.order_item_id is not None}
    items = await orders.items_of(session, item_ids)
    found = await session.execute(
        select(Royalty.order_item_id, Royalty.rate).where(Royalty.order_item_id.in_(item_ids))
    )
    rates: Mapping[int, int] = dict(found.all())
    named = await session.execute(
        select(Payout.id, Payout.uid).where(Payout.id.in_([one.payout_id for one, *_ in rows]))
    )
    payouts: Mapping[int, str] = dict(named.all())
    lines = []
    for one, currency, earned, net in rows:
        about: dict[str, Any] = {}
        if one.order_item_id is not None:
            item = items[one.order_item_id]
            about = {
                "item_id": item.uid,
                "clip_id": item.clip_uid,
                "title": item.title,
                "tier": item.tier,
                "licence": item.licence,
                "net": net,
                "rate": percent(rates[item.id]),
            }
        elif one.payout_id is not None:
            about = {"payout_id": payouts[one.payout_id]}
        lines.append(
            StatementLine.model_validate(
                {"at": one.at, "kind": one.kind, "currency": currency, "royalty": earned, **about}
            )
        )
    return lines
