"""Clients of AWS's services, made alike: in our region, with timeouts, and with the SDK's own chain of credentials
(environment, profile, the role of a container or a machine). S3 is `core.storage`'s own matter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from paletta_server.core.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_mediaconvert import MediaConvertClient
    from mypy_boto3_sesv2 import SESV2Client
    from mypy_boto3_sqs import SQSClient

CONNECT_SECONDS, READ_SECONDS = 5, 30
"""The latter is longer than the longest poll of a queue (20 s)."""
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
    import boto3
    from botocore.config import Config

    endpoint = settings.aws_endpoint
    if service == "mediaconvert" and settings.mediaconvert_endpoint is not None:
        endpoint = settings.mediaconvert_endpoint
    session: Any = boto3.session.Session()
    return session.client(
        service,
        region_name=region(settings),
        endpoint_url=endpoint,
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": TRIES.get(service, 3)},
        ),
    )


def region(settings: Settings) -> str:
    """Where everything but the bucket is."""
    return settings.aws_region or settings.s3_region
