"""Lists in pages, continued by an opaque cursor."""

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel
from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from paletta_server.core.errors import Invalid

Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """A page of a list; `next_cursor` is null on the last one."""

    items: list[Item]
    next_cursor: str | None = None


class PageParams(BaseModel):
    limit: int
    cursor: str | None

    @property
    def after(self) -> int | None:
        """The key of the last row seen, from the cursor."""
        if self.cursor is None:
            return None
        try:
            return int(base64.urlsafe_b64decode(self.cursor.encode() + b"=="))
        except (ValueError, binascii.Error) as error:
            raise Invalid("the cursor is not one of ours", code="bad_cursor") from error


async def _page_params(
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
) -> PageParams:
    return PageParams(limit=limit, cursor=cursor)


PageDep = Annotated[PageParams, Depends(_page_params)]


def cursor_for(key: int) -> str:
    return base64.urlsafe_b64encode(str(key).encode()).decode().rstrip("=")


async def newest_first(
    session: AsyncSession, query: Select[*tuple[Any, ...]], key: InstrumentedAttribute[int], page: PageParams
) -> tuple[Sequence[Any], str | None]:
    """One page of `query`'s rows by descending `key`, and the cursor of the next page."""
    if page.after is not None:
        query = query.where(key < page.after)
    rows = (await session.execute(query.order_by(key.desc()).limit(page.limit + 1))).all()
    more = len(rows) > page.limit
    rows = rows[: page.limit]
    if not more:
        return rows, None
    last = rows[-1][0]
    return rows, cursor_for(last.id)
