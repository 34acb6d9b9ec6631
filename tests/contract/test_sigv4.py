"""Our presigned addresses against botocore's, to the letter."""

from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import boto3
import pytest
from botocore.config import Config

from paletta_server.core.sigv4 import Credentials, presign

CREDENTIALS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "eu-central-1")
ENDPOINT = "http://127.0.0.1:9000"
BUCKET = "paletta"
KEYS = ["originals/clip_abc/obj_def", "media/a b/ü+plus/~tilde.jpg"]


def _botocore(operation: str, parameters: dict[str, object], token: str | None = None) -> str:
    client = boto3.client(
        "s3",
        endpoint_url=ENDPOINT,
        region_name=CREDENTIALS.region,
        aws_access_key_id=CREDENTIALS.access_key,
        aws_secret_access_key=CREDENTIALS.secret_key,
        aws_session_token=token,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    url: str = client.generate_presigned_url(
        operation, Params={"Bucket": BUCKET, **parameters}, ExpiresIn=900
    )
    return url


def _same(key: str, method: str, theirs: str, credentials: Credentials = CREDENTIALS, **kwargs: Any) -> str:
    """Sign at the moment at which botocore did, and compare everything."""
    then = datetime.strptime(dict(parse_qsl(urlsplit(theirs).query))["X-Amz-Date"], "%Y%m%dT%H%M%S%z")
    url = f"{ENDPOINT}/{BUCKET}/{quote(key, safe='/~')}"
    ours = presign(method, url, credentials, expires_seconds=900, now=then, **kwargs)
    assert urlsplit(ours)[:3] == urlsplit(theirs)[:3]
    assert dict(parse_qsl(urlsplit(ours).query)) == dict(parse_qsl(urlsplit(theirs).query))
    return ours


@pytest.mark.parametrize("key", KEYS)
def test_get(key: str) -> None:
    _same(key, "GET", _botocore("get_object", {"Key": key}))


def test_get_with_a_content_type() -> None:
    theirs = _botocore("get_object", {"Key": KEYS[0], "ResponseContentType": "video/mp4"})
    _same(KEYS[0], "GET", theirs, query={"response-content-type": "video/mp4"})


@pytest.mark.parametrize("key", KEYS)
def test_part_with_length_and_checksum_as_signed_headers(key: str) -> None:
    theirs = _botocore(
        "upload_part",
        {
            "Key": key,
            "PartNumber": 7,
            "UploadId": "id/with+odd=characters",
            "ContentLength": 16777216,
            "ChecksumCRC64NVME": "AAAAAAAAAAA=",
        },
    )
    ours = _same(
        key,
        "PUT",
        theirs,
        headers={"content-length": "16777216", "x-amz-checksum-crc64nvme": "AAAAAAAAAAA="},
        query={"partNumber": "7", "uploadId": "id/with+odd=characters"},
    )
    # Hoisted into the query, a store would ignore them without a word.
    assert "content-length%3Bhost%3Bx-amz-checksum-crc64nvme" in ours


def test_one_request_put_that_never_replaces() -> None:
    theirs = _botocore(
        "put_object",
        {"Key": KEYS[0], "ContentLength": 5, "IfNoneMatch": "*", "ChecksumCRC64NVME": "AAAAAAAAAAA="},
    )
    headers = {"content-length": "5", "if-none-match": "*", "x-amz-checksum-crc64nvme": "AAAAAAAAAAA="}
    _same(KEYS[0], "PUT", theirs, headers=headers)


def test_temporary_credentials_carry_their_token() -> None:
    credentials = Credentials(CREDENTIALS.access_key, CREDENTIALS.secret_key, CREDENTIALS.region, "tok/en+=")
    _same(KEYS[0], "GET", _botocore("get_object", {"Key": KEYS[0]}, token="tok/en+="), credentials)
