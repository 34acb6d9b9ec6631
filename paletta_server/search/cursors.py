"""Cursors of search results: opaque to callers, tied to the question that they continue."""

import base64
import binascii
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paletta_server.search.index import BadCursor

LONGEST = 2048
MOST_TIES = 64


class Cursor(BaseModel):
    """Where a page ended.

    Sorted by a key: `key` is the last one. By relevance: `rank` clips were told, the last was `clip_id` with
    `score`, as had `ties`, in the state of the index that `snapshot` names.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    question: str
    key: Annotated[int | None, Field(ge=0, lt=2**64)] = None
    rank: Annotated[int, Field(ge=0, lt=2**31)] = 0
    clip_id: Annotated[int, Field(ge=0, lt=2**63)] = 0
    score: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    ties: Annotated[list[int], Field(max_length=MOST_TIES)] = []
    snapshot: str = ""
    instead: list[str] | None = None

    def __str__(self) -> str:
        packed = self.model_dump_json(exclude_defaults=True).encode()
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def read(text: str, question: str) -> Cursor:
    """The cursor that `text` is. Raises `BadCursor` also for one of another question."""
    try:
        found = Cursor.model_validate_json(base64.urlsafe_b64decode(text.encode("ascii") + b"=="))
    except (ValueError, ValidationError, binascii.Error) as error:
        raise BadCursor("the cursor is not one of ours") from error
    if found.question != question:
        raise BadCursor("the cursor belongs to another question")
    return found
