"""MediaConvert's API, and what its errors mean to us: slow down, not you, no, gone, or nobody knows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from anyio.to_thread import run_sync

from paletta_server.aws import clients
from paletta_server.core.settings import Settings
from paletta_server.core.words import plain

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from mypy_boto3_mediaconvert import MediaConvertClient

T = TypeVar("T")
_SLOW_DOWN = {
    "TooManyRequestsException",
    "ServiceQuotaExceededException",
    "Throttling",
    "ThrottlingException",
}

_NOT_YOU = {
    "AccessDenied",
    "AccessDeniedException",
    "ExpiredToken",
    "ExpiredTokenException",
    "ForbiddenException",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "NotAuthorized",
    "OptInRequired",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
"""https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot.html and the common errors of AWS's services, some of
which give them the status 400."""

_OVER_ALREADY = (400, 409)
"""Answers to cancelling what has ended."""


class ApiError(Exception):
    """The API did not do what we asked."""


class Throttled(ApiError):
    """Too many requests, or jobs. It may have been done all the same: their word is about the account, not the job."""


class NotAllowed(ApiError):
    """Credentials are missing or have run out, a right is missing, or our clock is wrong. It says nothing about the
    job: the same request is taken once an operator has mended that."""


class Refused(ApiError):
    """A no that stays one: the request is wrong. `status` is HTTP's."""

    def __init__(self, words: str, status: int = 0) -> None:
        super().__init__(words)
        self.status = status


class Gone(ApiError):
    """There is no such job."""


class Unheard(ApiError):
    """No answer that makes sense. It may have been done all the same."""


class Api:
    """The four calls that we make. Blocks in threads; safe to share."""

    def __init__(self, client: MediaConvertClient) -> None:
        self._client = client

    async def create(self, request: dict[str, Any]) -> dict[str, Any]:
        """Create a job; it, as it was created by this request or by an earlier one with the same token."""
        answer = await self._call(lambda: self._client.create_job(**request))
        return cast(dict[str, Any], answer["Job"])

    async def get(self, job_id: str) -> dict[str, Any]:
        """A job as it is now. Raises `Gone`."""
        answer = await self._call(lambda: self._client.get_job(Id=job_id))
        return cast(dict[str, Any], answer["Job"])

    async def cancel(self, job_id: str) -> None:
        """Ask a job to stop; one that is over or unknown counts as stopped."""
        try:
            await self._call(lambda: self._client.cancel_job(Id=job_id))
        except Gone:
            return
        except Refused as error:
            if error.status not in _OVER_ALREADY:
                raise

    async def created_since(self, moment: datetime, queue: str | None) -> AsyncIterator[dict[str, Any]]:
        """Every job created since then, newest first."""
        more: dict[str, Any] = {"Queue": queue} if queue else {}
        while True:
            asked = dict(more)
            answer = await self._call(
                lambda asked=asked: self._client.list_jobs(Order="DESCENDING", MaxResults=20, **asked)  # type: ignore[misc]
            )
            for job in answer.get("Jobs", []):
                if job["CreatedAt"] < moment:
                    return
                yield cast(dict[str, Any], job)
            if not answer.get("NextToken"):
                return
            more["NextToken"] = answer["NextToken"]

    async def _call(self, ask: Callable[[], T]) -> T:
        from botocore.exceptions import (
            BotoCoreError,
            ClientError,
            CredentialRetrievalError,
            MetadataRetrievalError,
            NoAuthTokenError,
            NoCredentialsError,
            ParamValidationError,
            PartialCredentialsError,
            SSOError,
            TokenRetrievalError,
        )

        no_credentials = (
            *(NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, MetadataRetrievalError),
            *(SSOError, NoAuthTokenError, TokenRetrievalError),
        )
        try:
            return await run_sync(ask)
        except ClientError as error:
            raise _meaning(error) from error
        except no_credentials as error:
            raise NotAllowed(str(error)) from error
        except ParamValidationError as error:
            raise Refused(str(error)) from error
        except BotoCoreError as error:
            raise Unheard(str(error)) from error


def _meaning(error: ClientError) -> ApiError:
    found = error.response.get("Error", {})
    code = found.get("Code", "Unknown")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    words = plain(f"{code}: {found.get('Message', '')}")
    if status == 429 or code in _SLOW_DOWN:
        return Throttled(words)
    if status in (401, 403) or code in _NOT_YOU:
        return NotAllowed(words)
    if status == 404 or code == "NotFoundException":
        return Gone(words)
    if status >= 500 or status < 400:
        return Unheard(words)
    return Refused(words, status)


@lru_cache(maxsize=4)
def shared(settings: Settings) -> Api:
    """The API that these settings name; making a client costs a tenth of a second."""
    return Api(clients.client(settings, "mediaconvert"))
