"""What is remembered of clips' looks, also of those that are gone: a copy of one is a copy all the same."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, SmallInteger, func
from sqlalchemy.orm import Mapped, mapped_column

from paletta_server.core.database import Base


class FrameHash(Base):
    """A frame that was kept of a clip: its hash, and the hash's four bands of 16 bits, each with an index.

    Two hashes that differ in few bits agree in a band (Norouzi, Punjani and Fleet, "Fast Search in Hamming Space with
    Multi-Index Hashing", 2012), so that few rows are looked at however many there are. Bits as signed integers.
    """

    __tablename__ = "frame_hashes"
    # The indexes have all that is asked for: the rows themselves lie all over the table.
    __table_args__ = tuple(
        Index(f"ix_frame_hashes_band_{band}", f"band_{band}", postgresql_include=["hash", "clip_id"])
        for band in range(4)
    )

    clip_id: Mapped[int] = mapped_column(ForeignKey("clips.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    hash: Mapped[int] = mapped_column(BigInteger)
    band_0: Mapped[int] = mapped_column(SmallInteger)
    band_1: Mapped[int] = mapped_column(SmallInteger)
    band_2: Mapped[int] = mapped_column(SmallInteger)
    band_3: Mapped[int] = mapped_column(SmallInteger)


class HashedClip(Base):
    """A clip whose frames were hashed, by which version of the hash; it may have none that tell it from others."""

    __tablename__ = "hashed_clips"

    clip_id: Mapped[int] = mapped_column(ForeignKey("clips.id", ondelete="CASCADE"), primary_key=True)
    version: Mapped[int] = mapped_column(SmallInteger)
    hashed_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Likeness(Base):
    """A clip that looked like an earlier one when it was made: `frames` of the `kept` ones of that have a like."""

    __tablename__ = "likenesses"

    clip_id: Mapped[int] = mapped_column(ForeignKey("clips.id", ondelete="CASCADE"), primary_key=True)
    other_id: Mapped[int] = mapped_column(
        ForeignKey("clips.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    frames: Mapped[int] = mapped_column(SmallInteger)
    kept: Mapped[int] = mapped_column(SmallInteger)
    distance: Mapped[int] = mapped_column(SmallInteger)
    """Bits of 64 in which the closest frames differ."""
    found_at: Mapped[datetime] = mapped_column(server_default=func.now())
