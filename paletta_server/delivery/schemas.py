"""Shapes of delivery's API. Sizes are bytes, money is whole minor units of `currency`."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from paletta_server.core.errors import Problem

Tier = Literal["hd", "uhd4k", "original"]
Status = Literal["granted", "suspended", "withheld", "revoked"]
MOST = 100
"""Files in one request."""
ItemId = Annotated[str, Field(max_length=100)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PurchaseFile(BaseModel):
    """A file that a purchase includes. `name` is safe on any file system; `extension` has its dot."""

    tier: Tier
    name: str
    size: int
    sha256: str
    content_type: str
    extension: str
    width: int | None
    height: int | None
    codec: str | None


class Purchase(BaseModel):
    """A bought item: the clip, under which licence, and its files, the lowest tier first.

    `status` suspended: held back while a payment is disputed; withheld: the shop took the clip down for a legal
    reason; revoked: refunded or charged back.
    """

    item_id: str
    order_id: str
    order_number: str
    clip_id: str
    title: str
    contributor: str
    tier: Tier
    licence: str
    licensee: str
    status: Status
    certificate: str
    bought_at: datetime
    downloads: int
    """How often an address was given out for it."""
    files: list[PurchaseFile]


class DownloadWish(_Strict):
    """An item that the caller bought; without a tier, the best that was bought."""

    item_id: ItemId
    tier: Tier | None = None


class DownloadsIn(_Strict):
    files: Annotated[list[DownloadWish], Field(min_length=1, max_length=MOST)]


class Download(BaseModel):
    """One file's answer: an address good for `expires_in` seconds, or a `problem`. One of code `restoring` passes: the
    file is on its way back from the archive, and should be there at the problem's `ready_at`.

    Ask with `If-Match: etag`, so that no two ranges come from different objects, and compare the SHA-256.
    """

    item_id: str
    tier: Tier
    name: str
    size: int
    sha256: str
    url: str | None = None
    expires_in: int | None = None
    etag: str | None = None
    problem: Problem | None = None


class Downloads(BaseModel):
    files: list[Download]


class CertificatesIn(_Strict):
    item_ids: Annotated[list[ItemId], Field(min_length=1, max_length=MOST)]


class CertificateFile(BaseModel):
    """A licence certificate as a PDF, in base64."""

    item_id: str
    name: str
    pdf: str


class Certificates(BaseModel):
    certificates: list[CertificateFile]


class CertifiedFile(BaseModel):
    tier: Tier
    size: int
    sha256: str


class CertificateView(BaseModel):
    """What a licence certificate says, to be compared with the paper. `status` tells whether it is in force."""

    code: str
    status: Literal["valid", "suspended", "withheld", "revoked"]
    revoked_at: datetime | None
    order_number: str
    issued_at: datetime
    licensee: str
    clip_id: str
    title: str
    contributor: str
    tier: Tier
    licence: str
    editorial: bool
    files: list[CertifiedFile]


class MailedLink(BaseModel):
    """A new download link is on its way to `email`."""

    order_id: str
    email: str
    valid_hours: int
