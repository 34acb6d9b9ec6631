"""The connection to the object store for control requests: boto3 in threads, and its errors as ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from anyio.to_thread import run_sync

from paletta_server.core.asking import Share
from paletta_server.core.errors import Unavailable
from paletta_server.core.settings import Settings

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")

CONNECTIONS = 16
"""Control requests in flight at once; boto3's pool is sized to match. What a request gave up may still run beside."""

READ_SECONDS, TRIES = 60, 4
READ_SECONDS_BRIEF, TRIES_BRIEF = 14, 2
"""How long a control request waits for each word of the store, and how often it is sent; briefly for requests of the
API. A thread cannot be called off, and must not outlive by much who waits for it."""


class StoreError(Exception):
    """The store said no. `code` is S3's own error code, such as `BadDigest` or `NoSuchUpload`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code


class StoreClient:
    """One bucket's boto3 client, made on first use. `brief`: with limits for who has people waiting."""

    def __init__(self, settings: Settings, *, brief: bool = False) -> None:
        self._brief = brief
        self._share = Share(max(1, settings.requests_at_once // 2))
        self._settings = settings
        self.bucket = settings.s3_bucket
        self._boto: S3Client | None = None
        self._threads = anyio.CapacityLimiter(CONNECTIONS)

    def _client(self) -> S3Client:
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
                    s3={
                        "addressing_style": "path"
                        if settings.s3_endpoint or "." in self.bucket
                        else "virtual"
                    },
                    retries={
                        "mode": "standard",
                        "total_max_attempts": TRIES_BRIEF if self._brief else TRIES,
                    },
                    connect_timeout=5,
                    read_timeout=READ_SECONDS_BRIEF if self._brief else READ_SECONDS,
                    max_pool_connections=CONNECTIONS,
                ),
            )
        return self._boto

    async def call(self, function: Callable[[S3Client], T]) -> T:
        """What `function` makes of the client, in a thread. Raises `StoreError` and `Unavailable`."""
        from boto3.exceptions import S3UploadFailedError
        from botocore.exceptions import ClientError, HTTPClientError
        from botocore.exceptions import ConnectionError as StoreAway

        def run() -> T:
            return function(self._client())

        try:
            async with self._share.ask():
                return await run_sync(run, limiter=self._threads)
        except ClientError as error:
            raise failure(error) from error
        except S3UploadFailedError as error:
            # boto3's own wrapping of what the store answered to a file.
            cause = error.__cause__ or error.__context__
            raise (failure(cause) if isinstance(cause, ClientError) else error) from cause
        except (StoreAway, HTTPClientError) as error:
            raise Unavailable("the object store does not answer", code="store_unavailable") from error


def failure(error: ClientError) -> Unavailable | StoreError:
    """The store's answer as one of our errors: trouble that passes, or a no."""
    said: dict[str, Any] = dict(error.response.get("Error", {}))
    code = str(said.get("Code", "Unknown"))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    # 501 is for good: a store that does not know the request will not learn it.
    if (status >= 500 and status != 501) or code in {"SlowDown", "RequestTimeout"}:
        return Unavailable(f"the object store answers {code}", code="store_unavailable")
    return StoreError(code, str(said.get("Message", "")))
