"""The price book in force, and changing it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts.security import Principal
from paletta_server.audit.service import record
from paletta_server.core import money
from paletta_server.core.errors import Conflict, Invalid
from paletta_server.orders.models import PriceBook as Row
from paletta_server.orders.price_book import PriceBook, Problem, parse

_LOCK = 0x707269636573  # "prices": two applies at once come one after the other


class PricesInvalid(Invalid):
    """The file has problems; `problems` lists them with file, line and column."""

    code = "prices_invalid"

    def __init__(self, problems: Sequence[Problem], filename: str) -> None:
        many = "a problem" if len(problems) == 1 else f"{len(problems):,} problems"
        super().__init__(
            f"`{filename}` has {many}",
            problems=[
                {
                    "file": filename,
                    "line": one.line,
                    "column": one.column,
                    "message": one.message,
                    "hint": one.hint,
                }
                for one in problems
            ],
        )


@dataclass(frozen=True, slots=True)
class InForce:
    """The book that sells now, and its row's key, which orders remember."""

    id: int
    book: PriceBook


@dataclass(frozen=True, slots=True)
class Change:
    """A difference between two books, in words: `prices.hd.business` from `99.00` to `109.00`."""

    key: str
    before: str | None
    after: str | None


_NEWEST = select(Row.id, Row.created_at).order_by(Row.id.desc()).limit(1)
_read: dict[tuple[int, datetime], InForce] = {}
"""The last book that this process read. Rows are never changed, and a key with its time names one."""


async def find(session: AsyncSession) -> InForce | None:
    """The book in force, or None before the first was applied. Every page of a search asks for it."""
    newest = (await session.execute(_NEWEST)).first()
    if newest is None:
        return None
    key = (newest.id, newest.created_at)
    if key not in _read:
        found = InForce(newest.id, await as_sold(session, newest.id))
        _read.clear()
        _read[key] = found
    return _read[key]


async def as_sold(session: AsyncSession, price_book_id: int) -> PriceBook:
    """The book that an order was made under, with its licences' terms."""
    return PriceBook.from_document((await session.get_one(Row, price_book_id)).document)


async def in_force(session: AsyncSession) -> InForce:
    """The book in force. Raises `Conflict` (`no_prices`) before the first was applied."""
    found = await find(session)
    if found is None:
        raise Conflict(
            "nothing is for sale yet: there are no prices",
            code="no_prices",
            hint="an operator sets them with `paletta admin prices apply manifests/price-book.yaml`",
        )
    return found


async def plan(session: AsyncSession, source: str, *, filename: str) -> tuple[PriceBook, list[Change]]:
    """What applying `source` would change. Raises `PricesInvalid`."""
    wanted = _parsed(source, filename)
    now = await find(session)
    return wanted, differences(now.book if now else None, wanted)


async def apply(
    session: AsyncSession, user: Principal, source: str, *, filename: str, digest: str | None
) -> tuple[PriceBook, list[Change]]:
    """Put a book in force; the same one again changes nothing. Carts notice, orders keep what they have.

    Raises `PricesInvalid`, and `Conflict` (`plan_changed`) where the file is not the one that `digest` names.
    """
    await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    wanted, changes = await plan(session, source, filename=filename)
    if digest is not None and digest != wanted.digest():
        raise Conflict(
            "the file is not the one that was planned", code="plan_changed", hint="look at a new plan first"
        )
    if changes:
        session.add(Row(document=wanted.to_document(), digest=wanted.digest(), applied_by=user.user_id))
        details = {"file": filename, "digest": wanted.digest(), "changes": len(changes)}
        await record(session, user, "prices:applied", "price-book", details=details)
    return wanted, changes


def _parsed(source: str, filename: str) -> PriceBook:
    parsed = parse(source)
    if parsed.book is None:
        raise PricesInvalid(parsed.problems, filename)
    return parsed.book


def differences(before: PriceBook | None, after: PriceBook) -> list[Change]:
    """Every line of the two books that differs."""
    old, new = (_lines(book) if book else {} for book in (before, after))
    keys = dict.fromkeys((*old, *new))
    return [Change(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]


def _lines(book: PriceBook) -> dict[str, str]:
    lines = {"currency": book.currency}
    if book.tax_name is not None:
        lines["tax"] = f"{book.tax_name} {book.tax_rate}"
    for name, licence in book.licences.items():
        seats = {None: "any number of seats", 1: "1 seat"}.get(licence.seats, f"{licence.seats} seats")
        lines[f"licences.{name}"] = f"{licence.name}, {seats}"
        lines[f"licences.{name}.terms"] = licence.terms
    for tier, row in book.prices.items():
        for licence_name, amount in row.items():
            lines[f"prices.{tier}.{licence_name}"] = money.text(amount, book.currency)
    lines["editorial"] = ", ".join(book.editorial) or "not sold"
    if book.contributor_bounds is not None:
        least, most = (money.text(bound, book.currency) for bound in book.contributor_bounds)
        lines["contributor_prices"] = f"{least} to {most}"
    return lines
