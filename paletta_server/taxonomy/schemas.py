"""What the taxonomy's routes take and give."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from paletta_server.core.nodes import MAX_BYTES
from paletta_server.taxonomy.document import MAX_DESCRIPTION, MAX_NAME
from paletta_server.taxonomy.plan import Op
from paletta_server.taxonomy.usage import Kind
from paletta_server.taxonomy.words import invisible


def _line(text: str) -> str:
    """One line with single spaces that shows all it holds."""
    if char := invisible(text):
        raise ValueError(f"contains the control character {char}")
    return " ".join(text.split())


Line = Annotated[str, AfterValidator(_line)]
Name = Annotated[Line, Field(min_length=1, max_length=MAX_NAME)]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CategoryIn(_In):
    name: Annotated[Name, Field(examples=["Sea life"])]
    slug: str | None = Field(None, max_length=100, description="Made from the name when left out.")
    description: Annotated[Line, Field(max_length=MAX_DESCRIPTION)] = ""
    parent: str | None = Field(None, max_length=100, description="Slug of the category above.")


class CategoryOut(BaseModel):
    slug: str
    name: str
    description: str
    parent: str | None
    clip_count: int
    mine: bool


class TagIn(_In):
    name: str = Field(max_length=200, examples=["time lapse"])
    force: bool = Field(False, description="Make it although it nearly repeats another tag.")


class TagOut(BaseModel):
    name: str
    synonyms: list[str]
    clip_count: int
    mine: bool


class MoveIn(_In):
    """The clips of `old` go to `new`, and `old` is deleted."""

    kind: Literal["category", "tag"] | None = None
    old: str = Field(max_length=200)
    new: str = Field(max_length=200)


class PlanIn(_In):
    document: str = Field(max_length=MAX_BYTES, description="The taxonomy file's text.")
    filename: str = Field("taxonomy.yaml", max_length=1024, description="Its name, for messages.")
    prune: bool = Field(False, description="Delete the operator's entries that the file does not name.")
    moves: list[MoveIn] = Field(default_factory=list, max_length=1000)


class ApplyIn(PlanIn):
    digest: str | None = Field(
        None, max_length=64, description="Apply only if this is still the plan's digest."
    )


class ChangeOut(BaseModel):
    op: Op
    kind: Literal["category", "tag"]
    key: str = Field(description="Slug or name now; `*` for the order of the categories.")
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    clips: int = Field(description="How many clips it touches.")
    blocked: str | None = Field(None, description="Why it cannot be applied as it stands.")


class PlanOut(BaseModel):
    changes: list[ChangeOut]
    warnings: list[str]
    digest: str
    applied: bool = False


class DocumentOut(BaseModel):
    document: str


class MergeIn(_In):
    """`source` becomes `target`. `kind` where a category and a tag have the same name."""

    kind: Kind | None = None
    source: str = Field(max_length=200)
    target: str = Field(max_length=200)


class RenameIn(MergeIn):
    name: Name | None = Field(None, description="Of a category: what it is called from now on.")


class MoveCategoryIn(_In):
    category: str = Field(max_length=200)
    parent: str | None = Field(max_length=200, description="Null puts it at the top.")


class MoveClipsIn(MergeIn):
    clips: list[str] | None = Field(None, min_length=1, max_length=1000, description="All when left out.")


class OperatedOut(BaseModel):
    kind: Kind
    source: str
    target: str | None
    clips: int = Field(description="How many clips it touches.")
