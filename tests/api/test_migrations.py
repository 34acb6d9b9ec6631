"""Migrations make what the models say, and can be taken back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import IntegrityError

from paletta_server.core.settings import Settings
from paletta_server.migrations import config, migrate
from paletta_server.migrations.tables import metadata
from tests.support.stack import Addresses, make_database


@pytest.fixture
def apart(stack: Addresses, worker_name: str) -> Settings:
    """Settings of a migrated database of the test's own."""
    return Settings(_env_file=None, database_url=make_database(stack, f"paletta_{worker_name}_migrations"))


@pytest.fixture
def connection(apart: Settings) -> Iterator[Connection]:
    engine = create_engine(apart.sqlalchemy_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as made:
        yield made
    engine.dispose()


def differences(connection: Connection) -> list[object]:
    def ours(_object: object, name: str | None, _kind: str, *_: object) -> bool:
        return not (name or "").startswith("procrastinate_")

    options = {"include_object": ours, "compare_server_default": True}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


def checks(connection: Connection) -> dict[str, str]:
    """Check constraints, which comparing leaves out."""
    rows = connection.execute(
        text("SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'c'")
    )
    return {str(name): str(definition) for name, definition in rows}


async def test_models_and_migrations_agree(connection: Connection) -> None:
    assert await asyncio.to_thread(differences, connection) == []


async def test_a_take_down_survives_the_way_back(apart: Settings, connection: Connection) -> None:
    before = checks(connection)
    connection.execute(
        text(
            "INSERT INTO users (uid, email, role, password_hash) VALUES ('user_a', 'a@example.org', 'contributor', '');"
            "INSERT INTO clips (uid, owner_id, title, file_name, size, sha256, crc64nvme, original_key, review,"
            " review_before, sold_withheld)"
            " SELECT 'clip_a', id, 'A tram', 'a.mov', 1, 'x', 'y', 'z', 'taken_down', 'approved', true FROM users;"
            "INSERT INTO uploads (uid, owner_id, clip_id, clip_uid, file_name, size, sha256, crc64nvme, part_size,"
            " part_count, key, stage, expires_at) SELECT 'upl_a', owner_id, id, uid, 'a.mov', 1, 'x', 'y', 1, 1, 'z',"
            " 'taken_down', now() FROM clips"
        )
    )
    await asyncio.to_thread(command.downgrade, config(apart), "0004")
    found = connection.execute(text("SELECT review, stage FROM clips JOIN uploads ON clip_id = clips.id"))
    assert [tuple(row) for row in found] == [("taken_down", "rejected")]
    assert "ck_clips_sold_withheld" not in checks(connection)
    await asyncio.to_thread(migrate, apart)
    assert checks(connection) == before
    assert differences(connection) == []


async def test_what_was_given_up_and_whose_mails_are_survive_the_way_back(
    apart: Settings, connection: Connection
) -> None:
    before = checks(connection)
    connection.execute(
        text(
            "INSERT INTO users (uid, email, role, password_hash) VALUES ('user_a', 'a@example.org', 'contributor', '');"
            "INSERT INTO outbox_emails (dedup_key, recipient, user_id, subject, body)"
            " SELECT 'hers', email, id, 'Your clips', '' FROM users;"
            "INSERT INTO outbox_emails (dedup_key, recipient, user_id, subject, body)"
            " SELECT 'formerly hers', 'former@example.org', id, 'Your clips', '' FROM users;"
            "INSERT INTO outbox_emails (dedup_key, recipient, subject, body)"
            " VALUES ('nobodys', 'desk@example.org', 'Figures', '');"
            "BEGIN;"
            "INSERT INTO ledger_transactions (kind) VALUES ('waived');"
            "INSERT INTO ledger_entries (transaction_id, account, user_id, currency, amount)"
            " SELECT t.id, 'payable', u.id, 'USD', -6000 FROM ledger_transactions t, users u;"
            "INSERT INTO ledger_entries (transaction_id, account, currency, amount)"
            " SELECT id, 'platform', 'USD', 6000 FROM ledger_transactions;"
            "COMMIT;"
            "INSERT INTO audit_logs (user_id, action, object, ip)"
            " SELECT id, 'account:login', uid, '192.0.2.1' FROM users"
        )
    )
    kept = text(
        "SELECT kind, account, amount FROM ledger_entries JOIN ledger_transactions t ON t.id = transaction_id"
    )
    ledger = set(connection.execute(kept))
    assert len(ledger) == 2
    await asyncio.to_thread(command.downgrade, config(apart), "0017")
    assert set(connection.execute(kept)) == ledger, "nothing leaves the ledger"
    with pytest.raises(IntegrityError, match="ck_ledger_transactions_kind"):
        connection.execute(text("INSERT INTO ledger_transactions (kind) VALUES ('waived')"))
    await asyncio.to_thread(migrate, apart)
    mails = connection.execute(
        text("SELECT dedup_key, uid FROM outbox_emails m LEFT JOIN users u ON u.id = m.user_id ORDER BY m.id")
    )
    assert [tuple(row) for row in mails] == [
        ("hers", "user_a"),
        ("formerly hers", None),  # nothing else said whose it was
        ("nobodys", None),
    ]
    assert set(connection.execute(kept)) == ledger
    assert connection.scalar(text("SELECT ip FROM audit_origins")) == "192.0.2.1", "of somebody, who acted"
    assert checks(connection) == before, "and what was not asked of old rows is asked of all again"
    assert differences(connection) == []
