"""What the search index follows, and how often clips are looked at."""

from datetime import date

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from paletta_server.core.database import Base


class ClipChange(Base):
    """A clip's searchable facts may have changed: written by triggers, so that no code path can forget it.

    `xid` is the writing transaction. A follower reads rows of transactions that are over for certain
    (`xid < pg_snapshot_xmin(pg_current_snapshot())`), so that a late commit with an early `seq` is not missed.
    """

    __tablename__ = "clip_changes"
    __table_args__ = (Index("ix_clip_changes_xid", "xid", "seq"),)

    seq: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    xid: Mapped[int] = mapped_column(BigInteger, server_default=text("(pg_current_xact_id()::text::bigint)"))
    clip_id: Mapped[int] = mapped_column(BigInteger)


class ClipView(Base):
    """How often a listed clip's page was looked at, by day (UTC)."""

    __tablename__ = "clip_views"

    clip_id: Mapped[int] = mapped_column(ForeignKey("clips.id", ondelete="CASCADE"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    views: Mapped[int] = mapped_column(server_default="0")
