"""What `storage audit --fix` does about each kind of fault."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import service as accounts
from paletta_server.audit.service import record
from paletta_server.clips import service as clips
from paletta_server.core import holds
from paletta_server.core.jobs import defer
from paletta_server.core.mail import send_mail
from paletta_server.core.runtime import Runtime
from paletta_server.core.storage import StoreError
from paletta_server.ingest.ending import FETCHED_DAYS
from paletta_server.operations import inventory
from paletta_server.operations.brake import Allowance
from paletta_server.operations.storage_audit import Fault, compare, spared
from paletta_server.uploads import progress
from paletta_server.uploads import service as uploads

LOST = "the shop has lost the file of this clip"
PAGE = 100
HINT = "run the same upload again: it becomes a new clip"


async def mend(runtime: Runtime, faults: Sequence[Fault], *, allowance: Allowance | None = None) -> None:
    """Do what can be done about these; `outcome` of each says what that was, and stays None where nothing can.

    `allowance` is how many clips may be withdrawn. Raises TooMuchLost where that is not enough.
    """
    await _delete([fault for fault in faults if fault.what == "orphaned"], runtime)
    await _abort([fault for fault in faults if fault.multipart_id is not None], runtime)
    by_clip: dict[int, list[Fault]] = defaultdict(list)
    for fault in faults:
        if fault.clip_id is not None:
            by_clip[fault.clip_id].append(fault)
    for clip_id, theirs in sorted(by_clip.items()):
        await _remake(runtime, clip_id, theirs, allowance)


async def _delete(orphans: Sequence[Fault], runtime: Runtime) -> None:
    if not orphans:
        return
    async with runtime.db.transaction() as session:
        if await holds.in_force(session):
            return  # a backup is being made of what is there
    kept = await spared(runtime, [fault.key for fault in orphans])
    gone = [fault for fault in orphans if fault.key not in kept]
    await runtime.store.delete([fault.key for fault in gone])
    async with runtime.db.transaction() as session:
        await _note(
            session, "objects_deleted", {"keys": [fault.key for fault in gone][:100], "count": len(gone)}
        )
    for fault in orphans:
        fault.outcome = "something refers to it now" if fault.key in kept else "deleted"


async def _abort(stale: Sequence[Fault], runtime: Runtime) -> None:
    if not stale:
        return
    async with runtime.db.transaction() as session:
        for fault in stale:
            await defer(session, "uploads.abort", key=fault.key, multipart_id=fault.multipart_id)
        await _note(session, "multiparts_aborted", {"count": len(stale)})
    for fault in stale:
        fault.outcome = "a job drops it"


async def _remake(
    runtime: Runtime, clip_id: int, faults: Sequence[Fault], allowance: Allowance | None
) -> None:
    """A clip without its original is withdrawn, and its owner told; one that has it is made again from it.

    What was sold keeps its own key and checksum: that only a backup brings back, so the fault remains.
    """
    original = next((fault for fault in faults if "original" in fault.kinds), None)
    made = [fault for fault in faults if "rendition" in fault.kinds]
    if original is not None and not await _is_still_wrong(runtime, original):
        original.outcome = "it is as it should be now"
        faults = [fault for fault in faults if fault is not original]
        original = None
    if original is not None and allowance is not None:
        allowance.take()
    async with runtime.db.transaction() as session:
        await progress.hold(session, [clip_id])
        if original is not None:
            outcome = await _withdraw(session, clip_id)
        elif made:
            outcome = await _make_again(runtime, session, clip_id, made)
        else:
            outcome = None
    for fault in faults:
        if "sold" not in fault.kinds:
            fault.outcome = outcome


async def _is_still_wrong(runtime: Runtime, fault: Fault) -> bool:
    """Asked once more: a clip is not withdrawn for one answer of the store."""
    async with runtime.db.transaction() as session:
        now = (await inventory.among(session, [fault.key])).get(fault.key)
    return now is not None and await compare(runtime, now, deep=fault.what == "wrong_checksum") is not None


async def _withdraw(session: AsyncSession, clip_id: int) -> str | None:
    if not await clips.lose(session, clip_id, reason=LOST, hint=HINT):
        return None
    await progress.report_clips(session, [clip_id], "failed", reason=LOST, told=True)
    owner_id, uid, title = await clips.owner_of(session, clip_id)
    await send_mail(
        session,
        to=await accounts.email_of(session, owner_id),
        subject=f"We have lost the file of your clip {uid}",
        text=f"{title} ({uid}) is out of the shop: {LOST}.\n\nWe are sorry. {HINT.capitalize()}.",
        dedup_key=f"clip-lost:{uid}:{datetime.now(UTC):%Y%m%dT%H%M%S}",  # it may come back, and be lost again
    )
    await _note(session, "original_lost", {"clip": uid})
    return "its clip is withdrawn, its owner told"


async def bring_back(runtime: Runtime) -> int:
    """Make clips again that were withdrawn, and whose original is there as it should be; how many there were."""
    back = last = 0
    while True:
        async with runtime.db.transaction() as session:
            page = await clips.withdrawn(session, reason=LOST, after=last, most=PAGE)
            keys = await clips.original_keys(session, page)
            known = await inventory.among(session, list(keys.values()))
        for clip_id in page:
            original = known.get(keys[clip_id])
            if original is not None and await compare(runtime, original, deep=True) is None:
                back += await _bring_back(runtime, clip_id)
        if len(page) < PAGE:
            return back
        last = page[-1]


async def _bring_back(runtime: Runtime, clip_id: int) -> bool:
    try:
        async with runtime.db.transaction() as session:
            await progress.hold(session, [clip_id])
            if not await clips.find_again(session, clip_id, reason=LOST):
                return False
            if not await uploads.ingest_again(session, clip_id):
                raise _NotAgainError
            owner_id, uid, title = await clips.owner_of(session, clip_id)
            await send_mail(
                session,
                to=await accounts.email_of(session, owner_id),
                subject=f"We have found the file of your clip {uid}",
                text=f"{title} ({uid}) is made again from it, and then where it was. You need not do anything.",
                dedup_key=f"clip-found:{uid}:{datetime.now(UTC):%Y%m%dT%H%M%S}",
            )
            await _note(session, "original_found", {"clip": uid})
    except (IntegrityError, _NotAgainError):  # its owner has sent it again, or its upload is gone
        return False
    return True


class _NotAgainError(Exception):
    """Takes a transaction back."""


async def _make_again(
    runtime: Runtime, session: AsyncSession, clip_id: int, made: Sequence[Fault]
) -> str | None:
    """A clip that waits to be made is not in the shop, so that one whose original is archived stays as it is until
    that has been fetched back, which takes hours."""
    key = (await clips.original_keys(session, [clip_id])).get(clip_id)
    original = None if key is None else await runtime.store.head(key)
    if key is None or original is None:
        return None
    if original.archive:
        words = "its original is asked back from the archive: audit again in a day"
        try:
            if original.archive == "archived":
                await runtime.store.restore(key, original.storage_class, days=FETCHED_DAYS)
        except StoreError as error:
            words = f"its original is archived, and cannot be asked back: {error}"
        for fault in made:
            fault.detail = f"{fault.detail}; {words}".removeprefix("; ")
        return None
    if not await uploads.ingest_again(session, clip_id):
        return None
    await _note(session, "clip_made_again", {"objects": [fault.key for fault in made]})
    return "made again"


async def _note(session: AsyncSession, what: str, details: dict[str, object]) -> None:
    await record(session, None, f"storage:{what}", "storage", details={"by": "storage audit", **details})
