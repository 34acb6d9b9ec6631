"""Former slugs and tag names: they go on leading to what became of them, in filters, manifests and links.

A redirect points at a row, so it follows that row through later renames. What lives under a name comes before any
redirect of it.
"""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import ColumnElement, any_, bindparam, delete, exists, func, select, update
from sqlalchemy.dialects.postgresql import ARRAY, BIGINT, TEXT, insert
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.taxonomy.models import Category, Redirect, Tag
from paletta_server.taxonomy.usage import Kind


def _side(kind: Kind) -> tuple[Any, Any, Any]:
    """Of a kind: the redirect's column, its key in the target, and the target's name."""
    if kind == "category":
        return Redirect.category_id, Category.id, Category.slug
    return Redirect.tag_id, Tag.id, Tag.name


async def ids(session: AsyncSession, kind: Kind, words: Collection[str]) -> dict[str, int]:
    """The rows that former names lead to, locked against deletion. The caller has looked for living names."""
    if not words:
        return {}
    column, key, _ = _side(kind)
    rows = await session.execute(
        select(Redirect.word, column)
        .join(key.class_, key == column)
        .where(Redirect.kind == kind, Redirect.word == _any(words))
        .order_by(key)
        .with_for_update(of=key.class_, read=True, key_share=True)
    )
    return dict(rows.all())


async def names(session: AsyncSession, kind: Kind, words: Collection[str] | None = None) -> dict[str, str]:
    """Former name → the one it has now; of `words`, or all of them."""
    column, key, name = _side(kind)
    query = select(Redirect.word, name).join(key.class_, key == column).where(Redirect.kind == kind)
    if words is not None:
        query = query.where(Redirect.word == _any(words))
    living = exists().where(name == Redirect.word).correlate(Redirect)
    rows = await session.execute(query.where(~living).order_by(Redirect.word))
    return dict(rows.all())


async def add(session: AsyncSession, kind: Kind, led: Mapping[str, int]) -> None:
    """Let these names lead to these rows from now on."""
    if not led:
        return
    column, _, _ = _side(kind)
    pairs = (
        func.unnest(
            bindparam(None, list(led), ARRAY(TEXT)), bindparam(None, list(led.values()), ARRAY(BIGINT))
        )
        .table_valued("word", "target")
        .render_derived()
    )
    statement = insert(Redirect).from_select(
        ["kind", "word", column.key], select(bindparam("kind", kind, TEXT), pairs.c.word, pairs.c.target)
    )
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["kind", "word"], set_={column.key: getattr(statement.excluded, column.key)}
        )
    )


async def follow(session: AsyncSession, kind: Kind, merged: Mapping[int, int]) -> None:
    """What led to these rows leads to others, because those are merged into them."""
    if not merged:
        return
    column, _, _ = _side(kind)
    pairs = (
        func.unnest(
            bindparam(None, list(merged), ARRAY(BIGINT)),
            bindparam(None, list(merged.values()), ARRAY(BIGINT)),
        )
        .table_valued("old", "new")
        .render_derived()
    )
    await session.execute(
        update(Redirect)
        .where(Redirect.kind == kind, column == pairs.c.old)
        .values({column.key: pairs.c.new})
        .execution_options(synchronize_session=False)
    )


async def forget_living(session: AsyncSession, kind: Kind) -> None:
    """Drop the redirects of words that mean something by themselves again: names, and synonyms of tags."""
    _, key, name = _side(kind)
    living: list[ColumnElement[bool]] = [
        select(key).where(name == Redirect.word).correlate(Redirect).exists()
    ]
    if kind == "tag":
        living.append(Redirect.word.in_(select(func.jsonb_array_elements_text(Tag.synonyms))))
    for alive in living:
        await session.execute(
            delete(Redirect).where(Redirect.kind == kind, alive).execution_options(synchronize_session=False)
        )


def _any(words: Collection[str]) -> Any:
    """One array parameter, without what no text column can hold."""
    return any_(bindparam(None, [word for word in words if "\x00" not in word], ARRAY(TEXT)))
