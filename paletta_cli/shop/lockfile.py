"""`paletta.lock`: what a synchronised folder holds, for people, scripts and a production's repository.

JSON, sorted by path, with nothing that changes by itself: two people who own the same have the same file. It comes
from wherever the repository comes from, so a path in it is believed only if we could have made it.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from paletta_cli.errors import PalettaError
from paletta_cli.shop import names

NAME = "paletta.lock"
_VERSION = 1
_MOST = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the folder. Sizes in bytes; `certificate` is the code that anybody can check."""

    path: str
    item: str
    order: str
    clip: str
    title: str
    tier: str
    size: int
    sha256: str
    licence: str
    licensee: str
    certificate: str


def dump(entries: Iterable[Entry]) -> bytes:
    """The file's content."""
    document = {
        "paletta_lock": _VERSION,
        "files": [asdict(entry) for entry in sorted(entries, key=lambda entry: (entry.path, entry.item))],
    }
    return (json.dumps(document, ensure_ascii=False, indent=2) + "\n").encode()


def load(data: bytes, where: object) -> list[Entry]:
    """The entries of a lockfile. Raises PalettaError for one that is damaged or names places it must not."""
    hint = "restore it, or remove it: `paletta orders sync` makes it anew from the files that are there"
    try:
        document: Any = json.loads(data[:_MOST])
        if not isinstance(document, dict) or document.get("paletta_lock") != _VERSION:
            raise ValueError("it is of another version")
        kinds = {name: int if name == "size" else str for name in Entry.__slots__}
        entries = []
        for row in document["files"]:
            values = {name: row[name] for name in kinds}
            if not all(isinstance(values[name], kind) for name, kind in kinds.items()):
                raise ValueError("a value has the wrong type")
            entries.append(Entry(**values))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PalettaError(f"`{where}` cannot be read: {error}", hint=hint) from error
    for entry in entries:
        if not names.is_safe(PurePosixPath(entry.path)) or entry.path != str(PurePosixPath(entry.path)):
            raise PalettaError(
                f"`{where}` names a place that is not below its folder: `{entry.path}`", hint=hint
            )
    if len({names.same_name(PurePosixPath(entry.path)) for entry in entries}) != len(entries):
        raise PalettaError(f"`{where}` names a file twice", hint=hint)
    return entries
