"""Saved lists of clips."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from paletta_server.core.database import Base, Row, Uid


class Collection(Row, Base):
    """A person's named list; names are unique per person, whatever their case."""

    __tablename__ = "collections"
    __table_args__ = (Index("uq_collections_name", "user_id", text("lower(name)"), unique=True),)

    uid: Mapped[Uid]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    name: Mapped[str]


class CollectionItem(Base):
    __tablename__ = "collection_items"

    collection_id: Mapped[int] = mapped_column(
        ForeignKey("collections.id", ondelete="CASCADE"), primary_key=True
    )
    clip_id: Mapped[int] = mapped_column(ForeignKey("clips.id"), primary_key=True, index=True)
    added_at: Mapped[datetime] = mapped_column(server_default=func.now())
