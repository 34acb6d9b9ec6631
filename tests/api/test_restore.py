"""Restoring where something goes wrong: programs that die, objects that are not what they were, workers beside it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.operations import backup, pgtools
from paletta_server.operations.backup_files import Folder
from paletta_server.operations.restore import restore, verify
from tests.conftest import Person
from tests.support.orders import Sold


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
        [found] = connection.execute("SELECT to_regclass('public.before_it') IS NOT NULL").fetchone() or [None]
    return bool(found)


Instead = Callable[..., None]


@pytest.fixture
def instead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Instead:
    """Put a script before one of PostgreSQL's programs; it finds the real one as `REAL`."""
    real = pgtools.find
    places: dict[str, Path] = {}
    monkeypatch.setattr(pgtools, "find", lambda name: places.get(name) or real(name))

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
        for share, signal in ((0, "SIGKILL"), (0.2, "SIGKILL"), (0.5, "SIGTERM"), (0.9, "SIGKILL"), (1, "SIGKILL")):
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
