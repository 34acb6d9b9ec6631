"""One change of the operator's to categories and tags at a time: merge, rename, move; each under the lock of an apply.

Former names go on leading to what became of them (`redirects`).
"""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts.security import Principal
from paletta_server.audit.service import record
from paletta_server.core.errors import Conflict, Invalid, NotFound
from paletta_server.taxonomy import lock, redirects, service, usage, words
from paletta_server.taxonomy.models import Category, Tag
from paletta_server.taxonomy.usage import Kind


@dataclass(frozen=True)
class Operated:
    """What was done: how many clips came along with it, and under which names."""

    kind: Kind
    source: str
    target: str | None
    clips: int


async def merge(
    session: AsyncSession, user: Principal, kind: Kind | None, source: str, target: str
) -> Operated:
    """Clips, synonyms, subcategories and former names of `source` become `target`'s, and `source` goes.

    Raises `NotFound`, `Invalid` (`same`) and `Conflict` (`ambiguous_kind`).
    """
    await lock.take(session)
    kind = await _kind_of(session, kind, source)
    old, new = await _find(session, kind, source), await _find(session, kind, target)
    if old.id == new.id:
        raise Invalid(f"`{source}` cannot be merged into itself", code="same")
    clips = (await usage.count(session, kind, [old.id])).get(old.id, 0)
    await usage.move(session, kind, {old.id: new.id})
    await redirects.follow(session, kind, {old.id: new.id})
    if isinstance(old, Category) and isinstance(new, Category):
        await _adopt(session, old, new)
        names = old.slug, new.slug
    else:
        assert isinstance(old, Tag)
        assert isinstance(new, Tag)
        taken = {new.name, *new.synonyms}
        new.synonyms = [*new.synonyms, *(word for word in old.synonyms if word not in taken)]
        new.near = words.near_keys([new.name, *new.synonyms])
        names = old.name, new.name
    await session.flush()
    model = type(old)
    await session.execute(delete(model).where(model.id == old.id))
    await redirects.add(session, kind, {names[0]: new.id})
    return await _done(session, user, "merged", Operated(kind, *names, clips))


async def _adopt(session: AsyncSession, old: Category, new: Category) -> None:
    """Put what was below `old` below `new`, and `new` itself, if it was below, where `old` was."""
    if old.id in await _above(session, new):
        new.parent_id = old.parent_id
        await session.flush()
    await session.execute(
        update(Category)
        .where(Category.parent_id == old.id, Category.id != new.id)
        .values(parent_id=new.id)
        .execution_options(synchronize_session=False)
    )


async def rename(
    session: AsyncSession, user: Principal, kind: Kind | None, old: str, new: str, *, name: str | None = None
) -> Operated:
    """Give a category another slug (and `name`), or a tag another name; the old one goes on leading to it.

    Raises `NotFound`, `Invalid` and `Conflict` (`exists`: then it is a merge that is meant).
    """
    await lock.take(session)
    kind = await _kind_of(session, kind, old)
    row = await _find(session, kind, old)
    key = _checked(kind, new)
    if isinstance(row, Category):
        before = row.slug
        await _require_free(session, kind, key, row.id)
        row.slug, row.name = key, name or row.name
    else:
        if name is not None:
            raise Invalid("a tag has no name beside itself", code="invalid_name")
        before = row.name
        await _require_free(session, kind, key, row.id)
        row.name = key
        row.synonyms = [word for word in row.synonyms if word != key]
        row.near = words.near_keys([key, *row.synonyms])
    await session.flush()
    if before != key:
        await redirects.add(session, kind, {before: row.id})
    await redirects.forget_living(session, kind)
    clips = (await usage.count(session, kind, [row.id])).get(row.id, 0)
    return await _done(session, user, "renamed", Operated(kind, before, key, clips))


async def move(session: AsyncSession, user: Principal, slug: str, parent: str | None) -> Operated:
    """Put a category below another, or (None) at the top. Raises `NotFound` and `Conflict` (`below_itself`)."""
    await lock.take(session)
    row = await _find(session, "category", slug)
    assert isinstance(row, Category)
    above = None if parent is None else await _find(session, "category", parent)
    if above is not None:
        assert isinstance(above, Category)
        if row.id == above.id or row.id in await _above(session, above):
            raise Conflict(
                f"`{above.slug}` is below `{row.slug}` itself",
                code="below_itself",
                hint="move that one first",
            )
    row.parent_id = None if above is None else above.id
    await session.flush()
    clips = (await usage.count(session, "category", [row.id])).get(row.id, 0)
    target = above.slug if isinstance(above, Category) else None
    return await _done(session, user, "moved", Operated("category", row.slug, target, clips))


async def move_clips(
    session: AsyncSession,
    user: Principal,
    kind: Kind | None,
    source: str,
    target: str,
    clip_ids: Collection[int] | None = None,
) -> Operated:
    """Give the clips of `source`, or of those only `clip_ids`, `target` in its place; `source` stays."""
    await lock.take(session)
    kind = await _kind_of(session, kind, source)
    old, new = await _find(session, kind, source), await _find(session, kind, target)
    if old.id == new.id:
        raise Invalid(f"the clips of `{source}` are there already", code="same")
    clips = (await usage.count(session, kind, [old.id], of=clip_ids)).get(old.id, 0)
    await usage.move(session, kind, {old.id: new.id}, among=clip_ids)
    return await _done(session, user, "clips_moved", Operated(kind, _key(old), _key(new), clips))


async def _done(session: AsyncSession, user: Principal, what: str, done: Operated) -> Operated:
    details = {"to": done.target, "clips": done.clips}
    await record(session, user, f"{done.kind}:{what}", done.source, details=details)
    return done


async def _kind_of(session: AsyncSession, kind: Kind | None, word: str) -> Kind:
    if kind is not None:
        return kind
    slug = await session.scalar(select(Category.id).where(Category.slug == word.strip().casefold()))
    tag = await session.scalar(select(Tag.id).where(Tag.name == words.fold(word)))
    if slug is not None and tag is not None:
        raise Conflict(
            f"`{word}` is both a category and a tag", code="ambiguous_kind", hint="say which: category or tag"
        )
    return "tag" if tag is not None else "category"


async def _find(session: AsyncSession, kind: Kind, word: str) -> Category | Tag:
    row: Category | Tag | None
    if kind == "category":
        slug = word.strip().casefold()
        row = await session.scalar(select(Category).where(Category.slug == slug).with_for_update())
    else:
        slug = words.fold(word)
        row = await session.scalar(select(Tag).where(Tag.name == slug).with_for_update())
    if row is not None:
        return row
    hint = await service.why_not(session, kind, slug)
    raise NotFound(kind, slug[:100], hint=hint)


def _key(row: Category | Tag) -> str:
    return row.slug if isinstance(row, Category) else row.name


def _checked(kind: Kind, word: str) -> str:
    if kind == "tag":
        return service.fold_tag(word)
    if not words.SLUG.match(word) or len(word) > words.MAX_SLUG:
        raise Invalid(
            f"`{word[:60]}` cannot be a slug",
            code="invalid_slug",
            hint=f"give one of small letters, digits and single hyphens, at most {words.MAX_SLUG} characters",
        )
    return word


async def _require_free(session: AsyncSession, kind: Kind, key: str, own: int) -> None:
    other: str | None
    if kind == "category":
        other = await session.scalar(select(Category.slug).where(Category.slug == key, Category.id != own))
    else:
        other = await service.tag_of(session, key, besides=own)
    if other is not None:
        of = "" if other == key else f", a synonym of `{other}`"
        raise Conflict(
            f"there is a {kind} `{key}` already{of}",
            code="exists",
            hint="`paletta admin taxonomy merge` makes one of the two",
        )


async def _above(session: AsyncSession, category: Category) -> set[int]:
    """The categories above one; in a tree of any depth, and also where it has come to be a circle."""
    parents: dict[int, int | None] = dict(
        (await session.execute(select(Category.id, Category.parent_id))).all()
    )
    above: set[int] = set()
    at = parents.get(category.id)
    while at is not None and at not in above:
        above.add(at)
        at = parents.get(at)
    return above
