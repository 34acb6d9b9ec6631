"""Our presigned addresses against botocore's, to the letter."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.credentials import RefreshableCredentials

from paletta_server.core.settings import Settings
from paletta_server.core.signing import Signer
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


@pytest.mark.parametrize(
    ("region", "accelerate"), [("eu-central-1", False), ("eu-central-1", True), ("cn-north-1", False)]
)
@pytest.mark.parametrize("bucket", ["paletta", "paletta.films"])
def test_amazons_own_addresses(region: str, accelerate: bool, bucket: str) -> None:
    if accelerate and "." in bucket:
        with pytest.raises(ValueError, match="no dot"):
            Settings(_env_file=None, s3_bucket=bucket, s3_accelerate=True)
        return
    settings = Settings(
        _env_file=None,
        s3_bucket=bucket,
        s3_region=region,
        s3_access_key=CREDENTIALS.access_key,
        s3_secret_key=CREDENTIALS.secret_key,
        s3_accelerate=accelerate,
    )
    style = "path" if "." in bucket else "virtual"  # no certificate covers a dot
    client = boto3.client(
        "s3",
        region_name=region,
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(
            signature_version="s3v4", s3={"use_accelerate_endpoint": accelerate, "addressing_style": style}
        ),
    )
    theirs = urlsplit(client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a/b"}))
    ours = urlsplit(Signer(settings).presign_get("a/b", seconds=60))
    assert (ours.scheme, ours.netloc, ours.path) == (theirs.scheme, theirs.netloc, theirs.path)
    inside = urlsplit(Signer(settings)._presign("HEAD", "a/b", seconds=60))
    assert "accelerate" not in inside.netloc, "our own requests have nothing to gain from it"


def _role(left: timedelta, renewed: timedelta | None = None) -> tuple[Signer, list[int]]:
    """A signer whose role's credentials end in `left`, and are renewed for `renewed`."""
    asked: list[int] = []

    def found(lasting: timedelta) -> dict[str, str]:
        until = datetime.now(UTC) + lasting
        number = len(asked)
        return {
            "access_key": f"ASIA{number}",
            "secret_key": "secret",
            "token": f"token-{number}",
            "expiry_time": until.isoformat(),
        }

    def renew() -> dict[str, str]:
        asked.append(1)
        if renewed is None:
            raise RuntimeError("nobody renews them")
        return found(renewed)

    signer = Signer(Settings(_env_file=None))
    signer._client()._request_signer._credentials = RefreshableCredentials.create_from_metadata(  # type: ignore[attr-defined]
        found(left), renew, "a-test"
    )
    return signer, asked


def test_an_address_does_not_outlive_the_roles_credentials() -> None:
    signer, asked = _role(timedelta(minutes=20))
    query = dict(parse_qsl(urlsplit(signer.presign_get("a", seconds=3600)).query))
    assert 1190 <= int(query["X-Amz-Expires"]) <= 1200
    assert query["X-Amz-Security-Token"] == "token-0"
    assert signer.lasting(300) == 300
    assert asked == []


def test_credentials_that_are_about_to_end_are_renewed_first() -> None:
    signer, asked = _role(timedelta(minutes=1), renewed=timedelta(hours=1))
    query = dict(parse_qsl(urlsplit(signer.presign_get("a", seconds=900)).query))
    assert (query["X-Amz-Expires"], query["X-Amz-Security-Token"]) == ("900", "token-1")
    assert asked == [1]
