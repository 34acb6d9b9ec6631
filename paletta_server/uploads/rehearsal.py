"""What registering files would answer, without a trace: the plan of `paletta upload --dry-run`."""

import asyncio
from collections.abc import Collection, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts.security import Principal
from paletta_server.clips import service as clips
from paletta_server.core.runtime import Runtime
from paletta_server.uploads import progress, revival
from paletta_server.uploads.models import Upload
from paletta_server.uploads.parts import STORE_CALLS, stored_parts
from paletta_server.uploads.registration import TRANSFERRING, examine
from paletta_server.uploads.schemas import Item, NewItem


async def rehearse(runtime: Runtime, user: Principal, items: Sequence[NewItem]) -> list[Item]:
    """The answers of `register` in a batch of its own, in the same order; those for new files name no upload."""
    lost_bytes = await revival.lost_bytes(runtime, user, [item.file.sha256 for item in items])
    async with runtime.db.transaction() as session:
        checked, valid = await examine(session, runtime.settings, user, items)
        uploads, revivable = await _known(session, user, list(valid), lost_bytes)
    answers: list[Item] = []
    half_sent: list[tuple[Item, Upload]] = []
    for one in checked:
        ref, sha = one.item.ref, one.item.file.sha256
        if one.problems:
            answers.append(Item(ref=ref, outcome="invalid", problems=one.problems))
            continue
        upload = uploads.get(sha)
        answer = Item(ref=ref, outcome="created", warnings=one.warnings)
        if upload is not None:
            goes_on = sha in revivable or upload.state in TRANSFERRING
            answer.outcome = "resumed" if goes_on else "already_yours"
            answer.upload_id, answer.clip_id, answer.stage = upload.uid, upload.clip_uid, upload.stage
            answer.part_size, answer.part_count = upload.part_size, upload.part_count
            if upload.state in ("created", "uploading") and valid[sha] is one:
                half_sent.append((answer, upload))
        if valid[sha] is not one:  # the same bytes under an earlier name
            answer.outcome = "already_yours"
        answers.append(answer)
    limit = asyncio.Semaphore(STORE_CALLS)

    async def add(answer: Item, upload: Upload) -> None:
        async with limit:
            answer.uploaded_parts = await stored_parts(runtime, upload, forget=False)

    await asyncio.gather(*(add(answer, upload) for answer, upload in half_sent))
    return answers


async def _known(
    session: AsyncSession, user: Principal, sha256s: Sequence[str], lost_bytes: Collection[int]
) -> tuple[dict[str, Upload], set[str]]:
    """The upload that stands for each SHA-256 or would be given another chance; and which are the latter."""
    standing = await clips.standing(session, user.user_id, sha256s)
    latest = await progress.latest_of(session, [clip.id for clip in standing.values()])
    uploads = {sha: latest[clip.id] for sha, clip in standing.items()}
    over = await revival.failed(session, user, [sha for sha in sha256s if sha not in standing])
    failed = await clips.failed(session, [upload.clip_id for upload in over])
    again = {
        upload.sha256: upload for upload in over if upload.clip_id in failed and upload.id not in lost_bytes
    }
    return uploads | again, set(again)
