"""Before `storage audit --fix` does anything: is this the right bucket, and the right database?

Mending withdraws clips, mails their owners and deletes what nothing refers to. Where one side is empty, or another
service's, it would do that to everything. A look at both lists tells, before anything is touched.
"""

from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from paletta_server.core.runtime import Runtime
from paletta_server.operations import inventory
from paletta_server.operations.storage_audit import OURS, longest_upload, merged

LOST_MOST = 10
LOST_SHARE = 0.01
"""Originals go missing by accident; where more than this many and this share of them do, something larger is wrong."""
ORPHANED_SHARE = 0.5


class TooMuchLost(Exception):
    """Mending stops. The message says what is wrong, not what helps."""


@dataclass
class Look:
    """What the two lists say, without asking the store about single objects."""

    expected: int = 0
    """Objects that the service is broken without."""
    found: int = 0
    """Those of them that are listed with their size."""
    originals: int = 0
    lost: int = 0
    """Originals that are not."""
    ours: int = 0
    orphaned: int = 0
    """Objects where only this service stores, and those of them that nothing refers to."""

    def refusal(self) -> str | None:
        """Why nothing should be mended, or None."""
        if self.expected and not self.found:
            return f"none of the {self.expected:,} objects that the database needs is in the bucket as it should be"
        if self.lost > max(LOST_MOST, LOST_SHARE * self.originals):
            return f"{self.lost:,} of {self.originals:,} originals are missing"
        if self.orphaned > max(LOST_MOST, ORPHANED_SHARE * self.ours):
            return f"the database refers to only {self.ours - self.orphaned:,} of {self.ours:,} objects in the bucket"
        return None


async def allowance(runtime: Runtime, min_age: timedelta | None = None) -> "Allowance":
    """How many clips mending may withdraw. Raises TooMuchLost where it should not begin."""
    seen = await look(runtime, min_age)
    reason = seen.refusal()
    if reason:
        raise TooMuchLost(reason)
    return Allowance(int(max(LOST_MOST, LOST_SHARE * seen.originals)))


@dataclass
class Allowance:
    """What is left of it: damage that only `--deep` finds is not in the lists."""

    left: int

    def take(self) -> None:
        """Use one up. Raises TooMuchLost where none is left."""
        if self.left <= 0:
            raise TooMuchLost("more originals are damaged than go by accident")
        self.left -= 1


async def look(runtime: Runtime, min_age: timedelta | None = None) -> Look:
    """Go over both lists once. What nothing refers to counts from the age on from which an audit counts it."""
    old_before = datetime.now(UTC) - (longest_upload(runtime.settings) if min_age is None else min_age)
    seen = Look()
    async with runtime.db.transaction() as session:
        pairs = merged(inventory.every(session), runtime.store.every_object())
        async with aclosing(pairs):
            async for expected, stored in pairs:
                if stored is not None and stored.key.startswith(OURS):
                    seen.ours += 1
                    seen.orphaned += expected is None and stored.modified_at < old_before
                if expected is not None and expected.needed:
                    right = stored is not None and stored.size == expected.size
                    original = "original" in expected.kinds
                    seen.expected += 1
                    seen.found += right
                    seen.originals += original
                    seen.lost += original and not right
    return seen
