"""Entitlements, the download addresses given out on them, and the links that mails carry."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from paletta_server.core.database import Base, Row, Uid


class Entitlement(Row, Base):
    """The right to an item's files: granted, suspended (a dispute) or revoked (given back whole, or a lost dispute).

    `own_status` is what the payment of its own order says; `status`, which counts, is the worst of that and of the
    status of what it extends: an upgrade was paid as a difference, and is worth nothing without its base.
    """

    __tablename__ = "entitlements"
    __table_args__ = (
        CheckConstraint("status IN ('granted', 'suspended', 'revoked')", name="status"),
        CheckConstraint("own_status IN ('granted', 'suspended', 'revoked')", name="own_status"),
        Index("ix_entitlements_user_id", "user_id", "id"),
        Index("ix_entitlements_clip_id", "clip_id", "user_id"),
    )

    uid: Mapped[Uid]
    order_item_id: Mapped[int] = mapped_column(ForeignKey("order_items.id"), unique=True)
    """One per item, however often the payment is announced."""
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), index=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    clip_id: Mapped[int] = mapped_column(ForeignKey("clips.id"))
    tier: Mapped[str]
    licence: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="granted")
    own_status: Mapped[str] = mapped_column(server_default="granted")
    extends_id: Mapped[int | None] = mapped_column(ForeignKey("entitlements.id"), index=True)
    """What was owned before and counted towards its price."""
    certificate: Mapped[str] = mapped_column(unique=True)
    """The code that anybody may look up to check a licence certificate."""
    ended_at: Mapped[datetime | None]


class DownloadGrant(Row, Base):
    """An address given out for one file: to whom, from where, by which way. Never deleted."""

    __tablename__ = "download_grants"
    __table_args__ = (
        CheckConstraint("via IN ('api', 'page')", name="via"),
        Index("ix_download_grants_entitlement_id", "entitlement_id", "id"),
    )

    entitlement_id: Mapped[int] = mapped_column(ForeignKey("entitlements.id"))
    tier: Mapped[str]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    via: Mapped[str]
    ip: Mapped[str | None]
    client: Mapped[str | None]
    """The caller's User-Agent, cut to a sane length."""
    expires_at: Mapped[datetime]


class Restoration(Row, Base):
    """A file that an order waits for: it was archived, and the store fetches it back. `ended_at`: it is there."""

    __tablename__ = "restorations"
    __table_args__ = (
        UniqueConstraint("order_id", "key", name="uq_restorations_order_id_key"),
        Index("ix_restorations_waiting", "key", postgresql_where=text("ended_at IS NULL")),
    )

    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    key: Mapped[str]
    requested_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expected_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class DeliveryLink(Row, Base):
    """A mailed link to an order's download page, known here only by its SHA-256. Looking does not use it up."""

    __tablename__ = "delivery_links"

    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), index=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    expires_at: Mapped[datetime]
    withdrawn_at: Mapped[datetime | None]
