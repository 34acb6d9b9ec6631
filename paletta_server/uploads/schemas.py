"""Shapes of the upload API. Sizes are bytes; checksums are SHA-256 in hex and CRC64NVME in base64, as S3 has it."""

import uuid
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from paletta_server.clips.metadata import Line
from paletta_server.uploads.protocol import ITEMS_PER_CALL, MAX_PARTS, PARTS_PER_CALL

Crc64 = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{11}=$", description="CRC64NVME, big-endian, base64")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewBatch(_Strict):
    client_ref: uuid.UUID
    """Made by the client once per run: asking again gives the same batch."""
    name: Annotated[Line, Field(min_length=1, max_length=200)]


class Batch(BaseModel):
    id: str
    name: str
    status: Literal["open", "sealed", "settled", "cancelled"]
    version: int
    counts: dict[str, int]
    created_at: datetime
    settled_at: datetime | None


class FileFacts(_Strict):
    """What the client's one read of the file found."""

    name: Annotated[str, Field(min_length=1, max_length=255)]
    size: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    crc64nvme: Crc64


class NewItem(_Strict):
    ref: Annotated[str, Field(min_length=1, max_length=1024)]
    file: FileFacts
    metadata: dict[str, Any]
    """Checked item by item, so that one mistake does not hide the others."""


class NewItems(_Strict):
    items: Annotated[list[NewItem], Field(min_length=1, max_length=ITEMS_PER_CALL)]


class ItemProblem(BaseModel):
    pointer: str
    code: str
    message: str
    hint: str | None = None


class PutAddress(BaseModel):
    url: str
    headers: dict[str, str]
    expires_at: datetime


class Item(BaseModel):
    ref: str
    outcome: Literal["created", "resumed", "already_yours", "invalid"]
    upload_id: str | None = None
    clip_id: str | None = None
    stage: str | None = None
    part_size: int | None = None
    part_count: int | None = None
    uploaded_parts: list[int] = Field(default_factory=list)
    put: PutAddress | None = None
    problems: list[ItemProblem] = Field(default_factory=list)
    warnings: list[ItemProblem] = Field(default_factory=list)
    """What deserves a second look and stops nothing, such as a tag that nearly repeats another."""


class Items(BaseModel):
    items: list[Item]


class PartToSign(_Strict):
    number: Annotated[int, Field(ge=1, le=MAX_PARTS)]
    crc64nvme: Crc64


class UploadToSign(_Strict):
    upload_id: str
    parts: Annotated[list[PartToSign], Field(min_length=1, max_length=PARTS_PER_CALL)]


class SignRequest(_Strict):
    uploads: Annotated[list[UploadToSign], Field(min_length=1, max_length=PARTS_PER_CALL)]


class UploadProblem(BaseModel):
    code: str
    detail: str
    hint: str | None = None
    retryable: bool = False
    missing_parts: list[int] = Field(default_factory=list)


class SignedPart(BaseModel):
    number: int
    size: int
    url: str
    headers: dict[str, str]


class SignedUpload(BaseModel):
    upload_id: str
    expires_at: datetime | None = None
    parts: list[SignedPart] = Field(default_factory=list)
    problem: UploadProblem | None = None


class SignResponse(BaseModel):
    uploads: list[SignedUpload]


class UploadRef(_Strict):
    upload_id: str


class CompleteRequest(_Strict):
    uploads: Annotated[list[UploadRef], Field(min_length=1, max_length=ITEMS_PER_CALL)]


class CompletedUpload(BaseModel):
    upload_id: str
    clip_id: str | None = None
    state: str | None = None
    stage: str | None = None
    problem: UploadProblem | None = None


class CompleteResponse(BaseModel):
    uploads: list[CompletedUpload]


class UploadView(BaseModel):
    id: str
    clip_id: str
    state: str
    stage: str
    progress: float | None
    reason: str | None
    hint: str | None
    file: str
    size: int
    sha256: str
    part_size: int
    part_count: int
    uploaded_parts: list[int]
    created_at: datetime
    history: list[dict[str, Any]]


class ProgressItem(BaseModel):
    ref: str
    upload_id: str
    clip_id: str
    file: str
    size: int
    outcome: str
    stage: str
    progress: float | None
    reason: str | None
    hint: str | None
    warnings: list[str]


class Progress(BaseModel):
    version: int
    status: str
    settled: bool
    counts: dict[str, int]
    items: list[ProgressItem]


class BatchDetail(Batch):
    items: list[ProgressItem]
    next_cursor: str | None = None
