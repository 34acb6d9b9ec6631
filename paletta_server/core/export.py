"""Everything held on one person, as one JSON document that is written while it is read.

Each domain says which of its rows are a person's and which columns of them: a SELECT per section whose every column is
named, so that a column added to a table is not in the document before somebody has thought of it.
"""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession

Sections = Mapping[str, Select[*tuple[Any, ...]]]
ROWS_AT_ONCE = 500


async def document(session: AsyncSession, sections: Sections, **facts: Any) -> AsyncIterator[bytes]:
    """`{facts…, "section": [{column: value}, …], …}`, in pieces. The rows are read in the session's transaction."""
    begin = ", ".join(f"{_json(name)}: {_json(value)}" for name, value in facts.items())
    yield f"{{{begin}".encode()
    for name, query in sections.items():
        yield f",\n{_json(name)}: [".encode()
        found = await session.stream(query.execution_options(yield_per=ROWS_AT_ONCE))
        first = True
        async for rows in found.mappings().partitions():
            lines = ",\n  ".join(_json(dict(row)) for row in rows)
            yield f"{'' if first else ','}\n  {lines}".encode()
            first = False
        yield b"]" if first else b"\n]"
    yield b"}\n"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> str:
    """Times and dates as ISO 8601, ids as text."""
    return str(value.isoformat() if hasattr(value, "isoformat") else value)
