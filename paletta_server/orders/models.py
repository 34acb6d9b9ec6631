"""Prices, carts and orders. Money is whole minor units (cents) of the row's currency."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from paletta_server.core.database import Base, Row, Uid

TIERS = ("hd", "uhd4k", "original")
"""From the least to the most; a tier includes those before it."""
LICENCES = ("individual", "business", "premium")


class PriceBook(Row, Base):
    """A price book as it was applied. The newest row is in force; older ones stay as history."""

    __tablename__ = "price_book"

    document: Mapped[dict[str, Any]]
    """As `price_book.PriceBook` writes it: currency, tax, licences with terms, prices in minor units."""
    digest: Mapped[str]
    """SHA-256 of the document: applying the same one again changes nothing."""
    applied_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))


class Cart(Base):
    """One per person, on whatever machine; its row is what checkouts of it lock."""

    __tablename__ = "carts"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    version: Mapped[int] = mapped_column(server_default="1")
    """Counts changes; the cart's ETag."""
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class CartItem(Row, Base):
    """A clip in a cart, at one tier and licence. `amount` is the price that the customer saw and accepted."""

    __tablename__ = "cart_items"
    __table_args__ = (
        UniqueConstraint("user_id", "clip_id"),
        CheckConstraint("tier IN ('hd', 'uhd4k', 'original')", name="tier"),
        CheckConstraint("licence IN ('individual', 'business', 'premium')", name="licence"),
        CheckConstraint("amount >= 0", name="amount"),
    )

    user_id: Mapped[int] = mapped_column(ForeignKey("carts.user_id"))
    clip_id: Mapped[int] = mapped_column(ForeignKey("clips.id"), index=True)
    tier: Mapped[str]
    licence: Mapped[str]
    amount: Mapped[int] = mapped_column(BigInteger)
    credit: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """What counted towards the price when it was accepted: what is owned already may be given back meanwhile."""
    currency: Mapped[str]


class Order(Row, Base):
    """A purchase, made before the gateway is asked, its prices frozen.

    status: pending → paid ⇄ partially_refunded → refunded; pending → cancelled | expired. `refunded` mirrors
    what the payments' events add up to; it is never counted up by hand.
    """

    __tablename__ = "orders"
    __table_args__ = (
        CheckConstraint(
            "status IN ('pending', 'paid', 'partially_refunded', 'refunded', 'cancelled', 'expired')",
            name="status",
        ),
        CheckConstraint("subtotal >= 0 AND tax >= 0 AND total = subtotal + tax", name="total"),
        CheckConstraint("refunded >= 0 AND refunded <= total", name="refunded"),
        Index("ix_orders_user_id", "user_id", "id"),
        Index("ix_orders_created_at", "created_at"),
        Index("ix_orders_paid_at", "paid_at"),
        Index("uq_orders_idempotency_key", "user_id", "idempotency_key", unique=True),
        Index("ix_orders_pending", "expires_at", postgresql_where=text("status = 'pending'")),
    )

    uid: Mapped[Uid]
    number: Mapped[str] = mapped_column(unique=True)
    """For people: `P-2026-000042`."""
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    status: Mapped[str] = mapped_column(server_default="pending")
    gateway: Mapped[str]
    purchase_order: Mapped[str | None]
    """The customer's own reference, for invoices."""
    licensee: Mapped[str]
    """Whom the licences are made out to, as it stood at the sale."""
    currency: Mapped[str]
    subtotal: Mapped[int] = mapped_column(BigInteger)
    tax_name: Mapped[str | None]
    tax_rate: Mapped[str] = mapped_column(server_default="0")
    """A decimal, such as `0.19`."""
    tax: Mapped[int] = mapped_column(BigInteger)
    total: Mapped[int] = mapped_column(BigInteger)
    refunded: Mapped[int] = mapped_column(BigInteger, server_default="0")
    expires_at: Mapped[datetime]
    paid_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]
    """When it was cancelled, expired or refunded in full."""
    idempotency_key: Mapped[str | None]
    """The client's name for its request: asking again with it gives this order, not another."""
    request_digest: Mapped[str | None]
    """SHA-256 of that request: a name that is used for another one is an error of the client's."""
    price_book_id: Mapped[int] = mapped_column(ForeignKey("price_book.id"))


class OrderItem(Row, Base):
    """The design's `order_details`: clip, tier, licence and price as they stood at the sale."""

    __tablename__ = "order_items"
    __table_args__ = (
        UniqueConstraint("order_id", "clip_id"),
        CheckConstraint("tier IN ('hd', 'uhd4k', 'original')", name="tier"),
        CheckConstraint("licence IN ('individual', 'business', 'premium')", name="licence"),
        CheckConstraint("price >= 0 AND credit >= 0 AND amount = price - credit", name="amount"),
        CheckConstraint("amount >= 0 AND tax >= 0", name="positive"),
        CheckConstraint("refunded >= 0 AND refunded <= amount + tax", name="refunded"),
    )

    uid: Mapped[Uid]
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    clip_id: Mapped[int] = mapped_column(ForeignKey("clips.id"), index=True)
    clip_uid: Mapped[str]
    title: Mapped[str]
    contributor_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    contributor: Mapped[str]
    """Whom the certificate names as the author, as it stood at the sale."""
    exclusive: Mapped[bool] = mapped_column(server_default="false")
    editorial: Mapped[bool] = mapped_column(server_default="false")
    tier: Mapped[str]
    licence: Mapped[str]
    price: Mapped[int] = mapped_column(BigInteger)
    credit: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """What was paid before for a lower tier of the same clip (an upgrade)."""
    upgrade_of: Mapped[int | None] = mapped_column(ForeignKey("order_items.id"))
    amount: Mapped[int] = mapped_column(BigInteger)
    """What is paid now, before tax: price less credit."""
    tax: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """Its part of the order's tax; the parts add up to the whole."""
    refunded: Mapped[int] = mapped_column(BigInteger, server_default="0")
    goodwill_at: Mapped[datetime | None]
    """When an operator left it to the customer although its money went back: the right outlives refunds, and
    disputes that were lost before."""


class OrderItemFile(Base):
    """The files that an item stands for, frozen at the sale: its tier and the tiers below.

    The store keeps `key` for as long as the order may be delivered, whatever becomes of the clip.
    """

    __tablename__ = "order_item_files"

    order_item_id: Mapped[int] = mapped_column(ForeignKey("order_items.id"), primary_key=True)
    tier: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    content_type: Mapped[str]
    extension: Mapped[str]
    """With its dot: `.mov`."""
    width: Mapped[int | None]
    height: Mapped[int | None]
    codec: Mapped[str | None]
