"""Which clips carry a category or a tag: counting, moving and dropping the links, for one kind at a time.

The link tables are the clips' own; they are reached by name, since the clips call us and not the other way
round. A clip that its owner deleted uses nothing: its links go when what they point to goes.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import ColumnElement, Table, any_, bindparam, delete, func, select, true
from sqlalchemy.dialects.postgresql import ARRAY, BIGINT, insert
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core.database import Base

Kind = Literal["category", "tag"]


def links_of(kind: Kind) -> tuple[Table, Any]:
    """The link table of a kind and its column that points at the kind."""
    table = Base.metadata.tables["clip_categories" if kind == "category" else "clip_tags"]
    return table, table.c[f"{kind}_id"]


async def count(
    session: AsyncSession,
    kind: Kind,
    ids: Sequence[int],
    *,
    among: ColumnElement[bool] | None = None,
    of: Collection[int] | None = None,
) -> dict[int, int]:
    """How many clips that are not deleted, or that are `among` certain ones, use each of these; `of` these clips only.

    What none uses is left out.
    """
    if not ids:
        return {}
    links, target = links_of(kind)
    clips = Base.metadata.tables["clips"]
    rows = await session.execute(
        select(target, func.count())
        .select_from(links.join(clips, clips.c.id == links.c.clip_id))
        .where(target == any_of(ids), clips.c.deleted_at.is_(None) if among is None else among)
        .where(true() if of is None else clips.c.id == any_of(list(of)))
        .group_by(target)
    )
    return {row[0]: row[1] for row in rows}


async def move(
    session: AsyncSession, kind: Kind, moves: Mapping[int, int], *, among: Collection[int] | None = None
) -> None:
    """Give the clips of each key, or those `among` these, its value instead; deleted ones as well.

    A clip that carries both keeps the better position.
    """
    if not moves:
        return
    links, target = links_of(kind)
    pairs = (
        func.unnest(
            bindparam("old", list(moves), ARRAY(BIGINT)),
            bindparam("new", list(moves.values()), ARRAY(BIGINT)),
        )
        .table_valued("old_id", "new_id")
        .render_derived()
    )
    chosen = true() if among is None else links.c.clip_id == any_of(list(among))
    moved = (
        select(links.c.clip_id, pairs.c.new_id, func.min(links.c.position))
        .select_from(links.join(pairs, pairs.c.old_id == target))
        .where(chosen)
        .group_by(links.c.clip_id, pairs.c.new_id)
    )
    merge = insert(links).from_select(["clip_id", target.name, "position"], moved)
    await session.execute(
        merge.on_conflict_do_update(
            index_elements=["clip_id", target.name],
            set_={"position": func.least(links.c.position, merge.excluded.position)},
        )
    )
    await session.execute(delete(links).where(target == any_of(list(moves)), chosen))


async def drop(session: AsyncSession, kind: Kind, ids: Sequence[int]) -> None:
    """Take these off every clip: the caller has made sure that only deleted clips still carry them."""
    links, target = links_of(kind)
    await session.execute(delete(links).where(target == any_of(ids)))


def any_of(ids: Sequence[int]) -> Any:
    """For `column == any_of(ids)`: one parameter however many ids (a query has room for 65,535)."""
    return any_(bindparam(None, list(ids), ARRAY(BIGINT)))
