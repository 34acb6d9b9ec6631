"""What is being downloaded: where a file is to land, how far it has come, and how it ended."""

import hashlib
import threading
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from paletta_cli.transfer.landing import Folder
from paletta_cli.transfer.parts import PartFile


@dataclass(frozen=True, slots=True)
class Link:
    """An address of a file. `until` and `asked` are of this machine's monotonic clock."""

    url: str
    etag: str
    asked: float
    until: float


@dataclass(slots=True, eq=False)
class Wanted:
    """A file of a run. `path` is below the chosen folder; `sha256` and `size` are those that were sold.

    stage: waiting → checking → loading → done | kept | failed. `kept`: it was there already, verified.
    `replaces`: SHA-256 of files that may stand in its place and make way for it. `ours`: what stands there was one of
    ours, and with `heal` makes way also if somebody has changed it. `distrust`: read what is there again instead of
    believing its stamp. `replacing`: something was found that makes way.
    """

    item_id: str
    tier: str
    size: int
    sha256: str
    path: PurePosixPath
    replaces: frozenset[str] = frozenset()
    ours: bool = False
    heal: bool = False
    distrust: bool = False
    replacing: bool = False
    stage: str = "waiting"
    reason: str = ""
    hint: str = ""
    code: str = ""
    """The service's word for why it failed; `unreachable` and `interrupted` are ours."""
    received: int = 0
    """Bytes that are there, of this run and of earlier ones."""

    @property
    def over(self) -> bool:
        return self.stage in ("done", "kept", "failed")


@dataclass(slots=True, eq=False)
class Loading:
    """A file under way. Everything but `part` changes under `lock`."""

    wanted: Wanted
    folder: Folder
    part: PartFile
    lock: threading.Lock = field(default_factory=threading.Lock)
    hashing: threading.Lock = field(default_factory=threading.Lock)
    """Held by the one thread that feeds the digest."""
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    hashed: int = 0
    active: int = 0
    """Threads that may write to the file now."""
    generation: int = 0
    """Counts beginnings from nothing; ranges of an older one are void."""
    restart: str | None = None
    """The ETag to begin anew with, once nobody writes any more."""
    restarts: int = 0
    damaged: int = 0
    skipped: int = 0
    """Bytes of it that an earlier run had fetched."""
    closing: bool = False


@dataclass(slots=True, eq=False)
class Range:
    """A range that is still to be fetched, and what went wrong with it so far."""

    file: Loading
    number: int
    generation: int
    tries: int = 0
    refused: int = 0
    odd: int = 0
    first_trouble: float = 0.0
