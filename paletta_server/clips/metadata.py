"""What a contributor says about a clip: the field model, its limits and vocabularies.

One definition serves registration, editing and the published JSON Schema of `paletta.yaml`.
"""

import json
import unicodedata
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from paletta_server.taxonomy.words import tag_problem

PEOPLE_COUNTS = ("0", "1", "2", "3", "group", "crowd")
SHOT_SIZES = ("extreme-wide", "wide", "medium", "close-up", "macro")
SHOT_ANGLES = ("eye", "high", "low", "overhead", "aerial", "pov", "underwater")
SHOT_MOVES = ("static", "pan", "tilt", "zoom", "tracking", "handheld", "drone")
SHOT_SPEEDS = ("normal", "slow", "timelapse", "hyperlapse")

VOCABULARIES = {
    "people.count": PEOPLE_COUNTS,
    "shot.size": SHOT_SIZES,
    "shot.angle": SHOT_ANGLES,
    "shot.move": SHOT_MOVES,
    "shot.speed": SHOT_SPEEDS,
}

TITLE_MIN, TITLE_MAX = 5, 200
DESCRIPTION_MAX = 2000
KEYWORDS_MIN, KEYWORDS_MAX = 5, 50
CATEGORIES_MIN, CATEGORIES_MAX = 1, 2
FILE_MAX = 255
AGENCIES_MAX = 16_384


def _texts(value: Any) -> Iterator[str]:
    """Every string in a JSON document, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _clean(value: str) -> str:
    """Composed Unicode, no control or invisible formatting characters (line ends and tabs stay)."""
    for character in value:
        if unicodedata.category(character) in {"Cc", "Cf", "Cs"} and character not in "\n\t\u200d\u200c":
            raise ValueError(f"contains the control character U+{ord(character):04X}")
    return unicodedata.normalize("NFC", value)


def _one_line(value: str) -> str:
    if "\n" in value or "\t" in value:
        raise ValueError("must be one line")
    return value


def _slug(value: str) -> str:
    return value.casefold()


def _keyword(value: str) -> str:
    if problem := tag_problem(value):
        raise ValueError(problem)
    return " ".join(value.split())


def _unique(values: list[str]) -> list[str]:
    seen: dict[str, str] = {}
    for value in values:
        seen.setdefault(value.casefold(), value)
    return list(seen.values())


def _text(value: object) -> object:
    """YAML and CSV give numbers where a person wrote `2` or `2024`."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Line = Annotated[
    str, StringConstraints(strip_whitespace=True), AfterValidator(_clean), AfterValidator(_one_line)
]
Text = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_clean)]
Label = Annotated[Line, Field(max_length=200)]
Money = Annotated[Decimal, Field(gt=0, le=1_000_000, decimal_places=2)]
Keyword = Annotated[Line, Field(min_length=1, max_length=50), AfterValidator(_keyword)]
Slug = Annotated[Line, Field(min_length=1, max_length=50), AfterValidator(_slug)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Editorial(_Strict):
    """The caption that editorial use needs: `City, Country - Month Day, Year: text`."""

    text: Annotated[Text, Field(min_length=1, max_length=500)]
    city: Label | None = None
    state: Label | None = None
    country: Label | None = None
    date: Label | None = None


class Location(_Strict):
    city: Label | None = None
    region: Label | None = None
    country: Label | None = None
    """ISO 3166-1 alpha-2 where known."""
    text: Label | None = None
    lat: Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)] | None = None
    lon: Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)] | None = None


class Releases(_Strict):
    """Names or file names of signed releases."""

    model: Annotated[list[Label], Field(max_length=50)] = Field(default_factory=list)
    property: Annotated[list[Label], Field(max_length=50)] = Field(default_factory=list)


class Price(_Strict):
    """What the contributor asks per tier, as decimal strings; `auto` leaves it to the price book."""

    hd: Money | None = None
    uhd4k: Money | None = None
    original: Money | None = None
    auto: bool = False


class People(_Strict):
    count: Annotated[Literal["0", "1", "2", "3", "group", "crowd"], BeforeValidator(_text)] | None = None


class Shot(_Strict):
    size: Literal["extreme-wide", "wide", "medium", "close-up", "macro"] | None = None
    angle: Literal["eye", "high", "low", "overhead", "aerial", "pov", "underwater"] | None = None
    move: Literal["static", "pan", "tilt", "zoom", "tracking", "handheld", "drone"] | None = None
    speed: Literal["normal", "slow", "timelapse", "hyperlapse"] | None = None


class ClipMetadata(_Strict):
    """The canonical fields of a clip, with the manifest's defaults already applied."""

    title: Annotated[Line, Field(min_length=TITLE_MIN, max_length=TITLE_MAX)]
    description: Annotated[Text, Field(max_length=DESCRIPTION_MAX)] = ""
    keywords: Annotated[
        list[Keyword], Field(min_length=KEYWORDS_MIN, max_length=KEYWORDS_MAX), AfterValidator(_unique)
    ]
    categories: Annotated[
        list[Slug], Field(min_length=CATEGORIES_MIN, max_length=CATEGORIES_MAX), AfterValidator(_unique)
    ]
    editorial: Editorial | None = None
    mature: bool = False
    illustration: bool = False
    location: Location | None = None
    shot_date: date | None = None
    source: Label | None = None
    releases: Releases | None = None
    copyright: Label | None = None
    batch: Label | None = None
    price: Price | None = None
    people: People | None = None
    shot: Shot | None = None
    ai_generated: bool = False
    exclusive: bool = False
    poster_at: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Seconds into the clip at which the contributor wants the poster."""
    agencies: dict[Slug, dict[str, Any]] | None = None
    """What an agency's format holds beyond the canonical fields; kept, never interpreted."""

    @field_validator("agencies")
    @classmethod
    def _not_a_dump(cls, value: dict[str, dict[str, Any]] | None) -> dict[str, dict[str, Any]] | None:
        if value is None:
            return value
        # Neither JSON nor the database knows the infinity that `1e400` is read as.
        document = json.dumps(value, allow_nan=False, ensure_ascii=False)
        if len(document) > AGENCIES_MAX:
            raise ValueError(f"more than {AGENCIES_MAX:,} characters in all")
        if any(unicodedata.category(letter) == "Cs" or letter == "\0" for letter in "".join(_texts(value))):
            raise ValueError("contains a character that cannot be stored")
        return value

    @model_validator(mode="after")
    def _enough_keywords(self) -> "ClipMetadata":
        if len(self.keywords) < KEYWORDS_MIN:
            raise ValueError(f"needs at least {KEYWORDS_MIN} different keywords")
        return self

    def columns(self) -> dict[str, Any]:
        """The plain columns of a clip's row; keywords and categories live in tables of their own."""
        nested = {"editorial", "location", "releases", "price", "people", "shot"}
        fields = {
            name: getattr(self, name)
            for name in type(self).model_fields
            if name not in {"keywords", "categories"} | nested
        }
        for name in nested:
            part: BaseModel | None = getattr(self, name)
            fields[name] = part.model_dump(mode="json", exclude_none=True) if part is not None else None
        return fields


FIELDS = tuple(ClipMetadata.model_fields)

_HINTS = {
    "extra_forbidden": "see `paletta manifest init` or the schema for the fields there are",
    "missing": "add it to the clip or to `defaults:`",
}


def problems_of(error: ValidationError) -> list[dict[str, Any]]:
    """A validation error as problems with JSON pointers below `/metadata`."""
    found = []
    for item in error.errors():
        steps = [str(step) for step in item["loc"]]
        found.append(
            {
                "pointer": "/metadata"
                + "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps),
                "code": item["type"],
                "message": item["msg"].removeprefix("Value error, "),
                "hint": _HINTS.get(item["type"]),
            }
        )
    return found
