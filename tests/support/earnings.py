"""What contributors have, and that the ledger agrees with everything it follows from."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from paletta_server.core.runtime import Runtime
from paletta_server.earnings import ledger, service
from tests.support.payments import Counter

IBAN = "DE89370400440532013000"


async def exact(runtime: Runtime) -> None:
    """No difference anywhere, looked at as a whole."""
    async with runtime.db.transaction() as session:
        assert await service.differences(session) == []
        assert await session.scalar(text("SELECT coalesce(sum(amount), 0) FROM ledger_entries")) == 0


async def stands(runtime: Runtime, user_id: int, currency: str = "USD") -> dict[str, int]:
    """The accounts of somebody that are not zero."""
    async with runtime.db.transaction() as session:
        found = (await ledger.balances(session, user_id)).get((user_id, currency), {})
    return {account: amount for account, amount in found.items() if amount}


async def shared(runtime: Runtime) -> dict[str, int]:
    """The shop's own accounts that are not zero."""
    async with runtime.db.transaction() as session:
        rows = await session.execute(
            text(
                "SELECT account, sum(amount) FROM ledger_entries WHERE user_id IS NULL GROUP BY 1"
                " HAVING sum(amount) <> 0"
            )
        )
        found: dict[str, Any] = dict(rows.all())  # type: ignore[arg-type]
    return {account: int(amount) for account, amount in found.items()}


async def hold_is_over(counter: Counter) -> None:
    """A month passes, and the hourly job runs."""
    async with counter.runtime.db.transaction() as session:
        await session.execute(text("UPDATE royalties SET sold_at = now() - interval '31 days'"))
    await service.release_due(counter.runtime)


async def bank_account(runtime: Runtime, user_id: int, number: str = IBAN) -> None:
    """Somebody has said where to pay them."""
    async with runtime.db.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO payout_accounts (user_id, kind, holder, number, country)"
                " VALUES (:user, 'iban', 'Carla Contributor', :number, 'DE')"
            ),
            {"user": user_id, "number": number},
        )
