"""Upload batches and uploads over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from paletta_server.accounts.permissions import Permission
from paletta_server.accounts.security import Principal, require
from paletta_server.core.database import SessionDep
from paletta_server.core.errors import (
    Conflict,
    Forbidden,
    IngestBusy,
    Invalid,
    NotFound,
    Unauthorized,
    problems,
)
from paletta_server.core.pagination import Page, PageDep
from paletta_server.core.runtime import RuntimeDep
from paletta_server.flags.guard import unless
from paletta_server.flags.service import Switch
from paletta_server.uploads import completion, registration, rehearsal, service, signing, watch
from paletta_server.uploads.schemas import (
    Batch,
    BatchDetail,
    CompleteRequest,
    CompleteResponse,
    Items,
    NewBatch,
    NewItems,
    Progress,
    SignRequest,
    SignResponse,
    UploadView,
)

router = APIRouter(
    prefix="/v1", tags=["uploads"], responses=problems(Unauthorized, Forbidden, NotFound, Conflict, Invalid)
)
Uploader = Annotated[Principal, Depends(require(Permission.UPLOAD))]
Taken = [unless(Switch.NO_UPLOADS)]
"""For what brings new bytes; what has arrived may still be completed, and anything given up."""


@router.post("/upload-batches", status_code=201, dependencies=Taken)
async def open_batch(user: Uploader, session: SessionDep, new: NewBatch, response: Response) -> Batch:
    """Begin a batch; the same `client_ref` again gives the same batch (200)."""
    batch, made = await service.open_batch(session, user, client_ref=new.client_ref, name=new.name)
    if not made:
        response.status_code = 200
    return watch.batch_view(batch, (await watch.counts(session, [batch.id]))[batch.id])


@router.get("/upload-batches")
async def list_batches(user: Uploader, session: SessionDep, page: PageDep) -> Page[Batch]:
    """The caller's batches, newest first."""
    items, cursor = await watch.list_batches(session, user, page)
    return Page(items=items, next_cursor=cursor)


@router.get("/upload-batches/{batch}")
async def show_batch(user: Uploader, session: SessionDep, batch: str, page: PageDep) -> BatchDetail:
    """A batch and its files."""
    return await watch.batch_detail(session, user, batch, page)


@router.post("/upload-batches/{batch}/items", dependencies=Taken, responses=problems(IngestBusy))
async def register(
    user: Uploader, runtime: RuntimeDep, batch: str, new: NewItems, partly: bool = False
) -> Items:
    """Register files with metadata and fingerprints. Each gets an answer of its own; asking again is harmless.

    While too many films wait to be looked at, no new ones are taken: 429 `ingest_busy`, or with `partly=true` no answer
    for those, while the others go on.
    """
    items = await registration.register(runtime, user, batch, new.items, partly=partly)
    await signing.add_transfer_facts(runtime, user, items)
    return Items(items=items)


@router.get("/upload-batches/{batch}/progress")
async def progress(
    user: Uploader,
    runtime: RuntimeDep,
    batch: str,
    after: Annotated[int, Query(ge=0)] = 0,
    wait: Annotated[float, Query(ge=0, le=55)] = 0,
) -> Progress:
    """What changed since version `after`; answers as soon as something does, within `wait` seconds."""
    return await watch.poll(runtime, user, batch, after=after, wait_seconds=wait)


@router.post("/upload-batches/{batch}/seal")
async def seal(user: Uploader, session: SessionDep, batch: str) -> Batch:
    """No more files will come."""
    sealed = await service.seal(session, user, batch)
    return watch.batch_view(sealed, (await watch.counts(session, [sealed.id]))[sealed.id])


@router.post("/upload-batches/{batch}/cancel")
async def cancel_batch(user: Uploader, session: SessionDep, batch: str) -> Batch:
    """Stop what is not finished; what is live or in review stays."""
    cancelled = await service.cancel_batch(session, user, batch)
    return watch.batch_view(cancelled, (await watch.counts(session, [cancelled.id]))[cancelled.id])


@router.post("/uploads/rehearse")
async def rehearse(user: Uploader, runtime: RuntimeDep, new: NewItems) -> Items:
    """What registering these files in a new batch would answer. Nothing is changed."""
    return Items(items=await rehearsal.rehearse(runtime, user, new.items))


@router.post("/uploads/sign", dependencies=Taken)
async def sign(user: Uploader, runtime: RuntimeDep, wanted: SignRequest) -> SignResponse:
    """Addresses for parts. Send each with exactly the headers given."""
    return SignResponse(uploads=await signing.sign(runtime, user, wanted.uploads))


@router.post("/uploads/complete")
async def complete(user: Uploader, runtime: RuntimeDep, wanted: CompleteRequest) -> CompleteResponse:
    """Join the parts and compare size and checksum. A replay gives the same answer."""
    uids = [one.upload_id for one in wanted.uploads]
    return CompleteResponse(uploads=await completion.complete(runtime, user, uids))


@router.get("/uploads/{upload}")
async def show_upload(user: Uploader, runtime: RuntimeDep, upload: str) -> UploadView:
    """One upload: state, the parts that the store holds, history."""
    return await watch.upload_view(runtime, user, upload)


@router.post("/uploads/{upload}/cancel")
async def cancel_upload(user: Uploader, runtime: RuntimeDep, upload: str) -> UploadView:
    """Stop one upload wherever it is on its way."""
    async with runtime.db.transaction() as session:
        cancelled = await service.cancel_upload(session, user, upload)
    return await watch.upload_view(runtime, user, cancelled.uid)
