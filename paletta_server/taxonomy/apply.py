"""The operator's side of the taxonomy: plan a file, apply it, export one.

An apply is one transaction under a lock of its own, in a dozen statements however large the file is.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from anyio.to_thread import run_sync
from sqlalchemy import delete, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from paletta_server.accounts.security import Principal
from paletta_server.audit.service import record
from paletta_server.core.errors import Conflict, Invalid
from paletta_server.taxonomy import lock, redirects, usage, words
from paletta_server.taxonomy.document import MOST_PROBLEMS, Document, Move, parse
from paletta_server.taxonomy.models import Category, Tag
from paletta_server.taxonomy.plan import CategoryRow, Plan, TagRow, compare, count_clips
from paletta_server.taxonomy.usage import Kind


class TaxonomyInvalid(Invalid):
    """The file has problems; `problems` lists them with file, line and column."""

    code = "taxonomy_invalid"

    def __init__(self, document: Document, filename: str) -> None:
        found = document.problems
        many = "a problem" if len(found) == 1 else f"{len(found):,} problems"
        super().__init__(
            f"`{filename}` has {many}",
            problems=[
                {
                    "file": filename,
                    "line": one.line,
                    "column": one.column,
                    "message": one.message,
                    "hint": one.hint,
                }
                for one in found[:MOST_PROBLEMS]
            ],
            problem_count=len(found),
        )


async def plan(
    session: AsyncSession, source: str, *, filename: str, prune: bool = False, moves: Sequence[Move] = ()
) -> Plan:
    """What applying `source` would change. Raises `TaxonomyInvalid`."""
    document = await _parsed(source, filename)
    await lock.share(session)
    return await _plan(session, document, filename, prune, moves)


async def apply(
    session: AsyncSession,
    user: Principal,
    source: str,
    *,
    filename: str,
    prune: bool = False,
    moves: Sequence[Move] = (),
    digest: str | None = None,
) -> Plan:
    """Make the taxonomy what `source` says; doing it again changes nothing.

    Raises `TaxonomyInvalid`, `Conflict` `plan_changed` where `digest` is not this plan's, and `Conflict`
    `taxonomy_blocked` where it would delete what clips use.
    """
    document = await _parsed(source, filename)
    await lock.take(session)
    made = await _plan(session, document, filename, prune, moves)
    if digest is not None and digest != made.digest():
        raise Conflict(
            "the taxonomy changed since it was planned", code="plan_changed", hint="look at a new plan first"
        )
    if stuck := [change for change in made.changes if change.blocked]:
        first = stuck[0]
        rest = f" (and {len(stuck) - 1:,} more)" if len(stuck) > 1 else ""
        raise Conflict(
            f"{first.kind} `{first.key}` cannot be deleted: {first.blocked}{rest}",
            code="taxonomy_blocked",
            hint="say where their clips go: under `moves:` in the file, or as --move OLD=NEW",
            blocked=[{"kind": one.kind, "key": one.key, "reason": one.blocked} for one in stuck],
        )
    if made.changes:
        await _write(session, document, made)
        counts = Counter(f"{change.kind}:{change.op}" for change in made.changes)
        details = {"file": filename, "prune": prune, "digest": made.digest(), "changes": dict(counts)}
        await record(session, user, "taxonomy:applied", "taxonomy", details=details)
    return made


async def _parsed(source: str, filename: str) -> Document:
    document = await run_sync(parse, source)  # the largest file takes a second or two
    if document.problems:
        raise TaxonomyInvalid(document, filename)
    return document


async def _plan(
    session: AsyncSession, document: Document, filename: str, prune: bool, moves: Sequence[Move]
) -> Plan:
    categories = await category_rows(session)
    tags = await tag_rows(session)
    made = compare(document, categories, tags, prune=prune, moves=moves)
    if document.problems:
        document.problems.sort(key=lambda problem: (problem.line, problem.column))
        raise TaxonomyInvalid(document, filename)
    counts: dict[Kind, dict[int, int]] = {}
    kinds: tuple[Kind, ...] = ("category", "tag")
    for kind in kinds:
        ids = [one.row_id for one in made.changes if one.kind == kind and one.row_id is not None]
        counts[kind] = await usage.count(session, kind, ids)
    count_clips(made, lambda kind, row_id: counts[kind].get(row_id, 0))
    for kind in kinds:
        made_anew = [one.key for one in made.changes if one.kind == kind and one.op == "create"]
        for old, now in (await redirects.names(session, kind, made_anew)).items():
            made.warnings.append(f"{kind} `{old}` became `{now}`; the file still names it, and makes it anew")
    return made


async def category_rows(session: AsyncSession) -> dict[str, CategoryRow]:
    """Every category by slug, in the order that they are listed in."""
    parent = aliased(Category)
    rows = await session.execute(
        select(
            Category.id,
            Category.slug,
            Category.owner_id,
            Category.position,
            Category.name,
            Category.description,
            parent.slug,
            Category.agencies,
        )
        .outerjoin(parent, parent.id == Category.parent_id)
        .order_by(Category.position, Category.name, Category.id)
    )
    return {row[1]: CategoryRow(*row) for row in rows}


async def tag_rows(session: AsyncSession) -> dict[str, TagRow]:
    """Every tag by name."""
    rows = await session.execute(select(Tag.id, Tag.name, Tag.owner_id, Tag.synonyms).order_by(Tag.name))
    return {row[1]: TagRow(*row) for row in rows}


# -- writing: rows travel as one JSON parameter, so that a statement serves any number of them

_CATEGORY_ROWS = """
    jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(
        id bigint, slug text, name text, description text, position int, agencies jsonb)"""
_TAG_ROWS = """
    jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(
        id bigint, name text, synonyms jsonb, near int[], operators boolean)"""

_UPDATE_CATEGORIES = f"""
    UPDATE categories c SET slug = r.slug, name = r.name, description = r.description,
        position = r.position, agencies = r.agencies, owner_id = NULL
    FROM {_CATEGORY_ROWS}
    WHERE c.id = r.id AND (c.slug, c.name, c.description, c.position, c.agencies, c.owner_id)
        IS DISTINCT FROM (r.slug, r.name, r.description, r.position, r.agencies, NULL)"""  # noqa: S608
_INSERT_CATEGORIES = f"""
    INSERT INTO categories (slug, name, description, position, agencies)
    SELECT slug, name, description, position, agencies FROM {_CATEGORY_ROWS} ORDER BY position"""  # noqa: S608
_SET_PARENTS = """
    UPDATE categories c SET parent_id = p.id
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(slug text, parent text)
    LEFT JOIN categories p ON p.slug = r.parent
    WHERE c.slug = r.slug AND c.parent_id IS DISTINCT FROM p.id"""
_UPDATE_TAGS = f"""
    UPDATE tags t SET name = r.name, synonyms = r.synonyms, near = r.near,
        owner_id = CASE WHEN r.operators THEN NULL ELSE t.owner_id END
    FROM {_TAG_ROWS} WHERE t.id = r.id"""  # noqa: S608
_INSERT_TAGS = f"""
    INSERT INTO tags (name, synonyms, near)
    SELECT name, synonyms, near FROM {_TAG_ROWS} ORDER BY name"""  # noqa: S608


async def _write(session: AsyncSession, document: Document, made: Plan) -> None:
    """Write what stays, then hand clips over, then delete: each step finds what it refers to."""
    await _write_categories(session, document, made)
    await _write_tags(session, document, made)
    slugs = {row.slug: row.id for row in await session.execute(select(Category.slug, Category.id))}
    names = {row.name: row.id for row in await session.execute(select(Tag.name, Tag.id))}
    await _retire(session, "category", Category, made, slugs)
    await _retire(session, "tag", Tag, made, names)


async def _write_categories(session: AsyncSession, document: Document, made: Plan) -> None:
    rows = [
        {
            "id": made.categories.kept.get(key),
            "slug": key,
            "name": entry.name,
            "description": entry.description,
            "position": position,
            "agencies": entry.agencies,
        }
        for position, (key, entry) in enumerate(document.categories.items(), start=1)
    ]
    await _run(session, _UPDATE_CATEGORIES, [row for row in rows if row["id"] is not None])
    await _run(session, _INSERT_CATEGORIES, [row for row in rows if row["id"] is None])
    parents = [{"slug": key, "parent": entry.parent} for key, entry in document.categories.items()]
    parents += [{"slug": key, "parent": parent} for key, parent in made.reparented.items()]
    await _run(session, _SET_PARENTS, parents)


async def _write_tags(session: AsyncSession, document: Document, made: Plan) -> None:
    rows = [
        _tag_row(made.tags.kept.get(key), key, list(document.tags[key].synonyms), operators=True)
        for key in document.tags
        if key in made.tags.touched
    ]
    rows += [_tag_row(row.id, row.key, left, operators=False) for row, left in made.stripped]
    await _run(session, _UPDATE_TAGS, [row for row in rows if row["id"] is not None])
    await _run(session, _INSERT_TAGS, [row for row in rows if row["id"] is None])


def _tag_row(row_id: int | None, name: str, synonyms: list[str], *, operators: bool) -> dict[str, Any]:
    near = words.near_keys([name, *synonyms])
    return {"id": row_id, "name": name, "synonyms": synonyms, "near": near, "operators": operators}


async def _retire(
    session: AsyncSession, kind: Kind, model: type[Category | Tag], made: Plan, ids: Mapping[str, int]
) -> None:
    """Hand clips and former names over, delete what goes, and let renamed and merged names lead on."""
    steps = made.categories if kind == "category" else made.tags
    merged = {old: ids[new] for old, new in steps.moves.items()}
    await usage.move(session, kind, merged)
    await redirects.follow(session, kind, merged)
    if steps.removed:
        gone = sorted(steps.removed)
        await usage.drop(session, kind, gone)
        await session.execute(delete(model).where(model.id == usage.any_of(gone)))
    former = {
        change.key: merged.get(change.row_id, change.row_id)
        for change in made.changes
        if change.kind == kind and change.op in ("rename", "move") and change.row_id is not None
    }
    await redirects.add(session, kind, former)
    await redirects.forget_living(session, kind)


async def _run(session: AsyncSession, statement: str, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        await session.execute(text(statement), {"rows": json.dumps(rows)})
