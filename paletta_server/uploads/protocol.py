"""The numbers of the upload protocol, and where each comes from."""

from dataclasses import dataclass

MIB = 1024 * 1024

MIN_PART = 16 * MIB
"""Smaller parts cost requests without gaining anything on the lines that people have."""
MAX_PART = 128 * MIB
"""What a dropped connection costs to send again."""
TARGET_PARTS = 1000
"""One page of ListParts."""
MAX_PARTS = 10_000
"""S3's own limit."""
ITEMS_PER_CALL = 100
PARTS_PER_CALL = 256


@dataclass(frozen=True)
class Cut:
    """How a file is cut: every part but the last has exactly `part_size` bytes."""

    size: int
    part_size: int

    @property
    def count(self) -> int:
        return max(1, -(-self.size // self.part_size))

    def part(self, number: int) -> int:
        """Bytes of part `number`, counted from one."""
        return min(self.part_size, self.size - (number - 1) * self.part_size)


def cut(size: int) -> Cut:
    """The cut of a file of `size` bytes: max(16 MiB, min(128 MiB, size/1000), size/10000), in whole MiB."""

    def mib(parts: int) -> int:
        return -(-size // (parts * MIB)) * MIB

    return Cut(size, max(MIN_PART, min(MAX_PART, mib(TARGET_PARTS)), mib(MAX_PARTS)))
