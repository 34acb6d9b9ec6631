"""Restoring where something goes wrong: programs that die, objects that are not what they were, workers beside it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import text

from paletta_server import migrations
from paletta_server.clips import tasks as clip_tasks
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.operations import backup, pgtools
from paletta_server.operations.backup_files import BackupError, Folder
from paletta_server.operations.backup_verifying import verify
from paletta_server.operations.restore import restore, restore_objects
from tests.conftest import Person
from tests.support.orders import Sold
from tests.support.stack import Addresses, make_empty_database


@pytest.fixture
async def folder(runtime: Runtime, sold: tuple[Sold, Person], tmp_path: Path) -> Folder:
    """A backup of a service with a purchase."""
    made = Folder(tmp_path / "backup")
    await backup.back_up(runtime, made, "copy")
    return made


def mark(settings: Settings) -> None:
    """Leave something in a database that is gone once it was replaced."""
    with psycopg.connect(settings.libpq_url) as connection:
        connection.execute("CREATE TABLE before_it ()")


def marked(settings: Settings) -> bool:
    with psycopg.connect(settings.libpq_url) as connection:
        [found] = connection.execute("SELECT to_regclass('public.before_it') IS NOT NULL").fetchone() or [
            None
        ]
    return bool(found)


Instead = Callable[..., None]


@pytest.fixture
def instead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Instead:
    """Put a script before one of PostgreSQL's programs; it finds the real one as `REAL`."""
    real = pgtools.find
    places: dict[str, Path] = {}
    monkeypatch.setattr(pgtools, "find", lambda name, *_: places.get(name) or real(name))

    def replace(name: str, body: str) -> None:
        place = tmp_path / f"{name}-instead"
        place.write_text(f"#!{sys.executable}\nREAL = {str(real(name))!r}\n{body}\n")
        place.chmod(0o700)
        places[name] = place

    return replace


DIES = """
import os, signal, subprocess, sys
script = subprocess.run([REAL, *sys.argv[1:]], stdout=subprocess.PIPE, check=True).stdout
sys.stdout.buffer.write(script[:int(len(script) * {share})])
sys.stdout.buffer.flush()
os.kill(os.getpid(), signal.{signal})
"""


async def test_a_program_that_dies_leaves_the_database_as_it_was(
    fresh: Settings, folder: Folder, instead: Instead
) -> None:
    """Wherever it dies, be it after its last byte."""
    mark(fresh)
    async with Runtime.open(fresh) as target:
        manifest = await asyncio.to_thread(verify, folder)
        for share, signal in (
            (0, "SIGKILL"),
            (0.2, "SIGKILL"),
            (0.5, "SIGTERM"),
            (0.9, "SIGKILL"),
            (1, "SIGKILL"),
        ):
            instead("pg_restore", DIES.format(share=share, signal=signal))
            with pytest.raises(pgtools.ToolError, match="`pg_restore` failed"):
                await restore(target, folder, manifest)
            assert marked(fresh), f"died after {share:.0%}"
        instead("pg_restore", "import os, sys; os.execv(REAL, [REAL, *sys.argv[1:]])")
        await restore(target, folder, manifest)
        assert not marked(fresh)


async def test_an_error_of_the_database_is_the_one_that_is_told(
    fresh: Settings, folder: Folder, instead: Instead
) -> None:
    """Not the notices before it; and nothing waits for a program whose output nobody reads any more."""
    mark(fresh)
    with psycopg.connect(fresh.libpq_url) as connection:
        for number in range(5):
            connection.execute(f"CREATE TABLE more_{number} (); DROP TABLE IF EXISTS nothing_{number}")
    instead(
        "pg_restore",
        "import sys\nprint('SELECT nonsense();')\nfor _ in range(10**6): print('SELECT 1; -- and so on')",
    )
    async with Runtime.open(fresh) as target:
        manifest = await asyncio.to_thread(verify, folder)
        with pytest.raises(pgtools.ToolError, match=r"`psql` failed: .*function nonsense\(\) does not exist"):
            await restore(target, folder, manifest)
    assert marked(fresh)


async def overwrite(runtime: Runtime, key: str) -> bytes:
    """Give an object as many other bytes; what it had."""
    store = runtime.store
    had: bytes = store._client().get_object(Bucket=store.bucket, Key=key)["Body"].read()
    store._client().put_object(Bucket=store.bucket, Key=key, Body=bytes(len(had)))
    return had


async def content(runtime: Runtime, key: str) -> bytes:
    store = runtime.store
    return bytes(store._client().get_object(Bucket=store.bucket, Key=key)["Body"].read())


async def test_a_sold_file_with_other_bytes_comes_back(
    runtime: Runtime, sold: tuple[Sold, Person], folder: Folder, fresh: Settings
) -> None:
    """By itself, beside a database that is in use; and with everything."""
    order, _ = sold
    key = f"sale/{order.items[0].uid}/hd"
    manifest = await asyncio.to_thread(verify, folder)
    async with Runtime.open(fresh) as target:
        await restore(target, folder, manifest)
        had = await overwrite(target, key)
        again = await restore(target, folder, manifest, replace_all=True)
        assert (again.stored, again.there) == (1, 3)
        assert await content(target, key) == had
    await overwrite(runtime, key)
    mark(runtime.settings)
    only = await restore_objects(runtime, folder, manifest)
    assert (only.stored, only.there, only.unknown, only.damaged) == (1, 3, 0, 0)
    assert await content(runtime, key) == had
    assert marked(runtime.settings), "the database is left alone"
    with psycopg.connect(runtime.settings.libpq_url) as connection:
        connection.execute("DROP TABLE before_it")


async def test_objects_alone_leave_out_what_the_service_gave_up(
    runtime: Runtime, sold: tuple[Sold, Person], folder: Folder
) -> None:
    order, _ = sold
    hd, original = (f"sale/{order.items[0].uid}/{tier}" for tier in ("hd", "original"))
    manifest = await asyncio.to_thread(verify, folder)
    async with runtime.db.transaction() as session:
        [gone] = await session.scalars(text("SELECT original_key FROM clips WHERE size = 1"))
        await session.execute(text("UPDATE clips SET deleted_at = now() WHERE size = 1"))
    await runtime.store.delete([gone, hd, original])
    folder.path_of(original).write_bytes(bytes(folder.path_of(original).stat().st_size))
    only = await restore_objects(runtime, folder, manifest)
    assert (only.stored, only.there, only.unknown, only.damaged) == (1, 1, 1, 1)
    assert await runtime.store.head(gone) is None
    assert await runtime.store.head(hd) is not None
    assert await runtime.store.head(original) is None, "a damaged copy is none"


async def test_what_is_there_stays_until_the_database_is_replaced(
    sold: tuple[Sold, Person], folder: Folder, fresh: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two jobs that delete, one begins after the restore has looked, and one was at it before there was a hold."""
    manifest = await asyncio.to_thread(verify, folder)
    order, _ = sold
    hd, original = (f"sale/{order.items[0].uid}/{tier}" for tier in ("hd", "original"))
    async with Runtime.open(fresh) as target:
        await restore(target, folder, manifest)
        async with target.db.transaction() as session:
            await session.execute(text("TRUNCATE order_item_files CASCADE"))  # the shop goes on, without them
        real = target.store.sha256

        async def later(key: str) -> str:
            digest = await real(key)
            if key == hd:
                await clip_tasks.discard(target, keys=[hd])
            elif key == original:
                await target.store.delete([original])
            return digest

        monkeypatch.setattr(target.store, "sha256", later)
        kept: list[bool] = []
        apply = pgtools.apply

        def applied(*arguments: Any, **more: Any) -> None:
            with psycopg.connect(fresh.libpq_url) as connection:
                row = connection.execute(
                    "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'clips.discard'"
                )
                kept.append(row.fetchone() == (1,))
            apply(*arguments, **more)

        monkeypatch.setattr(pgtools, "apply", applied)
        await restore(target, folder, manifest, replace_all=True)
        assert kept == [True], "a deletion was put off"
        assert await target.store.head(hd) is not None
        assert await target.store.head(original) is not None


async def test_a_living_worker_is_in_the_way(folder: Folder, fresh: Settings) -> None:
    manifest = await asyncio.to_thread(verify, folder)
    mark(fresh)
    with psycopg.connect(fresh.libpq_url) as connection:
        connection.execute(
            "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() + interval '1 hour')"
        )
    async with Runtime.open(fresh) as target:
        with pytest.raises(BackupError, match="workers are running"):
            await restore(target, folder, manifest, replace_all=True)
        assert marked(fresh)
        with psycopg.connect(fresh.libpq_url) as connection:
            connection.execute("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour'")
        await restore(target, folder, manifest, replace_all=True)
        assert not marked(fresh)


async def test_a_restore_that_lost_its_end_goes_on(folder: Folder, fresh: Settings) -> None:
    """After the database, before the index: what was done since stays."""
    manifest = await asyncio.to_thread(verify, folder)

    async def cut_off() -> None:
        raise ConnectionError

    finished: list[bool] = []

    async def finish() -> None:
        finished.append(True)

    async with Runtime.open(fresh) as target:
        with pytest.raises(ConnectionError):
            await restore(target, folder, manifest, finish=cut_off)
        mark(fresh)
        await restore(target, folder, manifest, finish=finish)
        assert finished == [True]
        assert marked(fresh), "the database was replaced a second time"
        with pytest.raises(BackupError, match="not empty"):
            await restore(target, folder, manifest)


# ---- a role that does not own the schema


@pytest.fixture
def served(fresh: Settings, stack: Addresses, worker_name: str) -> Iterator[Settings]:
    """An empty database as `aws prepare-database` leaves it: the service's role may make things in a schema that is
    not its own. It brought the schema up to date itself."""
    role, database = f"paletta_served_{worker_name}", f"paletta_{worker_name}_served"
    owner = make_empty_database(stack, database)
    with psycopg.connect(stack.admin_url, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'served'").format(sql.Identifier(role)))
    with psycopg.connect(owner, autocommit=True) as connection:
        names = sql.Identifier(database), sql.Identifier(role)
        connection.execute(sql.SQL("GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {} TO {}").format(*names))
        connection.execute(sql.SQL("GRANT CREATE, USAGE ON SCHEMA public TO {}").format(names[1]))
    url = make_conninfo(owner, user=role, password="served")
    parts = conninfo_to_dict(url)
    address = f"postgresql:///?{urlencode(parts)}"
    settings = fresh.model_copy(update={"database_url": type(fresh.database_url)(address)})
    migrations.migrate(settings)
    yield settings
    with psycopg.connect(stack.admin_url, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(names[0]))
        admin.execute(sql.SQL("DROP ROLE {}").format(names[1]))


async def test_a_role_that_may_not_replace_the_schema_is_told_before_anything_is_stored(
    served: Settings, folder: Folder, stack: Addresses
) -> None:
    mark(served)
    role = conninfo_to_dict(served.libpq_url)["user"]
    database = conninfo_to_dict(served.libpq_url)["dbname"]
    manifest = await asyncio.to_thread(verify, folder)
    elsewhere = make_conninfo(stack.admin_url, dbname=str(database))
    async with Runtime.open(served) as target:
        with pytest.raises(BackupError, match="belongs to the database's owner") as refused:
            await restore(target, folder, manifest, replace_all=True)
        said = str(refused.value)
        assert f"`ALTER SCHEMA public OWNER TO {role}`" in said
        assert marked(served)
        assert [one async for one in target.store.every_object()] == []

        mend = said.split("`")[3]
        with psycopg.connect(elsewhere, autocommit=True) as admin:
            admin.execute(mend)  # as it was told
            admin.execute(sql.SQL("REVOKE CREATE ON DATABASE {} FROM {}").format(*_names(database, role)))
        with pytest.raises(BackupError, match="may not make the schema `public` again") as refused:
            await restore(target, folder, manifest)
        with psycopg.connect(elsewhere, autocommit=True) as admin:
            admin.execute(str(refused.value).split("`")[3])
        await restore(target, folder, manifest)
        assert not marked(served)
        assert [one async for one in target.store.every_object()]


def _names(*names: object) -> list[sql.Identifier]:
    return [sql.Identifier(str(name)) for name in names]
