"""The shop's side of the sandbox: the same questions that it asks Stripe."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from paletta_server.core.runtime import Runtime
from paletta_server.payments.gateway import (
    LISTED,
    Checkout,
    CheckoutRequest,
    CheckoutStatus,
    DisputeState,
    Event,
    Evidence,
    Failure,
    Forged,
    Listed,
    Listing,
    Movement,
    PaymentState,
    RefundState,
    Refused,
    position,
)
from paletta_server.payments.sandbox import desk
from paletta_server.payments.sandbox.models import SandboxCheckout, SandboxDispute, SandboxRefund
from paletta_server.payments.sandbox.signing import HEADER, verify

_OVER: dict[str, CheckoutStatus] = {"complete": "succeeded", "expired": "expired"}


class SandboxGateway:
    name = "sandbox"
    takes_files = True

    def __init__(self, runtime: Runtime) -> None:
        desk.refuse_in_production(runtime.settings)
        self._runtime = runtime

    async def open_checkout(self, request: CheckoutRequest) -> Checkout:
        asked = json.loads(json.dumps(asdict(request), default=str))
        async with self._runtime.db.transaction() as session:
            await session.execute(
                insert(SandboxCheckout)
                .values(
                    reference=desk.new_reference("checkout"),
                    key=request.key,
                    request=asked,
                    currency=request.currency,
                    amount=request.amount,
                    expires_at=request.expires_at,
                )
                .on_conflict_do_nothing(index_elements=["key"])
            )
            made = await session.scalar(select(SandboxCheckout).where(SandboxCheckout.key == request.key))
            assert made is not None
            if made.request != asked:
                raise Refused("sandbox: this key was used for another request")
            url = f"{self._runtime.settings.public_url}/sandbox/checkout/{made.reference}"
            return Checkout(made.reference, url, made.expires_at)

    async def fetch(self, reference: str) -> PaymentState:
        async with self._runtime.db.transaction() as session:
            found = await desk.find(session, reference)
            expired = await session.scalar(select(found.expires_at <= func.now()))
            refunds = await session.scalars(
                select(SandboxRefund).where(SandboxRefund.checkout_id == found.id).order_by(SandboxRefund.id)
            )
            disputes = await session.scalars(
                select(SandboxDispute)
                .where(SandboxDispute.checkout_id == found.id)
                .order_by(SandboxDispute.id)
            )
            return PaymentState(
                status=_OVER.get(found.status, "expired" if expired else "open"),
                currency=found.currency,
                captured=found.captured,
                charge=found.charge,
                failure=Failure(f"{found.reference}:{found.attempts}", found.failure)
                if found.failure
                else None,
                refunds=tuple(_refund(one) for one in refunds),
                disputes=tuple(_dispute(one) for one in disputes),
            )

    async def refund(self, charge: str, *, key: str, payment: str, amount: int) -> None:
        async with self._runtime.db.transaction() as session:
            await desk.refund(session, charge, key=key, amount=amount)

    async def close_checkout(self, reference: str) -> None:
        async with self._runtime.db.transaction() as session:
            await desk.expire(session, await desk.find(session, reference, lock=True))

    async def upload_evidence(self, *, key: str, name: str, content_type: str, data: bytes) -> str:
        async with self._runtime.db.transaction() as session:
            return await desk.keep_file(session, key=key, name=name, size=len(data))

    async def submit_evidence(self, dispute: str, *, key: str, evidence: Evidence) -> None:
        told = {"texts": dict(evidence.texts), "files": dict(evidence.files)}
        async with self._runtime.db.transaction() as session:
            await desk.answer_dispute(session, dispute, key=key, evidence=told)

    async def accept_dispute(self, dispute: str, *, key: str) -> None:
        async with self._runtime.db.transaction() as session:
            await desk.answer_dispute(session, dispute, key=key, evidence=None)

    async def list_checkouts(self, since: datetime, cursor: str | None = None) -> Listing:
        query = (
            select(SandboxCheckout)
            .where(SandboxCheckout.created_at >= since, SandboxCheckout.id > position(cursor))
            .order_by(SandboxCheckout.id)
            .limit(LISTED)
        )
        async with self._runtime.db.transaction() as session:
            found = list(await session.scalars(query))
        return Listing(
            tuple(
                Listed(one.reference, one.key, one.currency, one.captured, one.created_at) for one in found
            ),
            str(found[-1].id) if len(found) == LISTED else None,
        )

    def parse_event(self, body: bytes, headers: Mapping[str, str]) -> Event:
        secret = self._runtime.settings.sandbox_secret
        verify(body, headers.get(HEADER.lower()), secret.get_secret_value() if secret else "")
        try:
            told = json.loads(body)
            return Event(
                id=str(told["id"]),
                kind=str(told["type"]),
                payload=told,
                reference=told["checkout"],
                payment=told["payment"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise Forged("this event cannot be read") from error


def _refund(told: SandboxRefund) -> RefundState:
    status = told.status
    assert status in ("pending", "succeeded", "failed")
    failure = "the card was closed" if status == "failed" else None
    return RefundState(told.reference, told.key, told.amount, status, failure)  # type: ignore[arg-type]


def _dispute(told: SandboxDispute) -> DisputeState:
    moves = [Movement(f"{told.reference}:withdrawn", -told.amount)]
    if told.reinstated:
        moves.append(Movement(f"{told.reference}:reinstated", told.amount))
    return DisputeState(
        told.reference,
        told.status,
        told.amount,
        told.reason,
        told.due_by,
        tuple(moves),
        answers=1 if told.evidence else 0,
    )
