"""`paletta-server aws prepare-database` on a real PostgreSQL, with a role `rds_iam` as RDS has it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from paletta_server.aws.database_role import IAM_GROUP, prepare
from paletta_server.core.settings import Settings
from tests.support.stack import Addresses
from tests.support.up import clean_env

USER, DATABASE = "paletta_service_of_test", "paletta_prepared"


@pytest.fixture
def url(stack: Addresses, worker_name: str) -> Iterator[str]:
    """A fresh database, as its superuser: RDS's first user cannot be had here."""
    name = f"{DATABASE}_{worker_name}"
    with psycopg.connect(stack.admin_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        head, _, query = stack.admin_url.partition("?")
        yield f"{head.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        for role in (USER, IAM_GROUP):
            admin.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))


def command(url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "paletta_server.cli", "aws", "prepare-database"],
        capture_output=True,
        text=True,
        env=clean_env(PALETTA_DATABASE_URL=url),
        check=False,
    )


def test_the_role_logs_in_by_iam_and_may_make_what_migrations_need(url: str) -> None:
    elsewhere = command(url)  # nowhere but on RDS is there such a role
    assert elsewhere.returncode == 1
    assert "rds_iam" in elsewhere.stderr
    settings = Settings(_env_file=None, database_url=url)
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {IAM_GROUP}")
        done = prepare(settings, user=USER)
        assert len(done) == 3
        assert prepare(settings, user=USER) == []
        admin.execute(f"SET ROLE {USER}")
        admin.execute("CREATE TABLE films (id bigint); CREATE EXTENSION pg_trgm; CREATE EXTENSION citext")
        assert admin.execute(
            "SELECT rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, pg_has_role(%s, %s, 'MEMBER')"
            " FROM pg_roles WHERE rolname = %s",
            (USER, IAM_GROUP, USER),
        ).fetchone() == (True, False, False, False, True)


def test_a_database_that_does_not_answer_is_told_without_its_password() -> None:
    done = command("postgresql://owner:hunter22@127.0.0.1:1/paletta")
    assert done.returncode == 1
    assert "hint:" in done.stderr
    assert "hunter" not in done.stderr
    assert "Traceback" not in done.stderr
