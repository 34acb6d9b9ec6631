"""The object store: Amazon S3 or anything that speaks it.

Small, frequent requests are signed here; control requests go through boto3 in a thread. Keys are made of our own
ids: no name from a user ever becomes part of one.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote

import anyio
import httpx
from anyio.to_thread import run_sync
from urllib3 import PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError

from paletta_server.core.errors import Unavailable
from paletta_server.core.settings import Settings
from paletta_server.core.sigv4 import Credentials, presign

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CORSRuleTypeDef, LifecycleRuleTypeDef, ObjectIdentifierTypeDef

T = TypeVar("T")

BLOCK = 1024 * 1024
CONNECTIONS = 16
STALE_MULTIPART_DAYS = 90
"""The store's own broom behind ours. It counts from an upload's beginning, ours from its last sign of life: it must
never be the quicker one."""


class StoreError(Exception):
    """The store said no. `code` is S3's own error code, such as `BadDigest` or `NoSuchUpload`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code


@dataclass(frozen=True)
class ObjectInfo:
    """What HEAD tells: size in bytes, CRC64NVME in base64 where the store kept one, opaque ETag."""

    size: int
    crc64nvme: str | None
    etag: str


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


class ObjectStore:
    """One bucket. An async context manager; safe to use from many tasks."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.bucket = settings.s3_bucket
        region = settings.s3_region
        if settings.s3_endpoint:
            self._base = f"{settings.s3_endpoint}/{self.bucket}"
        else:
            self._base = f"https://{self.bucket}.s3.{region}.amazonaws.com"
        self._boto: S3Client | None = None
        self._http: httpx.AsyncClient | None = None
        # Control requests in flight at once; boto3's pool is sized to match.
        self._threads = anyio.CapacityLimiter(CONNECTIONS)
        self._pool = PoolManager(maxsize=CONNECTIONS, timeout=Timeout(connect=5, read=20))

    async def __aenter__(self) -> Self:
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(20, connect=5), limits=httpx.Limits(max_connections=32), trust_env=False
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._http is not None:
            await self._http.aclose()
        self._pool.clear()

    # -- signing ------------------------------------------------------------------------------------------------

    def _credentials(self) -> Credentials:
        settings = self._settings
        if settings.s3_access_key and settings.s3_secret_key:
            return Credentials(
                settings.s3_access_key.get_secret_value(),
                settings.s3_secret_key.get_secret_value(),
                settings.s3_region,
            )
        # A role's credentials change by themselves, so botocore's own resolver is asked each time (it caches).
        resolver = self._client()._request_signer._credentials  # type: ignore[attr-defined]
        if resolver is None:
            raise Unavailable("there are no credentials for the object store", code="store_unavailable")
        found = resolver.get_frozen_credentials()
        return Credentials(found.access_key, found.secret_key, settings.s3_region, found.token)

    def _presign(
        self,
        method: str,
        key: str,
        *,
        seconds: int,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> str:
        return presign(
            method,
            f"{self._base}/{quote(key)}",
            self._credentials(),
            expires_seconds=seconds,
            now=datetime.now(UTC),
            headers=headers,
            query=query,
        )

    def presign_put(self, key: str, *, size: int, crc64nvme: str, seconds: int) -> tuple[str, dict[str, str]]:
        """A one-request upload of a new object: address and the exact headers to send.

        Length and checksum bind, and `If-None-Match` keeps the address from ever replacing what it stored once.
        """
        headers = {
            "content-length": str(size),
            "if-none-match": "*",
            "x-amz-checksum-crc64nvme": crc64nvme,
        }
        return self._presign("PUT", key, seconds=seconds, headers=headers), headers

    def presign_part(
        self, key: str, multipart_id: str, *, number: int, size: int, crc64nvme: str, seconds: int
    ) -> tuple[str, dict[str, str]]:
        """One part of a multipart upload: address and the exact headers to send."""
        headers = {"content-length": str(size), "x-amz-checksum-crc64nvme": crc64nvme}
        query = {"partNumber": str(number), "uploadId": multipart_id}
        return self._presign("PUT", key, seconds=seconds, headers=headers, query=query), headers

    def presign_get(
        self, key: str, *, seconds: int, content_type: str | None = None, disposition: str | None = None
    ) -> str:
        """An address to read one object from; it answers ranged GETs but not HEAD.

        `disposition` is the Content-Disposition to answer with: who calls has made it safe.
        """
        wanted = {"response-content-type": content_type, "response-content-disposition": disposition}
        query = {name: value for name, value in wanted.items() if value}
        return self._presign("GET", key, seconds=seconds, query=query or None)

    # -- reading and writing objects ----------------------------------------------------------------------------

    async def head(self, key: str) -> ObjectInfo | None:
        """What is stored under `key`, or None. Raises `Unavailable` when the store does not answer."""
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
        )

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
                            await answer.aread()
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
            "CacheControl": f"private, max-age={cache_seconds}",
            "ChecksumAlgorithm": "CRC32",
        }
        await self._call(
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

        await self._call(delete)

    async def delete_prefix(self, prefix: str) -> int:
        """Delete everything below `prefix`, which must end in a slash; how many objects there were."""
        assert prefix.endswith("/"), prefix
        assert len(prefix) > len("x/"), prefix

        def keys(s3: "S3Client") -> list[str]:
            pages = s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
            return [item["Key"] for page in pages for item in page.get("Contents", [])]

        found = await self._call(keys)
        await self.delete(found)
        return len(found)

    # -- going over everything that is stored -------------------------------------------------------------------

    async def every_object(self, prefix: str = "") -> AsyncIterator[Listed]:
        """Every object below `prefix`, by key, in pages of a thousand."""
        token: str | None = None
        while True:
            more = {"ContinuationToken": token} if token else {}

            def page(s3: "S3Client", more: Any = more) -> Any:
                return s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix, **more)

            answer = await self._call(page)
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

            answer = await self._call(page)
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

        return await self._call(read)

    # -- multipart uploads --------------------------------------------------------------------------------------

    async def create_multipart(self, key: str) -> str:
        """Begin a multipart upload whose whole will carry a full-object CRC64NVME; its id."""
        answer = await self._call(
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

        return await self._call(parts)

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
        await self._call(
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
            await self._call(
                lambda s3: s3.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=multipart_id)
            )
        except StoreError as error:
            if error.code != "NoSuchUpload":
                raise

    # -- the bucket ---------------------------------------------------------------------------------------------

    async def ensure_bucket(self, *, web_origin: str) -> None:
        """Create the bucket where it is missing; let pages of `web_origin` read; sweep stale multiparts."""

        def ensure(s3: "S3Client") -> None:
            names = {bucket["Name"] for bucket in s3.list_buckets().get("Buckets", [])}
            if self.bucket not in names:
                s3.create_bucket(Bucket=self.bucket)
            s3.put_bucket_cors(Bucket=self.bucket, CORSConfiguration={"CORSRules": [cors_rule(web_origin)]})
            s3.put_bucket_lifecycle_configuration(
                Bucket=self.bucket, LifecycleConfiguration={"Rules": [lifecycle_rule()]}
            )

        await self._call(ensure)

    async def check_bucket(self) -> dict[str, Any]:
        """What the bucket has: `{exists, cors, lifecycle}`, for the doctor and the readiness probe."""

        def look(s3: "S3Client") -> dict[str, Any]:
            s3.head_bucket(Bucket=self.bucket)
            return {
                "exists": True,
                "cors": _or_none(lambda: s3.get_bucket_cors(Bucket=self.bucket).get("CORSRules")),
                "lifecycle": _or_none(
                    lambda: s3.get_bucket_lifecycle_configuration(Bucket=self.bucket).get("Rules")
                ),
            }

        return await self._call(look)

    # -- plumbing -----------------------------------------------------------------------------------------------

    def _client(self) -> "S3Client":
        if self._boto is None:
            import boto3
            from botocore.config import Config

            settings = self._settings
            secret = settings.s3_secret_key
            access = settings.s3_access_key
            self._boto = boto3.client(
                "s3",
                endpoint_url=settings.s3_endpoint,
                region_name=settings.s3_region,
                aws_access_key_id=access.get_secret_value() if access else None,
                aws_secret_access_key=secret.get_secret_value() if secret else None,
                config=Config(
                    signature_version="s3v4",
                    s3={"addressing_style": "path" if settings.s3_endpoint else "virtual"},
                    retries={"mode": "standard", "max_attempts": 4},
                    connect_timeout=5,
                    read_timeout=60,
                    max_pool_connections=CONNECTIONS,
                ),
            )
        return self._boto

    async def _call(self, function: "Callable[[S3Client], T]") -> T:
        from boto3.exceptions import S3UploadFailedError
        from botocore.exceptions import ClientError, HTTPClientError
        from botocore.exceptions import ConnectionError as StoreAway

        def run() -> T:
            return function(self._client())

        try:
            return await run_sync(run, limiter=self._threads)
        except ClientError as error:
            raise _failure(error) from error
        except S3UploadFailedError as error:
            # boto3's own wrapping of what the store answered to a file.
            cause = error.__cause__ or error.__context__
            raise (_failure(cause) if isinstance(cause, ClientError) else error) from cause
        except (StoreAway, HTTPClientError) as error:
            raise Unavailable("the object store does not answer", code="store_unavailable") from error


def _failure(error: "ClientError") -> Unavailable | StoreError:
    """The store's answer as one of our errors: trouble that passes, or a no."""
    failure = error.response.get("Error", {})
    code = failure.get("Code", "Unknown")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if status >= 500 or code in {"SlowDown", "RequestTimeout"}:
        return Unavailable(f"the object store answers {code}", code="store_unavailable")
    return StoreError(code, failure.get("Message", ""))


def cors_rule(web_origin: str) -> "CORSRuleTypeDef":
    """Pages of ours may read previews straight from the store."""
    return {
        "AllowedOrigins": [web_origin],
        "AllowedMethods": ["GET", "HEAD"],
        "AllowedHeaders": ["range"],
        "ExposeHeaders": ["etag", "content-range"],
        "MaxAgeSeconds": 3600,
    }


def lifecycle_rule() -> "LifecycleRuleTypeDef":
    return {
        "ID": "stale-multiparts",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": STALE_MULTIPART_DAYS},
    }


def _take(digest: Any, out: Any, block: bytes) -> None:
    digest.update(block)
    out.write(block)


def _or_none(read: Callable[[], Any]) -> Any:
    from botocore.exceptions import ClientError

    try:
        return read()
    except ClientError:
        return None
