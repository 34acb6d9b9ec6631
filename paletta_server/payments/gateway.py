"""What the shop wants of a payment gateway, in its own words. Amounts are minor units, currencies ISO codes in
capitals.

A gateway is asked outside any transaction of ours, and what it says is never remembered between calls: `fetch`
tells the whole present state, and `settling` works out what is new. Every call that moves something is idempotent
by a key that was stored before.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from paletta_server.core.errors import PalettaError, Unavailable

CheckoutStatus = Literal["open", "processing", "succeeded", "failed", "expired"]
"""`processing`: the customer has done everything and the bank has not, which can take days."""
RefundStatus = Literal["pending", "succeeded", "failed"]
TOLERANCE_SECONDS = 300
"""How old a signed event may be: an event caught on its way cannot be played back later."""


class GatewayDown(Unavailable):
    """The gateway did not answer, or not clearly: what was asked may or may not have happened. Ask again."""

    code = "gateway_unavailable"


class Failed(GatewayDown):
    """The gateway broke down over this very request, and gives the same answer to its key from now on. What was
    asked may or may not have happened."""


class Refused(PalettaError):
    """The gateway answered, and said no; asking the same again will not help."""

    status, code, title = 409, "gateway_refused", "Refused by the payment gateway"


class Forged(PalettaError):
    """An event that does not carry the gateway's signature, or carries an old one."""

    status, code, title = 400, "bad_signature", "Bad signature"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the bill that the hosted page shows."""

    title: str
    amount: int


@dataclass(frozen=True, slots=True)
class CheckoutRequest:
    """What to charge. The same `key` always comes with the same request."""

    key: str
    """The payment's public id; the gateway keeps it beside the money."""
    order: str
    """The order's number."""
    currency: str
    amount: int
    """What the lines add up to."""
    lines: tuple[Line, ...]
    email: str
    expires_at: datetime
    return_url: str
    """Where the hosted page sends the customer afterwards, however it ended."""
    purchase_order: str | None = None


@dataclass(frozen=True, slots=True)
class Checkout:
    """A checkout as it was opened."""

    reference: str
    url: str | None
    """The hosted page; None where there is nothing to do in a browser."""
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Failure:
    """The last attempt to pay that came to nothing; the checkout may still be open for another."""

    reference: str
    reason: str


@dataclass(frozen=True, slots=True)
class RefundState:
    """A refund at the gateway. `uid` is ours, None for one that was made there by hand."""

    reference: str
    uid: str | None
    amount: int
    status: RefundStatus
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Movement:
    """Money that a dispute moved: negative when the bank took it, positive when it came back."""

    reference: str
    amount: int


@dataclass(frozen=True, slots=True)
class DisputeState:
    """A dispute at the gateway; `status` is its own word."""

    reference: str
    status: str
    amount: int
    reason: str | None = None
    due_by: datetime | None = None
    movements: tuple[Movement, ...] = ()
    answers: int = 0
    """How often evidence was sent to the bank, by us or by hand, since the dispute began."""

    @property
    def answered(self) -> bool:
        return self.answers > 0


@dataclass(frozen=True, slots=True)
class PaymentState:
    """Everything that a gateway knows of one checkout, now."""

    status: CheckoutStatus
    currency: str
    captured: int = 0
    charge: str | None = None
    failure: Failure | None = None
    refunds: tuple[RefundState, ...] = ()
    disputes: tuple[DisputeState, ...] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a bank is told in a dispute: `texts` and `files` (the gateway's references) by field, of `TEXTS` and
    `FILES` in `evidence.py`."""

    texts: Mapping[str, str]
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Listed:
    """A checkout in a gateway's own list. `payment` is our id, where the gateway kept it."""

    reference: str
    payment: str | None
    currency: str
    captured: int
    """What came in, whatever went back later."""
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of such a list, and where it goes on."""

    checkouts: tuple[Listed, ...]
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """A verified event. It is a hint to look at a payment, named in one or more of three ways, or in none."""

    id: str
    kind: str
    payload: dict[str, Any] = field(repr=False)
    reference: str | None = None
    """The checkout's."""
    payment: str | None = None
    """Our own id, where the gateway kept it."""
    charge: str | None = None


SENT_BY_HAND = ("invoice",)
"""Gateways that send nothing themselves: an operator gives the money back by bank, and says so."""
LISTED = 100
"""Checkouts on a page of a list that we keep ourselves."""


def position(cursor: str | None) -> int:
    """The key after which a list of our own goes on. Raises `Refused`."""
    if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise Refused("that is not where a list goes on", code="bad_cursor")
    return int(cursor or 0)


class Gateway(Protocol):
    """A payment gateway. Every method may raise `GatewayDown`, and those that take a key `Failed`; none changes
    anything twice."""

    name: str
    takes_files: bool
    """Whether evidence may have files."""

    async def open_checkout(self, request: CheckoutRequest) -> Checkout:
        """Open a checkout, or find the one that was opened with this key. Raises `Refused`."""
        ...

    async def fetch(self, reference: str) -> PaymentState:
        """The present state of a checkout. Raises `Refused` for an unknown one."""
        ...

    async def refund(self, charge: str, *, key: str, payment: str, amount: int) -> None:
        """Give back `amount`, once for each `key`; `fetch` tells what became of it. Raises `Refused`."""
        ...

    async def close_checkout(self, reference: str) -> None:
        """Take no more money on a checkout. One that is over stays as it is; `fetch` tells which it was."""
        ...

    async def upload_evidence(self, *, key: str, name: str, content_type: str, data: bytes) -> str:
        """Give the gateway a file for a dispute, once for each `key`; its own name of it. Raises `Refused`."""
        ...

    async def submit_evidence(self, dispute: str, *, key: str, evidence: Evidence) -> None:
        """Send evidence to the bank, which takes it once each time that it asks. Raises `Refused`, also where it
        waits for none."""
        ...

    async def accept_dispute(self, dispute: str, *, key: str) -> None:
        """Let the customer win, for good. Raises `Refused` where there is nothing to accept any more."""
        ...

    async def list_checkouts(self, since: datetime, cursor: str | None = None) -> Listing:
        """A page of the checkouts that were opened since then, whoever opened them. Raises `Refused` for a cursor
        that is none."""
        ...

    def parse_event(self, body: bytes, headers: Mapping[str, str]) -> Event:
        """Verify and read an event. `headers` have lower-case names. Raises `Forged`."""
        ...
