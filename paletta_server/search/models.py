"""What the search index follows, and how often clips are looked at."""

from datetime import date, datetime

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from paletta_server.core.database import Base


class ClipChange(Base):
    """A clip's searchable facts may have changed: written by triggers, so that no code path can forget it.

    `xid` is the writing transaction. Rows of transactions that are over for certain
    (`xid < pg_snapshot_xmin(pg_current_snapshot())`) come in an order that no late commit can disturb; only over
    those does a follower move its cursor. `clip_id` 0 is no clip: a mark that an index was built from here.
    """

    __tablename__ = "clip_changes"
    __table_args__ = (Index("ix_clip_changes_xid", "xid", "seq"),)

    seq: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    xid: Mapped[int] = mapped_column(BigInteger, server_default=text("(pg_current_xact_id()::text::bigint)"))
    clip_id: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[datetime] = mapped_column(server_default=text("clock_timestamp()"))


class ClipView(Base):
    """How often a listed clip's page was looked at, by day (UTC)."""

    __tablename__ = "clip_views"
    __table_args__ = (Index("ix_clip_views_day", "day"),)

    clip_id: Mapped[int] = mapped_column(ForeignKey("clips.id", ondelete="CASCADE"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    views: Mapped[int] = mapped_column(server_default="0")


class ClipViewer(Base):
    """Who was counted for a clip in an hour, so that one caller counts once. Forgotten after some hours.

    Unlogged: after a crash of the database a caller may count once more, which nobody is paid for.
    """

    __tablename__ = "clip_viewers"
    __table_args__ = {"prefixes": ["UNLOGGED"]}  # noqa: RUF012 (SQLAlchemy reads it from the class)

    clip_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    viewer: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    """A digest of the account, or of the address of a stranger."""
    hour: Mapped[datetime] = mapped_column(primary_key=True)
