"""What has to be known of a service before a backup is put into it."""

import psycopg

from paletta_server.core.dbconnect import connect_async
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.operations.backup_files import BackupError, Folder, Manifest

PROBED = ("users", "clips", "orders", "uploads")
"""Tables that nobody uses a service for long without a row in."""
OURS = "_paletta/"
"""What the service itself leaves in a bucket: probes."""

Connection = psycopg.AsyncConnection[tuple[object, ...]]


async def require_room(runtime: Runtime, folder: Folder, manifest: Manifest, *, replace_all: bool) -> None:
    """Raises BackupError where the backup may not be put: where the schema is not ours, where it is not empty, or with
    `replace_all` at work. Where only the end of its restore is missing, it may."""
    await require_owner(runtime.settings)
    if await is_marked(runtime.settings, manifest):
        return
    if replace_all:
        await require_no_workers(runtime.settings)
    else:
        await require_empty_database(runtime.settings)
        await require_empty_store(runtime, folder, manifest)


async def require_owner(settings: Settings) -> None:
    """The schema is dropped and made again: its owner may do the one, who may make schemas the other.

    Asked before anything is read or stored, which takes hours, for a refusal that is certain.
    """
    async with await _connect(settings) as connection:
        owner = await _one(
            connection,
            "SELECT pg_get_userbyid(nspowner) FROM pg_namespace"
            " WHERE nspname = 'public' AND NOT pg_has_role(nspowner, 'USAGE')",
        )
        if owner is not None:
            # Every database's first owner of the schema: a role that stands for the database's.
            whose = "the database's owner" if owner == "pg_database_owner" else f"`{owner}`"
            mend = await _one(
                connection, "SELECT 'ALTER SCHEMA public OWNER TO ' || quote_ident(current_user)"
            )
            raise BackupError(
                f"the schema `public` belongs to {whose}, and nobody else may replace it: nothing was changed\n"
                f"hint: have a superuser run `{mend}`; on RDS go back with its own backups (deploy/README.md)"
            )
        refused = await _one(
            connection,
            "SELECT 'GRANT CREATE ON DATABASE ' || quote_ident(current_database())"
            " || ' TO ' || quote_ident(current_user)"
            " WHERE NOT has_database_privilege(current_database(), 'CREATE')",
        )
        if refused is not None:
            raise BackupError(
                "the service's role may not make the schema `public` again: nothing was changed\n"
                f"hint: have the database's owner run `{refused}`"
            )


async def require_empty_database(settings: Settings) -> None:
    async with await _connect(settings) as connection:
        for table in PROBED:
            filled = f"SELECT EXISTS (SELECT FROM {table})"  # noqa: S608
            if await _has(connection, table) and await _one(connection, filled):
                raise BackupError(
                    f"the database is not empty: it has {table}\n"
                    "hint: restore into a new service, or pass --replace to lose what is there"
                )


async def require_empty_store(runtime: Runtime, folder: Folder, manifest: Manifest) -> None:
    """What the backup itself brings may be there, from a restore that was interrupted."""
    entries = folder.entries(manifest)
    wanted = next(entries, None)
    async for one in runtime.store.every_object():
        while wanted is not None and wanted.key.encode() < one.key.encode():
            wanted = next(entries, None)
        if (wanted is None or wanted.key != one.key) and not one.key.startswith(OURS):
            raise BackupError(
                f"the bucket `{runtime.store.bucket}` is not empty: it has `{one.key}`\n"
                "hint: restore into a new bucket, or pass --replace to leave it there and go on"
            )


async def require_no_workers(settings: Settings) -> None:
    """A worker may be about to delete what the backup needs, or to write to a database that is about to go."""
    async with await _connect(settings) as connection:
        if not await _has(connection, "procrastinate_workers"):
            return
        living = await _one(
            connection,
            "SELECT count(*) FROM procrastinate_workers WHERE last_heartbeat > now() - make_interval(secs => %s)",
            settings.stalled_seconds,
        )
        if living:
            raise BackupError(
                "workers are running, and what is there would be replaced underneath them\n"
                "hint: stop them first (`paletta-server up --workers 0` runs the stack without); one that was killed"
                f" counts for {settings.stalled_seconds} s"
            )


async def connections(settings: Settings) -> int:
    """How many connections processes of the service have to its database."""
    async with await _connect(settings) as connection:
        found = await _one(
            connection,
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name LIKE 'paletta%' AND pid <> pg_backend_pid()",
        )
        return int(str(found))


async def has_table(settings: Settings, table: str) -> bool:
    """Whether the database has it: it may have no schema yet, or an old one."""
    async with await _connect(settings) as connection:
        return await _has(connection, table)


# ---- a restore that was cut short after the database was replaced


def mark(manifest: Manifest) -> str:
    """The statement that notes, with the database, that this backup's restore is not at its end yet.

    A comment on the schema: it is there whatever the schema's version, and no backup brings one along.
    """
    return f"COMMENT ON SCHEMA public IS '{_words(manifest)}';"


async def is_marked(settings: Settings, manifest: Manifest) -> bool:
    """Whether the database is this backup's, and its restore was cut short."""
    async with await _connect(settings) as connection:
        return await _one(connection, "SELECT obj_description(to_regnamespace('public'))") == _words(manifest)


async def unmark(settings: Settings) -> None:
    async with await _connect(settings) as connection:
        await connection.execute("COMMENT ON SCHEMA public IS NULL")


def _words(manifest: Manifest) -> str:
    assert manifest.dump_sha256.isalnum(), "it was compared with the dump's"
    return f"being restored from {manifest.dump_sha256}"


# ---- asking


async def _connect(settings: Settings) -> Connection:
    return await connect_async(settings, autocommit=True)


async def _has(connection: Connection, table: str) -> bool:
    return await _one(connection, "SELECT to_regclass(%s)", f"public.{table}") is not None


async def _one(connection: Connection, query: str, *values: object) -> object:
    row = await (await connection.execute(query.encode(), values)).fetchone()
    return row[0] if row else None
