"""How the database would carry out what a function asks it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

Heard = list[tuple[str, Any]]


@asynccontextmanager
async def listening(session: AsyncSession) -> AsyncIterator[Heard]:
    """The statements that go out on the session's own connection meanwhile, with their parameters."""
    heard: Heard = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        heard.append((statement, parameters))

    connection = (await session.connection()).sync_connection
    event.listen(connection, "before_cursor_execute", note)
    try:
        yield heard
    finally:
        event.remove(connection, "before_cursor_execute", note)


async def ways(session: AsyncSession, heard: Heard) -> set[str]:
    """What statements read, with the statistics of this moment: `ix_clips_owner_id` where something is looked up by
    that, `all of ix_clips_owner_id` where it is read from end to end, and `all of clips`."""
    connection, found = await session.connection(), set[str]()
    for statement, parameters in heard:
        rows = await connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters)
        for node in _nodes(rows.scalar_one()[0]["Plan"]):
            if index := node.get("Index Name"):
                found.add(index if "Index Cond" in node else f"all of {index}")
            elif node["Node Type"] == "Seq Scan":
                found.add(f"all of {node['Relation Name']}")
    return found


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)
