"""Events as they happened, and figures by day (UTC). Money is whole minor units of the row's currency.

Events are written raw in batches and added up once each (`rollup.py`). What other domains' tables tell is summed
anew for every day in which it changed (`books.py`); triggers note those days in `analytics_changes`.
"""

import uuid
from datetime import date, datetime

from sqlalchemy import BigInteger, CheckConstraint, Identity, Index, LargeBinary, SmallInteger, func, text
from sqlalchemy.orm import Mapped, mapped_column

from paletta_server.core.database import Base

KINDS = ("search", "view", "cart", "checkout")
"""From looking around to paying, in the order of a purchase."""


class EventBatch(Base):
    """What one API process wrote at once. Counted exactly once: `counted_at` is set together with the sums."""

    __tablename__ = "analytics_batches"
    __table_args__ = (
        Index("ix_analytics_batches_waiting", "id", postgresql_where=text("counted_at IS NULL")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    ref: Mapped[uuid.UUID] = mapped_column(unique=True)
    """Made by the writer: a batch that it writes again, because it did not hear of the commit, is there once."""
    events: Mapped[int]
    written_at: Mapped[datetime] = mapped_column(server_default=func.now())
    counted_at: Mapped[datetime | None]


class Event(Base):
    """Something that a visitor did. Rows are only added, and pruned after `analytics_raw_days`."""

    __tablename__ = "analytics_events"
    __table_args__ = (CheckConstraint(f"kind IN {KINDS!r}", name="kind"),)

    batch_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    kind: Mapped[str]
    visitor: Mapped[int] = mapped_column(BigInteger)
    """Digest of the token or the address under the day's salt: it tells visitors of one day apart, nothing more."""
    clip_id: Mapped[int | None] = mapped_column(BigInteger)
    items: Mapped[int | None]
    """Clips put into a cart."""
    query: Mapped[str | None]
    """Normalised words of a search; None where somebody only looked around."""
    filters: Mapped[int | None] = mapped_column(SmallInteger)
    hits: Mapped[int | None] = mapped_column(BigInteger)


class Salt(Base):
    """A day's secret, forgotten soon after it: then nobody can tell whose digest a visitor's is."""

    __tablename__ = "analytics_salts"

    day: Mapped[date] = mapped_column(primary_key=True)
    salt: Mapped[bytes] = mapped_column(LargeBinary)


class Visitor(Base):
    """Who was counted on a day for a kind, so that a visitor counts once. Forgotten after some days."""

    __tablename__ = "analytics_visitors"

    day: Mapped[date] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    visitor: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)


class DailyCount(Base):
    """How often something happened, and to how many visitors."""

    __tablename__ = "analytics_counts"

    day: Mapped[date] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    times: Mapped[int] = mapped_column(BigInteger)
    visitors: Mapped[int] = mapped_column(BigInteger, server_default="0")
    items: Mapped[int] = mapped_column(BigInteger)
    empty: Mapped[int] = mapped_column(BigInteger)
    """Searches that found nothing."""


class DailyQuery(Base):
    """What was searched for in words."""

    __tablename__ = "analytics_queries"

    day: Mapped[date] = mapped_column(primary_key=True)
    query: Mapped[str] = mapped_column(primary_key=True)
    searches: Mapped[int] = mapped_column(BigInteger)
    empty: Mapped[int] = mapped_column(BigInteger)
    hits: Mapped[int] = mapped_column(BigInteger)
    """The most that it found."""


class BookChange(Base):
    """A day of which the books (`topic`: orders, uploads, ingest) tell something else now. Written by triggers in
    the transaction that changes it, removed in the one that sums the day anew."""

    __tablename__ = "analytics_changes"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    topic: Mapped[str]
    day: Mapped[date]
    at: Mapped[datetime] = mapped_column(server_default=func.now())


class DailyOrders(Base):
    """Orders by the day on which they were placed."""

    __tablename__ = "analytics_orders"

    day: Mapped[date] = mapped_column(primary_key=True)
    placed: Mapped[int]
    paid: Mapped[int]
    """Of those placed, whenever the money came."""
    customers: Mapped[int]
    """Who placed those that were paid."""


class DailySales(Base):
    """Money by the day on which it moved: orders when paid, refunds and disputes when they went through."""

    __tablename__ = "analytics_sales"

    day: Mapped[date] = mapped_column(primary_key=True)
    currency: Mapped[str] = mapped_column(primary_key=True)
    orders: Mapped[int]
    units: Mapped[int]
    revenue: Mapped[int] = mapped_column(BigInteger)
    """With tax."""
    tax: Mapped[int] = mapped_column(BigInteger)
    refunds: Mapped[int]
    """Refunds that arrived, less those that failed after all."""
    refunded: Mapped[int] = mapped_column(BigInteger)
    disputed: Mapped[int] = mapped_column(BigInteger)
    """Withdrawn by banks, less what they reinstated."""


class DailySold(Base):
    """What was sold, by the day on which it was paid; `revenue` with tax, `refunded` of it whenever."""

    __tablename__ = "analytics_sold"

    day: Mapped[date] = mapped_column(primary_key=True)
    currency: Mapped[str] = mapped_column(primary_key=True)
    clip_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    contributor_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    units: Mapped[int]
    revenue: Mapped[int] = mapped_column(BigInteger)
    refunded: Mapped[int] = mapped_column(BigInteger)


class DailyUploads(Base):
    """Uploads by the day on which they were registered, and where they stand now."""

    __tablename__ = "analytics_uploads"

    day: Mapped[date] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(primary_key=True)
    uploads: Mapped[int]
    bytes: Mapped[int] = mapped_column(BigInteger)


class DailyIngestTime(Base):
    """How long finished ingest runs took: how many were in a `bucket` of seconds (`buckets.py`), by step."""

    __tablename__ = "analytics_ingest_times"

    day: Mapped[date] = mapped_column(primary_key=True)
    step: Mapped[str] = mapped_column(primary_key=True)
    bucket: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    runs: Mapped[int]


class DailyIngestFailure(Base):
    """Ingest runs that came to nothing, by reason."""

    __tablename__ = "analytics_ingest_failures"

    day: Mapped[date] = mapped_column(primary_key=True)
    reason: Mapped[str] = mapped_column(primary_key=True)
    runs: Mapped[int]


class DailyStorage(Base):
    """What the store holds by class, as last counted on the day."""

    __tablename__ = "analytics_storage"

    day: Mapped[date] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    objects: Mapped[int] = mapped_column(BigInteger)
    bytes: Mapped[int] = mapped_column(BigInteger)
