"""Comparing database and object store, in both directions, while both are in use.

Two streams in one order are merged, so memory does not grow with the number of objects. Neither is the truth of one
moment: whatever they disagree about is looked at again, on both sides, before it counts as a fault.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from paletta_server.core.errors import Unavailable
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.core.storage import Listed, StoreError
from paletta_server.ingest import runs
from paletta_server.operations import inventory
from paletta_server.operations.inventory import Expected
from paletta_server.uploads import service as uploads

OURS = ("originals/", "media/", "_paletta/")
"""Where this service stores. What lies elsewhere in the bucket and is not referred to is somebody else's."""
MARKS = "_paletta/marks/"
"""Watermarks for MediaConvert: no row refers to them, and jobs under way read them."""
AT_ONCE = 16
CHUNK = 256

What = Literal["missing", "orphaned", "wrong_size", "wrong_checksum", "stale_multipart"]


@dataclass
class Fault:
    """One thing that is wrong with an object. `outcome` says what was done about it; None: nothing, it remains."""

    what: What
    key: str
    detail: str
    kinds: tuple[str, ...] = ()
    clip_id: int | None = None
    size: int = 0
    multipart_id: str | None = None
    outcome: str | None = None


@dataclass
class Report:
    """What an audit went over, and how many faults of each kind it found and left."""

    objects: int = 0
    bytes: int = 0
    foreign: int = 0
    young: int = 0
    """Objects that nothing refers to and that may still belong to something under way."""
    found: dict[What, int] = field(default_factory=dict)
    remaining: int = 0
    back: int = 0
    """Clips that were withdrawn for a lost original which is there again, and that are made again."""

    def note(self, fault: Fault) -> None:
        self.found[fault.what] = self.found.get(fault.what, 0) + 1
        self.remaining += fault.outcome is None


def longest_upload(settings: Settings) -> timedelta:
    """From when on nothing under way can still lead to an object: an upload's whole time, and a day for its ingest."""
    return timedelta(hours=settings.upload_expiry_hours, days=1)


Mend = Callable[[Sequence[Fault]], Awaitable[None]]


async def audit(
    runtime: Runtime,
    *,
    min_age: timedelta | None = None,
    deep: bool = False,
    mend: Mend | None = None,
    on_fault: Callable[[Fault], None] = lambda fault: None,
    on_progress: Callable[[int], object] = lambda objects: None,
) -> Report:
    """Go over everything; `mend` is given faults a few at a time and notes on each what it did.

    What nothing refers to counts as orphaned once it is older than `min_age`, by default the longest upload. `deep`
    reads every object to compare its SHA-256. `on_progress` is told how many more objects were looked at.
    """
    age = longest_upload(runtime.settings) if min_age is None else min_age
    work = _Audit(runtime, datetime.now(UTC) - age, deep)

    async def deal_with(faults: list[Fault]) -> None:
        if mend is not None and faults:
            await mend(faults)
        for fault in faults:
            work.report.note(fault)
            on_fault(fault)

    await deal_with(await work.stale_multiparts())
    async with runtime.db.transaction() as session:
        pairs = merged(inventory.every(session), runtime.store.every_object())
        async with aclosing(pairs):
            chunk: list[Pair] = []
            async for pair in pairs:
                chunk.append(pair)
                if len(chunk) >= CHUNK:
                    await deal_with(await work.look_at(chunk))
                    on_progress(len(chunk))
                    chunk = []
            await deal_with(await work.look_at(chunk))
            on_progress(len(chunk))
    return work.report


Pair = tuple[Expected | None, Listed | None]


async def merged(
    expected: AsyncIterator[Expected], stored: AsyncIterator[Listed]
) -> AsyncGenerator[Pair, None]:
    """Both streams side by side, by key; where a key is in one of them alone, the other side is None."""
    left, right = await anext(expected, None), await anext(stored, None)
    while left is not None or right is not None:
        a = None if left is None else left.key.encode()
        b = None if right is None else right.key.encode()
        if b is None or (a is not None and a < b):
            yield left, None
            left = await anext(expected, None)
        elif a is None or b < a:
            yield None, right
            right = await anext(stored, None)
        else:
            yield left, right
            left, right = await anext(expected, None), await anext(stored, None)


class _Audit:
    def __init__(self, runtime: Runtime, old_before: datetime, deep: bool) -> None:
        self.runtime, self.old_before, self.deep = runtime, old_before, deep
        self.report = Report()
        self._limit = asyncio.Semaphore(AT_ONCE)

    async def stale_multiparts(self) -> list[Fault]:
        """Multipart uploads that nobody can complete any more."""
        old = [one async for one in self.runtime.store.open_multiparts() if one.begun_at < self.old_before]
        async with self.runtime.db.transaction() as session:
            wanted = await uploads.open_multiparts(session)
            stored = await uploads.stored_multiparts(session, [one.key for one in old])
        found = []
        for one in old:
            pair, begun = (one.key, one.id), f"begun {one.begun_at:%Y-%m-%d}"
            if pair in stored:
                # A store may keep what it completed in its list, and drop the object with it.
                kept = "left to the store: its upload is stored"
                found.append(Fault("stale_multipart", one.key, begun, outcome=kept))
            elif pair not in wanted:
                found.append(Fault("stale_multipart", one.key, begun, multipart_id=one.id))
        return found

    async def look_at(self, pairs: Sequence[Pair]) -> list[Fault]:
        """The faults of some pairs, in their order."""
        for _, stored in pairs:
            self.report.objects += stored is not None
            self.report.bytes += stored.size if stored else 0
        orphans = {fault.key: fault for fault in await self._orphans(pairs)}
        checks = [
            self._check(expected)
            for expected, stored in pairs
            if expected and self._doubtful(expected, stored)
        ]
        wrong = {fault.key: fault for fault in await asyncio.gather(*checks) if fault is not None}
        keys = [(expected or stored).key for expected, stored in pairs]  # type: ignore[union-attr]
        found = [orphans.get(key) or wrong.get(key) for key in keys]
        return [fault for fault in found if fault is not None]

    async def _orphans(self, pairs: Sequence[Pair]) -> list[Fault]:
        alone = [stored for expected, stored in pairs if stored is not None and expected is None]
        alone = [one for one in alone if not one.key.startswith(MARKS)]
        ours = [one for one in alone if one.key.startswith(OURS)]
        old = [one for one in ours if one.modified_at < self.old_before]
        self.report.foreign += len(alone) - len(ours)
        self.report.young += len(ours) - len(old)
        kept = await spared(self.runtime, [one.key for one in old])
        self.report.young += len(kept)
        return [
            Fault(
                "orphaned", one.key, f"nothing refers to it since {one.modified_at:%Y-%m-%d}", size=one.size
            )
            for one in old
            if one.key not in kept
        ]

    def _doubtful(self, expected: Expected, stored: Listed | None) -> bool:
        """Whether the store is to be asked: about what is missing or too short, and for the checksums it keeps."""
        if stored is None or stored.size != expected.size:
            return expected.needed
        return self.deep or expected.crc64nvme is not None

    async def _check(self, expected: Expected) -> Fault | None:
        async with self._limit:
            fault = await compare(self.runtime, expected, deep=self.deep)
        if fault is None:
            return None
        async with self.runtime.db.transaction() as session:
            now = (await inventory.among(session, [expected.key])).get(expected.key)
        if now is None or not now.needed:  # it was deleted meanwhile, or is being made anew
            return None
        return fault


async def compare(runtime: Runtime, expected: Expected, *, deep: bool) -> Fault | None:
    """What is wrong with an object at this moment, or None. Raises `Unavailable`."""

    def fault(what: What, detail: str) -> Fault:
        return Fault(what, expected.key, detail, expected.kinds, expected.clip_id, expected.size)

    info = await runtime.store.head(expected.key)
    if info is None:
        return fault("missing", "the store does not have it")
    if info.size != expected.size:
        return fault("wrong_size", f"{info.size:,} bytes are stored, {expected.size:,} belong there")
    if expected.crc64nvme is not None and info.crc64nvme not in (None, expected.crc64nvme):
        return fault("wrong_checksum", "its CRC64NVME is not the one that was registered")
    if deep:
        try:
            digest = await runtime.store.sha256(expected.key)
        except StoreError as error:
            if error.code == "InvalidObjectState":  # archived; size and CRC64NVME are what they should be
                return None
            if error.code in ("NoSuchKey", "404"):
                return fault("missing", "the store does not have it")
            raise Unavailable(f"the object store answers {error.code}", code="store_unavailable") from error
        if digest != expected.sha256:
            return fault("wrong_checksum", "its SHA-256 is not the one that was registered")
    return None


async def spared(runtime: Runtime, keys: Sequence[str]) -> set[str]:
    """Of these keys, the ones that something refers to now, or that an attempt or upload under way may store to."""
    if not keys:
        return set()
    async with runtime.db.transaction() as session:
        # Attempts first: one that ends in between has named its outputs by the time that we ask who refers to them.
        living = tuple(await runs.living_prefixes(session))
        under_way = {key for key, _ in await uploads.open_multiparts(session)}
    async with runtime.db.transaction() as session:
        named = await inventory.among(session, keys)
    return {key for key in keys if key in named or key in under_way or (living and key.startswith(living))}
