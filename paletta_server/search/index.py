"""What a search index must do, whatever its back end; and the questions and answers that go through it."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Protocol

from paletta_server.search.document import Document

Sort = Literal["relevance", "newest", "popular", "price", "duration"]
SORTS: tuple[Sort, ...] = ("relevance", "newest", "popular", "price", "duration")

FACETS = (
    "category", "tag", "tier", "licence", "resolution", "orientation", "fps", "editorial", "people",
    "shot_size", "shot_angle", "shot_move", "shot_speed", "country", "city", "contributor",
)  # fmt: skip
FACET_VALUES = 20
"""Values told of each facet, the most frequent first."""


@dataclass(frozen=True, slots=True)
class Range:
    """From `least` to `most`, both included; None is open."""

    least: int | None = None
    most: int | None = None

    @property
    def open(self) -> bool:
        return self.least is None and self.most is None


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for. Units as in `Document`; values to filter by are folded where documents fold them.

    Every word must be found. Several values of one filter are alternatives, but for `tags`, which must all be
    there.
    """

    words: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    any_tags: tuple[str, ...] = ()
    tiers: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()
    long_edge: Range = field(default_factory=Range)
    orientation: tuple[str, ...] = ()
    fps: Range = field(default_factory=Range)
    duration: Range = field(default_factory=Range)
    editorial: bool | None = None
    people: tuple[str, ...] = ()
    shot_size: tuple[str, ...] = ()
    shot_angle: tuple[str, ...] = ()
    shot_move: tuple[str, ...] = ()
    shot_speed: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()
    cities: tuple[str, ...] = ()
    contributors: tuple[str, ...] = ()
    price: Range = field(default_factory=Range)
    listed: Range = field(default_factory=Range)
    filmed: Range = field(default_factory=Range)
    sort: Sort = "relevance"

    @property
    def text(self) -> bool:
        """Whether it asks for words, and not only filters."""
        return bool(self.words or self.phrases)

    def priced(self, price: Range) -> "Query":
        return replace(self, price=price)

    def fingerprint(self) -> str:
        """The same question, the same text: a cursor belongs to one question."""
        return hashlib.sha256(repr(asdict(self)).encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Count:
    """How many; not exact where so many were found that a sample was counted."""

    value: int
    exact: bool


@dataclass(frozen=True, slots=True)
class Facets:
    """For each facet the values found and how many clips have each."""

    values: Mapping[str, Sequence[tuple[str, int]]]
    exact: bool


@dataclass(frozen=True, slots=True)
class Found:
    """A page: keys of clips in order, and the cursor of the next page."""

    clip_ids: Sequence[int]
    next_cursor: str | None
    total: Count
    facets: Facets | None = None
    instead: tuple[str, ...] | None = None
    """The words that were looked for instead, where the ones asked for are nowhere."""


class BadCursor(ValueError):
    """The cursor is not one of ours, or belongs to another question."""


class Index(Protocol):
    """A full-text index of listed clips. Methods may take milliseconds of CPU: call them in a thread.

    One thread at a time may write; any number read meanwhile, each a state that one `apply` left.
    """

    def search(self, query: Query, *, limit: int, cursor: str | None = None, facets: bool = False) -> Found:
        """A page of what is found. Raises `BadCursor`.

        Going from page to page, a clip that does not change is told exactly once while others come and go.
        """
        ...

    def suggest(self, text: str, *, limit: int) -> list[str]:
        """What somebody who wrote `text` so far may be about to ask, the most promising first."""
        ...

    def related(self, clip_id: int, *, limit: int) -> list[int]:
        """Clips that share the most with this one: shoot, tags, categories, contributor; the nearest first."""
        ...

    def count(self) -> int:
        """How many clips it has."""
        ...

    def state(self) -> dict[str, Any]:
        """What the last `apply` was given to keep."""
        ...

    def apply(self, documents: Sequence[Document], gone: Collection[int], state: Mapping[str, Any]) -> None:
        """Put documents in place of the ones with their keys, forget others, and keep `state`: all or nothing,
        also when the machine stops in the middle."""
        ...

    def close(self) -> None: ...
