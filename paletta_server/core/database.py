"""The database: typed models, and one transaction per request or task.

Nobody calls `commit()`. A route takes `SessionDep`; the transaction commits when the path function returns and
before the response leaves, so an acknowledged write is a durable one. A step that must be visible before an
outside call is made opens its own `Database.transaction()`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, Request
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import BigInteger, Identity, MetaData, Text, func
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from paletta_server.core.settings import Settings

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


Uid = Annotated[str, mapped_column(Text(collation="C"), unique=True)]
"""A public id; the C collation lets its index serve abbreviations too."""


class Base(DeclarativeBase):
    """Base of every model. Strings are `text`, times are `timestamptz`, dictionaries and lists are `jsonb`."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy reads it from the class)
        str: Text,
        datetime: TIMESTAMP(timezone=True),
        dict[str, Any]: JSONB,
        list[str]: JSONB,
        list[dict[str, Any]]: JSONB,
    }


class Row:
    """What every table has: a key of our own and the database's time of creation."""

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


PATIENCE = {
    "connect_timeout": 5,
    # A server that vanished without a word (a failover, a cut cable) is given up within a minute, also by who only
    # listens; the system's own limits are hours.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""What libpq is told of every connection of ours."""


def patient(conninfo: str) -> str:
    """The address with our limits, where it has none of its own."""
    return make_conninfo(conninfo, **{**PATIENCE, **conninfo_to_dict(conninfo)})


class Database:
    """A pool of connections and the transactions made on them."""

    def __init__(self, settings: Settings, *, pool_size: int | None = None) -> None:
        self.engine: AsyncEngine = create_async_engine(
            settings.sqlalchemy_url,
            pool_size=pool_size or settings.database_pool_size,
            max_overflow=5,
            pool_pre_ping=True,
            pool_timeout=settings.database_wait_seconds,
            hide_parameters=True,  # an error's text reaches the logs, and parameters are people's data
            connect_args={
                **PATIENCE,
                "application_name": "paletta",
                "options": "-c timezone=UTC -c statement_timeout=30000 -c lock_timeout=10000"
                " -c idle_in_transaction_session_timeout=60000",
            },
        )
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """One transaction: committed at the end of the block, rolled back when it raises."""
        async with self._sessions() as session, session.begin():
            yield session

    async def close(self) -> None:
        await self.engine.dispose()


async def _request_session(request: Request) -> AsyncIterator[AsyncSession]:
    database: Database = request.app.state.runtime.db
    async with database.transaction() as session:
        yield session


SessionDep = Annotated[AsyncSession, Depends(_request_session, scope="function")]
"""The request's transaction; function scope makes it commit before the reply is sent."""


async def psycopg_connection(session: AsyncSession) -> AsyncConnection[Any]:
    """The psycopg connection under a session, for what speaks psycopg (the job queue)."""
    fairy = await (await session.connection()).get_raw_connection()
    connection = fairy.driver_connection
    assert isinstance(connection, AsyncConnection)
    return connection
