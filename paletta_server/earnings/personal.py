"""What earnings hold on one person: the export, what is on its way, and what erasing takes away.

The ledger and the payouts that were made stay, with the bank details that they went to: they are the shop's books.
"""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core.export import Sections
from paletta_server.earnings import details, ledger, payouts
from paletta_server.earnings.ledger import Entry, Posting
from paletta_server.earnings.models import (
    PAYABLE,
    PENDING,
    PLATFORM,
    WAIVED,
    LedgerEntry,
    LedgerTransaction,
    Payout,
    PayoutAccount,
)


async def unsettled(session: AsyncSession, user_id: int) -> int:
    """How many payouts of theirs are on their way to a bank."""
    query = select(func.count()).where(Payout.user_id == user_id, Payout.status == "in_transit")
    return await session.scalar(query) or 0


async def waive(session: AsyncSession, user_id: int) -> dict[str, int]:
    """Give to the shop what a contributor has earned and was not paid; minor units by currency. No payout runs
    meanwhile.

    It leaves what is payable at once, also for what is on hold: the hold's end then makes the account even.
    """
    await payouts.alone(session)
    owed = {
        currency: amount
        for (_, currency), stands in sorted((await ledger.balances(session, user_id)).items())
        if (amount := stands[PENDING] + stands[PAYABLE]) > 0
    }
    await ledger.append(
        session,
        [
            Posting(WAIVED, [Entry(PAYABLE, currency, -amount, user_id), Entry(PLATFORM, currency, amount)])
            for currency, amount in owed.items()
        ],
    )
    return owed


def sections(user_id: int) -> Sections:
    accounts = select(
        PayoutAccount.kind,
        PayoutAccount.holder,
        PayoutAccount.number,
        PayoutAccount.bic,
        PayoutAccount.country,
        PayoutAccount.changed_at,
    ).where(PayoutAccount.user_id == user_id)
    paid = select(
        Payout.uid.label("id"), Payout.status, Payout.currency, Payout.amount, Payout.holder, Payout.number, Payout.bic,
        Payout.country, Payout.failure, Payout.created_at, Payout.decided_at,
    ).where(Payout.user_id == user_id)  # fmt: skip
    entries = (
        select(
            LedgerTransaction.kind,
            LedgerTransaction.at,
            LedgerEntry.account,
            LedgerEntry.currency,
            LedgerEntry.amount,
        )
        .join(LedgerTransaction, LedgerTransaction.id == LedgerEntry.transaction_id)
        .where(LedgerEntry.user_id == user_id)
    )
    return {
        "payout_account": accounts,
        "payouts": paid.order_by(Payout.id),
        "ledger_entries": entries.order_by(LedgerEntry.id),
    }


async def forget(session: AsyncSession, user_id: int) -> None:
    await details.forget(session, user_id)
