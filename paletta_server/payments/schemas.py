"""What the payment routes take and give. Amounts are minor units of `currency`."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from paletta_server.core.words import Visible
from paletta_server.payments.sandbox.desk import Action

OneLine = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200), Visible]
Reason = Annotated[OneLine, Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Received(BaseModel):
    """The inbox has the event."""

    received: bool = True


class MarkPaid(_Strict):
    """Money for an invoice arrived; `reference` is the bank's own of the transfer."""

    reference: OneLine | None = None


class RefundIn(_Strict):
    """Neither `items` nor `amount` gives back all that is left. `keep`: what is given back whole stays the
    customer's."""

    reason: Reason
    items: Annotated[dict[str, int | None], Field(min_length=1, max_length=1000)] | None = None
    """Minor units to give back, tax included, by item id; null for an item: all that is left of it."""
    amount: int | None = None
    """Minor units, spread over the items in proportion to what is left of each."""
    keep: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.items is not None and self.amount is not None:
            raise ValueError("name `items` or an `amount`, not both")
        return self


class _Back(BaseModel):
    """A refund. `items`: minor units by item id."""

    id: str
    currency: str
    amount: int
    items: dict[str, int]
    created_at: datetime


class MoneyBack(_Back):
    """A refund as its customer sees it: from when it was certain."""

    status: Literal["requested", "pending", "succeeded", "failed"]


class RefundsView(BaseModel):
    """An order's refunds, oldest first."""

    items: list[MoneyBack]


class RefundView(_Back):
    """A refund as operators see it. `reason` is in their words, `failure` says why it failed or was rejected."""

    status: str
    order: str
    """Its number."""
    reason: str
    keep: bool
    requested_by: str | None
    """An address; null for the service itself, or somebody at the gateway."""
    decided_by: str | None
    decided_at: datetime | None
    expires_at: datetime | None
    gateway: str
    by_hand: bool
    """Whether an operator has to send the money, and to say so."""
    reference: str | None
    failure: str | None


class RestoreIn(_Strict):
    """Items by id, their own or their clips'; none means all that has ended."""

    reason: Reason
    items: Annotated[list[Annotated[str, Field(max_length=100)]], Field(max_length=1000)] = []


class PlannedItem(BaseModel):
    """What a refund would do to an item. `right`: what becomes of the right to its files."""

    id: str
    clip_id: str
    title: str
    amount: int
    left: int
    """Of what was paid for it, afterwards."""
    right: Literal["stays", "ends", "goodwill", "has ended"]
    downloads: int


class RefundPlan(BaseModel):
    """What a refund would do, were it asked for now."""

    order: str
    currency: str
    amount: int
    approval: bool
    """Whether it would wait for a second operator."""
    items: list[PlannedItem]


class PaymentView(BaseModel):
    id: str
    gateway: str
    reference: str | None
    charge: str | None
    status: str
    currency: str
    amount: int
    captured: int
    refunded: int
    pending_refunds: int
    disputed: int
    failure: str | None
    created_at: datetime
    checked_at: datetime | None


class DisputeView(BaseModel):
    id: str
    reference: str
    status: str
    outcome: str | None
    reason: str | None
    currency: str
    amount: int
    withdrawn: int
    due_by: datetime | None
    created_at: datetime
    closed_at: datetime | None
    response: str
    responded_at: datetime | None
    response_failure: str | None


class AccountView(BaseModel):
    """An order's money, for operators."""

    order: str
    number: str
    status: str
    currency: str
    total: int
    refunded: int
    payments: list[PaymentView]
    refunds: list[RefundView]
    disputes: list[DisputeView]


class SandboxAct(_Strict):
    """A button of the sandbox's page, and how badly its events are to be delivered."""

    action: Action = "success"
    copies: int = Field(1, ge=0, le=5)
    """How often each event is delivered; 0 loses them, for the reconciler to find."""
    delay: int = Field(0, ge=0, le=3600)
    """Seconds."""
    backwards: bool = False
    dispute_after: int = Field(0, ge=0, le=24 * 3600)
    refunds_as: Literal["succeeded", "pending", "failed"] = "succeeded"


class SandboxView(BaseModel):
    """Where the sandbox stands; what the shop makes of it comes by an event, as from any gateway."""

    reference: str
    status: str
    failure: str | None
