"""The books of one payment: its events, refunds and disputes, read once under its lock and brought up to date.

Events are only ever added; totals are sums over them. Nothing here decides what a customer may have.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.audit.service import record
from paletta_server.core.ids import new_uid
from paletta_server.core.jobs import defer
from paletta_server.orders.models import Order, OrderItem
from paletta_server.payments import allocation, rounds
from paletta_server.payments.disputes import OUTCOMES, reopens, wants_answer
from paletta_server.payments.gateway import SENT_BY_HAND, DisputeState, PaymentState, RefundState
from paletta_server.payments.models import Dispute, Payment, PaymentEvent, Refund, RefundItem
from paletta_server.payments.rounds import asks_again

log = logging.getLogger(__name__)

WAITING = "awaiting_approval"
RESERVED = (WAITING, "requested", "pending")
"""Refunds whose money cannot be given back a second time."""
BY_HAND = "made at the gateway"


@dataclass
class Books:
    """A payment, locked together with its order, and everything written about it."""

    session: AsyncSession
    order: Order
    items: Sequence[OrderItem]
    payment: Payment
    events: dict[tuple[str, str], PaymentEvent]
    refunds: list[Refund]
    parts: dict[int, dict[int, int]]
    """By refund: what it gives back for which item."""
    disputes: dict[str, Dispute]
    now: datetime
    news: bool = False
    """Whether anything was written."""

    @classmethod
    async def open(
        cls,
        session: AsyncSession,
        order: Order,
        items: Sequence[OrderItem],
        payment: Payment,
        now: datetime,
    ) -> "Books":
        mine = await session.scalars(select(PaymentEvent).where(PaymentEvent.payment_id == payment.id))
        events = {(event.kind, event.reference): event for event in mine}
        refunds = list(
            await session.scalars(
                select(Refund)
                .where(Refund.payment_id == payment.id)
                .order_by(Refund.id)
                .with_for_update()
                .execution_options(populate_existing=True)
            )
        )
        quarrels = await session.scalars(
            select(Dispute)
            .where(Dispute.payment_id == payment.id)
            .order_by(Dispute.id)
            .with_for_update()
            .execution_options(populate_existing=True)
        )
        return cls(
            session,
            order,
            items,
            payment,
            events,
            refunds,
            await parts_of(session, refunds),
            {dispute.reference: dispute for dispute in quarrels},
            now,
        )

    # ---- what the gateway says

    async def take_in(self, state: PaymentState) -> None:
        """Write down what is new."""
        payment = self.payment
        if state.charge is not None and payment.charge is None:
            payment.charge = state.charge
        if state.captured:
            reference = state.charge or payment.reference or payment.uid
            if self._add("captured", reference, state.captured):
                await self._audit("payment:captured", amount=state.captured)
        if state.failure is not None:
            payment.failure = state.failure.reason
            details = {"reason": state.failure.reason}
            if self._add("failed", state.failure.reference, 0, details):
                await self._audit("payment:failed", **details)
        for refund in state.refunds:
            await self._take_refund(refund)
        for dispute in state.disputes:
            await self._take_dispute(dispute)
        self.add_up()

    async def _take_refund(self, told: RefundState) -> None:
        known = [one for one in self.refunds if one.uid == told.uid or one.reference == told.reference]
        refund = known[0] if known else await self._made_by_hand(told)
        refund.reference = told.reference
        before = refund.status
        after: str = told.status
        if after == "succeeded" and self._add("refund_succeeded", told.reference, told.amount):
            await self._audit("refund:succeeded", refund=refund.uid, amount=told.amount)
        if after == "failed" and self._add("refund_failed", told.reference, told.amount):
            log.error("a refund failed", extra={"refund": refund.uid, "order": self.order.uid})
            await self._audit("refund:failed", refund=refund.uid, amount=told.amount, reason=told.failure)
        if ("refund_failed", told.reference) in self.events:
            after = "failed"  # for good: what was sent did not arrive
        elif before == "succeeded" and after == "pending":
            after = before
        if after == "pending" != before and refund.gateway in SENT_BY_HAND:
            await defer(self.session, "payments.tell_to_send", refund_id=refund.id)
        if after != before:
            refund.status, self.news = after, True
        if after == "failed":
            refund.failure = told.failure or refund.failure

    async def _made_by_hand(self, told: RefundState) -> Refund:
        """A refund that nobody asked us for: it counts towards every item in proportion to what is left of it."""
        refund = Refund(
            uid=new_uid("refund"),
            payment_id=self.payment.id,
            order_id=self.order.id,
            gateway=self.payment.gateway,
            reference=told.reference,
            status="pending",
            currency=self.payment.currency,
            amount=told.amount,
            reason=BY_HAND,
        )
        given = allocation.by_item(self._given(), self.gross)
        rooms = {key: gross - given.get(key, 0) for key, gross in self.gross.items()}
        parts = {} if self.payment.status == "surplus" else allocation.spread(told.amount, rooms)
        self.session.add(refund)
        await self.session.flush()
        self.session.add_all(
            RefundItem(refund_id=refund.id, order_item_id=key, amount=part) for key, part in parts.items()
        )
        self.refunds.append(refund)
        self.parts[refund.id] = parts
        self.news = True
        return refund

    async def _take_dispute(self, told: DisputeState) -> None:
        dispute = self.disputes.get(told.reference)
        if dispute is None:
            dispute = Dispute(
                uid=new_uid("dispute"),
                payment_id=self.payment.id,
                order_id=self.order.id,
                gateway=self.payment.gateway,
                reference=told.reference,
                status=told.status,
                currency=self.payment.currency,
                amount=told.amount,
                withdrawn=0,
                round=1,
                evidence_version=1,
                response="none",
                # A bank that waits for evidence has had none to this question: what was sent answered an earlier one.
                answers_before=told.answers if wants_answer(told.status) else 0,
            )
            self.session.add(dispute)
            self.disputes[told.reference] = dispute
            self.news = True
            log.warning("a payment is disputed", extra={"order": self.order.uid, "dispute": told.reference})
            await self._audit("dispute:opened", dispute=dispute.uid, amount=told.amount, reason=told.reason)
            await self.session.flush()
            await defer(self.session, "payments.tell_dispute", dispute_id=dispute.id)
        for move in told.movements:
            kind = "dispute_withdrawn" if move.amount < 0 else "dispute_reinstated"
            self._add(kind, move.reference, abs(move.amount), {"dispute": told.reference})
        dispute.withdrawn = self._withdrawn(told.reference)
        dispute.amount, dispute.reason, dispute.due_by = told.amount, told.reason, told.due_by
        if dispute.outcome is None or reopens(dispute.status, told.status):
            await self._move_dispute(dispute, told)
        self._note_answer(dispute, told)

    def _note_answer(self, dispute: Dispute, told: DisputeState) -> None:
        """Evidence that was sent, also by hand at the gateway, and a dispute that was given up."""
        if dispute.response == "accepting" and dispute.outcome == "lost":
            dispute.response, self.news = "accepted", True
        elif told.answers > dispute.answers_before and dispute.response in ("none", "submitting"):
            dispute.response, self.news = "submitted", True
            dispute.responded_at = dispute.responded_at or self.now

    async def _move_dispute(self, dispute: Dispute, told: DisputeState) -> None:
        status, outcome = told.status, OUTCOMES.get(told.status)
        if asks_again(dispute.status, status):
            await self._ask_again(dispute, told)
        if status != dispute.status or outcome != dispute.outcome:
            self.news = True
        if outcome is not None and outcome != dispute.outcome:
            await self._audit("dispute:closed", dispute=dispute.uid, outcome=outcome)
            at = self.now.isoformat()
            await defer(self.session, "payments.tell_dispute", dispute_id=dispute.id, at=at)
        dispute.closed_at = (dispute.closed_at or self.now) if outcome else None
        dispute.status, dispute.outcome = status, outcome

    async def _ask_again(self, dispute: Dispute, told: DisputeState) -> None:
        """The bank wants evidence anew: what was sent before answers nothing any more, and operators are told."""
        await rounds.begin(self.session, dispute, answers=told.answers)
        log.warning("a bank asks again", extra={"order": self.order.uid, "dispute": told.reference})
        details = {"dispute": dispute.uid, "round": dispute.round, "was": dispute.status, "is": told.status}
        await self._audit("dispute:asked_again", **details)
        await defer(self.session, "payments.tell_dispute_round", dispute_id=dispute.id, number=dispute.round)

    def _add(self, kind: str, reference: str, amount: int, details: Mapping[str, Any] | None = None) -> bool:
        """Append an event unless it is there; whether it is new."""
        known = self.events.get((kind, reference))
        if known is not None:
            if known.amount != amount:
                log.error(
                    "the gateway changed its mind about an amount",
                    extra={"kind": kind, "reference": reference, "was": known.amount, "is": amount},
                )
            return False
        event = PaymentEvent(
            payment_id=self.payment.id,
            kind=kind,
            reference=reference,
            amount=amount,
            details=dict(details or {}),
        )
        self.session.add(event)
        self.events[kind, reference] = event
        self.news = True
        return True

    async def _audit(self, action: str, **details: Any) -> None:
        details = {"payment": self.payment.uid, "currency": self.payment.currency, **details}
        await record(self.session, None, action, self.order.uid, details=details)

    # ---- sums

    @property
    def gross(self) -> dict[int, int]:
        """What was to be paid for each item, its tax included."""
        return {item.id: item.amount + item.tax for item in self.items}

    def _sum(self, kind: str) -> int:
        return sum(event.amount for (name, _), event in self.events.items() if name == kind)

    def _withdrawn(self, reference: str) -> int:
        sign = {"dispute_withdrawn": 1, "dispute_reinstated": -1}
        moved = (
            sign[kind] * event.amount
            for (kind, _), event in self.events.items()
            if kind in sign and event.details["dispute"] == reference
        )
        return max(0, sum(moved))

    def add_up(self) -> None:
        """Make the payment's totals what the events and refunds say."""
        payment = self.payment
        payment.captured = self._sum("captured")
        payment.refunded = sum(
            event.amount
            for (kind, reference), event in self.events.items()
            if kind == "refund_succeeded" and ("refund_failed", reference) not in self.events
        )
        reserved = sum(refund.amount for refund in self.refunds if refund.status in RESERVED)
        # A refund made at the gateway by hand may have taken what one of ours had reserved; the gateway will
        # refuse ours, and until then there is only so much left to reserve.
        payment.pending_refunds = min(reserved, payment.captured - payment.refunded)
        payment.disputed = self._sum("dispute_withdrawn") - self._sum("dispute_reinstated")

    def _given(self, *statuses: str) -> list[dict[int, int]]:
        wanted = statuses or ("succeeded",)
        return [self.parts[refund.id] for refund in self.refunds if refund.status in wanted]

    def given_back(self) -> dict[int, int]:
        """What refunds that arrived gave back for each item."""
        return allocation.by_item(self._given("succeeded"), self.gross)

    def kept(self) -> set[int]:
        """Items whose last refund leaves them to the customer. One that cost nothing follows the last of all."""
        arrived = [refund for refund in self.refunds if refund.status == "succeeded"]
        last = {key: refund for refund in arrived for key in self.parts[refund.id]}
        if arrived:
            last |= {key: arrived[-1] for key, gross in self.gross.items() if not gross}
        return {key for key, refund in last.items() if refund.keeps_rights}

    def room(self) -> dict[int, int]:
        """What may still be given back for each item."""
        spoken_for = allocation.by_item(self._given("succeeded", *RESERVED), self.gross)
        return {key: gross - spoken_for.get(key, 0) for key, gross in self.gross.items()}


async def parts_of(session: AsyncSession, refunds: Sequence[Refund]) -> dict[int, dict[int, int]]:
    """By refund: how much of it belongs to which item."""
    found: dict[int, dict[int, int]] = {refund.id: {} for refund in refunds}
    if found:
        rows = await session.scalars(select(RefundItem).where(RefundItem.refund_id.in_(found)))
        for row in rows:
            found[row.refund_id][row.order_item_id] = row.amount
    return found
