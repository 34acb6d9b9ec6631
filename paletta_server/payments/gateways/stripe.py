"""Stripe, through its official SDK: Checkout Sessions, and everything looked up again when an event names it.

Card numbers are typed on Stripe's page; nothing of them reaches us. The SDK adds its own retries for lost
connections, each with the idempotency key of the first try.
"""

import io
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import stripe
from pydantic import SecretStr

from paletta_server.core.settings import Settings
from paletta_server.payments.gateway import (
    LISTED,
    TOLERANCE_SECONDS,
    Checkout,
    CheckoutRequest,
    CheckoutStatus,
    DisputeState,
    Event,
    Evidence,
    Failed,
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

API_VERSION = "2026-10-28.endive"
"""What this module was written against; an account's own setting does not change it."""
RETRIES = 2
TIMEOUT_SECONDS = 20.0
TITLE_MAX = 250
"""Stripe takes longer product names on some pages and cuts them on others."""

_REFUNDS: Mapping[str, RefundStatus] = {
    "succeeded": "succeeded",
    "failed": "failed",
    "canceled": "failed",
    "pending": "pending",
    "requires_action": "pending",
}
_EVIDENCE: Mapping[str, str] = {
    "customer_email": "customer_email_address",
    "customer_ip": "customer_purchase_ip",
    "access_log": "access_activity_log",
    "refund_terms": "refund_policy_disclosure",
    "refund_refusal": "refund_refusal_explanation",
    "explanation": "uncategorized_text",
    "other": "uncategorized_file",
}
"""Stripe's names of our fields of evidence, where they differ."""


class StripeGateway:
    name = "stripe"
    takes_files = True

    def __init__(self, settings: Settings) -> None:
        if settings.stripe_secret_key is None:
            raise GatewayDown("this service has no key for Stripe (PALETTA_STRIPE_SECRET_KEY)")
        self._client = _client(settings.stripe_secret_key, settings.stripe_api_base)
        self._webhook_secret = settings.stripe_webhook_secret

    async def open_checkout(self, request: CheckoutRequest) -> Checkout:
        named = {"payment": request.key, "order": request.order}
        async with _asking(keyed=True):
            session = await self._client.v1.checkout.sessions.create_async(
                params={
                    "mode": "payment",
                    "client_reference_id": request.key,
                    "customer_email": request.email,
                    "expires_at": int(request.expires_at.timestamp()),
                    "success_url": request.return_url,
                    "cancel_url": request.return_url,
                    "metadata": named,
                    # Charges take it over, so that an event about one names our payment too.
                    "payment_intent_data": {
                        "metadata": named,
                        "description": f"Order {request.order}",
                    },
                    "line_items": [
                        {
                            "quantity": 1,
                            "price_data": {
                                "currency": request.currency.lower(),
                                "unit_amount": line.amount,
                                "product_data": {"name": line.title[:TITLE_MAX]},
                            },
                        }
                        for line in request.lines
                    ],
                },
                options={"idempotency_key": request.key},
            )
        return Checkout(session.id, session.url, _time(session.expires_at))

    async def fetch(self, reference: str) -> PaymentState:
        async with _asking():
            session = await self._client.v1.checkout.sessions.retrieve_async(
                reference, params={"expand": ["payment_intent.latest_charge"]}
            )
            intent = session.payment_intent
            if intent is None:
                return PaymentState(status=_status(session, None), currency=_currency(session.currency))
            assert not isinstance(intent, str), "it was asked for expanded"
            which: Any = {"payment_intent": intent.id, "limit": 100}
            refunds = await self._client.v1.refunds.list_async(params=which)
            told = [_refund(one) async for one in refunds.auto_paging_iter()]
            disputes = await self._client.v1.disputes.list_async(params=which)
            quarrels = [_dispute(one) async for one in disputes.auto_paging_iter()]
        charge = intent.latest_charge
        assert not isinstance(charge, str), "it was asked for expanded"
        captured = charge is not None and charge.paid and charge.captured
        return PaymentState(
            status=_status(session, intent),
            currency=_currency(intent.currency),
            captured=charge.amount_captured if charge is not None and captured else 0,
            charge=charge.id if charge is not None and captured else None,
            failure=_failure(intent),
            refunds=tuple(told),
            disputes=tuple(quarrels),
        )

    async def refund(self, charge: str, *, key: str, payment: str, amount: int) -> None:
        async with _asking(keyed=True):
            await self._client.v1.refunds.create_async(
                params={
                    "charge": charge,
                    "amount": amount,
                    "metadata": {"refund": key, "payment": payment},
                },
                options={"idempotency_key": key},
            )

    async def close_checkout(self, reference: str) -> None:
        try:
            async with _asking():
                await self._client.v1.checkout.sessions.expire_async(reference)
        except Refused:
            # Only open ones can be closed. If this one is over, all is well.
            state = await self.fetch(reference)
            if state.status == "open":
                raise

    async def upload_evidence(self, *, key: str, name: str, content_type: str, data: bytes) -> str:
        content = io.BytesIO(data)
        content.name = name
        async with _asking(keyed=True):
            made = await self._client.v1.files.create_async(
                params={"purpose": "dispute_evidence", "file": content}, options={"idempotency_key": key}
            )
        return made.id

    async def submit_evidence(self, dispute: str, *, key: str, evidence: Evidence) -> None:
        told: Any = {
            _EVIDENCE.get(name, name): text for name, text in {**evidence.texts, **evidence.files}.items()
        }
        async with _asking(keyed=True):
            await self._client.v1.disputes.update_async(
                dispute, params={"evidence": told, "submit": True}, options={"idempotency_key": key}
            )

    async def accept_dispute(self, dispute: str, *, key: str) -> None:
        async with _asking(keyed=True):
            await self._client.v1.disputes.close_async(dispute, options={"idempotency_key": key})

    async def list_checkouts(self, since: datetime, cursor: str | None = None) -> Listing:
        params: Any = {"created": {"gte": int(since.timestamp())}, "limit": LISTED}
        if cursor is not None:
            params["starting_after"] = cursor
        async with _asking():
            page = await self._client.v1.checkout.sessions.list_async(params=params)
        return Listing(
            tuple(
                Listed(
                    one.id,
                    one.client_reference_id,
                    _currency(one.currency),
                    (one.amount_total or 0) if one.payment_status == "paid" else 0,
                    _time(one.created),
                )
                for one in page.data
            ),
            page.data[-1].id if page.has_more and page.data else None,
        )

    def parse_event(self, body: bytes, headers: Mapping[str, str]) -> Event:
        secret = self._webhook_secret.get_secret_value() if self._webhook_secret else ""
        try:
            stripe.WebhookSignature.verify_header(
                body, headers.get("stripe-signature"), secret, TOLERANCE_SECONDS
            )
            payload = json.loads(body)
            return _event(payload)
        except (stripe.SignatureVerificationError, ValueError, KeyError, TypeError) as error:
            raise Forged("this event does not bear Stripe's signature") from error


@lru_cache(maxsize=4)
def _client(key: SecretStr, base: str | None) -> stripe.StripeClient:
    """One per key, since it holds the connections."""
    return stripe.StripeClient(
        key.get_secret_value(),
        stripe_version=API_VERSION,
        base_addresses={"api": base, "files": base} if base else {},
        max_network_retries=RETRIES,
        http_client=stripe.HTTPXClient(timeout=TIMEOUT_SECONDS),
    )


@asynccontextmanager
async def _asking(*, keyed: bool = False) -> AsyncIterator[None]:
    """Stripe's errors in our words: a clear no is `Refused`, everything else may or may not have happened.

    `keyed`: the request bears an idempotency key.
    """
    try:
        yield
    except (stripe.InvalidRequestError, stripe.CardError, stripe.IdempotencyError) as error:
        if error.http_status == 409:  # the same request is under way this moment
            raise GatewayDown("stripe is busy with the same request", retry_after=2) from error
        raise Refused(f"stripe: {error.user_message or error}", hint=error.code) from error
    except stripe.StripeError as error:
        # What Stripe answered to a key once it answers for a day, errors of its own included.
        kind = Failed if keyed and (error.http_status or 0) >= 500 else GatewayDown
        raise kind("stripe does not answer as it should", retry_after=5) from error


def _status(session: stripe.checkout.Session, intent: stripe.PaymentIntent | None) -> CheckoutStatus:
    if session.status == "expired":
        return "expired"
    if session.status != "complete":
        return "open"
    if session.payment_status in ("paid", "no_payment_required"):
        return "succeeded"
    return "processing" if intent is not None and intent.status == "processing" else "failed"


def _failure(intent: stripe.PaymentIntent) -> Failure | None:
    error = intent.last_payment_error
    if error is None:
        return None
    charge = error.charge or intent.id
    return Failure(charge, error.decline_code or error.code or error.type)


def _refund(told: stripe.Refund) -> RefundState:
    return RefundState(
        reference=told.id,
        uid=told.metadata["refund"] if told.metadata and "refund" in told.metadata else None,
        amount=told.amount,
        status=_REFUNDS.get(told.status or "", "pending"),
        failure=getattr(told, "failure_reason", None),
    )


def _dispute(told: stripe.Dispute) -> DisputeState:
    due = told.evidence_details.due_by
    return DisputeState(
        reference=told.id,
        status=told.status,
        amount=told.amount,
        reason=told.reason,
        due_by=_time(due) if due else None,
        movements=tuple(
            Movement(
                move.id,
                # What the bank moved is in the currency that Stripe pays us in; of ours we know the sum.
                move.amount
                if move.currency == told.currency
                else (told.amount if move.amount > 0 else -told.amount),
            )
            for move in told.balance_transactions
        ),
        answers=told.evidence_details.submission_count,
    )


def _event(payload: dict[str, Any]) -> Event:
    found = payload["data"]["object"]
    kind = found.get("object")
    metadata = found.get("metadata") or {}
    return Event(
        id=str(payload["id"]),
        kind=str(payload["type"]),
        payload=payload,
        reference=found["id"] if kind == "checkout.session" else None,
        payment=metadata.get("payment") or found.get("client_reference_id"),
        charge=found["id"] if kind == "charge" else _id(found.get("charge")),
    )


def _id(value: Any) -> str | None:
    """An id, or that of an expanded object."""
    found = value.get("id") if isinstance(value, dict) else value
    return found if isinstance(found, str) else None


def _currency(text: str | None) -> str:
    return (text or "").upper()


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
