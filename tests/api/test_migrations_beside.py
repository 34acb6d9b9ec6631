"""Migrations beside a service that runs: what they may do, several runners at once, and a long transaction in the way.

That a node serves through one is shown in `faults/test_rolling.py`.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from alembic.script import ScriptDirectory

from paletta_server import migrations
from paletta_server.core.settings import Settings
from tests.api.test_migrations import apart
from tests.faults.site import program
from tests.support.expanding import faults, overheard
from tests.support.stack import Addresses, make_empty_database
from tests.support.up import clean_env

__all__ = ["apart"]  # a fixture

BASELINE = "0023"
"""Up to here nobody had a service to keep running."""

BAD = [
    "DROP TABLE clips",
    "ALTER TABLE clips DROP COLUMN title",
    "ALTER TABLE clips RENAME COLUMN title TO name",
    "ALTER TABLE clips RENAME TO films",
    'ALTER TABLE "clips" ALTER COLUMN width TYPE bigint',
    "ALTER TABLE clips ALTER COLUMN reason SET NOT NULL",
    "ALTER TABLE clips ADD COLUMN mood TEXT NOT NULL",
    "ALTER TABLE clips ADD COLUMN salt uuid DEFAULT gen_random_uuid() NOT NULL",
    "ALTER TABLE clips ADD CONSTRAINT ck_clips_fps CHECK (fps > 0)",
    "ALTER TABLE clips ADD CONSTRAINT fk FOREIGN KEY(mood) REFERENCES moods (id)",
    "ALTER TABLE clips ADD CONSTRAINT uq_clips_mood UNIQUE (mood)",
    "CREATE INDEX ix_clips_mood ON clips (mood)",
    "CREATE UNIQUE INDEX ix_clips_mood ON public.clips USING btree (mood)",
    "UPDATE clips\n SET mood = 'calm' -- all of them",
    "LOCK TABLE clips IN ACCESS EXCLUSIVE MODE",
]
GOOD = [
    "ALTER TABLE clips ADD COLUMN mood TEXT",
    "ALTER TABLE clips ADD COLUMN mood TEXT DEFAULT 'calm' NOT NULL",
    "ALTER TABLE clips ADD CONSTRAINT ck_clips_fps CHECK (fps > 0) NOT VALID",
    "ALTER TABLE clips VALIDATE CONSTRAINT ck_clips_fps",
    "ALTER TABLE clips DROP CONSTRAINT ck_clips_fps",
    "CREATE INDEX CONCURRENTLY ix_clips_mood ON clips (mood)",
    "UPDATE alembic_version SET version_num='9999'",
]
NEW_TABLE = [
    "CREATE TABLE moods (id BIGINT)",
    "CREATE INDEX ix_moods_id ON moods (id)",
    "ALTER TABLE moods ADD CONSTRAINT ck CHECK (id > 0)",
    "UPDATE moods SET id = 1",
]


@pytest.mark.parametrize("statement", BAD)
def test_the_rules_find(statement: str) -> None:
    assert len(faults([statement])) == 1
    assert faults([statement], {statement.split()[2]: "a reason"}) == []


def test_the_rules_let_pass() -> None:
    assert faults([*GOOD, *NEW_TABLE]) == []
    assert faults(GOOD, {"nothing like it": "a reason"})[0].why == "is allowed, but nothing needs it"


@pytest.fixture
def empty(stack: Addresses, worker_name: str) -> Settings:
    """Settings of a database without anything in it."""
    return Settings(_env_file=None, database_url=make_empty_database(stack, f"paletta_{worker_name}_empty"))


@pytest.mark.parametrize("old", ["0015"])
def test_the_rules_are_applied_to_what_is_executed(empty: Settings, old: str) -> None:
    """Revision 0015 built an index on a table that is in use, which was right then."""
    migrations.migrate(empty, "0014")
    with overheard() as heard:
        migrations.migrate(empty, old)
    assert any("ix_uploads_created_at" in fault.statement for fault in faults(heard))


def test_each_migration_suits_the_release_before_it(empty: Settings) -> None:
    known = migrations.revisions()
    script = ScriptDirectory(str(migrations.VERSIONS.parent))
    after = known[known.index(BASELINE) + 1 :]
    migrations.migrate(empty, BASELINE)
    wrong = {}
    for revision in after:
        with overheard() as heard:
            migrations.migrate(empty, revision)
        allowed = getattr(script.get_revision(revision).module, "ALLOWED", None)
        if found := faults(heard, allowed):
            wrong[revision] = [str(fault) for fault in found]
    assert wrong == {}


def test_two_nodes_migrate_at_once(empty: Settings, tmp_path: Path) -> None:
    """From nothing to the newest, by three processes at the same time."""
    env = clean_env(HOME=str(tmp_path), PALETTA_DATABASE_URL=empty.libpq_url)
    argv = [program("paletta-server"), "migrate"]
    runners = [
        subprocess.Popen(
            argv, env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for _ in range(3)
    ]
    said = [runner.communicate(timeout=300)[0] for runner in runners]
    assert [runner.returncode for runner in runners] == [0, 0, 0], said
    assert migrations.versions(empty) == (migrations.revisions()[-1],) * 2


MIGRATION = '''
"""a column, a table and an index"""
import sqlalchemy as sa
from alembic import op
from paletta_server.migrations import online

revision, down_revision, branch_labels, depends_on = "next", {head!r}, None, None

def upgrade() -> None:
    op.add_column("clips", sa.Column("mood", sa.Text(), server_default="calm", nullable=False))
    op.create_table("moods", sa.Column("clip_id", sa.BigInteger(), sa.ForeignKey("clips.id"), primary_key=True))
    online.create_index("ix_clips_mood", "clips", ["mood"])

def downgrade() -> None:
    op.drop_table("moods")
    op.drop_column("clips", "mood")
'''


@pytest.fixture
def coming(tmp_path: Path) -> Path:
    """A folder with a migration of a release to come."""
    folder = tmp_path / "coming"
    folder.mkdir()
    (folder / "next.py").write_text(MIGRATION.format(head=migrations.revisions()[-1]))
    return folder


@pytest.fixture
def holder(apart: Settings) -> Iterator[psycopg.Connection]:
    """A transaction that has read clips and does not end: a backup, a report, a forgotten terminal."""
    with psycopg.connect(apart.libpq_url) as connection:
        connection.execute("SELECT count(*) FROM clips")
        yield connection


async def test_a_migration_does_not_make_everybody_queue_behind_a_long_transaction(
    apart: Settings, holder: psycopg.Connection, coming: Path
) -> None:
    """While it waits its turn, others read and write what it wants to change, after LOCK_SECONDS at the latest."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as thread:
        running = loop.run_in_executor(thread, lambda: migrations.migrate(apart, beside=coming))
        held_up, seen = list[float](), 0
        async with await psycopg.AsyncConnection.connect(apart.libpq_url, autocommit=True) as other:
            async with asyncio.timeout(90):
                while len(held_up) < 2 or seen <= 20:
                    began = time.monotonic()
                    await other.execute("SELECT count(*) FROM clips")
                    if (took := time.monotonic() - began) > 0.5:
                        held_up.append(took)
                    seen += 1
                    await asyncio.sleep(0.02)
            assert not running.done(), "the table is held: it cannot have happened"
            holder.rollback()
            await asyncio.wait_for(running, 60)
            (row,) = await (await other.execute("SELECT count(*) FROM moods")).fetchall()
            valid = await other.execute(
                "SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_clips_mood'::regclass"
            )
            assert await valid.fetchall() == [(True,)]
    assert row == (0,)
    assert max(held_up) < 4 * migrations.LOCK_SECONDS, held_up
    assert migrations.LOCK_SECONDS == 2


async def test_a_migration_gives_up_in_words(
    apart: Settings, holder: psycopg.Connection, coming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "TRIES", 1)
    with pytest.raises(migrations.OperationalError, match="lock timeout"):
        await asyncio.to_thread(migrations.migrate, apart, beside=coming)
    holder.rollback()
    await asyncio.to_thread(migrations.migrate, apart, beside=coming)
