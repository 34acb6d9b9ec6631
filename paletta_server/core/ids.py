"""Public ids: random, prefixed with their type, and accepted abbreviated while unambiguous, as git does."""

import re
import secrets
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from paletta_server.core.database import Base
from paletta_server.core.errors import Conflict, NotFound

ALPHABET = "23456789abcdefghjkmnpqrstvwxyz"
"""No 0/o, 1/i/l or u: ids are read aloud and typed."""
LENGTH = 12
"""30^12 is 5e17: a random collision among a hundred million rows has a chance of about one in a hundred,
and the unique index turns it into a retried request."""
SHORTEST = 4

_TEXT = re.compile(rf"[a-z]+_[{ALPHABET}]+\Z")


def new_uid(prefix: str) -> str:
    """A fresh public id such as `clip_7h3k9m2qxw4t`."""
    return f"{prefix}_" + "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))


Model = TypeVar("Model", bound=Base)


async def resolve(
    session: AsyncSession,
    model: type[Model],
    text: str,
    *where: ColumnElement[bool],
    kind: str,
    prefix: str | None = None,
    lock: bool = False,
) -> Model:
    """The row whose public id is `text` or begins with it, among the rows that `where` lets the caller see.

    Raises `NotFound` where there is none (also for a foreign row) and `Conflict` (`ambiguous_id`) where an
    abbreviation fits several. `kind` is the word for such a row, and what its ids begin with unless `prefix`
    says otherwise. With `lock` the row is locked against changes.
    """
    given, _, rest = text.rpartition("_")
    text = text if given else f"{prefix or kind}_{rest}"
    if not _TEXT.match(text):
        raise NotFound(kind, text[:40])
    if len(rest) < SHORTEST:
        raise NotFound(kind, text[:40], hint=f"of an id at least {SHORTEST} letters are needed")
    uid: InstrumentedAttribute[str] = model.uid  # type: ignore[attr-defined]
    query = select(model).where(uid.startswith(text, autoescape=True), *where).limit(3)
    if lock:
        # Not the key, which never changes: rows that point at this one may come and go meanwhile.
        query = query.with_for_update(of=model, key_share=True)
    rows: list[Any] = list(await session.scalars(query))
    exact = [row for row in rows if row.uid == text]
    if exact:
        rows = exact
    if not rows:
        raise NotFound(kind, text)
    if len(rows) > 1:
        candidates = sorted(row.uid for row in rows)
        raise Conflict(
            f"`{text}` fits more than one {kind}",
            code="ambiguous_id",
            hint="add a letter or two: " + ", ".join(candidates),
            candidates=candidates,
        )
    found: Model = rows[0]
    return found
