"""HTTP of categories and tags. Lists are public; making and deleting is for contributors, files for admins."""

import base64
import binascii
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from paletta_server.accounts.permissions import Permission
from paletta_server.accounts.security import OptionalUser, Principal, require
from paletta_server.clips.service import keys_of, listed
from paletta_server.core.database import SessionDep
from paletta_server.core.errors import Conflict, Forbidden, Invalid, NotFound, Unauthorized, problems
from paletta_server.core.nodes import Mark
from paletta_server.core.pagination import Page
from paletta_server.taxonomy import apply, export, service, surgery, usage
from paletta_server.taxonomy.document import Move
from paletta_server.taxonomy.plan import Plan
from paletta_server.taxonomy.schemas import (
    ApplyIn,
    CategoryIn,
    CategoryOut,
    ChangeOut,
    DocumentOut,
    MergeIn,
    MoveCategoryIn,
    MoveClipsIn,
    MoveIn,
    OperatedOut,
    PlanIn,
    PlanOut,
    RenameIn,
    TagIn,
    TagOut,
)
from paletta_server.taxonomy.words import fold

router = APIRouter(prefix="/v1", tags=["taxonomy"])

Contributor = Annotated[Principal, Depends(require(Permission.CREATE_TAXONOMY))]
Operator = Annotated[Principal, Depends(require(Permission.MANAGE_TAXONOMY))]


@router.get("/categories")
async def list_categories(session: SessionDep, user: OptionalUser) -> Page[CategoryOut]:
    """Every category: the operator's in their order, then the contributors'."""
    found = await service.all_categories(session)
    clips = await usage.count(session, "category", [one.id for one in found], among=listed())
    return Page(items=[_category(one, clips.get(one.id, 0), user) for one in found])


@router.post(
    "/categories", status_code=201, responses=problems(Unauthorized, Forbidden, NotFound, Conflict, Invalid)
)
async def create_category(body: CategoryIn, session: SessionDep, user: Contributor) -> CategoryOut:
    """Make a category of one's own."""
    made = await service.create_category(
        session, user, slug=body.slug, name=body.name, description=body.description, parent=body.parent
    )
    return _category(made, 0, user)


@router.delete(
    "/categories/{slug}", status_code=204, responses=problems(Unauthorized, Forbidden, NotFound, Conflict)
)
async def delete_category(slug: str, session: SessionDep, user: Contributor) -> None:
    """Delete a category that is one's own and that no clip uses."""
    await service.delete_category(session, user, slug)


@router.get("/tags", responses=problems(Unauthorized, Invalid))
async def list_tags(
    session: SessionDep,
    user: OptionalUser,
    q: Annotated[str | None, Query(max_length=100, description="Anywhere in a name or synonym.")] = None,
    mine: Annotated[bool, Query(description="Only one's own (with a login).")] = False,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=1000)] = None,
) -> Page[TagOut]:
    """Tags by name."""
    if mine and user is None:
        raise Unauthorized("your own tags need a login")
    found, more = await service.find_tags(
        session,
        q=q,
        owner_id=user.user_id if mine and user else None,
        after=_name_in(cursor) if cursor else None,
        limit=limit,
    )
    clips = await usage.count(session, "tag", [one.id for one in found], among=listed())
    items = [_tag(one, clips.get(one.id, 0), user) for one in found]
    return Page(items=items, next_cursor=_cursor(more) if more else None)


@router.post("/tags", status_code=201, responses=problems(Unauthorized, Forbidden, Conflict, Invalid))
async def create_tag(body: TagIn, session: SessionDep, user: Contributor, response: Response) -> TagOut:
    """Make a tag; 200 with the tag that there is, where the name is one or a synonym of one."""
    tag, made = await service.create_tag(session, user, body.name, force=body.force)
    if not made:
        response.status_code = 200
    clips = await usage.count(session, "tag", [tag.id], among=listed())
    return _tag(tag, clips.get(tag.id, 0), user)


@router.delete(
    "/tags/{name:path}", status_code=204, responses=problems(Unauthorized, Forbidden, NotFound, Conflict)
)
async def delete_tag(name: str, session: SessionDep, user: Contributor) -> None:
    """Delete a tag that is one's own and that no clip uses."""
    await service.delete_tag(session, user, name)


@router.get("/admin/taxonomy", responses=problems(Unauthorized, Forbidden))
async def export_taxonomy(session: SessionDep, user: Operator) -> DocumentOut:
    """The operator's categories and tags as a taxonomy file."""
    return DocumentOut(document=await export.export(session))


@router.post("/admin/taxonomy/plan", responses=problems(Unauthorized, Forbidden, Invalid))
async def plan_taxonomy(body: PlanIn, session: SessionDep, user: Operator) -> PlanOut:
    """What applying a taxonomy file would change."""
    moves = [_move(one) for one in body.moves]
    made = await apply.plan(session, body.document, filename=body.filename, prune=body.prune, moves=moves)
    return _plan(made)


@router.post("/admin/taxonomy/apply", responses=problems(Unauthorized, Forbidden, Conflict, Invalid))
async def apply_taxonomy(body: ApplyIn, session: SessionDep, user: Operator) -> PlanOut:
    """Make the taxonomy what a file says, all or nothing; a second time changes nothing."""
    made = await apply.apply(
        session,
        user,
        body.document,
        filename=body.filename,
        prune=body.prune,
        moves=[_move(one) for one in body.moves],
        digest=body.digest,
    )
    return _plan(made, applied=True)


CHANGES = problems(Unauthorized, Forbidden, NotFound, Conflict, Invalid)


@router.post("/admin/taxonomy/merge", responses=CHANGES)
async def merge_entries(body: MergeIn, session: SessionDep, user: Operator) -> OperatedOut:
    """Make one category or tag of two; the name that goes leads on to the other."""
    return _operated(await surgery.merge(session, user, body.kind, body.source, body.target))


@router.post("/admin/taxonomy/rename", responses=CHANGES)
async def rename_entry(body: RenameIn, session: SessionDep, user: Operator) -> OperatedOut:
    """Give a category or tag another name; the old one goes on leading to it."""
    done = await surgery.rename(session, user, body.kind, body.source, body.target, name=body.name)
    return _operated(done)


@router.post("/admin/taxonomy/move", responses=CHANGES)
async def move_category(body: MoveCategoryIn, session: SessionDep, user: Operator) -> OperatedOut:
    """Put a category below another, or at the top."""
    return _operated(await surgery.move(session, user, body.category, body.parent))


@router.post("/admin/taxonomy/move-clips", responses=CHANGES)
async def move_clips(body: MoveClipsIn, session: SessionDep, user: Operator) -> OperatedOut:
    """Move clips from one category or tag to another, which both stay."""
    clips = None if body.clips is None else await keys_of(session, body.clips)
    return _operated(await surgery.move_clips(session, user, body.kind, body.source, body.target, clips))


def _operated(done: surgery.Operated) -> OperatedOut:
    return OperatedOut(kind=done.kind, source=done.source, target=done.target, clips=done.clips)


def _category(one: service.CategoryInfo, clips: int, user: Principal | None) -> CategoryOut:
    return CategoryOut(
        slug=one.slug,
        name=one.name,
        description=one.description,
        parent=one.parent,
        clip_count=clips,
        mine=user is not None and one.owner_id == user.user_id,
    )


def _tag(one: service.TagInfo, clips: int, user: Principal | None) -> TagOut:
    mine = user is not None and one.owner_id == user.user_id
    return TagOut(name=one.name, synonyms=list(one.synonyms), clip_count=clips, mine=mine)


def _move(one: MoveIn) -> Move:
    return Move(one.kind, fold(one.old), fold(one.new), Mark(0, 0))


def _plan(made: Plan, *, applied: bool = False) -> PlanOut:
    changes = [
        ChangeOut(
            op=one.op,
            kind=one.kind,
            key=one.key,
            before=one.before,
            after=one.after,
            clips=one.clips,
            blocked=one.blocked,
        )
        for one in made.changes
    ]
    return PlanOut(changes=changes, warnings=made.warnings, digest=made.digest(), applied=applied)


def _cursor(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")


def _name_in(cursor: str) -> str:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode().replace("\x00", "")
    except (ValueError, binascii.Error) as error:
        raise Invalid("the cursor is not one of ours", code="bad_cursor") from error
