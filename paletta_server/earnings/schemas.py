"""What the routes of earnings take and give. Amounts are minor units of `currency`; months are those of UTC."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from paletta_server.core.words import Visible

OneLine = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), Visible]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


# ---- contributors


class Balance(BaseModel):
    """What a contributor has in one currency. `payable` is below zero after a refund of what was paid out."""

    currency: str
    on_hold: int
    payable: int
    in_transit: int
    paid: int


class EarningsView(BaseModel):
    """Everything earned so far, by currency; how long royalties are on hold, and from when on they are paid."""

    balances: list[Balance]
    hold_days: int
    payout_minimum: int
    payout_account: bool
    """Whether there is an account to pay to."""


class Sums(BaseModel):
    """A month in one currency: `opening` + sales + refunds + disputes + payouts = `closing`.

    `on_hold` and `payable` add up to `closing`; `in_transit` and `paid` are all that ever left, at the month's end.
    """

    currency: str
    opening: int
    sales: int
    refunds: int
    disputes: int
    payouts: int
    closing: int
    on_hold: int
    payable: int
    in_transit: int
    paid: int


class StatementLine(BaseModel):
    """One thing that changed what a contributor has. Clip, tier and so on are null for payouts.

    `net`: what was paid for the item, or given back, before tax. `rate`: percent.
    """

    at: datetime
    kind: Literal["sale", "refund", "dispute", "payout", "payout_returned"]
    currency: str
    item_id: str | None = None
    clip_id: str | None = None
    title: str | None = None
    tier: str | None = None
    licence: str | None = None
    net: int | None = None
    rate: str | None = None
    royalty: int
    payout_id: str | None = None


class StatementView(BaseModel):
    """A month: its sums by currency, and a page of its lines, oldest first."""

    month: str
    sums: list[Sums]
    items: list[StatementLine]
    next_cursor: str | None = None


# ---- bank details

Country = Annotated[str, StringConstraints(strip_whitespace=True, to_upper=True, pattern=r"^[A-Za-z]{2}$")]


class PayoutAccountIn(_Strict):
    """Either an `iban`, or an `account` with its bank's `bic` and `country`."""

    holder: Annotated[OneLine, Field(max_length=70)]
    """70 letters are what SEPA and SWIFT carry."""
    iban: Annotated[str | None, Field(max_length=60, repr=False)] = None
    account: Annotated[str | None, Field(max_length=60, repr=False)] = None
    bic: Annotated[str | None, Field(max_length=20)] = None
    country: Country | None = None


class PayoutAccountView(BaseModel):
    """Where payouts go; of the number only its end is shown."""

    kind: Literal["iban", "account"]
    holder: str
    number: str
    bic: str | None
    country: str
    changed_at: datetime


# ---- operators

Outcome = Literal["pay", "below_minimum", "owes", "no_details", "disabled", "deleted", "erased"]


class PlanLine(BaseModel):
    """What a contributor would get now, or why not. `account` is masked."""

    user_id: str
    email: str
    name: str | None
    currency: str
    amount: int
    on_hold: int
    outcome: Outcome
    account: str | None


class PlanView(BaseModel):
    """What a run would pay. `digest` names it: a run with it pays exactly this or nothing."""

    lines: list[PlanLine]
    totals: dict[str, int]
    """What would be paid, by currency."""
    minimum: int
    digest: str


class RunIn(_Strict):
    digest: Annotated[str, Field(max_length=64)]


class PayoutView(BaseModel):
    """A contributor's part of a run."""

    id: str
    user_id: str
    email: str
    status: Literal["in_transit", "paid", "failed"]
    currency: str
    amount: int
    holder: str
    account: str
    failure: str | None
    decided_at: datetime | None


class RunSummary(BaseModel):
    """A payout run; `totals` by currency are those of payouts that did not fail."""

    id: str
    created_at: datetime
    payouts: int
    in_transit: int
    paid: int
    failed: int
    totals: dict[str, int]


class RunView(RunSummary):
    items: list[PayoutView]


class ConfirmIn(_Strict):
    """Payouts of the run that arrived; null: all that are in transit."""

    payouts: (
        Annotated[list[Annotated[str, Field(max_length=40)]], Field(min_length=1, max_length=1000)] | None
    ) = None


class FailedIn(_Strict):
    payouts: Annotated[list[Annotated[str, Field(max_length=40)]], Field(min_length=1, max_length=1000)]
    reason: OneLine


class PayoutsView(BaseModel):
    items: list[PayoutView]


class DifferenceView(BaseModel):
    """Where the ledger is not what payments, items and payouts say. `object` is a public id, or a key."""

    what: str
    object: str
    currency: str
    expected: int | None
    found: int | None


class CheckView(BaseModel):
    items: list[DifferenceView]


class RateIn(_Strict):
    """`rate` in percent, such as `52.5`."""

    rate: Annotated[str, Field(max_length=20)]


class RateView(BaseModel):
    """A royalty rate in percent. `scope`: `standard`, `exclusive`, or a contributor's id; `set_at` is null for what
    nobody has set."""

    scope: str
    email: str | None = None
    rate: str
    set_at: datetime | None


class RatesView(BaseModel):
    items: list[RateView]
