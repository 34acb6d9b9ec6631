"""What `storage audit --fix` does about each kind of fault."""

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import service as accounts
from paletta_server.audit.service import record
from paletta_server.clips import service as clips
from paletta_server.core import holds
from paletta_server.core.jobs import defer
from paletta_server.core.mail import send_mail
from paletta_server.core.runtime import Runtime
from paletta_server.operations.storage_audit import Fault, spared
from paletta_server.uploads import progress
from paletta_server.uploads import service as uploads

LOST = "the shop has lost the file of this clip"
HINT = "run the same upload again: it becomes a new clip"


async def mend(runtime: Runtime, faults: Sequence[Fault]) -> None:
    """Do what can be done about these; `outcome` of each says what that was, and stays None where nothing can."""
    await _delete([fault for fault in faults if fault.what == "orphaned"], runtime)
    await _abort([fault for fault in faults if fault.what == "stale_multipart"], runtime)
    by_clip: dict[int, list[Fault]] = defaultdict(list)
    for fault in faults:
        if fault.clip_id is not None:
            by_clip[fault.clip_id].append(fault)
    for clip_id, theirs in sorted(by_clip.items()):
        await _remake(runtime, clip_id, theirs)


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


async def _remake(runtime: Runtime, clip_id: int, faults: Sequence[Fault]) -> None:
    """A clip without its original is withdrawn, and its owner told; one that has it is made again from it.

    What was sold keeps its own key and checksum: that only a backup brings back, so the fault remains.
    """
    original = next((fault for fault in faults if "original" in fault.kinds), None)
    made = [fault for fault in faults if "rendition" in fault.kinds]
    async with runtime.db.transaction() as session:
        await progress.hold(session, [clip_id])
        if original is not None:
            outcome = await _withdraw(session, clip_id)
        elif made and await _has_original(runtime, session, clip_id):
            outcome = "made again" if await uploads.ingest_again(session, clip_id) else None
            if outcome:
                await _note(session, "clip_made_again", {"objects": [fault.key for fault in made]})
        else:
            outcome = None
    for fault in faults:
        if "sold" not in fault.kinds:
            fault.outcome = outcome


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
        dedup_key=f"clip-lost:{uid}",
    )
    await _note(session, "original_lost", {"clip": uid})
    return "its clip is withdrawn, its owner told"


async def _has_original(runtime: Runtime, session: AsyncSession, clip_id: int) -> bool:
    keys = await clips.original_keys(session, [clip_id])
    return clip_id in keys and await runtime.store.head(keys[clip_id]) is not None


async def _note(session: AsyncSession, what: str, details: dict[str, object]) -> None:
    await record(session, None, f"storage:{what}", "storage", details={"by": "storage audit", **details})
