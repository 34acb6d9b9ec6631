"""`paletta-server aws prepare-database`: the role as which the service logs in with IAM tokens.

Run once, as RDS's first user. Running it again changes nothing. The service's role owns what migrations make, and
cannot make roles or databases.
"""

from __future__ import annotations

from typing import Any

from paletta_server.aws.template.data import DATABASE_USER
from paletta_server.core.settings import Settings

IAM_GROUP = "rds_iam"
"""Who is in it logs in with tokens only."""


class NotRds(Exception):
    """The database has no role `rds_iam`: it is not RDS, or an older one."""


def prepare(settings: Settings, *, user: str = DATABASE_USER) -> list[str]:
    """Make the role where it is missing and give it the database; what was done. Raises psycopg's errors, `NotRds`."""
    import psycopg

    with psycopg.connect(settings.libpq_url, connect_timeout=10, autocommit=False) as connection:
        # Two at once: the second waits here, and finds everything done.
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('paletta.prepare-database'))")
        if not _exists(connection, IAM_GROUP):
            raise NotRds
        return _role(connection, user) + _rights(connection, user)


def _exists(connection: Any, role: str) -> bool:
    return bool(connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone())


def _role(connection: Any, user: str) -> list[str]:
    from psycopg import sql

    done = []
    name = sql.Identifier(user)
    if not _exists(connection, user):
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN NOCREATEDB NOCREATEROLE").format(name))
        done.append(f"made the role {user}")
    member = "SELECT 1 FROM pg_auth_members WHERE member = %s::regrole AND roleid = %s::regrole"
    if not connection.execute(member, (user, IAM_GROUP)).fetchone():
        connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(IAM_GROUP), name))
        done.append(f"{user} logs in with IAM tokens")
    return done


def _rights(connection: Any, user: str) -> list[str]:
    """To make schemas, tables and trusted extensions in this database."""
    from psycopg import sql

    database = connection.execute("SELECT current_database()").fetchone()[0]
    may = "SELECT has_database_privilege(%s, current_database(), 'CREATE') AND has_schema_privilege(%s, 'public', %s)"
    if connection.execute(may, (user, user, "CREATE")).fetchone()[0]:
        return []
    name = sql.Identifier(user)
    connection.execute(
        sql.SQL("GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {} TO {}").format(
            sql.Identifier(database), name
        )
    )
    connection.execute(sql.SQL("GRANT CREATE, USAGE ON SCHEMA public TO {}").format(name))
    return [f"{user} may make what migrations need in {database}"]
