"""PostgreSQL's own programs: pg_dump, pg_restore and psql, of the embedded server or of this machine."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE
from tempfile import TemporaryFile
from typing import IO

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

COPIED_AT_ONCE = 256 * 1024
_CAUSE = re.compile(r"\b(?:ERROR|FATAL|PANIC|error):")
"""The lines that say why, among notices and contexts; in other languages the first lines have to do."""


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
    target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) if output else DEVNULL
    try:
        done = subprocess.run(
            argv, env=environment(conninfo), stdin=DEVNULL, stdout=target, stderr=PIPE,
            check=False,
        )  # fmt: skip
    finally:
        if output:
            os.close(target)
    _check(name, done.returncode, done.stderr)


def apply(script: Sequence[str], *, before: str, after: str, conninfo: str) -> None:
    """Apply the SQL that the program `script` writes, between `before` and `after`, in one transaction or not at all.

    psql takes the end of a pipe for the end of the script, whoever closed it and why. So COMMIT is sent from here, once
    the program has ended well: whatever dies before that, the server rolls back. Raises ToolError with what went wrong.
    """
    env = environment(conninfo)
    psql = [str(find("psql", conninfo)), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file=-"]
    # Into files: nobody reads a pipe of errors while the script is copied.
    with TemporaryFile() as source_said, TemporaryFile() as sink_said:
        with (
            subprocess.Popen(psql, env=env, stdin=PIPE, stdout=DEVNULL, stderr=sink_said) as sink,
            subprocess.Popen(
                [str(find(script[0], conninfo)), *script[1:]],
                env=env,
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=source_said,
            ) as source,
        ):
            assert sink.stdin is not None
            assert source.stdout is not None
            try:
                sink.stdin.write(f"BEGIN;\n{before}\n".encode())
                shutil.copyfileobj(source.stdout, sink.stdin, COPIED_AT_ONCE)
                code: int | None = source.wait()
                if code == 0:
                    sink.stdin.write(f"\n{after}\nCOMMIT;\n".encode())
                sink.stdin.flush()
            except BrokenPipeError:  # psql has ended: it says why
                code = None
                source.kill()
            finally:
                with suppress(BrokenPipeError):
                    sink.stdin.close()
        if code:
            _check(script[0], code, _all_of(source_said))
        _check("psql", sink.returncode, _all_of(sink_said))
    if code is None:
        raise ToolError("`psql` ended before the script did")


def _all_of(said: IO[bytes]) -> bytes:
    said.seek(0)
    return said.read()


def _check(name: str, code: int, said: bytes) -> None:
    if code == 0:
        return
    lines = [line for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    lines = ([line for line in lines if _CAUSE.search(line)] or lines)[:3]
    hint = ""
    if any("version mismatch" in line for line in lines):
        hint = "\nhint: put client programs of the server's version or newer first on PATH"
    raise ToolError(f"`{name}` failed: {mask(' '.join(lines)) or f'status {code}'}{hint}")
