"""Royalty rates: the shop's own, and what operators agreed with single contributors. They count for later sales."""

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import directory
from paletta_server.accounts.directory import Person
from paletta_server.accounts.security import Principal
from paletta_server.audit.service import record
from paletta_server.core.errors import Conflict, Invalid, NotFound
from paletta_server.earnings.allocation import SCALE
from paletta_server.earnings.models import RoyaltyRate
from paletta_server.earnings.schemas import RateView
from paletta_server.orders.models import OrderItem

STANDARD, EXCLUSIVE = "standard", "exclusive"
DEFAULTS = {STANDARD: 5000, EXCLUSIVE: 6000}
"""What counts until an operator sets another: Pond5, the most generous agency, gives 40 and 60 %."""


def parse(text: str) -> int:
    """Hundredths of a percent of `55`, `52.5` or `52.5 %`. Raises `Invalid` (`bad_rate`)."""
    try:
        rate = Decimal(text.removesuffix("%").strip()) * 100
    except InvalidOperation:
        rate = Decimal("NaN")
    if not rate.is_finite() or not 0 <= rate <= SCALE or rate != rate.to_integral_value():
        raise Invalid(
            f"`{text[:20]}` is not a royalty rate",
            code="bad_rate",
            pointer="/rate",
            hint="give a percentage from 0 to 100 with two decimals at most, such as `55` or `52.5`",
        )
    return int(rate)


def percent(rate: int) -> str:
    """The rate as people write it, without the sign: `52.5`."""
    return f"{(Decimal(rate) / 100).normalize():f}"


async def of_items(session: AsyncSession, items: Sequence[OrderItem]) -> dict[int, int]:
    """The rate in force now for each item, by its key: its contributor's own, else the shop's."""
    people = await directory.people(session, {item.contributor_id for item in items})
    own = {key: one.uid for key, one in people.items()}
    rows = await session.execute(
        select(RoyaltyRate.scope, RoyaltyRate.rate).where(
            RoyaltyRate.scope.in_([STANDARD, EXCLUSIVE, *own.values()])
        )
    )
    rates = DEFAULTS | dict(rows.all())
    return {
        item.id: rates.get(own[item.contributor_id], rates[EXCLUSIVE if item.exclusive else STANDARD])
        for item in items
    }


# ---- operators


async def listed(session: AsyncSession) -> list[RateView]:
    """The shop's rates, then those of single contributors, by e-mail address."""
    rows = {row.scope: row for row in await session.scalars(select(RoyaltyRate))}
    people = await directory.people_by_uid(session, set(rows) - set(DEFAULTS))
    shop = [
        RateView(
            scope=scope,
            rate=percent(rows[scope].rate if scope in rows else default),
            set_at=rows[scope].set_at if scope in rows else None,
        )
        for scope, default in DEFAULTS.items()
    ]
    return shop + [
        RateView(
            scope=one.uid, email=one.email, rate=percent(rows[one.uid].rate), set_at=rows[one.uid].set_at
        )
        for one in sorted(people.values(), key=lambda one: one.email)
    ]


async def set_rate(session: AsyncSession, user: Principal, text: str, rate: str) -> RateView:
    """Agree on a rate for what is sold from now on. `text`: `standard`, `exclusive`, or a contributor's address or
    id; theirs counts for all they sell. Raises `NotFound`, `Invalid` (`bad_rate`), `Conflict`
    (`not_a_contributor`)."""
    wanted = parse(rate)
    scope, person = await _scope(session, text)
    if person is not None and person.role == "customer":
        raise Conflict(f"`{person.email}` does not contribute", code="not_a_contributor")
    before = await _in_force(session, scope)
    values = {"rate": wanted, "set_by": user.user_id, "set_at": func.now()}
    row = await session.scalar(
        insert(RoyaltyRate)
        .values(scope=scope, **values)
        .on_conflict_do_update(index_elements=["scope"], set_=values)
        .returning(RoyaltyRate)
        .execution_options(populate_existing=True)
    )
    assert row is not None
    details = {"before": before, "after": percent(wanted)}
    await record(session, user, "royalty_rate:set", scope, details=details)
    return RateView(
        scope=scope, email=person.email if person else None, rate=percent(row.rate), set_at=row.set_at
    )


async def unset(session: AsyncSession, user: Principal, text: str) -> None:
    """Go back to the shop's rate, or to the one the shop began with. Raises `NotFound` (`no_rate`)."""
    scope, _ = await _scope(session, text)
    gone = await session.scalar(
        delete(RoyaltyRate).where(RoyaltyRate.scope == scope).returning(RoyaltyRate.rate)
    )
    if gone is None:
        raise NotFound("royalty rate of its own for", text[:80], code="no_rate")
    await record(session, user, "royalty_rate:unset", scope, details={"before": percent(gone)})


async def _scope(session: AsyncSession, text: str) -> tuple[str, Person | None]:
    if text in DEFAULTS:
        return text, None
    person = await directory.person(session, text)
    return person.uid, person


async def _in_force(session: AsyncSession, scope: str) -> str | None:
    rate = await session.scalar(select(RoyaltyRate.rate).where(RoyaltyRate.scope == scope).with_for_update())
    return None if rate is None else percent(rate)
