"""`GET /v1/manifest-schema`: public, cacheable."""

import hashlib
import json
from typing import Annotated, Any

from fastapi import APIRouter, Header, Response

from paletta_server.clips.metadata import VOCABULARIES
from paletta_server.core.database import SessionDep
from paletta_server.core.runtime import RuntimeDep
from paletta_server.manifest_schema import service
from paletta_server.taxonomy import service as taxonomy

router = APIRouter(prefix="/v1", tags=["manifests"])


@router.get("/manifest-schema")
async def manifest_schema(
    runtime: RuntimeDep, session: SessionDep, response: Response, if_none_match: Annotated[str, Header()] = ""
) -> Any:
    """Schema, limits, vocabularies, categories and the rules of uploading, as this service applies them."""
    document = {
        "schema": service.manifest_schema(),
        "limits": service.limits(runtime.settings),
        "vocabularies": VOCABULARIES,
        "categories": [
            {"slug": category.slug, "name": category.name}
            for category in await taxonomy.all_categories(session)
        ],
        "upload": service.upload_policy(runtime.settings),
    }
    etag = '"' + hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:32] + '"'
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if if_none_match == etag:
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return document
