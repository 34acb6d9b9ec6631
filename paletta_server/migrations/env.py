"""Runs migrations: one transaction each, short locks, one runner at a time."""

import time

from alembic import context
from sqlalchemy import Connection, text

from paletta_server.core.errors import Unavailable
from paletta_server.migrations import LIMITS
from paletta_server.migrations.tables import metadata

LOCK = 0x70616C65747461  # "paletta": the advisory lock that makes runners queue up


def _ours(_object: object, name: str | None, kind: str, *_: object) -> bool:
    """procrastinate's tables are its own."""
    return not (name or "").startswith("procrastinate_")


RUNNER_SECONDS = 600
"""How long a runner waits for another one."""


def _be_the_only_runner(connection: Connection) -> None:
    """By asking now and then: a statement that waits for the lock would be a transaction that an index built
    concurrently by its holder waits for in turn."""
    deadline = time.monotonic() + RUNNER_SECONDS
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": LOCK}):
        connection.commit()
        if time.monotonic() > deadline:
            raise Unavailable(f"another `migrate` has been at work for {RUNNER_SECONDS} s")
        time.sleep(0.2)
    connection.commit()


engine = context.config.attributes["engine"]()
with engine.connect() as connection:
    _be_the_only_runner(connection)
    for name, limit in LIMITS.items():
        connection.execute(text(f"SET {name} = '{limit}'"))
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_object=_ours,
        compare_server_default=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
