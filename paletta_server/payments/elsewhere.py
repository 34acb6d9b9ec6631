"""What others know of our money: gateways' own lists of checkouts, and the shop's ledgers."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core import money
from paletta_server.core.errors import Invalid, NotFound
from paletta_server.core.runtime import Runtime
from paletta_server.earnings import service as earnings
from paletta_server.orders import service as orders
from paletta_server.payments import gateways, service
from paletta_server.payments.comparing import Comparison, Difference
from paletta_server.payments.gateway import GatewayDown, Listed, Refused
from paletta_server.payments.models import Payment
from paletta_server.payments.settling import settle


class LedgerDifference(Protocol):
    """Where a ledger is not what it should be; amounts are minor units, None where there is nothing at all."""

    @property
    def what(self) -> str: ...
    @property
    def object(self) -> str: ...
    @property
    def currency(self) -> str: ...
    @property
    def expected(self) -> int | None: ...
    @property
    def found(self) -> int | None: ...


class LedgerPage(Protocol):
    """A part of a ledger that was looked at; `cursor` is None at its end."""

    @property
    def compared(self) -> int: ...
    @property
    def differences(self) -> Sequence[LedgerDifference]: ...
    @property
    def cursor(self) -> str | None: ...


class Ledger(Protocol):
    """What tells, page by page, where a ledger is wrong."""

    async def __call__(
        self, session: AsyncSession, *, since: datetime | None, cursor: str | None, most: int
    ) -> LedgerPage: ...


LEDGERS: tuple[Ledger, ...] = (earnings.page,)


def listable(runtime: Runtime) -> list[str]:
    """The gateways that this service can ask, whether they are offered to customers or not."""
    found = []
    for name in gateways.MAKERS:
        with suppress(GatewayDown, NotFound):
            gateways.of(runtime, name)
            found.append(name)
    return found


async def listing(
    runtime: Runtime, gateway: str, *, since: datetime, cursor: str | None, fix: bool
) -> Comparison:
    """Compare a page of a gateway's own list: checkouts with money of which our books know nothing.

    One that bears our payment's id is taken up where `fix` says so. Raises `Invalid` (`no_such_gateway`,
    `bad_cursor`) and `GatewayDown`.
    """
    if gateway not in gateways.MAKERS:
        names = ", ".join(gateways.MAKERS)
        raise Invalid(
            f"there is no gateway `{gateway[:40]}`", code="no_such_gateway", hint=f"there is {names}"
        )
    try:
        page = await gateways.of(runtime, gateway).list_checkouts(since, cursor)
    except Refused as error:
        raise Invalid(error.detail, code="bad_cursor") from error
    found = []
    for one in page.checkouts:
        found += await _listed(runtime, gateway, one, fix=fix)
    return Comparison(len(page.checkouts), found, page.cursor)


async def _listed(runtime: Runtime, gateway: str, one: Listed, *, fix: bool) -> list[Difference]:
    async with runtime.db.transaction() as session:
        known = await session.scalar(
            select(Payment).where(Payment.gateway == gateway, Payment.reference == one.reference)
        )
        named = await session.scalar(
            select(Payment).where(Payment.gateway == gateway, Payment.uid == (one.payment or ""))
        )
    if known is not None or not one.captured:
        return []
    sum_ = f"{money.text(one.captured, one.currency)} {one.currency}"
    number = None
    if named is not None:
        async with runtime.db.transaction() as session:
            number = (await orders.by_key(session, [named.order_id]))[named.order_id].number
    difference = Difference(
        number, named.uid if named else None, gateway, f"checkout {one.reference}", None, sum_
    )
    if fix and named is not None and named.reference is None:
        async with runtime.db.transaction() as session:
            await service.adopt(session, named.id, one.reference)
        await settle(runtime, named.id)
        return [replace(difference, fixed=True)]
    return [difference]


async def ledgers(
    session: AsyncSession, *, since: datetime | None, cursor: str | None, most: int
) -> Comparison:
    """A page of what the shop's ledgers say of themselves, one ledger after the other. Raises `Invalid`
    (`bad_cursor`)."""
    place, _, inner = (cursor or "0:").partition(":")
    if not (place.isascii() and place.isdigit() and int(place) < len(LEDGERS)):
        raise Invalid("that is not where the ledgers go on", code="bad_cursor")
    page = await LEDGERS[int(place)](session, since=since, cursor=inner or None, most=most)
    following = None
    if page.cursor is not None:
        following = f"{place}:{page.cursor}"
    elif int(place) + 1 < len(LEDGERS):
        following = f"{int(place) + 1}:"
    return Comparison(
        page.compared,
        [
            Difference(
                one.object,
                None,
                "ledger",
                one.what,
                _minor(one.found, one.currency),
                _minor(one.expected, one.currency),
            )
            for one in page.differences
        ],
        following,
    )


def _minor(amount: int | None, currency: str) -> str | None:
    return None if amount is None else f"{money.text(amount, currency)} {currency}"
