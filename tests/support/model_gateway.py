"""A payment gateway in memory that does whatever a test wants, and tells of it by events that a test delivers.

It is the outside world, not a stand-in for code of ours: it keeps its own books, remembers idempotency keys,
refuses what a gateway refuses, and can lose a question or an answer on the way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count

from paletta_server.payments.gateway import (
    Checkout,
    CheckoutRequest,
    CheckoutStatus,
    DisputeState,
    Event,
    Evidence,
    Failure,
    Forged,
    GatewayDown,
    Listed,
    Listing,
    Movement,
    PaymentState,
    RefundState,
    RefundStatus,
    Refused,
)

_serial = count(1)
"""Gateways name things once and for all."""


@dataclass
class Book:
    """One checkout at the gateway."""

    reference: str
    request: CheckoutRequest
    status: CheckoutStatus = "open"
    captured: int = 0
    attempts: int = 0
    refunds: dict[str, RefundState] = field(default_factory=dict)
    disputes: dict[str, DisputeState] = field(default_factory=dict)
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def charge(self) -> str | None:
        return f"ch_{self.reference}" if self.captured else None

    @property
    def given_back(self) -> int:
        return sum(one.amount for one in self.refunds.values() if one.status != "failed")

    @property
    def arrived(self) -> int:
        return sum(one.amount for one in self.refunds.values() if one.status == "succeeded")

    @property
    def withdrawn(self) -> int:
        return -sum(move.amount for one in self.disputes.values() for move in one.movements)


@dataclass
class ModelGateway:
    """The gateway `model`. `lose` says what happens to the next calls: None, "question" or "answer"."""

    name: str = "model"
    takes_files: bool = True
    books: dict[str, Book] = field(default_factory=dict)
    lose: list[str | None] = field(default_factory=list)
    refund_as: RefundStatus = "succeeded"
    calls: list[str] = field(default_factory=list)
    answered_in: dict[str, str] = field(default_factory=dict)
    """What each dispute was when it was last answered."""
    _keys: dict[str, str] = field(default_factory=dict)

    def _new(self, kind: str) -> str:
        return f"{kind}_{next(_serial)}"

    def _arrives(self) -> None:
        """Whether the question got here; what is lost on the way back is told by `_answers`."""
        if self.lose and self.lose[0] == "question":
            self.lose.pop(0)
            raise GatewayDown("the question was lost")

    def _answers(self) -> None:
        if self.lose and self.lose.pop(0) == "answer":
            raise GatewayDown("the answer was lost")

    # ---- the shop's questions

    async def open_checkout(self, request: CheckoutRequest) -> Checkout:
        self.calls.append("open")
        self._arrives()
        if request.key not in self._keys:
            reference = self._keys[request.key] = f"co_{request.key}"
            self.books[reference] = Book(reference, request)
        book = self.books[self._keys[request.key]]
        if book.request != request:
            raise Refused("this key was used for another request")
        self._answers()
        return Checkout(book.reference, f"https://pay.invalid/{book.reference}", request.expires_at)

    async def fetch(self, reference: str) -> PaymentState:
        self._arrives()
        book = self.books.get(reference)
        if book is None:
            raise Refused("no such checkout")
        self._answers()
        failure = Failure(f"{reference}:{book.attempts}", "card_declined") if book.attempts else None
        return PaymentState(
            status=book.status,
            currency=book.request.currency,
            captured=book.captured,
            charge=book.charge,
            failure=failure,
            refunds=tuple(book.refunds.values()),
            disputes=tuple(book.disputes.values()),
        )

    async def refund(self, charge: str, *, key: str, payment: str, amount: int) -> None:
        self.calls.append("refund")
        self._arrives()
        (book,) = (one for one in self.books.values() if one.charge == charge)
        if key not in self._keys:
            self._keys[key] = self.give_back(book, amount, uid=key)
        elif book.refunds[self._keys[key]].amount != amount:
            raise Refused("this key was used for another refund")
        self._answers()

    async def close_checkout(self, reference: str) -> None:
        self.calls.append("close")
        self._arrives()
        if self.books[reference].status == "open":
            self.books[reference].status = "expired"
        self._answers()

    async def upload_evidence(self, *, key: str, name: str, content_type: str, data: bytes) -> str:
        self.calls.append("upload")
        self._arrives()
        self._keys.setdefault(key, self._new("file"))
        self._answers()
        return self._keys[key]

    async def submit_evidence(self, dispute: str, *, key: str, evidence: Evidence) -> None:
        self.calls.append("submit")
        self._arrives()
        self._respond(dispute, key, "under_review", answers=1)
        self._answers()

    async def accept_dispute(self, dispute: str, *, key: str) -> None:
        self.calls.append("accept")
        self._arrives()
        self._respond(dispute, key, "lost", answers=0)
        self._answers()

    def _respond(self, dispute: str, key: str, status: str, *, answers: int) -> None:
        found = [one for one in self.books.values() if dispute in one.disputes]
        if not found:
            raise Refused("no such dispute")
        if self._keys.get(key) == dispute:
            return
        told = found[0].disputes[dispute]
        stage, waits, _ = told.status.partition("needs_response")
        if not waits:
            raise Refused(f"the dispute is {told.status}")
        self._keys[key], self.answered_in[dispute] = dispute, told.status
        self.move_dispute(found[0], dispute, stage + status if answers else status)
        found[0].disputes[dispute] = replace(found[0].disputes[dispute], answers=told.answers + answers)

    async def list_checkouts(self, since: datetime, cursor: str | None = None) -> Listing:
        self._arrives()
        rows = list(self.books.values())
        start = int(cursor or 0)
        page = rows[start : start + 2]
        self._answers()
        return Listing(
            tuple(
                Listed(one.reference, one.request.key, one.request.currency, one.captured, one.created_at)
                for one in page
            ),
            str(start + 2) if start + 2 < len(rows) else None,
        )

    def parse_event(self, body: bytes, headers: Mapping[str, str]) -> Event:
        raise Forged("the model's events are delivered by hand")

    # ---- what happens in the world

    def pay(self, book: Book) -> None:
        if book.status in ("open", "processing"):
            book.status, book.captured = "succeeded", book.request.amount

    def give_back(self, book: Book, amount: int, *, uid: str | None = None) -> str:
        if amount > book.captured - book.given_back:
            raise Refused("more than is left of the charge")
        reference = self._new("re")
        book.refunds[reference] = RefundState(reference, uid, amount, self.refund_as)
        return reference

    def decide_refund(self, book: Book, reference: str, status: RefundStatus) -> None:
        told = book.refunds[reference]
        if told.status == "pending" or (told.status == "succeeded" and status == "failed"):
            failure = "account_closed" if status == "failed" else None
            book.refunds[reference] = replace(told, status=status, failure=failure)

    def dispute(self, book: Book, status: str = "needs_response", *, take: bool = True) -> str:
        reference = self._new("dp")
        amount = book.captured
        moves = (Movement(self._new("txn"), -amount),) if take else ()
        book.disputes[reference] = DisputeState(reference, status, amount, "fraudulent", None, moves)
        return reference

    def move_dispute(self, book: Book, reference: str, status: str) -> None:
        """Stripe's ways: the bank may take the money late, and gives it back to whoever wins."""
        told = book.disputes[reference]
        moves = told.movements
        if status in ("needs_response", "under_review", "lost", "appeal_under_review") and not moves:
            moves = (Movement(self._new("txn"), -told.amount),)
        if status == "won" and sum(move.amount for move in moves) < 0:
            moves = (*moves, Movement(self._new("txn"), told.amount))
        book.disputes[reference] = replace(told, status=status, movements=moves)
