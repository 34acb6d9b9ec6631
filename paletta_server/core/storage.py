"""The object store: Amazon S3 or anything that speaks it.

Small, frequent requests are signed here; control requests go through boto3 in a thread. Keys are made of our own
ids: no name from a user ever becomes part of one.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import anyio
import httpx
from anyio.to_thread import run_sync
from urllib3 import PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError

from paletta_server.core.delivering import delivery, is_public
from paletta_server.core.errors import Unavailable
from paletta_server.core.settings import Settings
from paletta_server.core.signing import Signer
from paletta_server.core.storeclient import CONNECTIONS, StoreError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef, TagTypeDef

__all__ = [
    "BLOCK",
    "Listed",
    "ObjectInfo",
    "ObjectStore",
    "OpenMultipart",
    "StoreError",
    "StoredPart",
]

BLOCK = 1024 * 1024


@dataclass(frozen=True)
class ObjectInfo:
    """What HEAD tells: size in bytes, CRC64NVME in base64 where the store kept one, opaque ETag.

    `archive`: it cannot be read as it is, being archived, or on its way back (restoring).
    """

    size: int
    crc64nvme: str | None
    etag: str
    storage_class: str = "STANDARD"
    archive: Literal["", "archived", "restoring"] = ""


@dataclass(frozen=True)
class Listed:
    """An object as a listing has it."""

    key: str
    size: int
    modified_at: datetime


@dataclass(frozen=True)
class OpenMultipart:
    """A multipart upload that is neither complete nor dropped."""

    key: str
    id: str
    begun_at: datetime


@dataclass(frozen=True)
class StoredPart:
    number: int
    size: int
    etag: str


class ObjectStore(Signer):
    """One bucket. An async context manager; safe to use from many tasks. `brief`: an API's, not a worker's."""

    def __init__(self, settings: Settings, *, brief: bool = False) -> None:
        super().__init__(settings, brief=brief)
        self.delivery = delivery(settings, self)
        """Addresses for customers and visitors; those for uploads are always the store's own."""
        self._http: httpx.AsyncClient | None = None
        self._pool = PoolManager(maxsize=CONNECTIONS, timeout=Timeout(connect=5, read=5 if brief else 20))

    async def __aenter__(self) -> Self:
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(20, connect=5), limits=httpx.Limits(max_connections=32), trust_env=False
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._http is not None:
            await self._http.aclose()
        self._pool.clear()

    # -- reading and writing objects ----------------------------------------------------------------------------

    async def head(self, key: str) -> ObjectInfo | None:
        """What is stored under `key`, or None. Raises `Unavailable` when the store does not answer."""
        async with self._share.ask():
            return await run_sync(self._head, key, limiter=self._threads)

    def _head(self, key: str) -> ObjectInfo | None:
        """In a thread and with urllib3: a HEAD per small file is the most frequent request of all, and this costs
        a tenth of the CPU that it costs through an asynchronous client."""
        headers = {"x-amz-checksum-mode": "ENABLED"}
        url = self._presign("HEAD", key, seconds=60, headers=headers)
        try:
            answer = self._pool.request("HEAD", url, headers=headers, retries=Retry(2, redirect=0))
        except HTTPError as error:
            raise Unavailable("the object store does not answer", code="store_unavailable") from error
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise Unavailable(f"the object store answers {answer.status}", code="store_unavailable")
        return ObjectInfo(
            size=int(answer.headers["content-length"]),
            crc64nvme=answer.headers.get("x-amz-checksum-crc64nvme"),
            etag=answer.headers["etag"],
            storage_class=answer.headers.get("x-amz-storage-class", "STANDARD"),
            archive=_archive(answer.headers),
        )

    async def restore(self, key: str, storage_class: str, *, days: int) -> None:
        """Have an archived object fetched back, to be read for `days`. One that is on its way, or there, is left."""
        request: Any = {"Days": days, "GlacierJobParameters": {"Tier": "Standard"}}
        if storage_class == "INTELLIGENT_TIERING":  # what comes back from its archive is back for good
            request = {"GlacierJobParameters": {"Tier": "Standard"}}
        try:
            await self.call(lambda s3: s3.restore_object(Bucket=self.bucket, Key=key, RestoreRequest=request))
        except StoreError as error:
            if error.code not in ("RestoreAlreadyInProgress", "ObjectAlreadyInActiveTierError"):
                raise

    async def download(
        self, key: str, target: Path, *, on_bytes: Callable[[int], None] | None = None, tries: int = 4
    ) -> str:
        """Write an object to `target` while hashing it; the SHA-256 in hex.

        A cut connection goes on where it stopped, pinned to the first answer's ETag. Raises `StoreError` when the
        object is not there or changes underneath, `Unavailable` after `tries` cuts without a byte of progress.
        """
        assert self._http is not None, "use the store as a context manager"
        digest = hashlib.sha256()
        etag: str | None = None
        done, left = 0, tries
        with target.open("wb") as out:
            while True:
                headers = {"range": f"bytes={done}-"} if done else {}
                if etag:
                    headers["if-match"] = etag
                try:
                    async with self._http.stream(
                        "GET", self._presign("GET", key, seconds=600), headers=headers
                    ) as answer:
                        if answer.status_code != (206 if done else 200):
                            said = await answer.aread()
                            if answer.status_code == 403 and b"InvalidObjectState" in said:
                                raise StoreError("InvalidObjectState", f"object `{key}` is archived")
                            if answer.status_code in (404, 412, 416):
                                raise StoreError(
                                    str(answer.status_code), f"object `{key}` is gone or changed"
                                )
                            raise httpx.RemoteProtocolError(f"status {answer.status_code}")
                        etag = answer.headers["etag"]
                        total = done + int(answer.headers["content-length"])
                        async for block in answer.aiter_raw(BLOCK):
                            await run_sync(_take, digest, out, block)
                            done += len(block)
                            left = tries
                            if on_bytes:
                                on_bytes(done)
                    if done >= total:
                        return digest.hexdigest()
                except httpx.TransportError as error:
                    left -= 1
                    if left <= 0:
                        raise Unavailable(
                            "the object store cuts the download", code="store_unavailable"
                        ) from error
                    await anyio.sleep(0.2 * 2 ** (tries - left))

    async def upload(self, source: Path, key: str, *, content_type: str, cache_seconds: int) -> None:
        """Store a file of ours under `key`, checksummed on the way."""
        from boto3.s3.transfer import TransferConfig

        config = TransferConfig(
            multipart_threshold=64 * BLOCK, multipart_chunksize=32 * BLOCK, max_concurrency=2
        )
        extra = {
            "ContentType": content_type,
            "CacheControl": f"{'public' if is_public(key) else 'private'}, max-age={cache_seconds}, immutable",
            "ChecksumAlgorithm": "CRC32",
        }
        await self.call(
            lambda s3: s3.upload_file(str(source), self.bucket, key, ExtraArgs=extra, Config=config)
        )

    async def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; one that is not there counts as deleted. Raises `StoreError` where one is kept."""
        pending = list(keys)

        def delete(s3: "S3Client") -> None:
            for start in range(0, len(pending), 1000):  # S3's own limit per request
                page: list[ObjectIdentifierTypeDef] = [{"Key": key} for key in pending[start : start + 1000]]
                answer = s3.delete_objects(Bucket=self.bucket, Delete={"Objects": page, "Quiet": True})
                # The request as a whole succeeds whatever happened to its objects.
                for kept in answer.get("Errors", [])[:1]:
                    raise StoreError(kept.get("Code", "Unknown"), f"object `{kept.get('Key', '')}` is kept")

        await self.call(delete)

    async def delete_prefix(self, prefix: str) -> int:
        """Delete everything below `prefix`, which must end in a slash; how many objects there were."""
        assert prefix.endswith("/"), prefix
        assert len(prefix) > len("x/"), prefix

        def keys(s3: "S3Client") -> list[str]:
            pages = s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
            return [item["Key"] for page in pages for item in page.get("Contents", [])]

        found = await self.call(keys)
        await self.delete(found)
        return len(found)

    async def label(self, key: str, name: str, value: str | None) -> None:
        """Give an object a tag, or take it away with None; its other tags stay. One that is not there is let be."""

        def label(s3: "S3Client") -> None:
            tags = {
                one["Key"]: one["Value"]
                for one in s3.get_object_tagging(Bucket=self.bucket, Key=key)["TagSet"]
            }
            wanted = {other: tag for other, tag in tags.items() if other != name}
            if value is not None:
                wanted[name] = value
            if wanted == tags:
                return
            if wanted:
                both: list[TagTypeDef] = [{"Key": one, "Value": tag} for one, tag in sorted(wanted.items())]
                s3.put_object_tagging(Bucket=self.bucket, Key=key, Tagging={"TagSet": both})
            else:
                s3.delete_object_tagging(Bucket=self.bucket, Key=key)

        try:
            await self.call(label)
        except StoreError as error:
            if error.code not in ("NoSuchKey", "404"):
                raise

    # -- going over everything that is stored -------------------------------------------------------------------

    async def every_object(self, prefix: str = "") -> AsyncIterator[Listed]:
        """Every object below `prefix`, by key, in pages of a thousand."""
        token: str | None = None
        while True:
            more = {"ContinuationToken": token} if token else {}

            def page(s3: "S3Client", more: Any = more) -> Any:
                return s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix, **more)

            answer = await self.call(page)
            for item in answer.get("Contents", []):
                yield Listed(item["Key"], item["Size"], item["LastModified"])
            token = answer.get("NextContinuationToken")
            if not answer.get("IsTruncated") or not token:
                return

    async def open_multiparts(self) -> AsyncIterator[OpenMultipart]:
        """Every multipart upload under way, by key."""
        marker: dict[str, str] = {}
        while True:

            def page(s3: "S3Client", marker: Any = marker) -> Any:
                return s3.list_multipart_uploads(Bucket=self.bucket, **marker)

            answer = await self.call(page)
            for item in answer.get("Uploads", []):
                yield OpenMultipart(item["Key"], item["UploadId"], item["Initiated"])
            if not answer.get("IsTruncated") or not answer.get("NextKeyMarker"):
                return
            marker = {
                "KeyMarker": answer["NextKeyMarker"],
                "UploadIdMarker": answer.get("NextUploadIdMarker", ""),
            }

    async def sha256(self, key: str) -> str:
        """The SHA-256 of what is stored, read to its end. Raises `StoreError` and `Unavailable`."""

        def read(s3: "S3Client") -> str:
            digest = hashlib.sha256()
            body = s3.get_object(Bucket=self.bucket, Key=key)["Body"]
            for block in body.iter_chunks(BLOCK):
                digest.update(block)
            return digest.hexdigest()

        return await self.call(read)

    # -- multipart uploads --------------------------------------------------------------------------------------

    async def create_multipart(self, key: str) -> str:
        """Begin a multipart upload whose whole will carry a full-object CRC64NVME; its id."""
        answer = await self.call(
            lambda s3: s3.create_multipart_upload(
                Bucket=self.bucket, Key=key, ChecksumAlgorithm="CRC64NVME", ChecksumType="FULL_OBJECT"
            )
        )
        return answer["UploadId"]

    async def list_parts(self, key: str, multipart_id: str) -> list[StoredPart]:
        """The parts that the store holds, by number. Raises `StoreError` `NoSuchUpload` when there is none."""

        def parts(s3: "S3Client") -> list[StoredPart]:
            pages = s3.get_paginator("list_parts").paginate(
                Bucket=self.bucket, Key=key, UploadId=multipart_id
            )
            return [
                StoredPart(part["PartNumber"], part["Size"], part["ETag"])
                for page in pages
                for part in page.get("Parts", [])
            ]

        return await self.call(parts)

    async def complete_multipart(
        self,
        key: str,
        multipart_id: str,
        parts: Iterable[tuple[StoredPart, str]],
        *,
        crc64nvme: str,
        size: int,
    ) -> None:
        """Join the parts (each with its CRC64NVME). The store compares the whole's CRC64NVME and size."""
        listed = [
            {"PartNumber": part.number, "ETag": part.etag, "ChecksumCRC64NVME": checksum}
            for part, checksum in parts
        ]
        await self.call(
            lambda s3: s3.complete_multipart_upload(
                Bucket=self.bucket,
                Key=key,
                UploadId=multipart_id,
                MultipartUpload={"Parts": listed},  # type: ignore[typeddict-item]
                ChecksumCRC64NVME=crc64nvme,
                ChecksumType="FULL_OBJECT",
                MpuObjectSize=size,
            )
        )

    async def abort_multipart(self, key: str, multipart_id: str) -> None:
        """Drop an unfinished upload; one that is not there counts as dropped."""
        try:
            await self.call(
                lambda s3: s3.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=multipart_id)
            )
        except StoreError as error:
            if error.code != "NoSuchUpload":
                raise


def _archive(headers: Mapping[str, str]) -> Literal["", "archived", "restoring"]:
    """Whether an object is out of reach, from the store's answer to HEAD."""
    asleep = headers.get("x-amz-storage-class") in ("GLACIER", "DEEP_ARCHIVE")
    if not asleep and "x-amz-archive-status" not in headers:
        return ""
    restore = headers.get("x-amz-restore", "")
    if 'ongoing-request="true"' in restore:
        return "restoring"
    return "" if 'ongoing-request="false"' in restore else "archived"


def _take(digest: Any, out: Any, block: bytes) -> None:
    digest.update(block)
    out.write(block)
