"""Whether a migration suits the release before it, and a table that is in use: read from the statements it executes.

While a release is rolled out old and new code run on the new schema side by side, so for one release a migration may
only add. What it must not do: take away or rename what old code uses, demand what old code does not write, hold a table
for longer than a moment.

Where a rule does not apply, the migration says so: `ALLOWED = {"a part of the statement": "why"}`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, event

_NAME = r'(?:"?\w+"?\.)?"?(\w+)"?'
_CREATED = re.compile(rf"^CREATE (?:UNLOGGED )?TABLE (?:IF NOT EXISTS )?{_NAME}", re.I)
_ALTERED = re.compile(rf"^ALTER TABLE (?:IF EXISTS )?(?:ONLY )?{_NAME} (.*)", re.I)
_INDEXED = re.compile(rf"^CREATE (?:UNIQUE )?INDEX (CONCURRENTLY )?.*? ON (?:ONLY )?{_NAME}", re.I)
_WRITTEN = re.compile(rf"^(?:UPDATE|DELETE FROM) (?:ONLY )?{_NAME}", re.I)
_VOLATILE = re.compile(r"DEFAULT (?:\(?)(?:clock_timestamp|random|gen_random_uuid|uuidv\d|nextval)\b", re.I)

_ALWAYS = (
    (r"^DROP TABLE", "takes a table away that the release before reads"),
    (r"^DROP (?:VIEW|TYPE|SEQUENCE|FUNCTION|SCHEMA)", "takes away what the release before may use"),
    (r"^ALTER (?:TYPE|SEQUENCE|VIEW|INDEX) .* RENAME", "renames what the release before may use"),
    (r"^(?:LOCK|TRUNCATE|VACUUM FULL|CLUSTER)", "keeps everybody out"),
)
_OF_A_TABLE = (
    (
        r"\bDROP COLUMN\b|^DROP (?!CONSTRAINT|DEFAULT)\S+$",
        "takes a column away that the release before writes",
    ),
    (r"^RENAME\b", "renames what the release before uses"),
    (r"\bALTER COLUMN \S+ (?:SET DATA )?TYPE\b", "rewrites the table, and gives old code another type"),
    (
        r"\bALTER COLUMN \S+ SET NOT NULL\b",
        "reads the whole table under its lock, and old code may write none",
    ),
    (r"\bALTER COLUMN \S+ DROP DEFAULT\b", "demands a value that old code does not write"),
    (
        r"\bADD COLUMN\b(?!.*\bDEFAULT\b)(?!.*GENERATED).*\bNOT NULL\b",
        "demands a value that old code does not write",
    ),
    (
        r"\bADD CONSTRAINT\b(?!.*\bNOT VALID\b).*\b(?:CHECK|FOREIGN KEY)\b",
        "reads the whole table: NOT VALID first",
    ),
    (
        r"\bADD (?:CONSTRAINT \S+ )?(?:UNIQUE|PRIMARY KEY|EXCLUDE)\b(?!.*USING INDEX)",
        "builds an index under a lock",
    ),
)


@dataclass(frozen=True)
class Fault:
    statement: str
    why: str

    def __str__(self) -> str:
        return f"{self.why}: {self.statement[:160]}"


def faults(statements: Iterable[str], allowed: Mapping[str, str] | None = None) -> list[Fault]:
    """What is wrong with a migration that executes these, and what it allows itself without need."""
    found, new, used = [], set(), set()
    for raw in statements:
        statement = " ".join(re.sub(r"--[^\n]*", "", raw).split()).rstrip(";")
        why = _wrong(statement, new)
        if why is None:
            continue
        excuse = next((part for part in allowed or {} if part in statement), None)
        if excuse is None:
            found.append(Fault(statement, why))
        else:
            used.add(excuse)
    found += [Fault(part, "is allowed, but nothing needs it") for part in (allowed or {}).keys() - used]
    return found


def _wrong(statement: str, new: set[str]) -> str | None:
    if made := _CREATED.match(statement):
        new.add(made[1])
        return None
    if altered := _ALTERED.match(statement):
        if altered[1] in new:
            return None
        if _VOLATILE.search(altered[2]):
            return "rewrites the table: each row gets a value of its own"
        return next((why for rule, why in _OF_A_TABLE if re.search(rule, altered[2], re.I)), None)
    if indexed := _INDEXED.match(statement):
        quiet, table = indexed[1], indexed[2]
        return None if quiet or table in new else "keeps writers out while it is built: migrations.online"
    if written := _WRITTEN.match(statement):
        changed = written[1]
        harmless = changed in new or changed == "alembic_version"
        return (
            None if harmless else "holds what it writes until the migration ends: a job does that in pieces"
        )
    return next((why for rule, why in _ALWAYS if re.search(rule, statement, re.I)), None)


@contextmanager
def overheard() -> Iterator[list[str]]:
    """Statements that this thread executes through SQLAlchemy meanwhile."""
    here, heard = threading.get_ident(), []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if threading.get_ident() == here:
            heard.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield heard
    finally:
        event.remove(Engine, "before_cursor_execute", note)
