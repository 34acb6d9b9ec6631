"""Runs migrations: one transaction each, short locks, one runner at a time."""

from alembic import context
from sqlalchemy import text

from paletta_server.migrations.tables import metadata

LOCK = 0x70616C65747461  # "paletta": the advisory lock that makes runners queue up


def _ours(_object: object, name: str | None, kind: str, *_: object) -> bool:
    """procrastinate's tables are its own."""
    return not (name or "").startswith("procrastinate_")


engine = context.config.attributes["engine"]()
with engine.connect() as connection:
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": LOCK})
    connection.execute(text("SET lock_timeout = '5s'"))
    connection.execute(text("SET statement_timeout = '60s'"))
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
