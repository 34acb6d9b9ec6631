"""What a client needs to check a manifest before an upload: the schema (public, cacheable), and a look at its tags."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Response

from paletta_server.accounts.permissions import Permission
from paletta_server.accounts.security import Principal, require
from paletta_server.core.database import SessionDep
from paletta_server.core.errors import Forbidden, Invalid, Unauthorized, problems
from paletta_server.core.runtime import RuntimeDep
from paletta_server.manifest_schema import service
from paletta_server.manifest_schema.schemas import NewTags, TagQuestion

router = APIRouter(prefix="/v1", tags=["manifests"])
Uploader = Annotated[Principal, Depends(require(Permission.UPLOAD))]


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


@router.post("/manifest-schema/tags", responses=problems(Unauthorized, Forbidden, Invalid))
async def look_at_tags(user: Uploader, session: SessionDep, asked: TagQuestion) -> NewTags:
    """Which of these keywords would be new tags that nearly repeat others; the warning of an upload, before it."""
    return NewTags(near=await service.near_tags(session, asked.keywords))
