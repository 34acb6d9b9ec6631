"""Clients of AWS's services, made alike: in our region, with timeouts, and with the SDK's own chain of credentials
(environment, profile, the role of a container or a machine). S3 is `core.storage`'s own matter.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, overload

from paletta_server.core.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_mediaconvert import MediaConvertClient
    from mypy_boto3_sesv2 import SESV2Client
    from mypy_boto3_sqs import SQSClient

CONNECT_SECONDS, READ_SECONDS = 5, 30
ANSWER_SECONDS = 5
"""For what takes a service no time: longer than that is no answer."""
TRIES = {"mediaconvert": 1}
"""Its token makes one job of two requests for a minute only, which two tries that hang take: what was not heard is
found by asking. Others are tried three times."""


@overload
def client(settings: Settings, service: Literal["sqs"]) -> SQSClient: ...
@overload
def client(settings: Settings, service: Literal["sesv2"]) -> SESV2Client: ...
@overload
def client(settings: Settings, service: Literal["mediaconvert"]) -> MediaConvertClient: ...
@overload
def client(settings: Settings, service: str) -> Any: ...
def client(settings: Settings, service: str) -> Any:
    """A boto3 client. It blocks: call it in a thread; it may be shared between threads."""
    return _made(settings, service, READ_SECONDS, TRIES.get(service, 3))


def quick(settings: Settings, service: str) -> Any:
    """The same for who looks whether anything answers at all, or is about to stop, and waits for no poll."""
    return _made(settings, service, ANSWER_SECONDS, 2)


def polling(settings: Settings, wait_seconds: float) -> SQSClient:
    """For polls of a queue that wait so long. Tried once: who polls asks again anyway, and a poll has to have an end
    that a process which was told to stop can wait for."""
    made: SQSClient = _made(settings, "sqs", wait_seconds + ANSWER_SECONDS, 1)
    return made


def _made(settings: Settings, service: str, read_seconds: float, tries: int) -> Any:
    import boto3
    from botocore.config import Config

    endpoint = settings.aws_endpoint
    if service == "mediaconvert" and settings.mediaconvert_endpoint is not None:
        endpoint = settings.mediaconvert_endpoint
    session: Any = boto3.session.Session(region_name=region(settings))
    return session.client(
        service,
        region_name=session.region_name or settings.s3_region,
        endpoint_url=endpoint,
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=read_seconds,
            retries={"mode": "standard", "total_max_attempts": tries},
        ),
    )


def region(settings: Settings) -> str | None:
    """Where everything but the bucket is: as it is set, or where the bucket is set to be. None leaves it to the SDK's
    own ways to say so (variables, profile), by which whoever looks at a stack from outside says where it is."""
    if settings.aws_region is not None or "s3_region" in settings.model_fields_set:
        return settings.aws_region or settings.s3_region
    # Containers and shells have this one; boto3 itself reads AWS_DEFAULT_REGION and the profile.
    return os.environ.get("AWS_REGION") or None
