"""A database that wants a token and is verified (as RDS with IAM), goes away and comes back, and becomes a replica."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import InternalError, OperationalError

from paletta_server import migrations
from paletta_server.app import create_app
from paletta_server.core import dbconnect, jobs, notify
from paletta_server.core.database import Database
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.embedded.postgres import EmbeddedPostgres
from paletta_server.flags import service as flags
from paletta_server.operations import pgtools
from tests.support import rds

REGION, SECRET = "eu-west-1", "a-secret-of-the-role"


@pytest.fixture(scope="module")
def postgres() -> Any:
    """PostgreSQL that lets its owner in from behind the gate, which is who checks."""
    with tempfile.TemporaryDirectory(prefix="paletta-rds-") as name:
        Path(name).chmod(0o711)
        server = EmbeddedPostgres(Path(name) / "pg", durable=False)
        server.start()
        rules = server.pgdata / "pg_hba.conf"
        rules.write_text("local all paletta trust\n" + rules.read_text())
        _sql(server, "SELECT pg_reload_conf()")
        yield server
        server.stop()


def _sql(server: EmbeddedPostgres, statement: str) -> None:
    with psycopg.connect(server.url("postgres", superuser=True), autocommit=True) as admin:
        admin.execute(statement)  # type: ignore[arg-type]


def _writes_again(server: EmbeddedPostgres) -> None:
    """Return once who connects may write: the server reads its configuration in its own time."""
    deadline = time.monotonic() + 60
    while True:
        with psycopg.connect(server.url("postgres", superuser=True)) as fresh:
            if fresh.execute("SHOW default_transaction_read_only").fetchone() == ("off",):
                return
        assert time.monotonic() < deadline, "it reads its configuration no more"
        time.sleep(0.01)


@pytest.fixture
async def gate(
    postgres: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[rds.Gate]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    dbconnect._rds.cache_clear()
    _, certificate, key = rds.certify(tmp_path, "rds")
    assert postgres._socket_dir is not None
    made = rds.Gate(postgres._socket_dir / ".s.PGSQL.5432", certificate, key, SECRET, REGION)
    await made.start()
    yield made
    await made.stop()
    dbconnect._rds.cache_clear()


@pytest.fixture
def through(gate: rds.Gate, settings: Settings, tmp_path: Path) -> Settings:
    """Settings of a service on the database behind the gate."""
    return settings.model_copy(
        update={
            "database_url": type(settings.database_url)(
                f"postgresql://paletta@localhost:{gate.port}/paletta"
            ),
            "database_auth": "iam",
            "database_ca": tmp_path / "rds-ca.pem",
            "aws_region": REGION,
            "aws_endpoint": None,
        }
    )


async def ask(database: Database, question: str = "SELECT count(*) FROM pg_class") -> object:
    async with database.transaction() as session:
        return await session.scalar(text(question))


async def test_every_way_to_the_database_brings_a_token(
    through: Settings, gate: rds.Gate, tmp_path: Path
) -> None:
    await asyncio.to_thread(migrations.migrate, through)
    current, wanted = await asyncio.to_thread(migrations.versions, through)
    assert current == wanted
    if shutil.which("psql"):
        ask_it = ["--no-psqlrc", "--command=SELECT 1"]
        await asyncio.to_thread(pgtools.run, "psql", ask_it, conninfo=dbconnect.conninfo(through))
    else:  # the embedded one is built without TLS, and must not be tried
        with pytest.raises(pgtools.ToolError, match="install PostgreSQL's client programs"):
            pgtools.run("psql", [], conninfo=dbconnect.conninfo(through))
    before = len(gate.tokens)
    async with Runtime.open(through, listen=True) as runtime:
        woken = runtime.notify.subscribe("topic")
        await asyncio.wait_for(woken.wait(), 60)  # it listens
        woken.clear()
        async with runtime.db.transaction() as session:
            await notify.announce(session, "topic")
            await jobs.defer(session, "clips.discard", keys=[])
        await asyncio.wait_for(woken.wait(), 60)
        await jobs.run_worker(runtime, name="test", concurrency=1, wait=False)
        async with runtime.db.transaction() as session:
            # What is due by the clock may be queued meanwhile.
            left = text("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'clips.discard'")
            assert await session.scalar(left) == 0
    assert len(gate.tokens) > before + 2
    assert gate.refused == 0


@pytest.mark.parametrize("trouble", ["another authority", "another name", "another key", "an old token"])
async def test_a_server_or_a_token_that_is_not_right(
    trouble: str, through: Settings, gate: rds.Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if trouble == "another authority":
        through = through.model_copy(update={"database_ca": rds.certify(tmp_path, "other")[0]})
    elif trouble == "another name":
        url = through.libpq_url.replace("localhost", "127.0.0.1")
        through = through.model_copy(update={"database_url": type(through.database_url)(url)})
    elif trouble == "another key":
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not the role's")
        dbconnect._rds.cache_clear()
    else:
        gate.skew = timedelta(minutes=16)
    database = Database(through, pool_size=1)
    with pytest.raises(OperationalError) as caught:
        await ask(database)
    await database.close()
    assert "X-Amz-Signature" not in str(caught.value), "no token in an error"
    about_the_server = trouble in ("another authority", "another name")
    assert ("certificate" in str(caught.value)) == about_the_server
    assert gate.refused == (0 if about_the_server else 1), "no token goes to a server that was not verified"


async def test_it_goes_on_after_a_restart_with_a_new_token(
    through: Settings, gate: rds.Gate, postgres: EmbeddedPostgres
) -> None:
    database = Database(through, pool_size=2)
    assert await ask(database)
    before = len(gate.tokens)
    await asyncio.to_thread(
        _sql, postgres, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'paletta'"
    )
    postgres.stop()
    with pytest.raises(OperationalError):
        await ask(database)
    postgres.start()
    gate.socket = postgres._socket_dir / ".s.PGSQL.5432"  # type: ignore[operator]
    assert await ask(database)
    assert len(gate.tokens) > before
    await database.close()


async def test_credentials_that_are_away_for_a_while_are_a_database_that_is(
    through: Settings,
    gate: rds.Gate,
    postgres: EmbeddedPostgres,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A role's credentials are renewed by asking, and now and then nobody answers."""
    await asyncio.to_thread(migrations.migrate, through)
    given = {"Version": 1, "AccessKeyId": "AKIDEXAMPLE", "SecretAccessKey": SECRET}
    (tmp_path / "credentials.json").write_text(json.dumps(given))
    (tmp_path / "config").write_text(f"[default]\ncredential_process = cat {tmp_path / 'credentials.json'}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    dbconnect._rds.cache_clear()
    app = create_app(through)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=through.public_url) as client,
    ):
        assert (await client.get("/v1/categories")).status_code == 200
        (tmp_path / "credentials.json").rename(tmp_path / "away.json")
        dbconnect._rds.cache_clear()
        await asyncio.to_thread(
            _sql, postgres, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'paletta'"
        )
        await _logged(caplog, "listening for changes failed; trying again")
        refused = await client.get("/v1/categories")
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        (tmp_path / "away.json").rename(tmp_path / "credentials.json")
        dbconnect._rds.cache_clear()
        assert (await client.get("/v1/categories")).status_code == 200
        async with app.state.runtime.db.transaction() as session:
            await session.execute(text("INSERT INTO flags (name, message) VALUES ('no-checkout', 'later')"))
            await notify.announce(session, flags.TOPIC)
        async with asyncio.timeout(30):
            while app.state.switches.message(flags.Switch.NO_CHECKOUT) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def _logged(caplog: pytest.LogCaptureFixture, message: str) -> None:
    async with asyncio.timeout(30):
        while not any(record.message == message for record in caplog.records):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_writer_that_became_a_replica_is_left(
    through: Settings, gate: rds.Gate, postgres: EmbeddedPostgres
) -> None:
    await asyncio.to_thread(migrations.migrate, through)
    app = create_app(through)
    who = {"email": "ana@example.org", "password": secrets.token_urlsafe(24)}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=through.public_url) as client,
    ):
        database = Database(through, pool_size=1)  # the application's is its background tasks' as well
        assert await ask(database)
        await asyncio.to_thread(_sql, postgres, "ALTER SYSTEM SET default_transaction_read_only = on")
        await asyncio.to_thread(_sql, postgres, "SELECT pg_reload_conf()")
        try:
            while await ask(database, "SHOW default_transaction_read_only") != "on":  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # who is connected hears of it in a moment
            with pytest.raises(InternalError) as caught:  # the connection that is open still
                async with database.transaction() as session:
                    await session.execute(text("CREATE TABLE never (id int)"))
            assert dbconnect.is_read_only(caught.value.orig)
            assert caught.value.connection_invalidated
            refused = await client.post("/v1/auth/register", json=who)
            assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
            assert refused.headers["retry-after"]
            with pytest.raises(OperationalError, match="read-only"):  # no new connection to a replica
                await ask(database)
        finally:
            await asyncio.to_thread(_sql, postgres, "ALTER SYSTEM RESET default_transaction_read_only")
            await asyncio.to_thread(_sql, postgres, "SELECT pg_reload_conf()")
            await asyncio.to_thread(_writes_again, postgres)
            await database.close()
        taken = await client.post("/v1/auth/register", json=who)
        assert taken.status_code < 300, taken.text


def test_a_token_goes_to_nobody_who_is_not_verified() -> None:
    with pytest.raises(ValueError, match="PALETTA_DATABASE_CA"):
        Settings(_env_file=None, database_auth="iam")
