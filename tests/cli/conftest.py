"""For tests of commands against a served application: a contributor with clips, an admin, and ways to run `paletta`."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
import termios
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from paletta_cli import main as cli
from paletta_server.core.runtime import Runtime
from tests.conftest import MakeUser, Person
from tests.support.clips import Shelf
from tests.support.serving import serving

PROGRAM = [sys.executable, "-c", "from paletta_cli.main import run; run()"]


@dataclass(frozen=True)
class Ran:
    """What a command said and how it ended; on a terminal `out` has everything."""

    code: int
    out: str
    err: str = ""


Run = Callable[..., Awaitable[Ran]]


@pytest.fixture
async def url(app: FastAPI) -> AsyncIterator[str]:
    """The application's address, for programs."""
    async with serving(app) as address:
        yield address


@pytest.fixture
async def people(make_user: MakeUser) -> dict[str, Person]:
    """One person of each role."""
    return {role: await make_user(role) for role in ("contributor", "admin")}


@pytest.fixture
async def shelf(
    client: httpx.AsyncClient, people: dict[str, Person], runtime: Runtime, tmp_path: Path
) -> AsyncIterator[Shelf]:
    """The contributor's clips; the categories `transport` and `travel` exist."""
    async with runtime.db.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO categories (slug, name) VALUES ('transport', 'Transport'), ('travel', 'Travel')"
            )
        )
    made = Shelf.of(client, people["contributor"].headers, runtime, tmp_path)
    yield made
    await made.up.store.aclose()


@pytest.fixture
def paletta(
    url: str,
    people: dict[str, Person],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """`await paletta("clips", "list", as_="admin")`: a command line without a terminal, in the folder `tmp_path`."""
    monkeypatch.setenv("PALETTA_URL", url)
    monkeypatch.setenv("PALETTA_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("PALETTA_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)

    async def run(*argv: str, as_: str = "contributor") -> Ran:
        monkeypatch.setenv("PALETTA_TOKEN", people[as_].token)
        capsys.readouterr()
        code = await asyncio.to_thread(cli.main, list(argv))
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


@pytest.fixture
def on_a_terminal(url: str, people: dict[str, Person], tmp_path: Path) -> Run:
    """`await on_a_terminal("clips", "list", answer="y", TERM="xterm")`: a program on a terminal of 80 columns.

    With `asked` the answer waits until that was printed, and until `meanwhile` has happened.
    """
    ours = {name: os.environ[name] for name in ("PATH", "HOME", "VIRTUAL_ENV") if name in os.environ}
    ours |= {
        "PALETTA_URL": url,
        "PALETTA_TOKEN": people["contributor"].token,
        "PALETTA_CONFIG_DIR": str(tmp_path / "config"),
        "PALETTA_STATE_DIR": str(tmp_path / "state"),
        "PYTHONIOENCODING": "utf-8",
        "TERM": "dumb",  # no styles; tests of pictures name another
        "COLUMNS": "80",
        "LINES": "40",
    }

    async def run(
        *argv: str,
        answer: str = "",
        asked: str = "",
        meanwhile: Callable[[], Awaitable[object]] | None = None,
        **more: str,
    ) -> Ran:
        mine, theirs = pty.openpty()
        attributes = termios.tcgetattr(theirs)
        attributes[1] &= ~termios.ONLCR
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(theirs, termios.TCSANOW, attributes)
        environment = {name: value for name, value in (ours | more).items() if value}
        process = await asyncio.create_subprocess_exec(
            *PROGRAM, *argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=tmp_path,
            start_new_session=True,  # passwords are asked for here, not on the terminal of whoever runs the tests
        )  # fmt: skip
        os.close(theirs)
        before = await asyncio.to_thread(_read_all, mine, asked.encode()) if asked else b""
        if meanwhile is not None:
            await meanwhile()
        if answer:
            os.write(mine, f"{answer}\n".encode())
        seen = before + await asyncio.to_thread(_read_all, mine)
        os.close(mine)
        return Ran(await process.wait(), seen.decode())

    return run


def _read_all(descriptor: int, until: bytes = b"\0") -> bytes:
    """All that comes, or until something did."""
    seen = b""
    while until not in seen:
        try:
            more = os.read(descriptor, 65536)
        except OSError:  # Linux: the other end is closed
            return seen
        if not more:
            return seen
        seen += more
    return seen
