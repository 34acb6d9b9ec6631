"""The manifest's JSON Schema with this service's live limits: what a client needs to find every mistake itself."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import literal_column, select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.clips import metadata as fields
from paletta_server.core.settings import Settings
from paletta_server.manifest_schema.schemas import NearTag
from paletta_server.taxonomy import service as taxonomy
from paletta_server.taxonomy.models import Tag
from paletta_server.uploads.protocol import ITEMS_PER_CALL, MAX_PART, MAX_PARTS, MIN_PART, TARGET_PARTS


async def published(session: AsyncSession, settings: Settings) -> tuple[dict[str, Any], str]:
    """What `GET /v1/manifest-schema` answers, and its ETag."""
    document = {
        "schema": manifest_schema(),
        "limits": limits(settings),
        "vocabularies": fields.VOCABULARIES,
        "categories": [
            {"slug": category.slug, "name": category.name}
            for category in await taxonomy.all_categories(session)
        ],
        "former_categories": await taxonomy.former_categories(session),
        "synonyms": await taxonomy.former_tags(session) | await synonyms(session),
        "upload": upload_policy(settings),
    }
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    return document, f'"{digest[:32]}"'


async def synonyms(session: AsyncSession) -> dict[str, str]:
    """Synonym → the tag that a keyword of that name is stored as. They come from the operator alone."""
    rows = await session.execute(
        select(Tag.name, Tag.synonyms).where(Tag.synonyms != literal_column("'[]'::jsonb")).order_by(Tag.name)
    )
    return {synonym: name for name, words in rows for synonym in words}


async def near_tags(session: AsyncSession, keywords: list[str]) -> list[NearTag]:
    """The new tags among keywords that nearly repeat others. What cannot be a tag is passed over."""
    found = await taxonomy.suggest_tags(session, keywords)
    return [NearTag(keyword=one.name, did_you_mean=list(one.did_you_mean)) for one in found]


def limits(settings: Settings) -> dict[str, Any]:
    """Lengths as [least, most], sizes in bytes, times in seconds."""
    return {
        "title": [fields.TITLE_MIN, fields.TITLE_MAX],
        "description_max": fields.DESCRIPTION_MAX,
        "keywords": [fields.KEYWORDS_MIN, fields.KEYWORDS_MAX],
        "categories": [fields.CATEGORIES_MIN, fields.CATEGORIES_MAX],
        "file_max": fields.FILE_MAX,
        "media": {
            "max_bytes": settings.ingest_max_bytes,
            "min_seconds": settings.ingest_min_seconds,
            "max_seconds": settings.ingest_max_seconds,
            "min_long_edge": settings.ingest_min_long_edge,
            "max_fps": settings.ingest_max_fps,
            "containers": list(settings.ingest_containers),
            "codecs": list(settings.ingest_codecs),
        },
    }


def upload_policy(settings: Settings) -> dict[str, int]:
    """How a file is cut into parts, and how much goes into one call. Sizes in bytes."""
    return {
        "min_part": MIN_PART,
        "max_part": MAX_PART,
        "target_parts": TARGET_PARTS,
        "max_parts": MAX_PARTS,
        "items_per_call": ITEMS_PER_CALL,
        "url_seconds": settings.upload_url_seconds,
    }


@lru_cache(maxsize=1)
def manifest_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of `paletta.yaml`: the one document that editors, the client and this service share.

    It says what one clip may hold; `clips.metadata` is what the service accepts, and a test keeps the two alike.
    """
    document: dict[str, Any] = json.loads(_schema_file().read_text(encoding="utf-8"))
    return document


def _schema_file() -> Path:
    """Beside this module in an installed package, in `manifests/` in a checkout."""
    packaged = Path(__file__).with_name("paletta.schema.json")
    if packaged.exists():
        return packaged
    return Path(__file__).resolve().parents[2] / "manifests" / "paletta.schema.json"
