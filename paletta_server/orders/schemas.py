"""Shapes of the shop's API. Money is whole minor units (cents) of `currency`; sizes are bytes."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from paletta_server.core.nodes import MAX_BYTES
from paletta_server.core.words import Visible

Tier = Literal["hd", "uhd4k", "original"]
LicenceName = Literal["individual", "business", "premium"]
GatewayName = Literal["stripe", "invoice", "sandbox"]
OneLine = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), Visible]


OrderStatus = Literal["pending", "paid", "partially_refunded", "refunded", "cancelled", "expired"]
CartProblem = Literal[
    "withdrawn", "price_changed", "tier_gone", "not_sold_so", "owned", "own_clip", "waiting_for_payment"
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LicenceView(BaseModel):
    name: str
    seats: int | None
    terms: str


class PriceBookView(BaseModel):
    currency: str
    tax_name: str | None
    tax_rate: str
    licences: dict[str, LicenceView]
    prices: dict[str, dict[str, int]]
    editorial: list[str]
    gateways: list[str]


class PricesIn(_Strict):
    document: Annotated[str, Field(max_length=MAX_BYTES)]
    filename: Annotated[str, Field(max_length=1024)] = "price-book.yaml"
    digest: str | None = None


class PriceChange(BaseModel):
    key: str
    before: str | None
    after: str | None


class PricesPlan(BaseModel):
    changes: list[PriceChange]
    digest: str
    applied: bool


class CartWish(_Strict):
    """A clip to put into the cart. Without a tier, the best that there is, without a licence, `individual`; one that is
    in the cart keeps what is not given."""

    clip_id: Annotated[str, Field(max_length=100)]
    tier: Tier | None = None
    licence: LicenceName | None = None


class CartWishes(_Strict):
    clips: Annotated[list[CartWish], Field(min_length=1, max_length=100)]


class CartEntry(BaseModel):
    """A clip in the cart. `amount` is the price that was accepted; `problem` says what has changed since.

    `credit` is what was paid before for a lower tier, so that `due` = price now - credit.
    """

    clip_id: str
    title: str
    tier: str
    licence: str
    amount: int
    price: int | None
    credit: int
    due: int | None
    problem: CartProblem | None
    problem_text: str | None


class CartView(BaseModel):
    items: list[CartEntry]
    currency: str
    subtotal: int
    tax_name: str | None
    tax_rate: str
    tax: int
    total: int
    acceptable: bool
    """Whether it can be checked out as it is."""
    version: int


class CheckoutIn(_Strict):
    gateway: GatewayName | None = None
    purchase_order: OneLine | None = None
    licensee: OneLine | None = None
    expected_total: int | None = None
    """What the customer was shown; another total is refused rather than charged."""


class FileView(BaseModel):
    tier: str
    size: int
    sha256: str
    width: int | None
    height: int | None
    codec: str | None
    extension: str


class ItemView(BaseModel):
    id: str
    clip_id: str
    title: str
    contributor: str
    tier: str
    licence: str
    editorial: bool
    price: int
    credit: int
    amount: int
    tax: int
    refunded: int
    files: list[FileView]


class OrderSummary(BaseModel):
    id: str
    number: str
    status: OrderStatus
    gateway: str
    purchase_order: str | None
    licensee: str
    currency: str
    subtotal: int
    tax_name: str | None
    tax_rate: str
    tax: int
    total: int
    refunded: int
    item_count: int
    created_at: datetime
    expires_at: datetime
    paid_at: datetime | None
    closed_at: datetime | None


class OrderDetail(OrderSummary):
    items: list[ItemView]


class PayView(BaseModel):
    """Where to pay an order. `url` is the gateway's hosted page; null where nothing is to be done by a browser."""

    order: OrderDetail
    payment_id: str | None
    gateway: str
    url: str | None
    message: str | None = None
