"""Where files land: folders held open, so that no symbolic link can lead a name elsewhere meanwhile.

Every name is opened relative to its folder's descriptor and never through a link (O_NOFOLLOW). Where the system
has no such calls (Windows), paths are used and looked at first.
"""

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from paletta_cli.errors import PalettaError

_BY_DESCRIPTOR = os.open in os.supports_dir_fd and os.link in os.supports_dir_fd
_FOLLOWS = os.link not in os.supports_follow_symlinks  # where a link cannot be told not to
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)


class CannotLand(PalettaError):
    """A file cannot be written where it should; others may."""


class Folder:
    """A folder held open. Use it as a context manager."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def open(cls, path: Path) -> Self:
        """The person's own folder, made where it is missing; it may be a link, since they chose it."""
        try:
            path.mkdir(parents=True, exist_ok=True)
            return cls(path, os.open(path, _FOLDER) if _BY_DESCRIPTOR else None)
        except OSError as error:
            raise cannot(path, error) from error

    def inside(self, names: Sequence[str]) -> "Folder":
        """The folder below, made where it is missing. Raises CannotLand, also where a link is in its place."""
        here = Folder(self.path, os.dup(self._descriptor) if self._descriptor is not None else None)
        for name in names:
            path = here.path / name
            try:
                with suppress(FileExistsError):
                    os.mkdir(name if here.descriptor is not None else path, 0o777, dir_fd=here.descriptor)
                found = here.look(name)
                if found is not None and stat.S_ISLNK(found.st_mode):
                    raise CannotLand(
                        f"`{path}` is a symbolic link", hint="remove it, or choose another folder"
                    )
                below = (
                    os.open(name, _FOLDER | _NOFOLLOW, dir_fd=here.descriptor)
                    if here.descriptor is not None
                    else None
                )
            except OSError as error:
                raise cannot(path, error) from error
            finally:
                here.close()
            here = Folder(path, below)
        return here

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def descriptor(self) -> int | None:
        return self._descriptor

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def look(self, name: str) -> os.stat_result | None:
        """What is there under this name, a link not followed; None for nothing."""
        with suppress(FileNotFoundError):
            return os.stat(self._at(name), dir_fd=self._descriptor, follow_symlinks=False)
        return None

    def regular(self, name: str) -> os.stat_result | None:
        """As `look`. Raises CannotLand for anything but a file of its own."""
        try:
            found = self.look(name)
        except OSError as error:
            raise cannot(self.path / name, error) from error
        if found is None:
            return None
        if stat.S_ISLNK(found.st_mode):
            raise CannotLand(
                f"`{self.path / name}` is a symbolic link", hint="remove it, or choose another folder"
            )
        if not stat.S_ISREG(found.st_mode):
            raise CannotLand(f"`{self.path / name}` is no file", hint="move it away")
        return found

    def open_file(self, name: str, flags: int) -> int:
        """A descriptor of a file in this folder; never through a link."""
        return os.open(self._at(name), flags | _NOFOLLOW, 0o666, dir_fd=self._descriptor)

    def publish(self, draft: str, name: str, *, replace: bool) -> None:
        """Give a finished file its name. Without `replace`, raises FileExistsError where something is there by now."""
        if replace:
            os.replace(
                self._at(draft), self._at(name), src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor
            )
        else:
            try:
                os.link(
                    self._at(draft),
                    self._at(name),
                    src_dir_fd=self._descriptor,
                    dst_dir_fd=self._descriptor,
                    follow_symlinks=_FOLLOWS,
                )
            except FileExistsError:
                raise
            except OSError:  # a file system without hard links
                if self.look(name) is not None:
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
                os.replace(
                    self._at(draft), self._at(name), src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor
                )
                return
            self.remove(draft)
        self.sync()

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there counts as removed."""
        with suppress(FileNotFoundError):
            os.unlink(self._at(name), dir_fd=self._descriptor)

    def sync(self) -> None:
        """Let the folder's names survive a loss of power, where the system can promise that."""
        if self._descriptor is not None:
            with suppress(OSError):
                os.fsync(self._descriptor)

    def write(self, name: str, data: bytes, *, replace: bool = False) -> None:
        """A small file, whole or not at all. Raises CannotLand."""
        draft = f".{name[:200]}.{os.getpid()}"
        try:
            self.remove(draft)
            descriptor = self.open_file(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            try:
                with os.fdopen(descriptor, "wb") as stream:
                    stream.write(data)
                    stream.flush()
                    os.fsync(stream.fileno())
                self.publish(draft, name, replace=replace)
            finally:
                with suppress(OSError):
                    self.remove(draft)
        except OSError as error:
            raise cannot(self.path / name, error) from error

    def _at(self, name: str) -> str | Path:
        return name if self._descriptor is not None else self.path / name


def cannot(path: Path, error: OSError) -> CannotLand:
    """The error in words, and what to do about it."""
    words, hint = {
        errno.ENOSPC: ("the disk is full", "free some space and run the same command again: it goes on"),
        errno.EDQUOT: (
            "your quota of this disk is used up",
            "free some space and run the same command again",
        ),
        errno.EFBIG: (
            "the file is larger than allowed here",
            "see `ulimit -f`, or choose another file system",
        ),
        errno.EROFS: ("the file system is read-only", "choose another folder with --to"),
        errno.EACCES: ("this folder may not be written to", "choose another folder with --to"),
        errno.EPERM: ("this folder may not be written to", "choose another folder with --to"),
        errno.ELOOP: ("a symbolic link is in the way", "remove it, or choose another folder"),
        errno.ENOTDIR: ("a file is where a folder should be", "move it away"),
        errno.EEXIST: ("something appeared there meanwhile", "move it away and run the same command again"),
        errno.ENAMETOOLONG: ("the name is too long here", "choose a shorter --layout"),
        errno.EIO: ("the disk reports an error", "look after that disk"),
    }.get(error.errno or 0, ((error.strerror or str(error)).lower(), None))
    return CannotLand(f"cannot write `{path}`: {words}", hint=hint)
