"""PostgreSQL's own programs: pg_dump, pg_restore and psql, of the embedded server or of this machine."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from paletta_server.core.logging import mask

_VARIABLES = {
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "dbname": "PGDATABASE",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "channel_binding": "PGCHANNELBINDING",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}


class ToolError(Exception):
    """A program is missing, or failed. The message says why, and after `hint:` what helps."""


def find(name: str, conninfo: str = "") -> Path:
    """The program of the embedded PostgreSQL, or the one that PATH has. Raises ToolError.

    The embedded one is built without TLS: where the database wants that, only PATH's will do.
    """
    from paletta_server.embedded.postgres import PostgresError, binaries

    if not str(conninfo_to_dict(conninfo).get("sslmode", "")).startswith(("require", "verify")):
        try:
            program = binaries() / name
            if program.exists():
                return program
        except PostgresError:
            pass
    found = shutil.which(name)
    if found is None:
        raise ToolError(
            f"there is no `{name}` on this machine\nhint: install PostgreSQL's client programs, of the server's"
            " version or newer, or pip install 'paletta[embedded]'"
        )
    return Path(found)


def environment(conninfo: str) -> dict[str, str]:
    """What connects the programs to the database: never on a command line, which everybody on a machine can read."""
    given = {name: str(value) for name, value in conninfo_to_dict(conninfo).items() if value is not None}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {variable: given[name] for name, variable in _VARIABLES.items() if name in given}


def run(name: str, arguments: Iterable[str], *, conninfo: str, output: Path | None = None) -> None:
    """Run a program to its end, its output into `output` (0600, new). Raises ToolError with what it said."""
    argv = [str(find(name, conninfo)), *arguments]
    target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) if output else subprocess.DEVNULL
    try:
        done = subprocess.run(
            argv, env=environment(conninfo), stdin=subprocess.DEVNULL, stdout=target, stderr=subprocess.PIPE,
            check=False,
        )  # fmt: skip
    finally:
        if output:
            os.close(target)
    _check(name, done.returncode, done.stderr)


def pipe(first: Sequence[str], second: Sequence[str], *, conninfo: str) -> None:
    """Run two programs, the first one's output into the second. Raises ToolError with what either said."""
    env = environment(conninfo)
    with subprocess.Popen(
        [str(find(first[0], conninfo)), *first[1:]], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as source:  # fmt: skip
        sink = subprocess.run(
            [str(find(second[0], conninfo)), *second[1:]], env=env, stdin=source.stdout, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
        assert source.stdout is not None
        assert source.stderr is not None
        source.stdout.close()  # where the second ended early, the first must find out
        said = source.stderr.read()
        code = source.wait()
    _check(second[0], sink.returncode, sink.stderr)
    _check(first[0], code, said)


def _check(name: str, code: int, said: bytes) -> None:
    if code == 0:
        return
    lines = [line for line in said.decode("utf-8", "replace").splitlines() if line.strip()][:3]
    hint = ""
    if any("version mismatch" in line for line in lines):
        hint = "\nhint: put client programs of the server's version or newer first on PATH"
    raise ToolError(f"`{name}` failed: {mask(' '.join(lines)) or f'status {code}'}{hint}")
