"""The folder of a backup: what lies where, and how one that is whole is told from one that is not.

DIR/manifest.json                  written last, and only over a whole backup: without it there is none
DIR/previous.json                  the manifest before: its two files and its objects stay for one more backup
DIR/database-STAMP.dump            pg_dump's custom format
DIR/objects-STAMP.jsonl            one object a line, by key, with size and checksums
DIR/objects/originals/clip_…/…     the objects themselves, under their keys (with `--objects copy`)

Everything is readable by its owner alone: a dump holds addresses and password hashes.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from paletta_server.embedded.secretfiles import write_private

FORMAT = 1
MANIFEST = "manifest.json"
PREVIOUS = "previous.json"
LOCK = ".lock"
BLOCK = 1024 * 1024
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*\Z")
"""Keys are made of our own ids. What is no such key becomes no path."""

Mode = Literal["copy", "reference"]


class BackupError(Exception):
    """A backup cannot be made or used. The message says why, and after `hint:` what helps."""


@dataclass(frozen=True)
class Manifest:
    """A whole backup. `revision` is the schema's; digests are SHA-256 of the two files; `service` is whose it is."""

    format: int
    made_at: str
    paletta: str
    revision: str
    mode: Mode
    dump: str
    dump_sha256: str
    inventory: str
    inventory_sha256: str
    objects: int
    bytes: int
    service: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """An object that the dump refers to. `there` is whether it was in the store: what need not be may be missing."""

    key: str
    size: int
    sha256: str
    crc64nvme: str | None
    content_type: str
    there: bool


class Folder:
    """A backup's folder, private to us."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.objects = self.root / "objects"

    def make(self) -> None:
        """Raises BackupError where the folder cannot be made, or others may read it."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.name == "posix" and self.root.stat().st_mode & 0o077:
                if any(self.root.iterdir()):
                    raise BackupError(
                        f"`{self.root}` is open to other users\n"
                        f"hint: run `chmod 700 {self.root}`, or name another folder"
                    )
                self.root.chmod(0o700)
            self.objects.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise BackupError(f"cannot write to `{self.root}`: {error.strerror}") from error

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else makes a backup here meanwhile. Raises BackupError where somebody does: two that overlap would
        write the same files. The lock goes with its process."""
        try:
            import fcntl
        except ImportError:  # Windows
            yield
            return
        try:
            lock = os.open(self.root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise BackupError(f"cannot write to `{self.root}`: {error.strerror}") from error
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BackupError(
                    f"another backup into `{self.root}` is under way\nhint: wait for it, or name another folder"
                ) from error
            except OSError as error:
                raise BackupError(f"cannot lock `{self.root}`: {error.strerror}") from error
            yield
        finally:
            os.close(lock)

    def manifest(self, name: str = MANIFEST) -> Manifest | None:
        """The manifest of the last whole backup in here, or None. Raises BackupError for one that we cannot read."""
        try:
            found: dict[str, Any] = json.loads((self.root / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise BackupError(f"`{self.root / name}` cannot be read: {error}") from error
        if found.get("format") != FORMAT:
            raise BackupError(
                f"this backup has format {found.get('format')}, this version reads {FORMAT}\n"
                "hint: use the version that made it"
            )
        try:
            return Manifest(**found)
        except TypeError as error:
            raise BackupError(f"`{self.root / name}` is not a backup's manifest") from error

    def require(self, *, previous: bool = False) -> Manifest:
        """As `manifest`, or that of the backup before. Raises BackupError where there is no whole backup."""
        found = self.manifest(PREVIOUS if previous else MANIFEST)
        if found is None and previous:
            raise BackupError(f"`{self.root}` holds no backup before the last one")
        if found is None:
            half = self.objects.is_dir() or any(self.root.glob("database-*.dump"))
            what = "a backup that was never finished" if half else "no backup"
            raise BackupError(
                f"`{self.root}` holds {what}\nhint: run `paletta-server backup {self.root}`"
                if half
                else f"`{self.root}` holds {what}"
            )
        return found

    def publish(self, manifest: Manifest, before: Manifest | None) -> None:
        """Make what was written the folder's backup, and `before` the previous one; then drop what is older."""
        kept = {manifest.dump, manifest.inventory}
        if before is not None:
            write_private(self.root / PREVIOUS, json.dumps(asdict(before), indent=2) + "\n")
            kept |= {before.dump, before.inventory}
        write_private(self.root / MANIFEST, json.dumps(asdict(manifest), indent=2) + "\n")
        for pattern in ("database-*.dump", "objects-*.jsonl"):
            for file in self.root.glob(pattern):
                if file.name not in kept:
                    file.unlink()

    def path_of(self, key: str) -> Path:
        """Where an object's bytes are. Raises BackupError for a key that cannot be one of ours."""
        if not _KEY.match(key):
            raise BackupError(f"`{key[:100]}` is not a key of this service")
        return self.objects / key

    def make_room(self, key: str) -> Path:
        """As `path_of`, its folder made."""
        path = self.path_of(key)
        # One by one: only the last of `parents=True` gets the mode.
        for folder in reversed(path.relative_to(self.root).parents[:-1]):
            (self.root / folder).mkdir(mode=0o700, exist_ok=True)
        return path

    def entries(self, manifest: Manifest) -> Iterator[Entry]:
        """The inventory, by key."""
        with (self.root / manifest.inventory).open(encoding="utf-8") as lines:
            for line in lines:
                yield Entry(**json.loads(line))

    def keys(self, manifest: Manifest) -> set[str]:
        """What a backup has of the store. Nothing where its inventory is damaged: that has no say in anything."""
        try:
            return {entry.key for entry in self.entries(manifest) if entry.there}
        except (OSError, ValueError, TypeError):
            return set()

    def drop_unknown(self) -> int:
        """Delete the copies of objects that neither the backup nor the one before refers to; how many there were."""
        found = [self.manifest(), self.manifest(PREVIOUS)]
        wanted = set().union(*(self.keys(manifest) for manifest in found if manifest is not None))
        gone = 0
        for place, folders, files in os.walk(self.objects, topdown=False):
            for name in files:
                path = Path(place, name)
                if path.relative_to(self.objects).as_posix() not in wanted:
                    path.unlink()
                    gone += 1
            for name in folders:
                with suppress(OSError):  # not empty
                    Path(place, name).rmdir()
        return gone


def sha256_of(path: Path, on_bytes: Callable[[int], object] = lambda count: None) -> str:
    """The SHA-256 of a file; `on_bytes` is told how many more were read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            on_bytes(len(block))
    return digest.hexdigest()


def is_whole(path: Path, entry: Entry, on_bytes: Callable[[int], object] = lambda count: None) -> bool:
    """Whether a copy has the bytes of its object: all of it is read."""
    return path.stat().st_size == entry.size and sha256_of(path, on_bytes) == entry.sha256


def set_aside(path: Path) -> None:
    """Take a damaged copy its name, so that it is copied again; the next backup that is made drops it."""
    path.replace(path.with_name(f".{path.name}.damaged"))
