"""Categories and tags: what other domains ask for, and what contributors create and delete.

What the operator does with the whole taxonomy at once is in `plan.py` and `apply.py`.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, any_, bindparam, delete, func, literal_column, or_, select
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlalchemy.types import INTEGER, TEXT

from paletta_server.accounts.permissions import Permission
from paletta_server.accounts.security import Principal
from paletta_server.audit.service import record
from paletta_server.core.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable
from paletta_server.taxonomy import lock, redirects, usage, words
from paletta_server.taxonomy.models import Category, Tag
from paletta_server.taxonomy.usage import Kind

CATEGORIES_PER_PERSON = 100
"""Categories are listed whole, so that nobody may add them without end."""
UNUSED_TAGS_PER_PERSON = 1000
"""Tags that a person made and no clip carries; those of uploads do not count."""
MOST_SUGGESTIONS = 3


@dataclass(frozen=True)
class CategoryInfo:
    """A category as others see it; `owner_id` None is the operator."""

    id: int
    slug: str
    name: str
    description: str
    parent: str | None
    agencies: Mapping[str, Any]
    owner_id: int | None


@dataclass(frozen=True)
class TagInfo:
    id: int
    name: str
    synonyms: Sequence[str]
    owner_id: int | None


@dataclass(frozen=True)
class Suggestion:
    """A tag that nobody used before and the existing ones that it nearly repeats, the nearest first."""

    name: str
    did_you_mean: list[str]


# -- tags, for other domains


def fold_tag(name: str) -> str:
    """A tag as it is stored. Raises `Invalid` (`invalid_tag`) for what cannot be one."""
    if problem := words.tag_problem(name):
        raise Invalid(problem, code="invalid_tag", tag=name[:100])
    return words.fold(name)


async def hold(session: AsyncSession) -> None:
    """Keep the taxonomy as it is until the transaction ends: before a clip's labels are read to be written again.

    Comes before the clip's own lock, since an apply that moves clips holds the taxonomy and then touches them.
    Raises `Unavailable` when an apply takes too long.
    """
    await lock.share(session)


async def tags_for_uploads(
    session: AsyncSession, lists: Sequence[Sequence[str]], owner_id: int
) -> list[list[int]]:
    """The keys of many clips' tags, each list in its order and without repeats; unknown tags are made.

    A synonym stands for its tag. The rows stay locked against deletion until the transaction ends, so that
    they can be linked. Two or three queries in all; call it once per transaction, since two that make the
    same tags in several steps could wait for each other. Raises `Invalid` (`invalid_tag`).
    """
    folded = [[fold_tag(name) for name in names] for names in lists]
    wanted = {name for names in folded for name in names}
    await lock.share(session)
    known = await _known(session, wanted)
    await _create(session, wanted - known.keys(), owner_id, known)
    return [list(dict.fromkeys(known[name] for name in names)) for names in folded]


async def tags_for_upload(
    session: AsyncSession, names: Sequence[str], owner_id: int
) -> tuple[list[int], list[Suggestion]]:
    """As `tags_for_uploads`, for one clip, and what the tags made for it nearly repeat."""
    suggestions = await suggest_tags(session, names)
    (ids,) = await tags_for_uploads(session, [names], owner_id)
    return ids, suggestions


async def suggest_tags(session: AsyncSession, names: Iterable[str]) -> list[Suggestion]:
    """Near-duplicates of those names that are not tags yet (ask before making them). Two queries in all.

    Names that cannot be tags are passed over.
    """
    wanted = {words.fold(name) for name in names if words.tag_problem(name) is None}
    unknown = wanted - (await _known(session, wanted, locked=False)).keys()
    if not unknown:
        return []
    by_key: dict[int, list[str]] = {}
    for name in sorted(unknown):
        for key in words.near_keys([name]):
            by_key.setdefault(key, []).append(name)
    rows = await session.execute(
        select(Tag.name, Tag.synonyms, Tag.near).where(Tag.near.overlap(_array(by_key, INTEGER())))
    )
    found: dict[str, dict[str, int]] = {}
    for tag, synonyms, keys in rows:
        for name in {name for key in keys for name in by_key.get(key, ())}:
            grades = [words.alike(name, word) for word in (tag, *synonyms)]
            if close := [grade for grade in grades if grade is not None]:
                found.setdefault(name, {})[tag] = min(close)
    nearest = {name: sorted((grade, tag) for tag, grade in tags.items()) for name, tags in found.items()}
    return [
        Suggestion(name, [tag for _, tag in nearest[name][:MOST_SUGGESTIONS]]) for name in sorted(nearest)
    ]


async def tag_names(session: AsyncSession, clip_ids: Sequence[int]) -> dict[int, list[str]]:
    """Each clip's tags, the most important first."""
    return await _labels(session, "tag", Tag.id, Tag.name, clip_ids)


async def tag_words(
    session: AsyncSession, clip_ids: Sequence[int]
) -> dict[int, list[tuple[str, Sequence[str]]]]:
    """Each clip's tags with their synonyms, the most important first."""
    found: dict[int, list[tuple[str, Sequence[str]]]] = {clip_id: [] for clip_id in clip_ids}
    if not found:
        return found
    links, target = usage.links_of("tag")
    rows = await session.execute(
        # Most tags have no synonyms, and reading an empty list for each of them takes longer than all the rest.
        select(
            links.c.clip_id, Tag.name, func.nullif(Tag.synonyms, literal_column("'[]'::jsonb"), type_=JSONB)
        )
        .join_from(links, Tag, Tag.id == target)
        .where(links.c.clip_id == usage.any_of(clip_ids))
        .order_by(links.c.clip_id, links.c.position)
    )
    for clip_id, name, synonyms in rows:
        found[clip_id].append((name, synonyms or ()))
    return found


async def stored_names(session: AsyncSession, names: Sequence[str]) -> list[str]:
    """What a clip's keywords read once stored: folded, a synonym as its tag, no repeats. Makes no tags.

    Raises `Invalid` (`invalid_tag`).
    """
    folded = [fold_tag(name) for name in names]
    asked = _array(sorted(set(folded)), TEXT())
    rows = (await session.execute(select(Tag.name, Tag.synonyms).where(Tag.synonyms.has_any(asked)))).all()
    tags = await redirects.names(session, "tag", folded)
    tags |= {synonym: name for name, synonyms in rows for synonym in synonyms}
    return list(dict.fromkeys(tags.get(name, name) for name in folded))


async def _known(session: AsyncSession, names: Iterable[str], *, locked: bool = True) -> dict[str, int]:
    """The keys of folded names that are a tag or a tag's synonym."""
    wanted = set(names)
    if not wanted:
        return {}
    asked = _array(sorted(wanted), TEXT())
    query = select(Tag.id, Tag.name, Tag.synonyms).where(
        or_(Tag.name == any_(asked), Tag.synonyms.has_any(asked))
    )
    if locked:
        # What a link to the row would take anyway: a rival's DELETE waits, another upload does not.
        query = query.order_by(Tag.id).with_for_update(read=True, key_share=True)
    rows = (await session.execute(query)).all()
    found = {synonym: key for key, _, synonyms in rows for synonym in synonyms if synonym in wanted}
    found |= {name: key for key, name, _ in rows if name in wanted}
    # The shared lock keeps what a former name leads to from being merged away meanwhile.
    return found | await redirects.ids(session, "tag", wanted - found.keys())


async def _create(
    session: AsyncSession, names: Iterable[str], owner_id: int | None, known: dict[str, int]
) -> None:
    """Make the tags that are missing and add them to `known`, whoever else is making them right now."""
    missing = sorted(names)  # everybody inserts in one order, so that nobody waits in a circle
    for _ in range(3):
        if not missing:
            return
        made = await session.execute(
            insert(Tag).on_conflict_do_nothing(index_elements=["name"]).returning(Tag.name, Tag.id),
            [{"name": name, "near": words.near_keys([name]), "owner_id": owner_id} for name in missing],
        )
        known.update({row.name: row.id for row in made})
        # A rival made these first; one that it deletes again before we lock it is made in the next round.
        known.update(await _known(session, [name for name in missing if name not in known]))
        missing = [name for name in missing if name not in known]
    if missing:
        raise Unavailable("the tags keep changing", code="taxonomy_busy")


# -- categories, for other domains


async def all_categories(session: AsyncSession) -> list[CategoryInfo]:
    """Every category: the operator's in the order of the taxonomy file, then the contributors' by name."""
    parent = aliased(Category)
    rows = await session.execute(
        select(Category, parent.slug)
        .outerjoin(parent, parent.id == Category.parent_id)
        .order_by(Category.owner_id.is_not(None), Category.position, Category.name, Category.id)
    )
    return [
        CategoryInfo(row.id, row.slug, row.name, row.description, above, row.agencies, row.owner_id)
        for row, above in rows
    ]


async def categories_by_slug(session: AsyncSession, slugs: Iterable[str]) -> dict[str, int]:
    """The keys of those slugs that exist, locked against deletion until the transaction ends."""
    wanted = sorted(set(slugs))
    if not wanted:
        return {}
    await lock.share(session)
    rows = await session.execute(
        select(Category.slug, Category.id)
        .where(Category.slug == any_(_array(wanted, TEXT())))
        .order_by(Category.id)
        .with_for_update(read=True, key_share=True)
    )
    found = {row.slug: row.id for row in rows}
    return found | await redirects.ids(session, "category", [slug for slug in wanted if slug not in found])


async def current_names(session: AsyncSession, kind: Kind, names: Sequence[str]) -> tuple[str, ...]:
    """The same names, but for former ones the present: for whoever filters by them. No query for no names."""
    if not names:
        return ()
    led = await redirects.names(session, kind, names)
    return tuple(dict.fromkeys(led.get(name, name) for name in names))


async def former_categories(session: AsyncSession) -> dict[str, str]:
    """Former slug → the present one, for clients that check manifests."""
    return await redirects.names(session, "category")


async def former_tags(session: AsyncSession) -> dict[str, str]:
    """Former name → the present one, for clients that check manifests."""
    return await redirects.names(session, "tag")


async def tag_of(session: AsyncSession, name: str, *, besides: int) -> str | None:
    """The tag, other than the one with the key `besides`, that a folded name is or stands for."""
    asked = _array([name], TEXT())
    return await session.scalar(
        select(Tag.name).where(or_(Tag.name == name, Tag.synonyms.has_any(asked)), Tag.id != besides).limit(1)
    )


async def why_not(session: AsyncSession, kind: Kind, word: str) -> str | None:
    """A hint for whoever named a category or tag that there is not."""
    if now := (await redirects.names(session, kind, [word])).get(word):
        return f"it is `{now}` now"
    if kind == "category":
        near = await suggest_category(session, word)
        return f"did you mean `{near}`?" if near else None
    of = await tag_of(session, word, besides=0)
    return f"it is a synonym of `{of}`" if of else None


async def suggest_category(session: AsyncSession, slug: str) -> str | None:
    """The category that someone who wrote `slug` most likely meant:

    by its name, an agency's word, or a typo.
    """
    categories = await all_categories(session)
    asked = words.slug_of(slug) or slug.casefold()
    spelled: dict[str, str] = {}
    for category in reversed(categories):  # an agency's word may stand for several: the first one wins
        for equivalent in category.agencies.values():
            spelled[words.slug_of(str(equivalent))] = category.slug
    for category in reversed(categories):
        spelled[words.slug_of(category.name)] = category.slug
    spelled.update({category.slug: category.slug for category in categories})
    spelled.pop("", None)
    close = difflib.get_close_matches(asked, spelled, n=1, cutoff=0.7)
    return spelled[close[0]] if close else None


async def category_slugs(session: AsyncSession, clip_ids: Sequence[int]) -> dict[int, list[str]]:
    """Each clip's categories, the main one first."""
    return await _labels(session, "category", Category.id, Category.slug, clip_ids)


def main_category(clip_id: Any) -> ScalarSelect[str | None]:
    """For a list's own statement: the slug of a clip's main category."""
    links, target = usage.links_of("category")
    return (
        select(Category.slug)
        .join_from(links, Category, Category.id == target)
        .where(links.c.clip_id == clip_id)
        .order_by(links.c.position)
        .limit(1)
        .scalar_subquery()
    )


async def _labels(
    session: AsyncSession, kind: Kind, key: Any, label: Any, clip_ids: Sequence[int]
) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {clip_id: [] for clip_id in clip_ids}
    if not found:
        return found
    links, target = usage.links_of(kind)
    rows = await session.execute(
        select(links.c.clip_id, label)
        .join_from(links, key.class_, key == target)
        .where(links.c.clip_id == usage.any_of(clip_ids))
        .order_by(links.c.clip_id, links.c.position)
    )
    for clip_id, text in rows:
        found[clip_id].append(text)
    return found


# -- what contributors do


async def find_tags(
    session: AsyncSession, *, q: str | None, owner_id: int | None, after: str | None, limit: int
) -> tuple[list[TagInfo], str | None]:
    """Tags by name, at most `limit`, from behind `after`; the name to go on behind, or None on the last page.

    `q` is looked for anywhere in names and synonyms; `owner_id` keeps to one person's tags.
    """
    where: list[ColumnElement[bool]] = []
    if q and words.invisible(q):
        return [], None
    if q and (part := words.fold(q)):
        synonym = func.jsonb_array_elements_text(Tag.synonyms).table_valued("value").render_derived()
        in_synonyms = (
            select(1).select_from(synonym).where(synonym.c.value.contains(part, autoescape=True)).exists()
        )
        where.append(or_(Tag.name.contains(part, autoescape=True), in_synonyms))
    if owner_id is not None:
        where.append(Tag.owner_id == owner_id)
    if after is not None:
        where.append(Tag.name > after)
    rows = (
        await session.execute(
            select(Tag.id, Tag.name, Tag.synonyms, Tag.owner_id)
            .where(*where)
            .order_by(Tag.name)
            .limit(limit + 1)
        )
    ).all()
    found = [TagInfo(*row) for row in rows[:limit]]
    return found, found[-1].name if len(rows) > limit else None


async def create_tag(
    session: AsyncSession, user: Principal, name: str, *, force: bool = False
) -> tuple[TagInfo, bool]:
    """Make a tag, or find the one that the name already is or stands for; and whether it was made.

    Raises `Invalid` (`invalid_tag`), `Conflict` (`too_many`) and, unless forced, `Conflict` (`near_duplicate`).
    An admin's tag is the operator's.
    """
    folded = fold_tag(name)
    await lock.share(session)
    known = await _known(session, [folded])
    made = not known
    if made:
        await _only_so_many_unused(session, _owner(user))
        if not force and (near := await suggest_tags(session, [folded])):
            also = near[0].did_you_mean
            raise Conflict(
                f"`{folded}` nearly repeats " + ", ".join(f"`{other}`" for other in also),
                code="near_duplicate",
                hint=f"did you mean `{also[0]}`? to make it all the same, use force",
                did_you_mean=also,
            )
        await _create(session, [folded], _owner(user), known)
        await record(session, user, "tag:created", folded)
    tag = await session.get_one(Tag, known[folded])
    return TagInfo(tag.id, tag.name, tag.synonyms, tag.owner_id), made


async def _only_so_many_unused(session: AsyncSession, owner_id: int | None) -> None:
    if owner_id is None:
        return
    links, target = usage.links_of("tag")
    used = select(links.c.clip_id).where(target == Tag.id).exists()
    unused = await session.scalar(select(func.count()).where(Tag.owner_id == owner_id, ~used))
    if (unused or 0) >= UNUSED_TAGS_PER_PERSON:
        raise Conflict(
            f"you have {UNUSED_TAGS_PER_PERSON:,} tags that no clip uses already",
            code="too_many",
            hint="delete one that is not used",
        )


async def create_category(
    session: AsyncSession,
    user: Principal,
    *,
    slug: str | None,
    name: str,
    description: str,
    parent: str | None,
) -> CategoryInfo:
    """Make a category.

    Raises `Conflict` (`exists`, `too_many`), `Invalid` and, for the parent, `NotFound`.
    """
    slug = slug or words.slug_of(name)
    if not words.SLUG.match(slug) or len(slug) > words.MAX_SLUG:
        raise Invalid(
            f"`{slug}` cannot be a slug" if slug else f"no slug can be made from `{name}`",
            code="invalid_slug",
            hint=f"give one of small letters, digits and single hyphens, at most {words.MAX_SLUG} characters",
        )
    await lock.share(session)
    existing = await all_categories(session)
    owner_id = _owner(user)
    if owner_id is not None and sum(one.owner_id == owner_id for one in existing) >= CATEGORIES_PER_PERSON:
        raise Conflict(
            f"you have {CATEGORIES_PER_PERSON} categories already",
            code="too_many",
            hint="delete one that is not used",
        )
    same = next((one for one in existing if one.name.casefold() == name.casefold()), None)
    keys = {one.slug: one.id for one in existing}
    if parent is not None and parent not in keys:
        raise NotFound("category", parent)
    made = None
    if same is None:
        made = await session.scalar(
            insert(Category)
            .values(
                slug=slug,
                name=name,
                description=description,
                parent_id=keys[parent] if parent else None,
                owner_id=owner_id,
            )
            .on_conflict_do_nothing(index_elements=["slug"])
            .returning(Category.id)
        )
    if made is None:
        other = same.slug if same else slug
        raise Conflict(f"there is a category `{other}` already", code="exists", hint="use that one")
    await redirects.forget_living(session, "category")
    await record(session, user, "category:created", slug)
    return CategoryInfo(made, slug, name, description, parent, {}, owner_id)


async def delete_tag(session: AsyncSession, user: Principal, name: str) -> None:
    """Delete a tag that no clip uses. Raises `NotFound`, `Forbidden` (`not_yours`), `Conflict` (`in_use`)."""
    folded = words.fold(name)
    if words.tag_problem(name):
        raise NotFound("tag", folded[:100])
    await lock.share(session)
    tag = await session.scalar(select(Tag).where(Tag.name == folded).with_for_update())
    if tag is None:
        raise NotFound("tag", folded, hint=await why_not(session, "tag", folded))
    _only_owner(user, tag.owner_id, folded)
    await _only_unused(session, "tag", tag.id, folded)
    await session.execute(delete(Tag).where(Tag.id == tag.id))
    await record(session, user, "tag:deleted", folded)


async def delete_category(session: AsyncSession, user: Principal, slug: str) -> None:
    """Delete a category that no clip uses.

    Raises `NotFound`, `Forbidden` (`not_yours`), `Conflict` (`in_use`).
    """
    await lock.share(session)
    category = None
    if words.SLUG.match(slug):
        category = await session.scalar(select(Category).where(Category.slug == slug).with_for_update())
    if category is None:
        raise NotFound("category", slug[:100], hint=await why_not(session, "category", slug))
    _only_owner(user, category.owner_id, slug)
    below = list(
        await session.scalars(select(Category.slug).where(Category.parent_id == category.id).limit(3))
    )
    if below:
        raise Conflict(
            f"`{slug}` has categories below it: " + ", ".join(f"`{one}`" for one in below),
            code="in_use",
            hint="delete those first",
        )
    await _only_unused(session, "category", category.id, slug)
    await session.execute(delete(Category).where(Category.id == category.id))
    await record(session, user, "category:deleted", slug)


def _owner(user: Principal) -> int | None:
    return None if user.may(Permission.MANAGE_TAXONOMY) else user.user_id


def _only_owner(user: Principal, owner_id: int | None, key: str) -> None:
    if owner_id == user.user_id or user.may(Permission.MANAGE_TAXONOMY):
        return
    whose = "the operator" if owner_id is None else "another contributor"
    raise Forbidden(
        f"`{key}` belongs to {whose}", code="not_yours", hint="only what you made yourself can be deleted"
    )


async def _only_unused(session: AsyncSession, kind: Kind, key: int, label: str) -> None:
    clips = (await usage.count(session, kind, [key])).get(key, 0)
    if clips:
        verb = "clip uses" if clips == 1 else "clips use"
        raise Conflict(
            f"{clips:,} {verb} `{label}`", code="in_use", hint="take it off them first", clips=clips
        )
    await usage.drop(session, kind, [key])


def _array(values: Iterable[Any], kind: Any) -> Any:
    """One array parameter, however many values (a query has room for 65,535 parameters)."""
    return bindparam(None, list(values), ARRAY(kind))
