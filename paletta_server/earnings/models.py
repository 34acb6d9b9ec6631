"""Royalties, the ledger, and payouts. Money is whole minor units (cents) of the row's currency.

The ledger is double entry and only ever added to: triggers refuse changes, and at commit every transaction must sum
to zero in each currency. A positive amount has come to the account, a negative one has left it.
"""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from paletta_server.core.database import Base, Row, Uid

CUSTOMERS = "customers"
"""What customers paid and did not get back by refunds, as a negative amount: where the money comes from."""
CHARGEBACKS = "chargebacks"
"""What customers' banks withdrew and have not reinstated."""
TAX = "tax"
PLATFORM = "platform"
PENDING = "pending"
"""A contributor's royalties on hold."""
PAYABLE = "payable"
"""A contributor's royalties that the next payout takes along; below zero after a refund of what was paid out."""
IN_TRANSIT = "in_transit"
"""A payout on its way to a contributor's bank."""
PAID = "paid"
UNALLOCATED = "unallocated"
"""Money that belongs to no item: an order was paid twice, or not with what it costs."""
LOSSES = "losses"
"""What was given back beyond what was paid, such as a chargeback of what a refund had returned; the shop bears it."""

PERSONAL = (PENDING, PAYABLE, IN_TRANSIT, PAID)
SHARED = (CUSTOMERS, CHARGEBACKS, TAX, PLATFORM, UNALLOCATED, LOSSES)
SALE, REFUND, DISPUTE, SURPLUS = "sale", "refund", "dispute", "surplus"
DERIVED = (SALE, REFUND, DISPUTE, SURPLUS)
"""Kinds that follow from orders and payments; `posting` keeps them in step."""
RELEASE, PAYOUT, RETURNED, ARRIVED = "release", "payout", "payout_returned", "payout_arrived"
WAIVED = "waived"
"""What somebody had earned and gave up, being erased."""
KINDS = (*DERIVED, RELEASE, PAYOUT, RETURNED, ARRIVED, WAIVED)


class RoyaltyRate(Base):
    """A rate that operators set, for later sales. `scope` is `standard`, `exclusive` or a contributor's public id.

    What was in force before is in the audit log.
    """

    __tablename__ = "royalty_rates"
    __table_args__ = (CheckConstraint("rate BETWEEN 0 AND 10000", name="rate"),)

    scope: Mapped[str] = mapped_column(primary_key=True)
    rate: Mapped[int]
    """Hundredths of a percent."""
    set_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    set_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Royalty(Base):
    """A sold item's royalty, frozen when its order was paid."""

    __tablename__ = "royalties"
    __table_args__ = (
        CheckConstraint("rate BETWEEN 0 AND 10000", name="rate"),
        CheckConstraint("amount >= 0", name="amount"),
        Index("ix_royalties_held", "sold_at", postgresql_where=text("released_at IS NULL")),
    )

    order_item_id: Mapped[int] = mapped_column(ForeignKey("order_items.id"), primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), index=True)
    contributor_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    rate: Mapped[int]
    """Hundredths of a percent of what the item brought before tax."""
    amount: Mapped[int] = mapped_column(BigInteger)
    """What the contributor gets if nothing is given back."""
    sold_at: Mapped[datetime]
    released_at: Mapped[datetime | None]
    """When the hold was over; what changes later changes what is payable."""


class LedgerTransaction(Row, Base):
    """Entries that belong together and sum to zero."""

    __tablename__ = "ledger_transactions"
    __table_args__ = (CheckConstraint(f"kind IN {KINDS!r}", name="kind"),)

    kind: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    """When it happened: of a sale when its order was paid, which may have been posted later."""
    order_id: Mapped[int | None] = mapped_column(ForeignKey("orders.id"), index=True)
    order_item_id: Mapped[int | None] = mapped_column(ForeignKey("order_items.id"))
    payout_id: Mapped[int | None] = mapped_column(ForeignKey("payouts.id"), index=True)


class LedgerEntry(Base):
    """An amount that comes to an account, or leaves it."""

    __tablename__ = "ledger_entries"
    __table_args__ = (
        CheckConstraint(f"account IN {PERSONAL + SHARED!r}", name="account"),
        CheckConstraint(f"(user_id IS NOT NULL) = (account IN {PERSONAL!r})", name="user_id"),
        CheckConstraint("amount <> 0", name="amount"),
        Index("ix_ledger_entries_user_id", "user_id", "id", postgresql_where=text("user_id IS NOT NULL")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    transaction_id: Mapped[int] = mapped_column(ForeignKey("ledger_transactions.id"), index=True)
    account: Mapped[str]
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    currency: Mapped[str]
    amount: Mapped[int] = mapped_column(BigInteger)


class PayoutAccount(Base):
    """Where a contributor wants their money."""

    __tablename__ = "payout_accounts"
    __table_args__ = (CheckConstraint("kind IN ('iban', 'account')", name="kind"),)

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    kind: Mapped[str]
    holder: Mapped[str]
    number: Mapped[str]
    """An IBAN or an account's number, without blanks."""
    bic: Mapped[str | None]
    country: Mapped[str]
    """Of the bank, ISO 3166-1 alpha-2."""
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())


class PayoutRun(Row, Base):
    """Payouts that were made together and go to the bank in one file."""

    __tablename__ = "payout_runs"

    uid: Mapped[Uid]
    made_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    key: Mapped[str | None] = mapped_column(unique=True)
    """The caller's Idempotency-Key."""
    digest: Mapped[str | None]
    """Of the plan that was paid."""


class Payout(Row, Base):
    """What one contributor gets in a run. status: in_transit → paid | failed, paid → failed (the bank returned it).

    Holder, number and the rest are the bank details as they stood at the run.
    """

    __tablename__ = "payouts"
    __table_args__ = (
        UniqueConstraint("run_id", "user_id", "currency"),
        CheckConstraint("status IN ('in_transit', 'paid', 'failed')", name="status"),
        CheckConstraint("amount > 0", name="amount"),
    )

    uid: Mapped[Uid]
    run_id: Mapped[int] = mapped_column(ForeignKey("payout_runs.id"))
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    status: Mapped[str] = mapped_column(server_default="in_transit")
    currency: Mapped[str]
    amount: Mapped[int] = mapped_column(BigInteger)
    holder: Mapped[str]
    number: Mapped[str]
    bic: Mapped[str | None]
    country: Mapped[str]
    failure: Mapped[str | None]
    decided_at: Mapped[datetime | None]
    """When it was said to have arrived, or to have failed."""
