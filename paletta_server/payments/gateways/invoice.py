"""Payment by bank transfer: an invoice waits until an operator sees the money and marks the order paid. What is to go
back waits until an operator has sent it, or says that it cannot be sent.

The bank is the outside system here, and operators are its messengers; what they report is kept in `invoices`,
`invoice_entries` and `invoice_outcomes`. There are no events.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core.database import Database
from paletta_server.payments.gateway import (
    LISTED,
    Checkout,
    CheckoutRequest,
    CheckoutStatus,
    Event,
    Evidence,
    Forged,
    Listed,
    Listing,
    PaymentState,
    RefundState,
    RefundStatus,
    Refused,
    position,
)
from paletta_server.payments.models import Invoice, InvoiceEntry, InvoiceOutcome

NAME = "invoice"
PREFIX = "INV-"
Outcome = Literal["sent", "failed"]
NO_DISPUTES = "there is no bank behind an invoice that could dispute it"


class InvoiceGateway:
    name = NAME
    takes_files = False

    def __init__(self, db: Database) -> None:
        self._db = db

    async def open_checkout(self, request: CheckoutRequest) -> Checkout:
        async with self._db.transaction() as session:
            await session.execute(
                insert(Invoice)
                .values(
                    key=request.key,
                    reference=f"{PREFIX}{request.key.rpartition('_')[2].upper()}",
                    currency=request.currency,
                    amount=request.amount,
                    purchase_order=request.purchase_order,
                    expires_at=request.expires_at,
                )
                # Whichever of its two unique columns a rival's is seen by.
                .on_conflict_do_nothing()
            )
            invoice = await session.scalar(select(Invoice).where(Invoice.key == request.key))
            assert invoice is not None
            if (invoice.amount, invoice.currency) != (request.amount, request.currency):
                raise Refused("this key was used for another invoice")
            return Checkout(invoice.reference, None, invoice.expires_at)

    async def fetch(self, reference: str) -> PaymentState:
        async with self._db.transaction() as session:
            invoice = await _find(session, reference)
            expired = await session.scalar(select(invoice.expires_at <= func.now()))
            rows = await session.scalars(
                select(InvoiceEntry).where(InvoiceEntry.invoice_id == invoice.id).order_by(InvoiceEntry.id)
            )
            entries = list(rows)
            became = await _became(session, entries)
        captured = sum(entry.amount for entry in entries if entry.kind == "received")
        status: CheckoutStatus = "open"
        if captured:
            status = "succeeded"
        elif invoice.closed_at is not None or expired:
            status = "expired"
        return PaymentState(
            status=status,
            currency=invoice.currency,
            captured=captured,
            charge=invoice.reference if captured else None,
            refunds=tuple(
                _refund(invoice, entry, became.get(entry.id, {}))
                for entry in entries
                if entry.kind == "returned"
            ),
        )

    async def refund(self, charge: str, *, key: str, payment: str, amount: int) -> None:
        """Note that an operator is to send the money back by bank; it is pending until they did (`decide`)."""
        async with self._db.transaction() as session:
            invoice = await _find(session, charge, lock=True)
            if await _known(session, key, amount):
                return
            rows = await session.scalars(select(InvoiceEntry).where(InvoiceEntry.invoice_id == invoice.id))
            entries = list(rows)
            became = await _became(session, entries)
            left = sum(
                entry.amount if entry.kind == "received" else -entry.amount
                for entry in entries
                if "failed" not in became.get(entry.id, {})
            )
            if amount > left:
                raise Refused("that is more than came in for this invoice")
            session.add(InvoiceEntry(invoice_id=invoice.id, kind="returned", key=key, amount=amount))

    async def close_checkout(self, reference: str) -> None:
        async with self._db.transaction() as session:
            invoice = await _find(session, reference, lock=True)
            await session.execute(
                update(Invoice)
                .where(Invoice.id == invoice.id, Invoice.closed_at.is_(None))
                .values(closed_at=func.now())
            )

    async def upload_evidence(self, *, key: str, name: str, content_type: str, data: bytes) -> str:
        raise Refused(NO_DISPUTES)

    async def submit_evidence(self, dispute: str, *, key: str, evidence: Evidence) -> None:
        raise Refused(NO_DISPUTES)

    async def accept_dispute(self, dispute: str, *, key: str) -> None:
        raise Refused(NO_DISPUTES)

    async def list_checkouts(self, since: datetime, cursor: str | None = None) -> Listing:
        received = (
            select(func.coalesce(func.sum(InvoiceEntry.amount), 0))
            .where(InvoiceEntry.invoice_id == Invoice.id, InvoiceEntry.kind == "received")
            .correlate(Invoice)
            .scalar_subquery()
        )
        query = select(Invoice, received).where(Invoice.created_at >= since, Invoice.id > position(cursor))
        async with self._db.transaction() as session:
            rows = (await session.execute(query.order_by(Invoice.id).limit(LISTED))).all()
        return Listing(
            tuple(
                Listed(one.reference, one.key, one.currency, int(captured), one.created_at)
                for one, captured in rows
            ),
            str(rows[-1][0].id) if len(rows) == LISTED else None,
        )

    def parse_event(self, body: bytes, headers: Mapping[str, str]) -> Event:
        raise Forged("invoices have no events")


# ---- what operators report


async def receive(session: AsyncSession, reference: str, *, note: str | None, by: int) -> bool:
    """An operator saw the whole sum arrive; whether that is news. After the invoice's time it counts too."""
    invoice = await _find(session, reference, lock=True)
    made = await session.scalar(
        insert(InvoiceEntry)
        .values(
            invoice_id=invoice.id,
            kind="received",
            key=f"{invoice.key}:received",
            amount=invoice.amount,
            note=note,
            by=by,
        )
        # Whichever of its two unique columns a rival's is seen by: the reference is made of the key.
        .on_conflict_do_nothing()
        .returning(InvoiceEntry.id)
    )
    return made is not None


async def outcomes(session: AsyncSession, key: str, *, lock: bool = False) -> dict[str, str]:
    """What operators said of a refund, by `Outcome`: their note. With `lock` nobody else says more until the end."""
    query = select(InvoiceEntry).where(InvoiceEntry.key == key, InvoiceEntry.kind == "returned")
    entry = await session.scalar(query.with_for_update() if lock else query)
    return (await _became(session, [entry])).get(entry.id, {}) if entry is not None else {}


async def decide(session: AsyncSession, key: str, kind: Outcome, *, note: str, by: int) -> None:
    """An operator sent a refund's money, or it failed. Raises `Refused` for a refund that is not to be sent."""
    entry = await session.scalar(
        select(InvoiceEntry.id).where(InvoiceEntry.key == key, InvoiceEntry.kind == "returned")
    )
    if entry is None:
        raise Refused("there is no such refund")
    session.add(InvoiceOutcome(entry_id=entry, kind=kind, note=note, by=by))
    await session.flush()


async def _became(session: AsyncSession, entries: Sequence[InvoiceEntry]) -> dict[int, dict[str, str]]:
    """What operators said of money that was to go back, by the entry's key: note by outcome."""
    found: dict[int, dict[str, str]] = defaultdict(dict)
    keys = [entry.id for entry in entries if entry.kind == "returned"]
    if keys:
        rows = await session.scalars(select(InvoiceOutcome).where(InvoiceOutcome.entry_id.in_(keys)))
        for row in rows:
            found[row.entry_id][row.kind] = row.note
    return found


def _refund(invoice: Invoice, entry: InvoiceEntry, became: Mapping[str, str]) -> RefundState:
    """Money that came back from the bank was not given back, though it had been sent."""
    status: RefundStatus = "failed" if "failed" in became else "succeeded" if "sent" in became else "pending"
    return RefundState(
        f"{invoice.reference}-{entry.id}", entry.key, entry.amount, status, became.get("failed")
    )


async def _find(session: AsyncSession, reference: str, *, lock: bool = False) -> Invoice:
    query = select(Invoice).where(Invoice.reference == reference)
    invoice = await session.scalar(query.with_for_update() if lock else query)
    if invoice is None:
        raise Refused(f"there is no invoice `{reference}`")
    return invoice


async def _known(session: AsyncSession, key: str, amount: int) -> bool:
    entry = await session.scalar(select(InvoiceEntry).where(InvoiceEntry.key == key))
    if entry is not None and entry.amount != amount:
        raise Refused("this key was used for another amount")
    return entry is not None
