"""Shapes of the look at a manifest's tags."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

KEYWORDS_PER_CALL = 1000
"""Each costs about as many index keys as it has letters."""


class TagQuestion(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keywords: Annotated[
        list[Annotated[str, Field(max_length=200)]], Field(min_length=1, max_length=KEYWORDS_PER_CALL)
    ]


class NearTag(BaseModel):
    """`keyword`, folded, would be a new tag; `did_you_mean` are the ones it nearly repeats, the nearest first."""

    keyword: str
    did_you_mean: list[str]


class NewTags(BaseModel):
    near: list[NearTag]
