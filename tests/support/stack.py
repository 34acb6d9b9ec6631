"""One PostgreSQL and one object store for a whole pytest run, and what the tests' fixtures are made of.

The process that the person started runs them; under xdist its workers find the addresses in the environment.
Each worker has a database of its own, copied from a template that was migrated once, and a bucket of its own.
The application commits for real, so a test is cleaned up by emptying the tables it wrote to.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
import threading
from dataclasses import asdict, dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default as modern
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from paletta_server.core.settings import Settings
from paletta_server.embedded.objectstore import Address, EmbeddedStore
from paletta_server.embedded.postgres import OWNER, EmbeddedPostgres

ADDRESSES = "PALETTA_TEST_STACK"
TEMPLATE = "paletta_template"
# Filled by migrations, not by tests.
KEPT_TABLES = frozenset({"alembic_version", "procrastinate_version"})
LARGE = 1 << 20
"""Bytes of a table that is truncated: what deleting leaves behind is read again by every query until it is vacuumed."""


@dataclass(frozen=True)
class Addresses:
    """Where the run's servers are; passed to xdist's workers as JSON in the environment."""

    admin_url: str
    """The superuser, on the database `postgres`."""
    owner_url: str
    """The owner of the tests' databases; the database's name is to be replaced."""
    endpoint: str
    access_key: str
    secret_key: str


class TestStack:
    """The servers, running in temporary directories."""

    __test__ = False

    def __init__(self) -> None:
        self._dir = Path(tempfile.mkdtemp(prefix="paletta-test-"))
        self._dir.chmod(0o711)  # PostgreSQL may run as another user
        self._postgres = EmbeddedPostgres(self._dir / "pg", durable=False)
        self._store = EmbeddedStore(self._dir / "s3", "paletta-shared")

    def start(self) -> Addresses:
        self._store.prepare()
        self._store.launch()
        owner_url = self._postgres.start()
        self._store.wait_ready()
        store: Address = self._store.address()
        addresses = Addresses(
            self._postgres.url("postgres", superuser=True),
            owner_url,
            store.endpoint,
            store.access_key,
            store.secret_key,
        )
        os.environ[ADDRESSES] = json.dumps(asdict(addresses))
        return addresses

    def stop(self) -> None:
        os.environ.pop(ADDRESSES, None)
        self._postgres.stop()
        self._store.stop()
        shutil.rmtree(self._dir, ignore_errors=True)


def known_addresses() -> Addresses | None:
    """The addresses that the controlling process published, if it did."""
    text = os.environ.get(ADDRESSES)
    return Addresses(**json.loads(text)) if text else None


def make_database(addresses: Addresses, name: str) -> str:
    """Make the database `name` as a copy of the migrated template; its libpq address."""
    with psycopg.connect(addresses.admin_url, autocommit=True) as admin:
        admin.execute("SELECT pg_advisory_lock(4242)")  # one xdist worker migrates, the others copy
        if not admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", [TEMPLATE]).fetchone():
            _create(admin, f"{TEMPLATE}_new")
            _migrate(_named(addresses.owner_url, f"{TEMPLATE}_new"))
            _run(admin, "ALTER DATABASE {} RENAME TO {}", f"{TEMPLATE}_new", TEMPLATE)
        _run(admin, "DROP DATABASE IF EXISTS {} WITH (FORCE)", name)
        _run(admin, "CREATE DATABASE {} TEMPLATE {} OWNER {}", name, TEMPLATE, OWNER)
        # Emptying tables between tests is above the triggers that keep the audit log, which only a superuser is else.
        _run(admin, "GRANT SET ON PARAMETER session_replication_role TO {}", OWNER)
    return _named(addresses.owner_url, name)


def make_empty_database(addresses: Addresses, name: str) -> str:
    """Make the database `name` without a schema; its libpq address."""
    with psycopg.connect(addresses.admin_url, autocommit=True) as admin:
        _create(admin, name)
    return _named(addresses.owner_url, name)


def _named(url: str, database: str) -> str:
    head, _, query = url.partition("?")
    return f"{head.rpartition('/')[0]}/{database}" + (f"?{query}" if query else "")


def _create(admin: psycopg.Connection[Any], name: str) -> None:
    _run(admin, "DROP DATABASE IF EXISTS {} WITH (FORCE)", name)
    _run(admin, "CREATE DATABASE {} OWNER {}", name, OWNER)


def _run(admin: psycopg.Connection[Any], statement: str, *names: str) -> None:
    admin.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def _migrate(url: str) -> None:
    from paletta_server.migrations import migrate

    migrate(Settings(_env_file=None, database_url=url))


class Emptier:
    """Empties every table, on one connection, which it makes anew when that was lost.

    Small tables, nearly all of them, have their rows deleted: truncating gives each table and each of its indexes
    a new file, which costs the server more than most tests do.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection[Any] | None = None

    def empty(self) -> None:
        for tries_left in (3, 2, 1, 0):
            try:
                self._open().execute(_EMPTY)
                return
            except psycopg.errors.DeadlockDetected:  # with a background task's transaction, which is over now
                if not tries_left:
                    raise
            except psycopg.OperationalError:
                if not tries_left or (self._connection is not None and not self._connection.closed):
                    raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _open(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            # Longer than anybody's transaction may be idle.
            conninfo = make_conninfo(self._url, application_name="emptier", options="-c lock_timeout=65000")
            self._connection = psycopg.connect(conninfo, autocommit=True)
            # Above the triggers that keep the audit log and that references hold.
            self._connection.execute("SET session_replication_role = replica")
        return self._connection


# Locking waits for whoever writes yet, as truncating did, so that nothing is written after its table was emptied.
_EMPTY = f"""
DO $$
DECLARE
  one record;
  every text;
BEGIN
  SELECT string_agg(format('%I', tablename), ', ') INTO every FROM pg_tables
    WHERE schemaname = 'public' AND tablename NOT IN ({", ".join(f"'{name}'" for name in sorted(KEPT_TABLES))});
  IF every IS NULL THEN RETURN; END IF;
  EXECUTE 'LOCK TABLE ' || every || ' IN EXCLUSIVE MODE';
  FOR one IN SELECT unnest(string_to_array(every, ', ')) AS name LOOP
    IF pg_relation_size(one.name::regclass) > {LARGE} THEN
      EXECUTE 'TRUNCATE ' || one.name || ' CASCADE';
    ELSE
      EXECUTE 'DELETE FROM ' || one.name;
    END IF;
  END LOOP;
END $$
"""


@dataclass
class MailSink:
    """An SMTP server in a thread that keeps what it is given. `refuse` makes it answer `refusal` instead."""

    messages: list[EmailMessage] = field(default_factory=list)
    refuse: bool = False
    refusal: str = "451 4.3.0 try again later"
    port: int = 0
    _ready: threading.Event = field(default_factory=threading.Event)
    _loop: asyncio.AbstractEventLoop | None = None
    _thread: threading.Thread | None = None

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 (aiosmtpd's name)
        if self.refuse:
            return self.refusal
        message = BytesParser(EmailMessage, policy=modern).parsebytes(envelope.content)
        message["X-Envelope-To"] = ", ".join(envelope.rcpt_tos)
        self.messages.append(message)
        return "250 2.0.0 kept"

    def to(self, address: str) -> list[EmailMessage]:
        """Mails for `address`, oldest first."""
        return [mail for mail in self.messages if address in mail["X-Envelope-To"]]

    def clear(self) -> None:
        self.messages.clear()
        self.refuse = False
        self.refusal = "451 4.3.0 try again later"

    def start(self) -> None:
        self._thread = threading.Thread(target=self._serve, name="mail-sink", daemon=True)
        self._thread.start()
        assert self._ready.wait(60), "the mail sink did not start"

    def _serve(self) -> None:
        from aiosmtpd.smtp import SMTP

        async def run() -> None:
            self._loop = asyncio.get_running_loop()
            server = await self._loop.create_server(
                lambda: SMTP(self, enable_SMTPUTF8=True, loop=self._loop), "127.0.0.1", 0
            )
            self.port = server.sockets[0].getsockname()[1]
            self._stopped = asyncio.Event()
            self._ready.set()
            await self._stopped.wait()
            server.close()

        asyncio.run(run())

    def stop(self) -> None:
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._stopped.set)
            self._thread.join(10)
