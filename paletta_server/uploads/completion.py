"""Completing an upload whose bytes are all there.

Who may complete is decided by one conditional UPDATE (`uploading → completing`); its holder asks the store and
then writes the answer. A holder that dies leaves a claim that is taken over after `upload_claim_seconds`:
asking the store twice is harmless. Nothing here aborts an upload that may have completed: first HEAD, then decide.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta

from sqlalchemy import func, or_, select, update

from paletta_server.accounts.security import Principal
from paletta_server.core import holds
from paletta_server.core.errors import Unavailable
from paletta_server.core.ids import new_uid
from paletta_server.core.jobs import defer, defer_all
from paletta_server.core.runtime import Runtime
from paletta_server.core.storage import StoredPart, StoreError
from paletta_server.uploads import progress
from paletta_server.uploads.models import Upload, UploadPart
from paletta_server.uploads.parts import STORE_CALLS, Problem, fits, forget_multipart, own
from paletta_server.uploads.protocol import Cut
from paletta_server.uploads.schemas import (
    CompletedUpload,
    UploadProblem,
)

log = logging.getLogger(__name__)

WRONG_BYTES = frozenset({"BadDigest", "InvalidPart", "InvalidPartOrder", "EntityTooSmall"})
"""What a store says when parts and checksums do not fit. Everything else (rights, clocks, load, and the
`InvalidRequest` that S3 says to many a wrong setting) says nothing about the bytes, and they are kept."""

UNDECIDED = frozenset({"store_unavailable", "internal"})
"""Codes of the problems that tell nothing about an upload: it may be complete."""


async def complete(runtime: Runtime, user: Principal, uids: Sequence[str]) -> list[CompletedUpload]:
    """Complete uploads whose bytes are all there; answers in the same order, a replay gives the same answer."""
    uploads = await own(runtime, user, uids)
    async with runtime.db.transaction() as session:
        await progress.note_heard(session, [upload.id for upload in uploads.values()])
    problems = await finish(runtime, list(uploads.values()))
    fresh = await own(runtime, user, uids)
    return [_completed(uid, fresh.get(uid), problems.get(uid)) for uid in uids]


def _completed(uid: str, fresh: Upload | None, problem: UploadProblem | None) -> CompletedUpload:
    if fresh is None:
        shape = UploadProblem(code="not_found", detail=f"no upload `{uid}`")
        return CompletedUpload(upload_id=uid, problem=shape)
    if problem is None and fresh.state in ("created", "uploading"):
        # Somebody else held the claim while we asked, and found it wanting.
        problem = UploadProblem(
            code="missing_parts", detail="this upload is not complete yet", hint="ask again", retryable=True
        )
    if problem is None and fresh.state in ("rejected", "expired", "cancelled"):
        problem = UploadProblem(
            code="upload_over", detail=fresh.reason or f"this upload was {fresh.state}", hint=fresh.hint
        )
    return CompletedUpload(
        upload_id=uid, clip_id=fresh.clip_uid, state=fresh.state, stage=fresh.stage, problem=problem
    )


async def finish(runtime: Runtime, uploads: Sequence[Upload]) -> dict[str, UploadProblem]:
    """Claim what can be claimed of these, ask the store, write the answers.

    Returns, by public id, what keeps uploads from being complete. One that fails in a way nobody thought of keeps none
    of the others from it: it is logged, let go and may be asked for again.
    """
    claimed = await _claim(runtime, [upload.id for upload in uploads])
    mine = [upload for upload in uploads if upload.id in claimed]
    parts = await _signed_parts(runtime, [upload.id for upload in mine])
    limit = asyncio.Semaphore(STORE_CALLS)
    wrong: list[int] = []

    async def ask(upload: Upload) -> UploadProblem | None:
        async with limit:
            try:
                await _ask_store(runtime, upload, parts.get(upload.id, {}))
            except _WrongObject:
                wrong.append(upload.id)
                return _mismatch().shape
            except Problem as problem:
                return problem.shape
            except (Unavailable, StoreError) as error:
                log.warning("store failed at completion", extra={"upload": upload.uid, "error": str(error)})
                return UploadProblem(
                    code="store_unavailable", detail="the object store does not answer", retryable=True
                )
            except Exception:
                log.exception("completing an upload failed", extra={"upload": upload.uid})
                return UploadProblem(
                    code="internal", detail="the service could not complete this upload", retryable=True
                )
        return None

    answers = await asyncio.gather(*(ask(upload) for upload in mine))
    problems = {upload.uid: problem for upload, problem in zip(mine, answers, strict=True) if problem}
    await _write(
        runtime,
        claimed,
        stored=[upload.id for upload in mine if upload.uid not in problems],
        released=[upload.id for upload in mine if upload.uid in problems],
        wrong=wrong,
    )
    return problems


async def _claim(runtime: Runtime, upload_ids: Sequence[int]) -> dict[int, str]:
    """The uploads that are ours to complete now, each with the token of this claim."""
    token = new_uid("claim")
    too_old = func.now() - timedelta(seconds=runtime.settings.upload_claim_seconds)
    async with runtime.db.transaction() as session:
        await progress.lock(session, upload_ids)
        rows = await session.scalars(
            update(Upload)
            .where(
                Upload.id.in_(upload_ids),
                or_(
                    Upload.state.in_(("created", "uploading")),
                    (Upload.state == "completing") & (Upload.claimed_at < too_old),
                ),
            )
            .values(state="completing", claimed_at=func.now(), claim=token)
            .returning(Upload.id)
            .execution_options(synchronize_session=False)
        )
        return dict.fromkeys(rows, token)


async def _signed_parts(runtime: Runtime, upload_ids: Sequence[int]) -> dict[int, dict[int, str]]:
    async with runtime.db.transaction() as session:
        rows = await session.scalars(select(UploadPart).where(UploadPart.upload_id.in_(upload_ids)))
        parts: dict[int, dict[int, str]] = {}
        for row in rows:
            parts.setdefault(row.upload_id, {})[row.number] = row.crc64nvme
        return parts


async def _ask_store(runtime: Runtime, upload: Upload, checksums: Mapping[int, str]) -> None:
    """Returns when the object stands in the store, whole and with the right checksum."""
    if upload.part_count > 1:
        await _join_parts(runtime, upload, checksums)
    info = await runtime.store.head(upload.key)
    if info is None:
        raise Problem("missing_parts", "the bytes are not in the store yet", retryable=True, missing=[1])
    if not fits(info, upload):
        log.error("stored object differs from its registration", extra={"upload": upload.uid})
        raise _WrongObject


class _WrongObject(Exception):
    """What stands in the store is not what was registered. Nothing that we signed can store such bytes; what we cannot
    explain is not kept."""


async def discard_wrong(runtime: Runtime, upload_id: int) -> None:
    """Delete an upload's object if it is still not what was registered. A worker may; API nodes have no right to.

    Holds the claim meanwhile, so that bytes which were sent again are not completed and then deleted.
    """
    async with runtime.db.transaction() as session:
        if await holds.in_force(session):
            await defer(
                session, "uploads.discard_wrong", delay_seconds=holds.PUT_OFF_SECONDS, upload_id=upload_id
            )
            return
        upload = await session.get(Upload, upload_id)
    claimed = await _claim(runtime, [upload_id])
    if upload is None or not claimed:
        return  # it is over, or somebody completes it now, and finds out the same
    try:
        info = await runtime.store.head(upload.key)
        if info is not None and not fits(info, upload):
            await runtime.store.delete([upload.key])
    finally:
        await _write(runtime, claimed, stored=[], released=[upload_id])


def _mismatch() -> Problem:
    return Problem(
        "checksum_mismatch",
        "the stored bytes are not the ones that were registered",
        hint="the file changed while it was sent, or a disk or cable errs: run the upload again",
    )


async def _join_parts(runtime: Runtime, upload: Upload, checksums: Mapping[int, str]) -> None:
    missing = list(range(1, upload.part_count + 1))
    if upload.multipart_id is None:
        raise Problem("missing_parts", "no part has been sent yet", retryable=True, missing=missing)
    try:
        parts = await runtime.store.list_parts(upload.key, upload.multipart_id)
    except StoreError as error:
        if error.code != "NoSuchUpload":
            raise
        if await runtime.store.head(upload.key) is not None:
            return  # it completed, and only the answer was lost
        await forget_multipart(runtime, upload)
        raise Problem("missing_parts", "the parts have expired", retryable=True, missing=missing) from error
    plan = Cut(upload.size, upload.part_size)
    there: dict[int, StoredPart] = {
        part.number: part
        for part in parts
        if part.number <= plan.count and part.size == plan.part(part.number)
    }
    missing = [number for number in missing if number not in there or number not in checksums]
    if missing:
        raise Problem("missing_parts", f"{len(missing)} parts are missing", retryable=True, missing=missing)
    try:
        await runtime.store.complete_multipart(
            upload.key,
            upload.multipart_id,
            [(there[number], checksums[number]) for number in sorted(there)],
            crc64nvme=upload.crc64nvme,
            size=upload.size,
        )
    except StoreError as error:
        if error.code == "NoSuchUpload":
            return  # a rival completed it; the HEAD that follows decides
        if error.code not in WRONG_BYTES:
            raise
        info = await runtime.store.head(upload.key)
        if info is not None and fits(info, upload):
            return  # a rival's completion consumed the parts between our list and our request
        log.warning("completion refused", extra={"upload": upload.uid, "code": error.code})
        await forget_multipart(runtime, upload, abort=True)
        raise _mismatch() from error


async def _write(
    runtime: Runtime,
    claimed: Mapping[int, str],
    *,
    stored: Sequence[int],
    released: Sequence[int],
    wrong: Sequence[int] = (),
) -> None:
    """Write the answers of those claims that are still ours: one that took too long was taken over. What was stored of
    the `wrong` ones is to go."""
    ours = Upload.claim.in_(set(claimed.values()))
    async with runtime.db.transaction() as session:
        await progress.lock(session, [*stored, *released])
        await session.execute(
            update(Upload)
            .where(Upload.id.in_(released), Upload.state == "completing", ours)
            .values(state="uploading", claimed_at=None, claim=None)
            .execution_options(synchronize_session=False)
        )
        won = list(
            await session.scalars(
                update(Upload)
                .where(Upload.id.in_(stored), Upload.state == "completing", ours)
                .values(state="stored", claimed_at=None, claim=None)
                .returning(Upload.id)
                .execution_options(synchronize_session=False)
            )
        )
        await progress.report(session, won, "stored")
        await defer_all(session, "ingest.run", [{"upload_id": upload_id} for upload_id in won])
        await defer_all(session, "uploads.discard_wrong", [{"upload_id": upload_id} for upload_id in wrong])
