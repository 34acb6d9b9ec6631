"""`GET /v1/manifest-schema`: public, cacheable."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Response

from paletta_server.core.database import SessionDep
from paletta_server.core.runtime import RuntimeDep
from paletta_server.manifest_schema import service

router = APIRouter(prefix="/v1", tags=["manifests"])


@router.get("/manifest-schema")
async def manifest_schema(
    runtime: RuntimeDep, session: SessionDep, response: Response, if_none_match: Annotated[str, Header()] = ""
) -> Any:
    """Schema, limits, vocabularies, categories and the rules of uploading, as this service applies them."""
    document, etag = await service.published(session, runtime.settings)
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if if_none_match == etag:
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return document
