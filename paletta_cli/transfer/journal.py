"""What this machine remembers of its uploads: SQLite in the state directory.

A hint only. Fingerprints save reading a file again; runs and items let the same command continue its batch
and let `--failed` find what went wrong. Which parts have arrived is never asked here: the service knows. So
the journal may lose its last second to a kill, be deleted, or be damaged (it is then put aside and begun
anew) without harm.
"""

import json
import os
import sqlite3
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from paletta_cli.transfer.fingerprint import Fingerprint, Stamp

T = TypeVar("T")
_VERSION = 1
_KEEP_SECONDS = 120 * 86_400
_SCHEMA = """
CREATE TABLE fingerprint (
  path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, inode INTEGER NOT NULL,
  part_size INTEGER NOT NULL, sha256 TEXT NOT NULL, crcs BLOB NOT NULL, used REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE run (
  client_ref TEXT PRIMARY KEY, service TEXT NOT NULL, account TEXT NOT NULL, paths TEXT NOT NULL,
  name TEXT NOT NULL, batch_id TEXT NOT NULL DEFAULT '', started REAL NOT NULL, finished REAL
) WITHOUT ROWID;
CREATE TABLE item (
  client_ref TEXT NOT NULL REFERENCES run ON DELETE CASCADE, ref TEXT NOT NULL, path BLOB NOT NULL,
  upload_id TEXT NOT NULL DEFAULT '', clip_id TEXT NOT NULL DEFAULT '', state TEXT NOT NULL DEFAULT '',
  reason TEXT NOT NULL DEFAULT '', PRIMARY KEY (client_ref, ref)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One `paletta upload` as it was begun; `paths` are absolute, `client_ref` names its batch to the
    service.
    """

    client_ref: str
    paths: tuple[str, ...]
    name: str
    batch_id: str = ""
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """How far an item of a run came; `state` is a stage of the service, or `failed`, `changed`, `invalid`."""

    ref: str
    path: str
    state: str
    upload_id: str = ""
    clip_id: str = ""
    reason: str = ""


class Journal:
    """The journal at `path`; safe for several threads and processes.

    `say` is told when it had to be begun anew.
    """

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self.path = path
        self._say = say
        self._lock = threading.Lock()
        self._connection = self._opened()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._lock, suppress(sqlite3.Error):
            self._connection.close()

    # Fingerprints

    def fingerprints(self, paths: Iterable[Path]) -> dict[Path, Fingerprint]:
        """What is known of these files, whether it still fits or not: the caller compares the stamps."""
        wanted = list(paths)

        def read(db: sqlite3.Connection) -> dict[Path, Fingerprint]:
            found = {}
            for path in wanted:
                row = db.execute(
                    "SELECT size, mtime_ns, inode, sha256, part_size, crcs FROM fingerprint WHERE path = ?",
                    (os.fsencode(path),),
                ).fetchone()
                if row is not None:
                    crcs = struct.unpack(f">{len(row[5]) // 8}Q", row[5])
                    found[path] = Fingerprint(Stamp(row[0], row[1], row[2]), row[3], row[4], crcs)
            return found

        return self._do(read, default={})

    def remember(self, prints: Sequence[tuple[Path, Fingerprint]]) -> None:
        """Keep fingerprints, in one transaction."""
        rows = [
            (
                os.fsencode(path),
                *print_.stamp,
                print_.part_size,
                print_.sha256,
                struct.pack(f">{len(print_.crcs)}Q", *print_.crcs),
                time.time(),
            )
            for path, print_ in prints
        ]
        if rows:
            self._write("INSERT OR REPLACE INTO fingerprint VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)

    # Runs

    def begin(self, service: str, account: str, paths: Sequence[str], name: str) -> Run:
        """The unfinished run of exactly these paths on this account, or a new one."""

        def find(db: sqlite3.Connection) -> Run | None:
            row = db.execute(
                "SELECT client_ref, batch_id, name FROM run WHERE service = ? AND account = ? AND paths = ?"
                " AND finished IS NULL ORDER BY started DESC LIMIT 1",
                (service, account, json.dumps(list(paths))),
            ).fetchone()
            return Run(row[0], tuple(paths), row[2], row[1]) if row else None

        return self._do(find, default=None) or self.begin_new(service, account, paths, name)

    def begin_new(self, service: str, account: str, paths: Sequence[str], name: str) -> Run:
        """A new run, whatever went before."""
        run = Run(str(uuid.uuid4()), tuple(paths), name)
        self._write(
            "INSERT INTO run (client_ref, service, account, paths, name, started) VALUES (?, ?, ?, ?, ?, ?)",
            [(run.client_ref, service, account, json.dumps(list(paths)), name, time.time())],
        )
        return run

    def find(self, word: str, service: str, account: str) -> Run | None:
        """The account's run whose batch id (or its random part, or client_ref) begins with `word`; `last` is
        the latest one.
        """

        def read(db: sqlite3.Connection) -> Run | None:
            rows = db.execute(
                "SELECT client_ref, paths, name, batch_id, finished FROM run"
                " WHERE batch_id != '' AND service = ? AND account = ? ORDER BY started DESC",
                (service, account),
            ).fetchall()
            for ref, paths, name, batch_id, finished in rows:
                names = (ref, batch_id, batch_id.partition("_")[2])
                if word == "last" or any(text.startswith(word) for text in names):
                    return Run(ref, tuple(json.loads(paths)), name, batch_id, finished is not None)
            return None

        return self._do(read, default=None)

    def name_batch(self, run: Run, batch_id: str) -> None:
        self._write("UPDATE run SET batch_id = ? WHERE client_ref = ?", [(batch_id, run.client_ref)])

    def finish(self, run: Run) -> None:
        """The run ended by itself: the same command will begin a new one."""
        self._write("UPDATE run SET finished = ? WHERE client_ref = ?", [(time.time(), run.client_ref)])

    # Items

    def note(self, run: Run, entries: Iterable[Entry]) -> None:
        """Keep how far items came, in one transaction."""
        rows = [
            (run.client_ref, e.ref, os.fsencode(e.path), e.upload_id, e.clip_id, e.state, e.reason)
            for e in entries
        ]
        if rows:
            self._write("INSERT OR REPLACE INTO item VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def entries(self, run: Run) -> list[Entry]:
        """All items of a run that came to the service."""

        def read(db: sqlite3.Connection) -> list[Entry]:
            rows = db.execute(
                "SELECT ref, path, state, upload_id, clip_id, reason FROM item WHERE client_ref = ?",
                (run.client_ref,),
            ).fetchall()
            return [Entry(row[0], os.fsdecode(row[1]), *row[2:]) for row in rows]

        return self._do(read, default=[])

    # Means

    def _write(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        def write(db: sqlite3.Connection) -> None:
            with db:
                db.executemany(statement, rows)

        self._do(write, default=None)

    def _do(self, action: Callable[[sqlite3.Connection], T], default: T) -> T:
        """Run `action`; a damaged journal is begun anew, any other trouble (a full disk, another process that
        does not let go) is survived without it, and leaves the file as it is.
        """
        with self._lock:
            try:
                return action(self._connection)
            except sqlite3.DatabaseError as error:
                self._connection.close()
                if _is_damage(error):
                    self._put_aside(error)
                    self._connection = self._opened()
                else:
                    self._connection = self._without(error)
            with suppress(sqlite3.Error):
                return action(self._connection)
            return default

    def _opened(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            connection = _fresh(str(self.path))
            self.path.chmod(0o600)
            return connection
        except (OSError, sqlite3.DatabaseError) as error:
            if not _is_damage(error):
                return self._without(error)
            self._put_aside(error)
        try:
            return _fresh(str(self.path))
        except (OSError, sqlite3.Error) as error:
            return self._without(error)

    def _without(self, error: Exception) -> sqlite3.Connection:
        """A journal that ends with this process. What it is told next may hang on rows that are only in the file."""
        self._say(f"the upload journal `{self.path}` cannot be used ({error}): this run goes on without it")
        connection = _fresh(":memory:")
        connection.execute("PRAGMA foreign_keys = OFF")
        return connection

    def _put_aside(self, error: Exception) -> None:
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}")
        with suppress(OSError):
            self.path.replace(aside)
        for suffix in ("-wal", "-shm"):
            with suppress(OSError):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        self._say(f"the upload journal was damaged ({error}) and is begun anew; the old one is `{aside}`")


def _is_damage(error: Exception) -> bool:
    """Whether the file is none of ours, or no longer: what SQLite has a class of its own for is about a lock, a disk,
    a row."""
    return type(error) is sqlite3.DatabaseError


def _fresh(where: str) -> sqlite3.Connection:
    """An open journal with its tables. Raises sqlite3.DatabaseError for a file that is not one."""
    connection = sqlite3.connect(where, timeout=10, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {_VERSION}")
            elif version != _VERSION:
                raise sqlite3.DatabaseError(f"written by another version of paletta ({version})")
            oldest = time.time() - _KEEP_SECONDS
            connection.execute("DELETE FROM fingerprint WHERE used < ?", (oldest,))
            connection.execute("DELETE FROM run WHERE started < ?", (oldest,))
    except BaseException:
        connection.close()
        raise
    return connection
