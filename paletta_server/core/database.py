"""The database: typed models, and one transaction per request or task.

Nobody calls `commit()`. A route takes `SessionDep`; the transaction commits when the path function returns and
before the response leaves, so an acknowledged write is a durable one. A step that must be visible before an
outside call is made opens its own `Database.transaction()`.
"""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any, NoReturn

import psycopg
from fastapi import Depends, Request
from psycopg import AsyncConnection
from sqlalchemy import BigInteger, Identity, MetaData, Text, event, func, text
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from paletta_server.core.dbconnect import connect_async, is_read_only
from paletta_server.core.settings import Settings

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

OVERFLOW = 5
"""Connections beyond the pool's size, made when all are in use and closed again."""

RECYCLE_SECONDS = 1800
"""A connection this old is replaced before its next use: a name may lead to another server since."""

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


class Database:
    """A pool of connections and the transactions made on them."""

    def __init__(self, settings: Settings, *, pool_size: int | None = None) -> None:
        async def connect() -> AsyncConnection[Any]:
            return await connect_async(
                settings,
                # Whoever looks for a lock's holder in `pg_stat_activity` finds process and machine.
                application_name=f"paletta {os.getpid()} {socket.gethostname()}",
                options="-c timezone=UTC -c statement_timeout=30000 -c lock_timeout=10000"
                " -c idle_in_transaction_session_timeout=60000"
                # The server's side of it: what belonged to a machine that is gone is closed within minutes, not hours.
                " -c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10",
            )

        def pool(size: int, overflow: int) -> AsyncEngine:
            made = create_async_engine(
                settings.sqlalchemy_url,
                async_creator=connect,
                pool_size=size,
                max_overflow=overflow,
                pool_pre_ping=True,
                pool_timeout=settings.database_wait_seconds,
                hide_parameters=True,  # an error's text reaches the logs, and parameters are people's data
                pool_recycle=RECYCLE_SECONDS,
            )
            event.listen(made.sync_engine, "handle_error", _leave_replica)
            return made

        self.engine = pool(pool_size or settings.database_pool_size, OVERFLOW)
        self.probe = pool(1, 0)
        """A connection for who asks whether the database answers: whether others have too much to do with it is another
        question. It is made when it is first asked for."""
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """One transaction: committed at the end of the block, rolled back when it raises."""
        async with self._sessions() as session, session.begin():
            yield session

    async def answers(self) -> None:
        """Returns when the database answers. Raises what keeps it from that."""
        async with self.transaction() as session:
            await session.execute(text("SELECT 1"))

    async def close(self) -> None:
        await self.engine.dispose()
        await self.probe.dispose()


def _leave_replica(context: ExceptionContext) -> None:
    """After a failover what we are connected to may be a replica: it, and all that was opened with it, is given up."""
    if is_read_only(context.original_exception):
        context.is_disconnect = True


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


async def fail_as_statement(session: AsyncSession, error: psycopg.Error) -> NoReturn:
    """Raise what psycopg met on the connection under a session as SQLAlchemy's own error, with all that goes with one:
    a connection that is lost, or that leads to a replica, is given up and with it those of its time."""

    def fail(sync: Session) -> NoReturn:
        # No public function of SQLAlchemy does that to an error of a driver's connection.
        sync.connection()._handle_dbapi_exception(error, None, None, None, None)

    await session.run_sync(fail)
    raise AssertionError("it raises")
