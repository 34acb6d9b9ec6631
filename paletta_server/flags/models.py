"""Kill switches: a row is a switch that is set."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, func
from sqlalchemy.orm import Mapped, mapped_column

from paletta_server.core.database import Base


class Flag(Base):
    """What the service refuses for now, and what people who run into it are told."""

    __tablename__ = "flags"
    __table_args__ = (
        CheckConstraint("name IN ('read-only', 'no-uploads', 'no-checkout', 'no-downloads')", name="name"),
    )

    name: Mapped[str] = mapped_column(primary_key=True)
    message: Mapped[str]
    set_at: Mapped[datetime] = mapped_column(server_default=func.now())
    set_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
