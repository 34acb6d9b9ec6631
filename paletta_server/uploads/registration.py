"""Registering the files of a batch: checked, tied to clips, and told apart from what is here already."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pydantic import ValidationError
from sqlalchemy import case, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts.security import Principal
from paletta_server.clips import service as clips
from paletta_server.clips.metadata import ClipMetadata, problems_of
from paletta_server.core.errors import Conflict, Invalid
from paletta_server.core.ids import new_uid
from paletta_server.core.jobs import defer
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.taxonomy import service as taxonomy
from paletta_server.uploads import backlog, progress, revival
from paletta_server.uploads.models import BatchItem, Upload, UploadBatch
from paletta_server.uploads.names import name_problem
from paletta_server.uploads.protocol import cut
from paletta_server.uploads.schemas import FileFacts, Item, ItemProblem, NewItem
from paletta_server.uploads.service import find_batch

TRANSFERRING = ("created", "uploading", "completing")
MOST_SUGGESTIONS = 10
"""Unknown categories of a call that get a near miss named; each costs a look at all categories."""


@dataclass
class Checked:
    """A file of a request on its way through registration."""

    item: NewItem
    metadata: ClipMetadata | None = None
    problems: list[ItemProblem] = field(default_factory=list)
    warnings: list[ItemProblem] = field(default_factory=list)


async def register(
    runtime: Runtime, user: Principal, batch_text: str, items: Sequence[NewItem], *, partly: bool = False
) -> list[Item]:
    """Register files with their metadata, all of them validated, in one transaction; answers in the same order.
    With `partly`, those that have to wait for others to be done are left out.

    Idempotent, and safe against the same files being registered by another process at the same time: what stands
    for some bytes of an account is decided by one unique index on clips.
    """
    settings = runtime.settings
    lost_bytes = await revival.lost_bytes(runtime, user, [item.file.sha256 for item in items])
    async with runtime.db.transaction() as session:
        batch = await find_batch(session, user, batch_text)
        checked, valid = await examine(session, settings, user, items)
        waiting = await backlog.make_room(session, settings, user.user_id, valid, partly=partly)
        checked = [one for one in checked if one.problems or one.item.file.sha256 not in waiting]
        valid = {sha256: one for sha256, one in valid.items() if sha256 not in waiting}
        # All new tags in one step: two processes that make the same ones in several could wait for each other.
        await taxonomy.tags_for_uploads(session, _keywords(valid), user.user_id)
        outcome, uploads = await _uploads_for(session, settings, user, batch, valid, lost_bytes)
        owners = await _refs_of(session, batch, list(uploads.values()))
        answers = []
        touched: dict[str, Upload] = {}
        for one in checked:
            if one.problems:
                answers.append(Item(ref=one.item.ref, outcome="invalid", problems=one.problems))
                continue
            upload = uploads[one.item.file.sha256]
            touched[one.item.ref] = upload
            # The same bytes under two names in one batch: the first sends them, the second is the same clip.
            first = owners.setdefault(upload.id, one.item.ref) == one.item.ref
            answer = _answer(one.item.ref, outcome[upload.sha256] if first else "already_yours", upload)
            answer.warnings = one.warnings
            answers.append(answer)
        await _attach(session, batch, answers, touched)
        await _open_again(session, batch, any(answer.outcome in ("created", "resumed") for answer in answers))
    return answers


async def examine(
    session: AsyncSession, settings: Settings, user: Principal, items: Sequence[NewItem]
) -> tuple[list[Checked], dict[str, Checked]]:
    """What is wrong or doubtful with each file, and the good ones by SHA-256 (the first of equal bytes).

    Changes nothing. Raises `Invalid` for a call that names two files alike.
    """
    if len({item.ref for item in items}) < len(items):
        raise Invalid("two files of one call have the same `ref`", code="repeated_ref")
    checked = [_check(settings, item) for item in items]
    await _check_categories(session, checked)
    await _check_taken_down(session, user, checked)
    await _check_quota(session, settings, user, checked)
    valid: dict[str, Checked] = {}
    for one in checked:
        if not one.problems:
            valid.setdefault(one.item.file.sha256, one)
    await _look_at_tags(session, valid)
    return checked, valid


def _check(settings: Settings, item: NewItem) -> Checked:
    checked = Checked(item)
    try:
        checked.metadata = ClipMetadata.model_validate(item.metadata)
    except ValidationError as error:
        checked.problems = [ItemProblem(**problem) for problem in problems_of(error)]
    checked.problems += _file_problems(settings, item.file)
    return checked


def _file_problems(settings: Settings, file: FileFacts) -> list[ItemProblem]:
    problems = []
    if problem := name_problem(file.name):
        message, hint = problem
        problems.append(ItemProblem(pointer="/file/name", code="bad_name", message=message, hint=hint))
    if file.size == 0:
        problems.append(
            ItemProblem(
                pointer="/file/size",
                code="empty",
                message="the file is empty",
                hint="copy it from the card again",
            )
        )
    if file.size > settings.ingest_max_bytes:
        problems.append(
            ItemProblem(
                pointer="/file/size",
                code="too_large",
                message=f"{file.size:,} bytes is more than the {settings.ingest_max_bytes:,} that are taken",
                hint="export it shorter or at a lower bit rate",
            )
        )
    return problems


async def _check_categories(session: AsyncSession, checked: Iterable[Checked]) -> None:
    """Categories must exist; a near miss is named."""
    wanted = {slug for one in checked if one.metadata for slug in one.metadata.categories}
    known = await taxonomy.categories_by_slug(session, sorted(wanted))
    unknown = sorted(wanted - known.keys())
    suggestions = {
        slug: await taxonomy.suggest_category(session, slug) for slug in unknown[:MOST_SUGGESTIONS]
    }
    for one in checked:
        if one.metadata is None:
            continue
        for position, slug in enumerate(one.metadata.categories):
            if slug not in known:
                near = suggestions.get(slug)
                one.problems.append(
                    ItemProblem(
                        pointer=f"/metadata/categories/{position}",
                        code="unknown_category",
                        message=f"there is no category `{slug}`",
                        hint=f"did you mean `{near}`?"
                        if near
                        else "list them with `paletta categories list`",
                    )
                )


async def _check_taken_down(session: AsyncSession, user: Principal, checked: Iterable[Checked]) -> None:
    """Bytes that were taken down do not come back by being sent again."""
    good = [one for one in checked if not one.problems]
    gone = await clips.taken_down(session, user.user_id, [one.item.file.sha256 for one in good])
    for one in good:
        if clip := gone.get(one.item.file.sha256):
            why = f": {clip.reason}" if clip.reason else ""
            one.problems.append(
                ItemProblem(
                    pointer="/file/sha256",
                    code="taken_down",
                    message=f"this film is `{clip.uid}`, which was taken down{why}",
                    hint="write to the shop if that is a mistake; to send it again does not bring it back",
                )
            )


async def _check_quota(
    session: AsyncSession, settings: Settings, user: Principal, checked: Iterable[Checked]
) -> None:
    """An account may hold only so many unfinished uploads; those that it has may always go on."""
    good = [one for one in checked if not one.problems]
    standing = await clips.standing(session, user.user_id, [one.item.file.sha256 for one in good])
    new = [one for one in good if one.item.file.sha256 not in standing]
    open_now = await session.scalar(
        select(func.count()).where(Upload.owner_id == user.user_id, Upload.state.in_(TRANSFERRING))
    )
    if (open_now or 0) + len(new) <= settings.uploads_open_max:
        return
    for one in new:
        one.problems.append(
            ItemProblem(
                pointer="/file",
                code="too_many_open",
                message=f"{open_now:,} uploads of this account are unfinished, {settings.uploads_open_max:,} may be",
                hint="finish or cancel some first: `paletta uploads list`",
            )
        )


def _keywords(valid: Mapping[str, Checked]) -> list[list[str]]:
    return [one.metadata.keywords for one in valid.values() if one.metadata]


async def _look_at_tags(session: AsyncSession, valid: Mapping[str, Checked]) -> None:
    """Say where a new tag nearly repeats an old one."""
    named = [name for names in _keywords(valid) for name in names]
    near = {
        suggestion.name: suggestion.did_you_mean for suggestion in await taxonomy.suggest_tags(session, named)
    }
    for one in valid.values():
        for position, keyword in enumerate(one.metadata.keywords if one.metadata else ()):
            if alike := near.get(taxonomy.fold_tag(keyword)):
                one.warnings.append(
                    ItemProblem(
                        pointer=f"/metadata/keywords/{position}",
                        code="near_duplicate_tag",
                        message=f"`{keyword}` is a new tag",
                        hint="did you mean " + " or ".join(f"`{name}`" for name in alike) + "?",
                    )
                )


async def _uploads_for(
    session: AsyncSession,
    settings: Settings,
    user: Principal,
    batch: UploadBatch,
    wanted: Mapping[str, Checked],
    lost_bytes: Collection[int],
) -> tuple[dict[str, str], dict[str, Upload]]:
    """The upload of each SHA-256: made now, or found; with the outcome to tell.

    Holds the locks of them all afterwards, and of every batch they are in or come into: to make an item of a batch
    alone would lock it too (its foreign key), out of order.
    """
    await _lock_known(session, user, list(wanted))
    standing = await clips.standing(session, user.user_id, list(wanted))
    missing = [sha for sha in wanted if sha not in standing]
    revived = await revival.revive(session, user, missing, lost_bytes)
    created = await clips.create(
        session, user.user_id, [_new_clip(wanted[sha]) for sha in missing if sha not in revived]
    )
    made = await _create_uploads(
        session,
        settings,
        user,
        {sha: one.item.file for sha, one in wanted.items() if sha in created},
        created,
    )
    # A rival may have registered the same bytes between our look and our insert: then theirs stands.
    lost = [sha for sha in wanted if sha not in standing | created | revived]
    standing |= await clips.standing(session, user.user_id, lost)
    latest = await progress.latest_of(session, [clip.id for clip in standing.values()], locked=True)
    outcome, uploads = dict.fromkeys(created, "created"), made
    expiry = await _expiry(session, settings)
    described: dict[int, ClipMetadata] = {}
    for sha, clip in standing.items():
        upload = latest[clip.id]
        uploads[sha] = upload
        resumed = upload.state in TRANSFERRING
        outcome[sha] = "resumed" if resumed else "already_yours"
        if resumed:
            upload.expires_at = expiry
            metadata = wanted[sha].metadata
            assert metadata is not None
            described[clip.id] = metadata
    await session.flush()
    await clips.describe(session, user.user_id, described)
    concerned = {upload.id for upload in (*uploads.values(), *revived.values())}
    await progress.lock_batches(session, sorted(concerned), batch.id)
    await progress.report(session, [upload.id for upload in revived.values()], "stored")
    for sha, upload in revived.items():
        await defer(session, "ingest.run", upload_id=upload.id)
        await session.refresh(upload)
        uploads[sha], outcome[sha] = upload, "resumed"
    return outcome, uploads


async def _lock_known(session: AsyncSession, user: Principal, sha256s: Sequence[str]) -> None:
    """Every upload of these bytes, by id: what follows touches some of them, and workers touch them too."""
    await session.execute(
        select(Upload.id)
        .where(Upload.owner_id == user.user_id, Upload.sha256.in_(sha256s))
        .order_by(Upload.id)
        .with_for_update()
    )


def _new_clip(checked: Checked) -> clips.NewClip:
    facts = checked.item.file
    assert checked.metadata is not None
    return clips.NewClip(facts.name, facts.size, facts.sha256, facts.crc64nvme, checked.metadata)


async def _expiry(session: AsyncSession, settings: Settings) -> datetime:
    now: datetime | None = await session.scalar(select(func.now()))
    assert now is not None
    return now + timedelta(hours=settings.upload_expiry_hours)


async def _create_uploads(
    session: AsyncSession,
    settings: Settings,
    user: Principal,
    facts: Mapping[str, FileFacts],
    made: Mapping[str, clips.Standing],
) -> dict[str, Upload]:
    if not made:
        return {}
    keys = await clips.original_keys(session, [clip.id for clip in made.values()])
    expires_at = await _expiry(session, settings)
    uploads = {}
    for sha, file in facts.items():
        clip = made[sha]
        plan = cut(file.size)
        uploads[sha] = Upload(
            uid=new_uid("upl"),
            owner_id=user.user_id,
            clip_id=clip.id,
            clip_uid=clip.uid,
            file_name=file.name,
            size=file.size,
            sha256=sha,
            crc64nvme=file.crc64nvme,
            part_size=plan.part_size,
            part_count=plan.count,
            key=keys[clip.id],
            state="created",
            stage="waiting",
            warnings=[],
            expires_at=expires_at,
        )
    session.add_all(uploads.values())
    await session.flush()
    return uploads


def _answer(ref: str, outcome: str, upload: Upload) -> Item:
    return Item(
        ref=ref,
        outcome=outcome,
        upload_id=upload.uid,
        clip_id=upload.clip_uid,
        stage=upload.stage,
        part_size=upload.part_size,
        part_count=upload.part_count,
    )


async def _attach(
    session: AsyncSession, batch: UploadBatch, answers: Sequence[Item], uploads: Mapping[str, Upload]
) -> None:
    """Make the uploads items of the batch, so that whoever watches it hears of them."""
    rows = [
        {
            "batch_id": batch.id,
            "ref": answer.ref,
            "upload_id": uploads[answer.ref].id,
            "outcome": answer.outcome,
        }
        for answer in answers
        if answer.ref in uploads
    ]
    if not rows:
        return
    statement = upsert(BatchItem).values(rows)
    told = (BatchItem.upload_id == statement.excluded.upload_id) & (BatchItem.outcome != "already_yours")
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["batch_id", "ref"],
            set_={
                "upload_id": statement.excluded.upload_id,
                "outcome": case((told, BatchItem.outcome), else_=statement.excluded.outcome),
            },
        )
    )
    attached = sorted({upload.id for upload in uploads.values()})
    await progress.touch(session, attached)
    await progress.note_heard(session, attached)


async def _open_again(session: AsyncSession, batch: UploadBatch, under_way: bool) -> None:
    """A batch that gets files is open, whatever it was; unless its owner cancelled it, this very moment or before.

    The caller holds its lock.
    """
    status = await session.scalar(select(UploadBatch.status).where(UploadBatch.id == batch.id))
    if status == "cancelled":
        raise Conflict("this batch was cancelled", code="batch_cancelled", hint="start a new upload")
    if under_way and status != "open":
        await session.execute(
            update(UploadBatch).where(UploadBatch.id == batch.id).values(status="open", settled_at=None)
        )


async def _refs_of(session: AsyncSession, batch: UploadBatch, uploads: Sequence[Upload]) -> dict[int, str]:
    """The name under which each of these uploads first came into the batch."""
    rows = await session.execute(
        select(BatchItem.upload_id, func.min(BatchItem.ref))
        .where(
            BatchItem.batch_id == batch.id,
            BatchItem.upload_id.in_([upload.id for upload in uploads]),
            BatchItem.outcome != "already_yours",
        )
        .group_by(BatchItem.upload_id)
    )
    return dict(rows.all())
