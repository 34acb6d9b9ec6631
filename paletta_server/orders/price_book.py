"""The price book: what a clip costs at each tier and licence, and the arithmetic of that.

The operator's file is `manifests/price-book.yaml`; a parsed book is stored whole, so that what was in force at
any time can be read years later.
"""

import hashlib
import json
import re
from collections.abc import Mapping as Values
from dataclasses import asdict, dataclass, field
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from typing import Any

from paletta_server.core import money, nodes
from paletta_server.core.nodes import Mapping, Mark, Node, Scalar, Sequence
from paletta_server.orders.models import LICENCES, TIERS

VERSION = "1"
MAX_NAME, MAX_TERMS = 50, 2000

_CURRENCY = re.compile(r"[A-Z]{3}\Z")
_TOP = (
    "paletta_prices",
    "currency",
    "tax",
    "licences",
    "prices",
    "editorial",
    "contributor_prices",
)


@dataclass(frozen=True, slots=True)
class Licence:
    """What a licence allows. `seats`: how many people; None for any number."""

    name: str
    seats: int | None
    terms: str


@dataclass(frozen=True, slots=True)
class PriceBook:
    """Prices in minor units before tax, by tier and licence. `tax_rate` is a decimal such as `0.19`."""

    currency: str
    tax_name: str | None
    tax_rate: str
    licences: dict[str, Licence]
    prices: dict[str, dict[str, int]]
    editorial: tuple[str, ...]
    contributor_bounds: tuple[int, int] | None
    """Between which a contributor's own price is honoured; None where it is not."""

    def price(
        self, tier: str, licence: str, *, own: Values[str, Any] | None = None, editorial: bool = False
    ) -> int | None:
        """What a clip costs; None where it is not sold so. `own` is the clip's `price` field."""
        if editorial and licence not in self.editorial:
            return None
        listed = self.prices.get(tier, {}).get(licence)
        asked = (own or {}).get(tier)
        if listed is None or asked is None or (own or {}).get("auto") or self.contributor_bounds is None:
            return listed
        least, most = self.contributor_bounds
        base = self.prices[tier].get("individual", listed)
        if not base:  # what is given away has no price to be in proportion to
            return listed
        # A contributor's price has two decimals whatever the currency has.
        wanted = int(Decimal(str(asked)).scaleb(money.decimals(self.currency)))
        return money.share(min(max(wanted, least), most), Decimal(listed) / Decimal(base))

    def tax(self, amount: int) -> int:
        """The tax on an order's subtotal."""
        return money.share(amount, Decimal(self.tax_rate))

    def to_document(self) -> dict[str, Any]:
        """Plain JSON values; `from_document` reads them back."""
        written: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return written

    @classmethod
    def from_document(cls, document: Values[str, Any]) -> "PriceBook":
        bounds = document["contributor_bounds"]
        return cls(
            currency=document["currency"],
            tax_name=document["tax_name"],
            tax_rate=document["tax_rate"],
            licences={key: Licence(**value) for key, value in document["licences"].items()},
            prices=document["prices"],
            editorial=tuple(document["editorial"]),
            contributor_bounds=(bounds[0], bounds[1]) if bounds else None,
        )

    def digest(self) -> str:
        """SHA-256 of the document in a fixed form: the same prices, the same digest."""
        return hashlib.sha256(json.dumps(self.to_document(), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the file that cannot be applied; line 0 is no line in particular."""

    line: int
    column: int
    message: str
    hint: str | None = None


@dataclass
class Parsed:
    """A file that was read: the book, or what is wrong with it (then `book` is None)."""

    book: PriceBook | None = None
    problems: list[Problem] = field(default_factory=list)


def parse(text: str) -> Parsed:
    """Read a price book. Never raises: what is wrong is in `problems`, in the order of the file."""
    reader = _Reader()
    try:
        root = nodes.read(text, reader.repeated)
    except nodes.Unreadable as error:
        return Parsed(problems=[Problem(error.mark.line, error.mark.column, error.message, error.hint)])
    book = reader.book(root)
    problems = sorted(reader.problems, key=lambda problem: (problem.line, problem.column))
    return Parsed(None if problems else book, problems)


class _Reader:
    """Turns nodes into a book; a wrong value is a problem, and reading goes on."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def problem(self, mark: Mark, message: str, hint: str | None = None) -> None:
        self.problems.append(Problem(mark.line, mark.column, message, hint))

    def repeated(self, key: Scalar, first: Scalar) -> None:
        self.problem(key.mark, f"`{key.value[:60]}` stands here twice, first on line {first.mark.line}")

    def book(self, root: Node | None) -> PriceBook | None:
        if not isinstance(root, Mapping) or "paletta_prices" not in root.entries:
            mark = root.mark if root is not None else Mark(1, 1)
            self.problem(mark, "not a price book", "it begins with `paletta_prices: 1`")
            return None
        fields = self.fields(root, _TOP, "the file")
        if self.text(fields["paletta_prices"]) != VERSION:
            self.problem(fields["paletta_prices"].mark, "an unknown version of the format", "this reads 1")
        for name in ("currency", "licences", "prices"):
            if name not in fields:
                self.problem(root.mark, f"`{name}` is missing")
        currency = self.currency(fields.get("currency"))
        licences = self.licences(fields.get("licences"))
        tax_name, tax_rate = self.tax(fields.get("tax"))
        return PriceBook(
            currency=currency,
            tax_name=tax_name,
            tax_rate=tax_rate,
            licences=licences,
            prices=self.prices(fields.get("prices"), currency, licences),
            editorial=self.editorial(fields.get("editorial"), licences),
            contributor_bounds=self.bounds(fields.get("contributor_prices"), currency),
        )

    # -- its parts

    def currency(self, node: Node | None) -> str:
        if node is None:
            return "USD"
        found = self.text(node)
        if not _CURRENCY.match(found):
            self.problem(node.mark, f"`{found[:20]}` is not a currency", "three capitals, such as USD or EUR")
            return "USD"
        return found

    def tax(self, node: Node | None) -> tuple[str | None, str]:
        if node is None:
            return None, "0"
        fields = self.fields(node, ("name", "rate"), "`tax`")
        name = self.text(fields["name"]) if "name" in fields else ""
        if not 0 < len(name) <= MAX_NAME:
            self.problem(node.mark, "`tax` needs a `name`", 'such as {name: VAT, rate: "0.19"}')
        rate = fields.get("rate")
        try:
            value = Decimal(self.text(rate) if rate is not None else "")
        except InvalidOperation:
            value = Decimal(-1)
        if not (value.is_finite() and 0 <= value < 1):
            self.problem((rate or node).mark, "a `rate` is a part of one", 'such as "0.19" for 19 %')
            return name, "0"
        return name, f"{value.normalize():f}"

    def licences(self, node: Node | None) -> dict[str, Licence]:
        found = {}
        for key, value in self.entries(node, LICENCES, "`licences`"):
            fields = self.fields(value, ("name", "seats", "terms"), f"licence `{key.value}`")
            name, terms = (self.text(fields[one]) if one in fields else "" for one in ("name", "terms"))
            if not 0 < len(name) <= MAX_NAME:
                self.problem(key.mark, f"licence `{key.value}` needs a `name` of up to {MAX_NAME} characters")
            if not 0 < len(terms) <= MAX_TERMS:
                self.problem(
                    key.mark, f"licence `{key.value}` needs `terms`", f"up to {MAX_TERMS} characters"
                )
            found[key.value] = Licence(name, self.seats(fields.get("seats")), terms)
        return found

    def seats(self, node: Node | None) -> int | None:
        if node is None:
            return None
        text = self.text(node)
        if not (text.isascii() and text.isdigit() and 0 < int(text) < 10**6):
            self.problem(node.mark, "`seats` is a number of people", "leave it out where any number may")
            return None
        return int(text)

    def prices(
        self, node: Node | None, currency: str, licences: Values[str, Licence]
    ) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for tier, value in self.entries(node, TIERS, "`prices`"):
            row = found[tier.value] = {}
            for licence, amount in self.entries(value, tuple(licences), f"tier `{tier.value}`"):
                row[licence.value] = self.amount(amount, currency)
            for missing in sorted(set(licences) - set(row)):
                self.problem(tier.mark, f"tier `{tier.value}` has no price for licence `{missing}`")
        for licence_name in licences:
            self.rising([(tier, found.get(tier, {}).get(licence_name)) for tier in TIERS], node, licence_name)
        return found

    def rising(self, row: list[tuple[str, int | None]], node: Node | None, licence: str) -> None:
        """A higher tier includes the lower ones: a lower price would be a mistake, and an upgrade free."""
        known = [(tier, amount) for tier, amount in row if amount is not None]
        for (lower, less), (higher, more) in pairwise(known):
            if more < less and node is not None:
                message = f"`{higher}` costs less than `{lower}`, which it includes (licence `{licence}`)"
                self.problem(node.mark, message)

    def editorial(self, node: Node | None, licences: Values[str, Licence]) -> tuple[str, ...]:
        if node is None:
            return tuple(licences)
        if not isinstance(node, Sequence):
            self.problem(node.mark, "`editorial` is a list of licences", "such as [individual, business]")
            return ()
        names = []
        for item in node.items:
            name = self.text(item)
            if name not in licences:
                self.problem(item.mark, f"there is no licence `{name[:40]}`", _one_of(licences))
            names.append(name)
        return tuple(dict.fromkeys(names))

    def bounds(self, node: Node | None, currency: str) -> tuple[int, int] | None:
        if node is None:
            return None
        fields = self.fields(node, ("least", "most"), "`contributor_prices`")
        if set(fields) != {"least", "most"}:
            self.problem(node.mark, "`contributor_prices` needs `least` and `most`")
            return None
        least, most = (self.amount(fields[name], currency) for name in ("least", "most"))
        if least > most:
            self.problem(fields["least"].mark, "`least` is more than `most`")
        return least, most

    # -- values

    def fields(self, node: Node, known: tuple[str, ...], what: str) -> dict[str, Node]:
        return {key.value: value for key, value in self.entries(node, known, what)}

    def entries(self, node: Node | None, known: tuple[str, ...], what: str) -> list[tuple[Scalar, Node]]:
        if node is None:
            return []
        if not isinstance(node, Mapping):
            self.problem(node.mark, f"{what} must be a mapping", _one_of(known))
            return []
        for key, _ in node.entries.values():
            if key.value not in known:
                self.problem(key.mark, f"unknown key `{key.value[:60]}` in {what}", _one_of(known))
        return [(key, value) for key, value in node.entries.values() if key.value in known]

    def text(self, node: Node) -> str:
        if isinstance(node, Scalar):
            return " ".join(node.value.split())
        self.problem(node.mark, "expected a word, found a list or a mapping")
        return ""

    def amount(self, node: Node, currency: str) -> int:
        text = self.text(node)
        try:
            return money.parse(text, currency)
        except ValueError as error:
            self.problem(node.mark, str(error), 'write it as "49.00"')
            return 0


def _one_of(names: Values[str, Any] | tuple[str, ...]) -> str:
    return "there are " + ", ".join(f"`{name}`" for name in names)
