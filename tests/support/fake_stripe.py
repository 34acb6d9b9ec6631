"""Stripe in this process, for its official SDK to talk to: stateful, strict and as unreliable as is wanted.

Every request's parameters are checked against the SDK's own published types (generated from Stripe's OpenAPI
document); what they do not have is a 400, as at Stripe. Idempotency keys, limits on amounts and times, and the
refusals that matter to us are Stripe's. Events are signed by the SDK's own helper and wait in `outbox`.
"""

from __future__ import annotations

import json
import random
import re
import sys
import time
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Union, get_args, get_origin
from urllib.parse import parse_qsl

import httpx
import stripe
import typing_extensions
from fastapi import FastAPI, Request, Response
from stripe._request_options import RequestOptions
from stripe.params import (
    DisputeCloseParams,
    DisputeListParams,
    DisputeUpdateParams,
    FileCreateParams,
    RefundCreateParams,
    RefundListParams,
)
from stripe.params.checkout import (
    SessionCreateParams,
    SessionExpireParams,
    SessionListParams,
    SessionRetrieveParams,
)

VERSION = "2026-10-28.endive"
KEY = "sk_test_paletta"
WEBHOOK_SECRET = "whsec_paletta"
_NAMES = {**vars(sys.modules[RequestOptions.__module__]), "StripeContext": str}
"""What the SDK's types name and their modules import for type checkers only."""
_FILE_FIELDS = {
    "cancellation_policy", "customer_communication", "customer_signature", "duplicate_charge_documentation",
    "receipt", "refund_policy", "service_documentation", "shipping_documentation", "uncategorized_file",
}  # fmt: skip
"""Of a dispute's evidence, those that hold the id of a file."""
LEAST = 50
"""Stripe charges half a dollar at least."""


class Refusal(Exception):
    """An answer of Stripe's that is an error."""

    def __init__(
        self, message: str, *, status: int = 400, kind: str = "invalid_request_error", **more: Any
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"type": kind, "message": message, **more}}


def check(value: Any, hint: Any, where: str = "") -> None:
    """Raises `Refusal` where `value`, as it came in a form, is none of `hint`, a type of the SDK's."""
    origin = get_origin(hint)
    if typing_extensions.is_typeddict(hint):
        _check_fields(value, hint, where)
    elif origin is Union or str(origin) == "<class 'types.UnionType'>":
        problems = []
        for arm in get_args(hint):
            try:
                return check(value, arm, where)
            except Refusal as error:
                problems.append(error)
        raise problems[0]
    elif origin in (list, typing.List):  # noqa: UP006
        if not isinstance(value, dict) or list(value) != [str(n) for n in range(len(value))]:
            raise Refusal(f"Invalid array: {where}", param=where)
        for place, one in value.items():
            check(one, get_args(hint)[0], f"{where}[{place}]")
    elif origin is typing.Literal or origin is typing_extensions.Literal:
        if value not in get_args(hint):
            raise Refusal(f"Invalid {where}: must be one of {get_args(hint)}", param=where)
    elif origin is dict or getattr(origin, "__name__", "") == "UntypedStripeObject":
        if not isinstance(value, dict) or not all(
            isinstance(one, str) and len(one) <= 500 for one in value.values()
        ):
            raise Refusal(f"Invalid hash: {where}", param=where)
    elif hint is int and not (isinstance(value, str) and re.fullmatch(r"-?[0-9]+", value)):
        raise Refusal(f"Invalid integer: {where}", param=where)
    elif hint is bool and value not in ("true", "false"):
        raise Refusal(f"Invalid boolean: {where}", param=where)
    elif hint is str and not isinstance(value, str):
        raise Refusal(f"Invalid string: {where}", param=where)
    return None


def _check_fields(value: Any, hint: Any, where: str) -> None:
    if not isinstance(value, dict):
        raise Refusal(f"Invalid object: {where}", param=where)
    fields = typing_extensions.get_type_hints(hint, localns=_NAMES)
    ours = set(RequestOptions.__annotations__)
    for name, one in value.items():
        path = f"{where}[{name}]" if where else name
        if name not in fields or name in ours:
            raise Refusal(f"Received unknown parameter: {path}", code="parameter_unknown", param=path)
        check(one, fields[name], path)
    for name in hint.__required_keys__ - ours:
        if name not in value:
            raise Refusal(f"Missing required param: {where}[{name}].", code="parameter_missing", param=name)


def nested(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """`a[b][0]=c` as dictionaries."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        steps = re.findall(r"[^\[\]]+", name)
        here = found
        for step in steps[:-1]:
            here = here.setdefault(step, {})
        here[steps[-1]] = value
    return found


async def _params(request: Request) -> dict[str, Any]:
    if request.method == "GET":
        return nested(parse_qsl(request.url.query, keep_blank_values=True))
    if request.headers.get("content-type", "").startswith("multipart/"):
        form = await request.form()
        return {
            name: one if isinstance(one, str) else (one.filename, await one.read())
            for name, one in form.items()
        }
    return nested(parse_qsl((await request.body()).decode(), keep_blank_values=True))


@dataclass
class FakeStripe:
    """`app` is to be served; the rest is what happens there."""

    sessions: dict[str, dict[str, Any]] = field(default_factory=dict)
    intents: dict[str, dict[str, Any]] = field(default_factory=dict)
    charges: dict[str, dict[str, Any]] = field(default_factory=dict)
    refunds: dict[str, dict[str, Any]] = field(default_factory=dict)
    disputes: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    outbox: list[str] = field(default_factory=list)
    requests: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    lose: list[str] = field(default_factory=list)
    """For the next requests: "question" is not acted on, "answer" is and yet a 500 comes back."""
    refunds_as: str = "succeeded"
    _answers: dict[str, tuple[Any, int, dict[str, Any]]] = field(default_factory=dict)
    _serial: count[int] = field(default_factory=lambda: count(1))

    @property
    def app(self) -> FastAPI:
        app = FastAPI(openapi_url=None)
        app.add_api_route("/v1/{path:path}", self._serve, methods=["GET", "POST"])
        return app

    # ---- the API

    async def _serve(self, request: Request, path: str) -> Response:
        params = await _params(request)
        self.requests.append((request.method, path, params))
        lost = self.lose.pop(0) if self.lose else None
        try:
            if request.headers.get("authorization") != f"Bearer {KEY}":
                raise Refusal("Invalid API Key provided", status=401)
            if request.headers.get("stripe-version") != VERSION:
                raise Refusal("Invalid Stripe API version")
            if lost == "question":
                raise Refusal("Something went wrong", status=500, kind="api_error")
            status, body = self._once(request, path, params)
            if lost == "answer":
                raise self._broken(request, path, params)
        except Refusal as error:
            status, body = error.status, error.body
        # The SDK would repeat a 500 by itself; the drills want to see what we do when it gives up.
        headers = {"Stripe-Should-Retry": "false"}
        return Response(json.dumps(body), status, headers=headers, media_type="application/json")

    def _broken(self, request: Request, path: str, params: dict[str, Any]) -> Refusal:
        """Stripe fell over after it had acted; it says so from now on to whoever comes with the same key."""
        refusal = Refusal("Something went wrong", status=500, kind="api_error")
        if key := request.headers.get("idempotency-key"):
            self._answers[key] = ((path, params), 500, refusal.body)
        return refusal

    def _once(self, request: Request, path: str, params: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        key = request.headers.get("idempotency-key")
        if request.method == "GET" or key is None:
            return 200, self._route(request.method, path, params)
        asked = (path, params)
        if key in self._answers:
            before, status, body = self._answers[key]
            if before != asked:
                raise Refusal(
                    "Keys for idempotent requests can only be used with the same parameters they were first"
                    " used with.",
                    kind="idempotency_error",
                )
            return status, body
        body = self._route(request.method, path, params)
        self._answers[key] = (asked, 200, json.loads(json.dumps(body)))
        return 200, body

    def _route(self, method: str, path: str, params: dict[str, Any]) -> dict[str, Any]:
        routes: list[tuple[str, str, Any, Callable[..., dict[str, Any]]]] = [
            ("POST", r"checkout/sessions", SessionCreateParams, self._open),
            ("GET", r"checkout/sessions", SessionListParams, self._list_sessions),
            ("GET", r"checkout/sessions/(\w+)", SessionRetrieveParams, self._show),
            ("POST", r"checkout/sessions/(\w+)/expire", SessionExpireParams, self._close),
            ("POST", r"refunds", RefundCreateParams, self._refund),
            ("GET", r"refunds", RefundListParams, self._list_refunds),
            ("GET", r"disputes", DisputeListParams, self._list_disputes),
            ("POST", r"disputes/(\w+)", DisputeUpdateParams, self._update_dispute),
            ("POST", r"disputes/(\w+)/close", DisputeCloseParams, self._close_dispute),
            ("POST", r"files", FileCreateParams, self._upload),
        ]
        for wanted, pattern, hint, answer in routes:
            found = re.fullmatch(pattern, path)
            if method == wanted and found:
                check(params, hint)
                return answer(params, *found.groups())
        raise Refusal(f"Unrecognized request URL ({method}: /v1/{path}).", status=404)

    def _new(self, kind: str) -> str:
        return f"{kind}_{next(self._serial):08d}"

    def _open(self, params: dict[str, Any]) -> dict[str, Any]:
        now = int(time.time())
        expires = int(params.get("expires_at", now + 86400))
        if not now + 1800 <= expires <= now + 86400:
            raise Refusal(
                "The `expires_at` timestamp must be between 30 minutes and 24 hours.", param="expires_at"
            )
        if params.get("mode") != "payment" or not params.get("line_items"):
            raise Refusal("You must pass `line_items` in `payment` mode.", param="line_items")
        if len(params["line_items"]) > 100 or len(params.get("client_reference_id", "")) > 200:
            raise Refusal("Too long.")
        total, currencies = 0, set()
        for line in params["line_items"].values():
            price = line["price_data"]
            if not re.fullmatch(r"[a-z]{3}", price["currency"]) or int(price["unit_amount"]) < 0:
                raise Refusal("Invalid price_data", param="line_items")
            currencies.add(price["currency"])
            total += int(price["unit_amount"]) * int(line.get("quantity", 1))
        if len(currencies) != 1 or total < LEAST:
            raise Refusal(
                "The Checkout Session's total amount must be at least $0.50.", code="amount_too_small"
            )
        session_id = self._new("cs_test")
        self.sessions[session_id] = {
            "id": session_id,
            "object": "checkout.session",
            "url": f"https://checkout.stripe.invalid/{session_id}",
            "status": "open",
            "payment_status": "unpaid",
            "payment_intent": None,
            "client_reference_id": params.get("client_reference_id"),
            "currency": currencies.pop(),
            "amount_total": total,
            "metadata": params.get("metadata", {}),
            "created": now,
            "expires_at": expires,
            "_intent_metadata": params.get("payment_intent_data", {}).get("metadata", {}),
        }
        return self._public(self.sessions[session_id])

    @staticmethod
    def _public(found: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in found.items() if not name.startswith("_")}

    def _session(self, session_id: str) -> dict[str, Any]:
        if session_id not in self.sessions:
            raise Refusal(f"No such checkout.session: '{session_id}'", status=404, code="resource_missing")
        return self.sessions[session_id]

    def _show(self, params: dict[str, Any], session_id: str) -> dict[str, Any]:
        shown = self._public(self._session(session_id))
        wanted = set(params.get("expand", {}).values())
        if shown["payment_intent"] and wanted:
            assert wanted == {"payment_intent.latest_charge"}, wanted
            intent = dict(self.intents[shown["payment_intent"]])
            intent["latest_charge"] = self.charges.get(intent["latest_charge"])
            shown["payment_intent"] = intent
        return shown

    def _close(self, _params: dict[str, Any], session_id: str) -> dict[str, Any]:
        session = self._session(session_id)
        if session["status"] != "open":
            raise Refusal(
                f'Only Checkout Sessions with a status in ["open"] can be expired. This is {session["status"]}.'
            )
        session["status"] = "expired"
        self._tell("checkout.session.expired", self._public(session))
        return self._public(session)

    def _refund(self, params: dict[str, Any]) -> dict[str, Any]:
        charge = self.charges.get(params.get("charge", ""))
        if charge is None:
            raise Refusal("No such charge", status=404, code="resource_missing")
        amount = int(params.get("amount", charge["amount"] - charge["amount_refunded"]))
        if amount <= 0:
            raise Refusal("Invalid positive integer", param="amount")
        if any(one["charge"] == charge["id"] and one["status"] == "lost" for one in self.disputes.values()):
            raise Refusal("This charge has been charged back.", code="charge_disputed")
        if amount > charge["amount"] - charge["amount_refunded"]:
            raise Refusal(
                "Refund amount is greater than unrefunded amount on charge", code="amount_too_large"
            )
        charge["amount_refunded"] += amount
        refund_id = self._new("re")
        self.refunds[refund_id] = {
            "id": refund_id,
            "object": "refund",
            "amount": amount,
            "charge": charge["id"],
            "payment_intent": charge["payment_intent"],
            "currency": charge["currency"],
            "status": self.refunds_as,
            "metadata": params.get("metadata", {}),
        }
        self._tell("refund.created", self.refunds[refund_id])
        self._tell("charge.refunded", charge)
        return self.refunds[refund_id]

    def _page(self, params: dict[str, Any], rows: dict[str, dict[str, Any]], path: str) -> dict[str, Any]:
        wanted = [one for one in rows.values() if one["payment_intent"] == params["payment_intent"]]
        wanted.reverse()  # Stripe lists the newest first
        if after := params.get("starting_after"):
            wanted = wanted[[one["id"] for one in wanted].index(after) + 1 :]
        limit = min(int(params.get("limit", 10)), 2)  # small pages: paging must be asked for
        return {"object": "list", "url": path, "has_more": len(wanted) > limit, "data": wanted[:limit]}

    def _list_refunds(self, params: dict[str, Any]) -> dict[str, Any]:
        return self._page(params, self.refunds, "/v1/refunds")

    def _list_disputes(self, params: dict[str, Any]) -> dict[str, Any]:
        return self._page(params, self.disputes, "/v1/disputes")

    def _list_sessions(self, params: dict[str, Any]) -> dict[str, Any]:
        since = int(params.get("created", {}).get("gte", 0))
        wanted = [self._public(one) for one in self.sessions.values() if one["created"] >= since]
        wanted.reverse()
        if after := params.get("starting_after"):
            if after not in self.sessions:
                raise Refusal(f"No such checkout.session: '{after}'", code="resource_missing")
            wanted = wanted[[one["id"] for one in wanted].index(after) + 1 :]
        limit = min(int(params.get("limit", 10)), 2)
        return {
            "object": "list", "url": "/v1/checkout/sessions", "has_more": len(wanted) > limit,
            "data": wanted[:limit],
        }  # fmt: skip

    def _undecided(self, dispute_id: str) -> dict[str, Any]:
        dispute = self.disputes.get(dispute_id)
        if dispute is None:
            raise Refusal(f"No such dispute: '{dispute_id}'", status=404, code="resource_missing")
        if dispute["status"] not in ("needs_response", "warning_needs_response"):
            raise Refusal(f"This dispute is {dispute['status']} and takes nothing any more.")
        return dispute

    def _update_dispute(self, params: dict[str, Any], dispute_id: str) -> dict[str, Any]:
        dispute, evidence = self._undecided(dispute_id), params.get("evidence", {})
        texts = {name: text for name, text in evidence.items() if name not in _FILE_FIELDS}
        if sum(map(len, texts.values())) > 150_000:
            raise Refusal("The combined character count of all fields is limited to 150,000.")
        for name in evidence.keys() & _FILE_FIELDS:
            if evidence[name] not in self.files:
                raise Refusal(f"No such file: '{evidence[name]}'", param=f"evidence[{name}]")
        dispute["evidence"] = {**dispute["evidence"], **evidence}
        details = dispute["evidence_details"]
        details["has_evidence"] = bool(dispute["evidence"])
        if params.get("submit", "true") == "true":
            details["submission_count"] += 1
            waiting = "warning_under_review" if dispute["status"].startswith("warning_") else "under_review"
            self.move_dispute(dispute_id, status=waiting)
        return dispute

    def _close_dispute(self, _params: dict[str, Any], dispute_id: str) -> dict[str, Any]:
        dispute = self._undecided(dispute_id)
        self.move_dispute(dispute_id, status="lost")
        return dispute

    def _upload(self, params: dict[str, Any]) -> dict[str, Any]:
        name, data = params["file"]
        if not data or len(data) > 5 * 1024 * 1024:
            raise Refusal("The file is empty or too large.", param="file")
        if not data.startswith((b"%PDF", b"\xff\xd8\xff", b"\x89PNG")):
            raise Refusal("We only accept PDF, JPEG and PNG.", param="file", code="file_type_invalid")
        file_id = self._new("file")
        self.files[file_id] = {
            "id": file_id, "object": "file", "filename": name, "purpose": params["purpose"], "size": len(data),
        }  # fmt: skip
        return self.files[file_id]

    # ---- what people and banks do

    def pay(self, session_id: str) -> None:
        session = self.sessions[session_id]
        assert session["status"] == "open"
        charge = self._charge(session, paid=True)
        session["status"], session["payment_status"] = "complete", "paid"
        self._tell("payment_intent.succeeded", self.intents[session["payment_intent"]])
        self._tell("charge.succeeded", charge)
        self._tell("checkout.session.completed", self._public(session))

    def pay_by_bank(self, session_id: str) -> None:
        """The customer has done everything, and the bank will decide in some days."""
        session = self.sessions[session_id]
        intent_id = session["payment_intent"] = self._new("pi")
        session["status"] = "complete"
        self.intents[intent_id] = {
            "id": intent_id, "object": "payment_intent", "currency": session["currency"],
            "amount": session["amount_total"], "status": "processing", "latest_charge": None,
            "last_payment_error": None, "metadata": session["_intent_metadata"],
        }  # fmt: skip
        self._tell("checkout.session.completed", self._public(session))

    def bank_pays(self, session_id: str) -> None:
        session = self.sessions[session_id]
        charge = self._charge(session, paid=True)
        session["payment_status"] = "paid"
        self._tell("charge.succeeded", charge)
        self._tell("checkout.session.async_payment_succeeded", self._public(session))

    def decline(self, session_id: str) -> None:
        session = self.sessions[session_id]
        charge = self._charge(session, paid=False)
        intent = self.intents[session["payment_intent"]]
        intent["last_payment_error"] = {
            "type": "card_error", "code": "card_declined", "decline_code": "insufficient_funds",
            "charge": charge["id"],
        }  # fmt: skip
        self._tell("charge.failed", charge)
        self._tell("payment_intent.payment_failed", intent)

    def _charge(self, session: dict[str, Any], *, paid: bool) -> dict[str, Any]:
        intent_id = session["payment_intent"] or self._new("pi")
        session["payment_intent"] = intent_id
        metadata = session["_intent_metadata"]
        charge_id = self._new("ch")
        amount = session["amount_total"]
        self.charges[charge_id] = {
            "id": charge_id, "object": "charge", "payment_intent": intent_id, "currency": session["currency"],
            "amount": amount, "amount_captured": amount if paid else 0, "amount_refunded": 0, "paid": paid,
            "captured": paid, "metadata": metadata,
        }  # fmt: skip
        self.intents[intent_id] = {
            "id": intent_id, "object": "payment_intent", "currency": session["currency"], "amount": amount,
            "status": "succeeded" if paid else "requires_payment_method", "latest_charge": charge_id,
            "last_payment_error": None, "metadata": metadata,
        }  # fmt: skip
        return self.charges[charge_id]

    def decide_refund(self, refund_id: str, status: str) -> None:
        refund = self.refunds[refund_id]
        refund["status"] = status
        if status == "failed":
            refund["failure_reason"] = "lost_or_stolen_card"
            self.charges[refund["charge"]]["amount_refunded"] -= refund["amount"]
        self._tell("refund.failed" if status == "failed" else "refund.updated", refund)

    def dispute(self, charge_id: str, status: str = "needs_response") -> str:
        charge = self.charges[charge_id]
        dispute_id = self._new("dp")
        self.disputes[dispute_id] = {
            "id": dispute_id, "object": "dispute", "amount": charge["amount"], "charge": charge_id,
            "payment_intent": charge["payment_intent"], "currency": charge["currency"], "status": status,
            "reason": "fraudulent", "balance_transactions": [], "metadata": {}, "evidence": {},
            "evidence_details": {
                "due_by": int(time.time()) + 7 * 86400, "has_evidence": False, "past_due": False,
                "submission_count": 0,
            },
        }  # fmt: skip
        self._tell("charge.dispute.created", self.disputes[dispute_id])
        return dispute_id

    def move_dispute(self, dispute_id: str, *, status: str | None = None, funds: str | None = None) -> None:
        """`funds` is withdrawn or reinstated."""
        dispute = self.disputes[dispute_id]
        if funds is not None:
            amount = dispute["amount"] if funds == "reinstated" else -dispute["amount"]
            move = {
                "id": self._new("txn"), "object": "balance_transaction", "amount": amount,
                "currency": dispute["currency"],
            }  # fmt: skip
            dispute["balance_transactions"].append(move)
            self._tell(f"charge.dispute.funds_{funds}", dispute)
        if status is not None:
            dispute["status"] = status
            closed = status in ("won", "lost", "warning_closed", "prevented")
            self._tell("charge.dispute.closed" if closed else "charge.dispute.updated", dispute)

    # ---- events

    def _tell(self, kind: str, about: dict[str, Any]) -> None:
        told = {
            "id": self._new("evt"), "object": "event", "api_version": VERSION, "created": int(time.time()),
            "type": kind, "livemode": False, "data": {"object": about},
        }  # fmt: skip
        self.outbox.append(json.dumps(told))

    async def deliver(
        self,
        client: httpx.AsyncClient,
        *,
        chance: random.Random | None = None,
        drop: float = 0,
        repeat: float = 0,
    ) -> None:
        """Post what waits to the shop's webhook; with `chance` shuffled, some lost, some twice."""
        waiting, self.outbox = self.outbox, []
        if chance is not None:
            waiting = [one for one in waiting if chance.random() >= drop]
            waiting += [one for one in waiting if chance.random() < repeat]
            chance.shuffle(waiting)
        for body in waiting:
            header = stripe.WebhookSignature.generate_signature_header(body, WEBHOOK_SECRET)
            answer = await client.post(
                "/v1/webhooks/stripe", content=body.encode(), headers={"Stripe-Signature": header}
            )
            assert answer.status_code == 200, answer.text
