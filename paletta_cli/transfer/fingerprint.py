"""What a file is: SHA-256 of the whole and CRC64NVME of every part, from one read.

SHA-256 names the file (the same bytes are recognised before they are sent, and the service compares it before
anything else happens to the clip). The CRCs bind each signed request to its bytes; folded together they are
the checksum that the store keeps for the whole object.
"""

import base64
import hashlib
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from awscrt.checksums import combine_crc64nvme, crc64nvme

# It divides every part size, and stays in a core's cache: of larger blocks a file costs half as much again to read.
BLOCK = 128 * 1024
_MIB = 1024 * 1024


class Stamp(NamedTuple):
    """What tells that a file is still the one that was read."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Stamp":
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)


class Changed(Exception):
    """The file was written to, or replaced, while it was read."""


class Stopped(Exception):
    """The run ended while the file was read."""


@dataclass(frozen=True, slots=True)
class PartRule:
    """How the service cuts files, as it publishes it: whole MiB between `least` and `most`, about `target`
    parts.
    """

    least: int = 16 * _MIB
    most: int = 128 * _MIB
    target: int = 1000
    limit: int = 10_000

    def part_size(self, size: int) -> int:
        """Bytes of every part but the last: max(least, min(most, size/target), size/limit), in whole MiB."""

        def mebibytes(parts: int) -> int:
            return -(-size // (parts * _MIB)) * _MIB

        return max(self.least, min(self.most, mebibytes(self.target)), mebibytes(self.limit))


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A file's identity.

    `crcs` has the CRC64NVME of each part of `part_size` bytes (the last may be shorter).
    """

    stamp: Stamp
    sha256: str
    part_size: int
    crcs: tuple[int, ...]

    @property
    def size(self) -> int:
        return self.stamp.size

    def length(self, number: int) -> int:
        """Bytes in part `number` (from 1)."""
        return min(self.part_size, self.size - (number - 1) * self.part_size)

    @property
    def crc64nvme(self) -> str:
        """CRC64NVME of the whole file, base64 as S3 writes it, folded from the parts' without reading again."""
        whole = self.crcs[0]
        for number, crc in enumerate(self.crcs[1:], start=2):
            whole = combine_crc64nvme(whole, crc, self.length(number))
        return encoded(whole)

    def part_crc64nvme(self, number: int) -> str:
        """CRC64NVME of part `number` (from 1), base64."""
        return encoded(self.crcs[number - 1])


def encoded(crc: int) -> str:
    """A CRC64 as S3 writes it: eight bytes, most significant first, in base64."""
    return base64.b64encode(crc.to_bytes(8, "big")).decode("ascii")


def take(path: Path, part_size: int, *, stop: threading.Event | None = None) -> Fingerprint:
    """Read `path` once.

    Raises Changed if it is not the same file before and after, OSError if it cannot be read, Stopped when
    `stop` is set meanwhile.
    """
    digest = hashlib.sha256()
    crcs: list[int] = []
    block = memoryview(bytearray(min(BLOCK, part_size)))
    with path.open("rb", buffering=0) as stream:
        stamp = Stamp.of(os.fstat(stream.fileno()))
        left_in_part, crc, total = part_size, 0, 0
        while count := stream.readinto(block[: min(len(block), left_in_part)]):
            data = block[:count]
            digest.update(data)
            crc = crc64nvme(data, crc)
            total += count
            if total > stamp.size:
                raise Changed
            left_in_part -= count
            if left_in_part == 0:
                crcs.append(crc)
                left_in_part, crc = part_size, 0
            if stop is not None and stop.is_set():
                raise Stopped
        if left_in_part < part_size or not crcs:
            crcs.append(crc)
        if total != stamp.size or not unchanged(stream.fileno(), path, stamp):
            raise Changed
    return Fingerprint(stamp, digest.hexdigest(), part_size, tuple(crcs))


def recut(path: Path, known: Fingerprint, part_size: int) -> Fingerprint:
    """`known` with the CRCs of parts of another size, when the service cut an upload under other rules."""
    again = take(path, part_size)
    if again.sha256 != known.sha256 or again.stamp != known.stamp:
        raise Changed
    return again


def unchanged(descriptor: int, path: Path, stamp: Stamp) -> bool:
    """Whether the open file and the one at `path` now are both the file that `stamp` describes."""
    try:
        return Stamp.of(os.fstat(descriptor)) == stamp == Stamp.of(path.stat())
    except OSError:
        return False
