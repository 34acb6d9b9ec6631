"""The rules a manifest is checked against: field model, limits, vocabularies, categories, media limits.

They come from the service (`GET /v1/manifest-schema`) or, out of its reach, from the copies in the data
folder.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Self

from paletta_cli.manifests.data import data_file
from paletta_cli.manifests.schema import Checker, compile_fields, resolve


@dataclass(frozen=True)
class MediaLimits:
    """What the ingest gate accepts. Bytes, seconds, pixels, frames per second; FFmpeg's codec names."""

    max_bytes: int = 4 * 1024**3
    min_seconds: float = 3
    max_seconds: float = 120
    min_long_edge: int = 1280
    max_fps: float = 120
    containers: tuple[str, ...] = ("mov", "mp4", "m4v", "mxf")
    codecs: tuple[str, ...] = ("h264", "hevc", "prores", "mjpeg", "dnxhd")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Limits from the service's `limits.media`; what it does not mention keeps its default."""
        known = {name: values[name] for name in cls.__dataclass_fields__ if values.get(name) is not None}
        for name in ("containers", "codecs"):
            if name in known:
                known[name] = tuple(str(word).casefold() for word in known[name])
        return cls(**known)


@dataclass(frozen=True)
class Rules:
    """One set of rules. `live`: they are the service's own; otherwise the shipped copy.

    `categories` maps slug to name (a former slug to what it is now), `synonyms` a keyword, folded, to the tag that it
    is stored as.
    """

    schema: Mapping[str, Any]
    categories: Mapping[str, str]
    media: MediaLimits = field(default_factory=MediaLimits)
    live: bool = False
    synonyms: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def shipped(cls) -> "Rules":
        """The rules in the data folder: default limits and the seed taxonomy."""
        return _shipped()

    @classmethod
    def from_schema_response(cls, body: Mapping[str, Any]) -> "Rules":
        """The rules in an answer of `GET /v1/manifest-schema`.

        Raises ValueError when the answer has no usable schema (a service of another version).
        """
        schema = body.get("schema")
        if not isinstance(schema, Mapping) or "clips" not in schema.get("properties", {}):
            raise ValueError("the service's manifest schema has no `clips`")
        limits = body.get("limits") or {}
        return cls(
            schema=schema,
            categories={
                **dict(body.get("former_categories") or {}),
                **{item["slug"]: item.get("name", item["slug"]) for item in body.get("categories") or ()},
            },
            media=MediaLimits.from_dict(limits.get("media") or {}),
            live=True,
            synonyms=dict(body.get("synonyms") or {}),
        )

    @cached_property
    def clip_fields(self) -> dict[str, Checker]:
        """Field name → checker, for an entry of `clips` (`file` included)."""
        clips = resolve(self.schema["properties"]["clips"], self.schema)
        return compile_fields(clips.get("items", {}), self.schema)

    @cached_property
    def required(self) -> tuple[str, ...]:
        """The fields that a clip must have once the defaults are applied."""
        metadata = self.schema.get("$defs", {}).get("metadata", {})
        return tuple(metadata.get("required", ("title", "keywords", "categories")))


@lru_cache(maxsize=1)
def _shipped() -> Rules:
    with data_file("paletta.schema.json").open(encoding="utf-8") as stream:
        schema = json.load(stream)
    with data_file("taxonomy.yaml").open("rb") as stream:
        categories, synonyms = _taxonomy(stream.read())
    return Rules(schema=schema, categories=categories, synonyms=synonyms)


def _taxonomy(raw: bytes) -> tuple[dict[str, str], dict[str, str]]:
    """slug → name and synonym → tag from the taxonomy file.

    `categories:` is a list of mappings with `slug` and `name`, `tags:` one of names, or of mappings with `name` and
    `synonyms`.
    """
    from paletta_cli.manifests.keywords import fold
    from paletta_cli.manifests.schema import as_plain
    from paletta_cli.manifests.source import parse

    document = parse(raw, "taxonomy.yaml")
    plain: Any = as_plain(document.root) if document.root is not None else {}
    categories = {item["slug"]: item.get("name", item["slug"]) for item in plain.get("categories", ())}
    tags = [tag for tag in plain.get("tags", ()) if isinstance(tag, dict)]
    return categories, {
        fold(synonym): fold(tag["name"]) for tag in tags for synonym in tag.get("synonyms", ())
    }
