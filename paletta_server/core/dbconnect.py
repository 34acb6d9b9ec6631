"""How a connection to the database is made: verified, to a server that takes writes, with a fresh token of RDS where
the settings ask for one."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import Any

import psycopg
from botocore.exceptions import BotoCoreError, ClientError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from paletta_server.core.asking import database_seconds
from paletta_server.core.settings import Settings

READ_ONLY = "25006"
"""SQLSTATE of a write that met a server which is a replica now."""
PATIENCE = {
    "connect_timeout": 5,
    # A server that vanished without a word (a failover, a cut cable) is given up within a minute, also by who only
    # listens; the system's own limits are hours.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    # A name that still leads to the old writer after a failover finds a replica: that is no connection for us.
    "target_session_attrs": "read-write",
}
"""What libpq is told of every connection of ours, unless the address says otherwise."""


def conninfo(settings: Settings) -> str:
    """What libpq needs for one connection, made at this moment: a token is good for 15 minutes, and is made without
    asking anybody. Blocks while a role's credentials are renewed."""
    given = conninfo_to_dict(settings.libpq_url)
    more: dict[str, Any] = {name: value for name, value in PATIENCE.items() if name not in given}
    if settings.database_ca is not None:
        more |= {"sslmode": "verify-full", "sslrootcert": str(settings.database_ca)}
    if settings.database_auth == "iam":
        more["password"] = _token(settings, given)
    return make_conninfo(settings.libpq_url, **more)


async def conninfo_async(settings: Settings) -> str:
    """The same, without holding up the loop."""
    if settings.database_auth == "iam":
        return await asyncio.to_thread(conninfo, settings)
    return conninfo(settings)


class _Patient(psycopg.AsyncConnection[Any]):
    """Waits for the server's words, in a request for so long only."""

    async def wait(self, gen: Any, *how: Any, **more: Any) -> Any:
        try:
            async with asyncio.timeout(database_seconds()) as limit:
                # Cut off, it asks the server to cancel, and where that says nothing either, closes the connection.
                return await super().wait(gen, *how, **more)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise psycopg.OperationalError("the database does not answer in time") from error


def connect(settings: Settings, **options: Any) -> psycopg.Connection[Any]:
    """A connection, as psycopg makes it."""
    return psycopg.connect(conninfo(settings), **options)


async def connect_async(settings: Settings, **options: Any) -> psycopg.AsyncConnection[Any]:
    """A connection, as psycopg makes it."""
    return await _Patient.connect(await conninfo_async(settings), **options)


def _token(settings: Settings, given: dict[str, Any]) -> str:
    host, user = given.get("host"), given.get("user")
    if not host or not user:
        raise ValueError("PALETTA_DATABASE_URL must name host and user for PALETTA_DATABASE_AUTH=iam")
    try:
        token: str = _rds(settings).generate_db_auth_token(
            DBHostname=host, Port=int(given.get("port") or 5432), DBUsername=user
        )
    except (BotoCoreError, ClientError, RuntimeError) as error:  # the last: renewed, and run out already
        # As for any connection that cannot be made: callers know what to do about those.
        raise psycopg.OperationalError(f"no token to log in to the database with: {error}") from error
    return token


@lru_cache(maxsize=4)
def _rds(settings: Settings) -> Any:
    from paletta_server.aws import clients

    return clients.client(settings, "rds")


def is_read_only(error: BaseException | None) -> bool:
    """Whether a write failed because the server is a replica now."""
    return isinstance(error, psycopg.Error) and error.sqlstate == READ_ONLY
