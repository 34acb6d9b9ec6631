"""Saved lists over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Depends
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts.permissions import Permission
from paletta_server.accounts.security import Principal, require
from paletta_server.collections import service
from paletta_server.collections.models import Collection
from paletta_server.collections.schemas import Adding, CollectionDetail, CollectionView, Naming
from paletta_server.core.database import SessionDep
from paletta_server.core.errors import Conflict, Forbidden, Invalid, NotFound, Unauthorized, problems
from paletta_server.core.pagination import Page, PageDep
from paletta_server.core.runtime import Runtime, RuntimeDep
from paletta_server.search.service import cards

router = APIRouter(
    prefix="/v1",
    tags=["collections"],
    responses=problems(Unauthorized, Forbidden, NotFound, Conflict, Invalid),
)
Owner = Annotated[Principal, Depends(require(Permission.SEARCH))]


@router.get("/collections")
async def list_own(user: Owner, session: SessionDep, page: PageDep) -> Page[CollectionView]:
    """The caller's lists, the newest first."""
    found, cursor = await service.list_own(session, user, page)
    counts = await service.counts(session, [one.id for one in found])
    return Page(items=[_view(one, counts.get(one.id, 0)) for one in found], next_cursor=cursor)


@router.post("/collections", status_code=201)
async def create(user: Owner, session: SessionDep, wanted: Naming) -> CollectionView:
    """Make an empty list."""
    return _view(await service.create(session, user, wanted.name), 0)


@router.get("/collections/{collection}")
async def show(user: Owner, session: SessionDep, runtime: RuntimeDep, collection: str) -> CollectionDetail:
    """A list and its clips; by id or by name."""
    return await _detail(session, runtime, await service.find(session, user, collection))


@router.patch("/collections/{collection}")
async def rename(
    user: Owner, session: SessionDep, runtime: RuntimeDep, collection: str, wanted: Naming
) -> CollectionDetail:
    """Give a list another name."""
    return await _detail(session, runtime, await service.rename(session, user, collection, wanted.name))


@router.delete("/collections/{collection}", status_code=204)
async def delete(user: Owner, session: SessionDep, collection: str) -> None:
    """Delete a list; the clips stay where they are."""
    await service.remove(session, user, collection)


@router.post("/collections/{collection}/clips")
async def add(
    user: Owner, session: SessionDep, runtime: RuntimeDep, collection: str, wanted: Adding
) -> CollectionDetail:
    """Put clips into a list; all of them, or none."""
    return await _detail(session, runtime, await service.add(session, user, collection, wanted.clips))


@router.delete("/collections/{collection}/clips/{clip}")
async def take_out(
    user: Owner, session: SessionDep, runtime: RuntimeDep, collection: str, clip: str
) -> CollectionDetail:
    """Take a clip out of a list."""
    return await _detail(session, runtime, await service.take_out(session, user, collection, clip))


def _view(found: Collection, clips: int) -> CollectionView:
    return CollectionView(id=found.uid, name=found.name, clips=clips, created_at=found.created_at)


async def _detail(session: AsyncSession, runtime: Runtime, found: Collection) -> CollectionDetail:
    keys = await service.clip_keys(session, found.id)
    items = await cards(session, runtime.store, keys)
    view = _view(found, len(keys))
    return CollectionDetail(**view.model_dump(), items=items, absent=len(keys) - len(items))
