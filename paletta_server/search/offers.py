"""What a clip is offered for: from which price on, and under which licences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core import money
from paletta_server.orders import prices
from paletta_server.orders.models import LICENCES
from paletta_server.orders.price_book import PriceBook


@dataclass(frozen=True, slots=True)
class Offer:
    """The lowest price in minor units, None where nobody knows one, and the licences there are."""

    least: int | None
    currency: str | None
    licences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Offers:
    """The price book in force, or none yet: then a contributor's own wish is all there is to go by."""

    book: PriceBook | None

    def of(self, tiers: Sequence[str], *, own: Mapping[str, Any] | None, editorial: bool) -> Offer:
        if self.book is None:
            return Offer(_wish(own), None, LICENCES)
        found = {
            (tier, licence): amount
            for tier in tiers
            for licence in self.book.licences
            if (amount := self.book.price(tier, licence, own=own, editorial=editorial)) is not None
        }
        licences = tuple(name for name in self.book.licences if any(name == key[1] for key in found))
        return Offer(min(found.values(), default=None), self.book.currency, licences)

    def prices(self, tier: str, *, own: Mapping[str, Any] | None, editorial: bool) -> dict[str, str]:
        """The price of a tier by licence, as decimals of the currency."""
        if self.book is None:
            return {}
        return {
            licence: money.text(amount, self.book.currency)
            for licence in self.book.licences
            if (amount := self.book.price(tier, licence, own=own, editorial=editorial)) is not None
        }


async def in_force(session: AsyncSession) -> Offers:
    found = await prices.find(session)
    return Offers(found.book if found else None)


def _wish(own: Mapping[str, Any] | None) -> int | None:
    """The least that the contributor asks for, in hundredths: a manifest's prices have two decimals."""
    amounts = []
    for tier, text in (own or {}).items():
        if tier == "auto":
            continue
        try:
            amounts.append(int(Decimal(str(text)).scaleb(2)))
        except (InvalidOperation, ValueError):
            continue
    return min(amounts, default=None)
