"""Categories and tags. What has no owner belongs to the operator."""

from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, UniqueConstraint
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from paletta_server.core.database import Base, Row


class Category(Row, Base):
    __tablename__ = "categories"

    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    description: Mapped[str] = mapped_column(server_default="")
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("categories.id"), index=True)
    position: Mapped[int] = mapped_column(server_default="0")
    agencies: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    """Each agency's equivalent, as the taxonomy file gives it."""
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), index=True)


class Tag(Row, Base):
    """`name` is folded:

    trimmed, inner spaces joined, case-folded. So are the synonyms, which are nobody's name.
    """

    __tablename__ = "tags"
    __table_args__ = (
        Index("ix_tags_synonyms", "synonyms", postgresql_using="gin"),
        Index("ix_tags_near", "near", postgresql_using="gin"),
    )

    name: Mapped[str] = mapped_column(unique=True)
    synonyms: Mapped[list[str]] = mapped_column(server_default="[]")
    near: Mapped[list[int]] = mapped_column(ARRAY(Integer), server_default="{}")
    """Nearness keys of name and synonyms (`words.near_keys`): near-duplicates share one."""
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), index=True)


class Redirect(Row, Base):
    """A former slug or tag name, and the row that it leads to now. A living entry of that name comes first."""

    __tablename__ = "taxonomy_redirects"
    __table_args__ = (
        UniqueConstraint("kind", "word"),
        CheckConstraint(
            "(kind = 'category' AND category_id IS NOT NULL AND tag_id IS NULL)"
            " OR (kind = 'tag' AND tag_id IS NOT NULL AND category_id IS NULL)",
            name="target",
        ),
    )

    kind: Mapped[str]
    word: Mapped[str]
    category_id: Mapped[int | None] = mapped_column(
        ForeignKey("categories.id", ondelete="CASCADE"), index=True
    )
    tag_id: Mapped[int | None] = mapped_column(ForeignKey("tags.id", ondelete="CASCADE"), index=True)
