"""Presigned addresses of one bucket: with our own keys, or with a role's, which end by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from paletta_server.core.errors import Unavailable
from paletta_server.core.settings import Settings
from paletta_server.core.sigv4 import Credentials, presign
from paletta_server.core.storeclient import StoreClient

LONGEST_SECONDS = 7 * 24 * 3600
"""S3 takes no presigned address that lives longer."""


class Signer(StoreClient):
    """Makes addresses. Those for other people's machines lead over the accelerated endpoint where that is set; our
    own requests never do: from inside AWS it is no quicker, and it is paid for by the byte."""

    def __init__(self, settings: Settings, *, brief: bool = False) -> None:
        super().__init__(settings, brief=brief)
        self._base, self._outside = bases(settings)

    def _credentials(self) -> Credentials:
        settings = self._settings
        if settings.s3_access_key and settings.s3_secret_key:
            return Credentials(
                settings.s3_access_key.get_secret_value(),
                settings.s3_secret_key.get_secret_value(),
                settings.s3_region,
            )
        found = self._resolver().get_frozen_credentials()
        return Credentials(found.access_key, found.secret_key, settings.s3_region, found.token)

    def _resolver(self) -> Any:
        """botocore's own source of credentials, which renews a role's and caches them: asked each time."""
        resolver = self._client()._request_signer._credentials  # type: ignore[attr-defined]
        if resolver is None:
            raise Unavailable("there are no credentials for the object store", code="store_unavailable")
        return resolver

    def lasting(self, seconds: int) -> int:
        """For how long an address that is to last `seconds` does: it dies with the credentials that signed it.

        Raises `Unavailable` where those have ended, and nobody renewed them.
        """
        seconds = min(seconds, LONGEST_SECONDS)
        if self._settings.s3_access_key and self._settings.s3_secret_key:
            return seconds
        resolver = self._resolver()
        resolver.get_frozen_credentials()  # renews what is about to end
        until: datetime | None = getattr(resolver, "_expiry_time", None)
        if until is None:
            return seconds
        left = int((until - datetime.now(UTC)).total_seconds())
        if left < 1:
            raise Unavailable("the credentials for the object store have ended", code="store_unavailable")
        return min(seconds, left)

    def _presign(
        self,
        method: str,
        key: str,
        *,
        seconds: int,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        outside: bool = False,
    ) -> str:
        return presign(
            method,
            f"{self._outside if outside else self._base}/{quote(key)}",
            self._credentials(),
            expires_seconds=self.lasting(seconds),
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
        return self._presign("PUT", key, seconds=seconds, headers=headers, outside=True), headers

    def presign_part(
        self, key: str, multipart_id: str, *, number: int, size: int, crc64nvme: str, seconds: int
    ) -> tuple[str, dict[str, str]]:
        """One part of a multipart upload: address and the exact headers to send."""
        headers = {"content-length": str(size), "x-amz-checksum-crc64nvme": crc64nvme}
        query = {"partNumber": str(number), "uploadId": multipart_id}
        return self._presign("PUT", key, seconds=seconds, headers=headers, query=query, outside=True), headers

    def presign_get(
        self, key: str, *, seconds: int, content_type: str | None = None, disposition: str | None = None
    ) -> str:
        """An address to read one object from; it answers ranged GETs but not HEAD.

        `disposition` is the Content-Disposition to answer with: who calls has made it safe.
        """
        wanted = {"response-content-type": content_type, "response-content-disposition": disposition}
        query = {name: value for name, value in wanted.items() if value}
        return self._presign("GET", key, seconds=seconds, query=query or None, outside=True)


def bases(settings: Settings) -> tuple[str, str]:
    """The bucket's address for ourselves, and for others."""
    bucket, region = settings.s3_bucket, settings.s3_region
    if settings.s3_endpoint:
        base = f"{settings.s3_endpoint}/{bucket}"
        return base, base
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    if "." in bucket:  # no certificate covers such a name as a host
        base = f"https://s3.{region}.{suffix}/{bucket}"
        return base, base
    base = f"https://{bucket}.s3.{region}.{suffix}"
    return base, f"https://{bucket}.s3-accelerate.{suffix}" if settings.s3_accelerate else base
