"""Which files of this machine were verified before: path, size, time and inode, and the SHA-256 they had then.

A hint that saves reading them again; `--verify` does not believe it. Lost or damaged, it is begun anew without a word.
"""

import os
import sqlite3
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

_VERSION = 1
_KEEP_SECONDS = 5 * 365 * 86_400
_SCHEMA = (
    "CREATE TABLE verified (path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,"
    " inode INTEGER NOT NULL, sha256 TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID"
)


class Stamps:
    """The table in the file at `path`. Safe for several threads and processes; a context manager."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._db = _opened(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock, suppress(sqlite3.Error):
            self._db.close()

    def known(self, path: Path, now: os.stat_result) -> str | None:
        """The SHA-256 that the file had when it was last read, if it has not changed since."""
        with self._lock, suppress(sqlite3.Error):
            row = self._db.execute(
                "SELECT sha256 FROM verified WHERE path = ? AND size = ? AND mtime_ns = ? AND inode = ?",
                (_key(path), now.st_size, now.st_mtime_ns, now.st_ino),
            ).fetchone()
            return str(row[0]) if row else None
        return None

    def remember(self, path: Path, then: os.stat_result, sha256: str) -> None:
        """The file had this SHA-256 when it looked like that."""
        row = (_key(path), then.st_size, then.st_mtime_ns, then.st_ino, sha256, time.time())
        with self._lock, suppress(sqlite3.Error), self._db:
            self._db.execute("INSERT OR REPLACE INTO verified VALUES (?, ?, ?, ?, ?, ?)", row)


def _key(path: Path) -> bytes:
    return os.fsencode(path.absolute())


def _opened(path: Path) -> sqlite3.Connection:
    for _ in range(2):
        with suppress(OSError, sqlite3.Error):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            db = sqlite3.connect(path, timeout=10, check_same_thread=False)
            try:
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = NORMAL")
                with db:
                    db.execute("BEGIN IMMEDIATE")
                    if db.execute("PRAGMA user_version").fetchone()[0] == 0:
                        db.execute(_SCHEMA)
                        db.execute(f"PRAGMA user_version = {_VERSION}")
                    db.execute("DELETE FROM verified WHERE at < ?", (time.time() - _KEEP_SECONDS,))
                return db
            except sqlite3.Error:
                db.close()
        with suppress(OSError):
            path.unlink()
    db = sqlite3.connect(":memory:", check_same_thread=False)
    db.execute(_SCHEMA)
    return db
