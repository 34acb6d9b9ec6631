"""A file on its way: `name.part` holds the bytes, `name.part.log` says which of them have arrived.

The log is appended to, a line at a time, after the bytes were written; a torn last line counts for nothing. It is a
hint: a loss of power may keep a line and lose the bytes, and then the checksum of the whole finds out. Both files
stand beside the file to be, so a folder can be moved to another disk or machine half way and goes on there.
"""

import errno
import json
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from paletta_cli.transfer.drill import range_bytes
from paletta_cli.transfer.landing import CannotLand, Folder, cannot

RANGE = range_bytes(16 * 1024 * 1024)
"""Bytes asked for at once: enough that a request's latency does not matter, few enough that a range that fails is
soon repeated (16 MiB as measured best of 4 to 64 on a local store)."""
_NOTE = RANGE // 4
"""Bytes of a range after which its progress is noted: what a kill costs at most, per connection."""
_SETTLE = 8 * 1024 * 1024
"""Bytes of a file that are sent to the disk together."""
_VERSION = 1
_MOST_LOG = 16 * 1024 * 1024


class PartFile:
    """The part file of one download, open and locked. Safe for threads that write different ranges.

    `got[n]` is how many bytes of range n have arrived, from its beginning.
    """

    def __init__(self, folder: Folder, name: str, *, size: int, sha256: str) -> None:
        self._folder, self.name = folder, name
        self.size, self.sha256 = size, sha256
        self.etag = ""
        self.resumed = False
        self.got = [0] * -(-size // RANGE)
        self._noted = [0] * len(self.got)
        self._settled = 0
        self._log = -1
        self._file = -1
        try:
            self._file, made = self._opened(self.part_name)
            self._log, _ = self._opened(self.log_name, os.O_APPEND)
            self._lock()
            if not made and os.fstat(self._file).st_size == size:
                self._recall()
            else:
                self._allocate()
        except OSError as error:
            self.close()
            self._clear_away(error)
            raise cannot(folder.path / name, error) from error
        except BaseException:
            self.close()
            raise

    @property
    def part_name(self) -> str:
        return f"{self.name}.part"

    @property
    def log_name(self) -> str:
        return f"{self.name}.part.log"

    def length(self, number: int) -> int:
        """Bytes in range `number` (from 0)."""
        return min(RANGE, self.size - number * RANGE)

    @property
    def missing(self) -> list[int]:
        return [number for number, got in enumerate(self.got) if got < self.length(number)]

    def begin(self, etag: str) -> None:
        """From nothing, for the object that `etag` names. Nobody may be writing."""
        self.etag = etag
        self.resumed = False
        self.got = [0] * len(self.got)
        self._noted = [0] * len(self.got)
        self._settled = 0
        header = {"paletta": _VERSION, "size": self.size, "sha256": self.sha256, "range": RANGE, "etag": etag}
        os.ftruncate(self._log, 0)
        self._append(json.dumps(header))

    def write(self, number: int, data: memoryview) -> None:
        """The next bytes of range `number`."""
        offset = number * RANGE + self.got[number]
        left = data
        while left:
            count = _pwrite(self._file, left, offset)
            left, offset = left[count:], offset + count
        self.got[number] += len(data)
        if self.got[number] - self._noted[number] >= _NOTE or self.got[number] == self.length(number):
            self.note(number)

    def note(self, number: int) -> None:
        """Remember how far range `number` has come."""
        if self._noted[number] != self.got[number] and self._log >= 0:
            self._noted[number] = self.got[number]
            self._append(f"{number} {self.got[number]}")

    def read(self, count: int, offset: int) -> bytes:
        """Bytes that were written before."""
        return _pread(self._file, count, offset)

    def settle(self, read: int) -> None:
        """Begin to write to the disk what nobody reads back any more: the first `read` bytes.

        Else all of a large file would wait for the end, when nothing else is to be done meanwhile. The advice that
        a page is not needed starts that on Linux; where it does nothing, `publish` waits as long as it must.
        """
        if read - self._settled < _SETTLE or not hasattr(os, "posix_fadvise"):
            return
        with suppress(OSError):
            os.posix_fadvise(self._file, self._settled, read - self._settled, os.POSIX_FADV_DONTNEED)
        self._settled = read

    def publish(self, *, replace: bool) -> os.stat_result:
        """Make it durable, then give it its name; the file's stamp. Raises CannotLand."""
        try:
            os.fsync(self._file)
            self._folder.publish(self.part_name, self.name, replace=replace)
            found = os.fstat(self._file)
            self._folder.remove(self.log_name)
        except OSError as error:
            raise cannot(self._folder.path / self.name, error) from error
        finally:
            self.close()
        return found

    def discard(self) -> None:
        """Remove both files: what they hold is of no use."""
        self.close()
        for name in (self.part_name, self.log_name):
            with suppress(OSError):
                self._folder.remove(name)

    def close(self) -> None:
        """Let go of the files; what has arrived stays."""
        for descriptor in (self._file, self._log):
            if descriptor >= 0:
                with suppress(OSError):
                    os.close(descriptor)
        self._file = self._log = -1

    def _opened(self, name: str, flags: int = 0) -> tuple[int, bool]:
        """A descriptor, and whether the file was made now."""
        with suppress(FileExistsError):
            return self._folder.open_file(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | flags), True
        descriptor = self._folder.open_file(name, os.O_RDWR | getattr(os, "O_NONBLOCK", 0) | flags)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            os.close(descriptor)
            raise CannotLand(
                f"`{self._folder.path / name}` is not a file of its own",
                hint="move it away; it is not one of ours",
            )
        return descriptor, False

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # Windows
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotLand(
                f"`{self._folder.path / self.name}` is being downloaded by another `paletta`",
                hint="wait for it, or end it",
            ) from None
        except OSError:  # a file system without locks
            return

    def _allocate(self) -> None:
        """Take the room now, so that a full disk is known before the first byte is sent."""
        os.ftruncate(self._file, 0)
        if self.size and hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(self._file, 0, self.size)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise
        os.ftruncate(self._file, self.size)

    def _clear_away(self, error: OSError) -> None:
        """A file that could not be given its room is not left behind, empty as it is."""
        with suppress(OSError, CannotLand):
            found = self._folder.look(self.log_name)
            if found is not None and found.st_size == 0:
                for name in (self.part_name, self.log_name):
                    self._folder.remove(name)

    def _recall(self) -> None:
        """What the log says, if it is about this file."""
        lines = _pread(self._log, _MOST_LOG, 0)
        whole = lines.decode("ascii", "replace").split("\n")[:-1]
        header = _document(whole[0]) if whole else {}
        wanted = {"paletta": _VERSION, "size": self.size, "sha256": self.sha256, "range": RANGE}
        if {key: header.get(key) for key in wanted} != wanted or not isinstance(header.get("etag"), str):
            return
        self.etag = header["etag"]
        for line in whole[1:]:
            number, _, got = line.partition(" ")
            if number.isdigit() and got.isdigit() and int(number) < len(self.got):
                self.got[int(number)] = min(int(got), self.length(int(number)))
        self._noted = list(self.got)
        self.resumed = any(self.got)

    def _append(self, line: str) -> None:
        os.write(self._log, f"{line}\n".encode("ascii"))


def _document(line: str) -> Mapping[str, Any]:
    with suppress(ValueError):
        found = json.loads(line)
        if isinstance(found, dict):
            return found
    return {}


if hasattr(os, "pwrite"):
    _pwrite, _pread = os.pwrite, os.pread
else:  # Windows: one at a time
    import threading

    _seeking = threading.Lock()

    def _pwrite(descriptor: int, data: Any, offset: int, /) -> int:
        with _seeking:
            os.lseek(descriptor, offset, os.SEEK_SET)
            return os.write(descriptor, data)

    def _pread(descriptor: int, count: int, offset: int, /) -> bytes:
        with _seeking:
            os.lseek(descriptor, offset, os.SEEK_SET)
            return os.read(descriptor, count)


def sweep(folder: Folder, name: str, finished: os.stat_result) -> None:
    """Remove what a kill between giving a file its name and tidying up left beside it.

    A `.part` that is another file belongs to somebody who is fetching it.
    """
    part = folder.look(f"{name}.part")
    if part is None or (part.st_dev, part.st_ino) == (finished.st_dev, finished.st_ino):
        for leftover in (f"{name}.part", f"{name}.part.log"):
            with suppress(OSError):
                folder.remove(leftover)
