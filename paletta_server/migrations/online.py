"""Steps of a migration that a busy table bears."""

from collections.abc import Sequence
from typing import Any

from alembic import op
from sqlalchemy import text

from paletta_server.migrations import LIMITS


def create_index(name: str, table: str, columns: Sequence[Any], **options: Any) -> None:
    """Build an index while others read and write. Its own transactions: let it come first or last in a migration.

    It waits for every transaction that began before it, and holds nobody up meanwhile, so our limits are lifted.
    What an attempt before left, which PostgreSQL marks as invalid, is dropped first.
    """
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")
        op.execute("SET statement_timeout = 0")
        op.execute(text(f'DROP INDEX CONCURRENTLY IF EXISTS "{name}"'))
        op.create_index(name, table, columns, postgresql_concurrently=True, **options)
        for name_of, limit in LIMITS.items():
            op.execute(f"SET {name_of} = '{limit}'")
