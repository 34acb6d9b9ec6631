"""What the payment routes take and give. Amounts are minor units of `currency`."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

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
    reason: Reason
    items: dict[str, int] | None = None
    """Minor units to give back, tax included, by item id; null gives back all that is left."""


class MoneyBack(BaseModel):
    """A refund as its customer sees it. `items`: minor units by item id."""

    id: str
    status: Literal["requested", "pending", "succeeded", "failed"]
    currency: str
    amount: int
    items: dict[str, int]
    created_at: datetime


class RefundsView(BaseModel):
    """An order's refunds, oldest first."""

    items: list[MoneyBack]


class RefundView(MoneyBack):
    """The same as operators see it: with why it was given, in their words, and why it failed."""

    reason: str
    failure: str | None


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
