"""Which service a database is: a name that it gets once, and that goes with it into its backups and out of them."""

from sqlalchemy import CheckConstraint, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from paletta_server.core.database import Base
from paletta_server.core.ids import new_uid


class ServiceIdentity(Base):
    """One row, made when it is first asked for: databases copied from one template are then services of their own."""

    __tablename__ = "service_identity"
    __table_args__ = (CheckConstraint("single", name="single"),)

    single: Mapped[bool] = mapped_column(primary_key=True, server_default="true")
    uid: Mapped[str]


async def of(session: AsyncSession) -> str | None:
    """This service's name; None where the schema is older than names are."""
    if await session.scalar(text("SELECT to_regclass('public.service_identity')")) is None:
        return None
    await session.execute(upsert(ServiceIdentity).values(uid=new_uid("svc")).on_conflict_do_nothing())
    return await session.scalar(select(ServiceIdentity.uid))
