"""Shapes of saved lists."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from paletta_server.core.ids import SHORTEST
from paletta_server.search.schemas import ClipCard


def _plain(name: str) -> str:
    if not name.isprintable():
        raise ValueError("contains characters that cannot be printed")
    return name


Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), AfterValidator(_plain)
]


class Naming(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Name


class Adding(BaseModel):
    model_config = ConfigDict(extra="forbid")

    clips: Annotated[
        list[Annotated[str, Field(min_length=SHORTEST, max_length=100)]], Field(min_length=1, max_length=100)
    ]


class CollectionView(BaseModel):
    id: str
    name: str
    clips: int
    """How many, also those that are not in the shop any more."""
    created_at: datetime


class CollectionDetail(CollectionView):
    items: list[ClipCard]
    """In the order in which they were added; those that left the shop are left out."""
    absent: int
    """How many left the shop."""
