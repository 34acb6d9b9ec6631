"""What happens at the sandbox: somebody presses a button of the hosted page, the shop asks for a refund.

Everything that happens is told by an event, in the same transaction; `tasks.py` delivers it.
"""

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, get_args

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core.errors import Conflict, NotFound
from paletta_server.core.jobs import defer
from paletta_server.core.settings import Settings
from paletta_server.payments.gateway import Refused
from paletta_server.payments.sandbox.models import (
    SandboxCheckout,
    SandboxDispute,
    SandboxEvent,
    SandboxFile,
    SandboxRefund,
)

Action = Literal[
    "success", "decline", "authenticate", "authenticated", "abandon", "dispute", "dispute-won", "dispute-lost"
]
"""`authenticate` asks the bank's question, which `authenticated` or `decline` answers; `dispute` pays first where
that was not done, and has the bank take the money back a little later."""
ACTIONS: tuple[Action, ...] = get_args(Action)
REASON = "the card was declined"
EVIDENCE = timedelta(days=9)
UNDECIDED = ("needs_response", "under_review")
"""What a dispute is until the bank decides."""


@dataclass(frozen=True, slots=True)
class Telling:
    """How badly the events of an action are delivered. Seconds are whole."""

    copies: int = 1
    """How often each is delivered; 0 loses it."""
    delay: int = 0
    backwards: bool = False
    """The last thing that happened is told first."""
    dispute_after: int = 0
    """When the bank takes the money back, for `dispute`."""
    refunds_as: Literal["succeeded", "pending", "failed"] = "succeeded"
    """How refunds of this payment will end."""


def refuse_in_production(settings: Settings) -> None:
    """Raises `NotFound`, whatever the list of gateways says: the sandbox sells for nothing."""
    if settings.env == "production":
        raise NotFound("gateway", "sandbox")


def new_reference(kind: str) -> str:
    """A name that nobody guesses: who knows a checkout's may pay it."""
    return f"{kind}_test_{secrets.token_hex(16)}"


async def find(session: AsyncSession, reference: str, *, lock: bool = False) -> SandboxCheckout:
    """A checkout. Raises `Refused`."""
    query = select(SandboxCheckout).where(SandboxCheckout.reference == reference)
    found = await session.scalar(query.with_for_update() if lock else query)
    if found is None:
        raise Refused(f"sandbox: there is no checkout `{reference[:80]}`", code="no_such_checkout")
    return found


async def disputes_of(session: AsyncSession, checkout: SandboxCheckout) -> Sequence[SandboxDispute]:
    found = await session.scalars(
        select(SandboxDispute).where(SandboxDispute.checkout_id == checkout.id).order_by(SandboxDispute.id)
    )
    return found.all()


async def is_over(session: AsyncSession, checkout: SandboxCheckout) -> bool:
    """Whether no money can be taken any more."""
    if checkout.status in ("complete", "expired"):
        return True
    return bool(await session.scalar(select(checkout.expires_at <= func.now())))


async def act(session: AsyncSession, reference: str, action: Action, how: Telling) -> SandboxCheckout:
    """Press a button. Raises `Refused` (`no_such_checkout`), `Conflict` (`checkout_over`, `no_dispute`)."""
    checkout = await find(session, reference, lock=True)
    if action in ("dispute-won", "dispute-lost"):
        await end_dispute(session, checkout, won=action == "dispute-won", how=how)
    elif action == "dispute" and checkout.captured:
        await open_dispute(session, checkout, how)
    elif await is_over(session, checkout):
        raise Conflict("this checkout is over", code="checkout_over")
    elif action == "authenticate":
        checkout.status, checkout.failure = "authenticating", None
    elif action == "decline":
        await _decline(session, checkout, how)
    elif action == "abandon":
        checkout.failure = None
    else:
        await _capture(session, checkout, how)
        if action == "dispute":
            await defer(
                session,
                "sandbox.open_dispute",
                delay_seconds=how.dispute_after,
                reference=reference,
                copies=how.copies,
                delay=how.delay,
                backwards=how.backwards,
            )
    await session.flush()
    return checkout


async def _decline(session: AsyncSession, checkout: SandboxCheckout, how: Telling) -> None:
    checkout.status, checkout.failure = "open", REASON
    checkout.attempts += 1
    await tell(session, checkout, ["payment.failed"], how)


async def _capture(session: AsyncSession, checkout: SandboxCheckout, how: Telling) -> None:
    checkout.status, checkout.captured, checkout.failure = "complete", checkout.amount, None
    checkout.charge = new_reference("charge")
    checkout.refunds_as = how.refunds_as
    await tell(session, checkout, ["payment.succeeded", "charge.captured", "checkout.completed"], how)


async def expire(session: AsyncSession, checkout: SandboxCheckout) -> None:
    """Close a checkout that is open; one that is over stays as it is."""
    if checkout.status in ("open", "authenticating"):
        checkout.status = "expired"
        await session.flush()
        await tell(session, checkout, ["checkout.expired"], Telling())


async def refund(session: AsyncSession, charge: str, *, key: str, amount: int) -> None:
    """Give money back, once for each key. Raises `Refused`."""
    checkout = await session.scalar(
        select(SandboxCheckout).where(SandboxCheckout.charge == charge).with_for_update()
    )
    if checkout is None:
        raise Refused(f"sandbox: there is no charge `{charge[:80]}`")
    rows = await session.scalars(select(SandboxRefund).where(SandboxRefund.checkout_id == checkout.id))
    refunds = list(rows)
    for known in refunds:
        if known.key == key:
            if known.amount != amount:
                raise Refused("sandbox: this key was used for another refund")
            return
    if amount + sum(one.amount for one in refunds if one.status != "failed") > checkout.captured:
        raise Refused("sandbox: that is more than is left of the charge")
    session.add(
        SandboxRefund(
            reference=new_reference("refund"),
            key=key,
            checkout_id=checkout.id,
            amount=amount,
            status=checkout.refunds_as,
        )
    )
    await session.flush()
    await tell(session, checkout, [f"refund.{checkout.refunds_as}", "charge.refunded"], Telling())


async def open_dispute(session: AsyncSession, checkout: SandboxCheckout, how: Telling) -> None:
    """The customer goes to the bank, which takes the money. Once for each checkout."""
    if await disputes_of(session, checkout):
        return
    session.add(
        SandboxDispute(
            reference=new_reference("dispute"),
            checkout_id=checkout.id,
            amount=checkout.captured,
            reason="product_not_received",
            due_by=func.now() + EVIDENCE,
        )
    )
    await session.flush()
    await tell(session, checkout, ["dispute.created", "dispute.funds_withdrawn"], how)


async def end_dispute(session: AsyncSession, checkout: SandboxCheckout, *, won: bool, how: Telling) -> None:
    """The bank decides. Raises `Conflict` (`no_dispute`)."""
    undecided = [one for one in await disputes_of(session, checkout) if one.status in UNDECIDED]
    if not undecided:
        raise Conflict("there is no open dispute", code="no_dispute")
    for one in undecided:
        one.status, one.reinstated = ("won", True) if won else ("lost", False)
    await session.flush()
    told = ["dispute.funds_reinstated", "dispute.closed"] if won else ["dispute.closed"]
    await tell(session, checkout, told, how)


async def answer_dispute(
    session: AsyncSession, reference: str, *, key: str, evidence: dict[str, Any] | None
) -> None:
    """The shop sends evidence, once, or with None gives the dispute up. The same key again changes nothing.

    Raises `Refused`.
    """
    checkout_id = await session.scalar(
        select(SandboxDispute.checkout_id).where(SandboxDispute.reference == reference)
    )
    if checkout_id is None:
        raise Refused(f"sandbox: there is no dispute `{reference[:80]}`")
    checkout = await session.get_one(SandboxCheckout, checkout_id, with_for_update=True)
    [dispute] = [one for one in await disputes_of(session, checkout) if one.reference == reference]
    if dispute.response_key == key:
        return
    if dispute.status != "needs_response":
        raise Refused(f"sandbox: the dispute is {dispute.status.replace('_', ' ')} already")
    dispute.response_key = key
    if evidence is None:
        dispute.status = "lost"
    else:
        dispute.status, dispute.evidence = "under_review", evidence
    await session.flush()
    await tell(session, checkout, ["dispute.closed" if evidence is None else "dispute.updated"], Telling())


async def keep_file(session: AsyncSession, *, key: str, name: str, size: int) -> str:
    """A file that the shop sends, once for each key; its name here."""
    await session.execute(
        insert(SandboxFile)
        .values(reference=new_reference("file"), key=key, name=name, size=size)
        .on_conflict_do_nothing(index_elements=["key"])
    )
    kept = await session.scalar(select(SandboxFile).where(SandboxFile.key == key))
    assert kept is not None
    if (kept.name, kept.size) != (name, size):
        raise Refused("sandbox: this key was used for another file")
    return kept.reference


async def tell(session: AsyncSession, checkout: SandboxCheckout, kinds: list[str], how: Telling) -> None:
    """Have events delivered, as well or badly as is wanted."""
    for place, kind in enumerate(kinds):
        event_id = new_reference("event")
        body = {
            "id": event_id,
            "type": kind,
            "created": int(time.time()),
            "checkout": checkout.reference,
            "payment": checkout.key,
        }
        event = SandboxEvent(event_id=event_id, checkout_id=checkout.id, body=json.dumps(body))
        session.add(event)
        await session.flush()
        late = 2 * (len(kinds) - 1 - place) if how.backwards else 0
        for _ in range(how.copies):
            await defer(session, "sandbox.deliver", delay_seconds=how.delay + late, event_id=event.id)
