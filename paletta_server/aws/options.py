"""What an operator decides about an installation on AWS: the shape of `paletta-server aws template`.

What only changes a value is a parameter of the template (`template/parameters.py`) and can be changed in the stack
later; what adds or leaves out resources is an option here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Vpc = Literal["new", "existing"]
Transcoder = Literal["mediaconvert", "ffmpeg"]
OriginalsClass = Literal["STANDARD", "INTELLIGENT_TIERING", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"]

MOST_KEYS = 5
"""Keys in a CloudFront key group, by its quota; two are enough to change them without a gap."""
MAXIMUM_PEM_BYTES = 4096
WITHOUT_QUEUES = {"af-south-1", "ap-northeast-3", "ap-southeast-4", "ap-southeast-5", "me-central-1"}
"""Regions that have MediaConvert, and a CloudFormation that does not know `AWS::MediaConvert::Queue` (its schemas, as
cfn-lint carries them; a test compares)."""

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}\.)+[a-z]{{2,63}}\Z")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z")
_RESERVED = re.compile(r"(?:xn--|sthree-|amzn-s3-demo-).*|.*(?:-s3alias|--ol-s3|\.mrap|--x-s3|--table-s3)\Z")
"""Beginnings and ends of buckets' names that S3 keeps to itself."""
_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d\Z")
_ZONE = re.compile(r"Z[A-Z0-9]{1,31}\Z")
_PEM = re.compile(
    r"-----BEGIN PUBLIC KEY-----\n(?:[A-Za-z0-9+/=]{1,76}\n)+-----END PUBLIC KEY-----\n?\Z",
)


class OptionsRefused(ValueError):
    """A value that AWS would refuse later, or that does not go with another; the message says which and why."""


@dataclass(frozen=True)
class Options:
    """One installation. Raises `OptionsRefused` for what cannot work."""

    domain: str = "paletta.example.com"
    """Where people reach the API, and what mail comes from."""
    bucket: str | None = None
    """None lets the stack's account and region name it."""
    region: str = "us-east-1"
    vpc: Vpc = "new"
    transcoder: Transcoder = "mediaconvert"
    opensearch: bool = False
    kms: bool = False
    """A key of the installation's own for bucket and database, rather than S3's and RDS's."""
    originals_class: OriginalsClass = "INTELLIGENT_TIERING"
    hosted_zone: str | None = None
    """A zone of Route 53: then the stack makes certificate, address and the records of mail itself."""
    dmarc: bool = False
    """Make the record `_dmarc` as well: a zone may have one already, and then a stack that makes it fails."""
    public_keys: tuple[str, ...] = ()
    """PEM texts of CloudFront's trusted keys, the one in use first; none leaves CloudFront out."""
    gateways: tuple[str, ...] = ("stripe", "invoice")

    def __post_init__(self) -> None:
        _refuse(not _DOMAIN.match(self.domain), f"`{self.domain}` is no domain")
        _refuse(
            self.bucket is not None and not _is_bucket(self.bucket),
            f"`{self.bucket}` is no name for a bucket",
        )
        _refuse(
            self.bucket is not None and "." in self.bucket,
            "a bucket whose name has dots has no valid certificate at its own address: use dashes",
        )
        _refuse(not _REGION.match(self.region), f"`{self.region}` is no region")
        _refuse(
            self.hosted_zone is not None and not _ZONE.match(self.hosted_zone),
            f"`{self.hosted_zone}` is no id of a hosted zone",
        )
        _refuse(self.dmarc and self.hosted_zone is None, "--dmarc makes a record in a --hosted-zone: name it")
        _refuse(len(self.public_keys) > MOST_KEYS, f"a key group has {MOST_KEYS} keys at most")
        _refuse(len(set(self.public_keys)) < len(self.public_keys), "the same public key is given twice")
        for gateway in self.gateways:
            _refuse(gateway not in ("stripe", "invoice"), f"`{gateway}` does not sell on AWS")
        _refuse(not self.gateways, "without a gateway nobody can pay")
        _refuse(len(set(self.gateways)) < len(self.gateways), "a gateway is named twice")
        _refuse(self.region.startswith("cn-"), f"SES, which sends the mails, is not in `{self.region}`")
        _refuse(
            self.mediaconvert and not _has_mediaconvert(self.region),
            f"MediaConvert is not in `{self.region}`: take --ffmpeg",
        )
        _refuse(
            self.mediaconvert and (self.region.startswith("us-gov-") or self.region in WITHOUT_QUEUES),
            f"CloudFormation makes no queue of MediaConvert in `{self.region}`: take --ffmpeg",
        )

    @property
    def cloudfront(self) -> bool:
        return bool(self.public_keys)

    @property
    def stripe(self) -> bool:
        return "stripe" in self.gateways

    @property
    def mediaconvert(self) -> bool:
        return self.transcoder == "mediaconvert"


def _has_mediaconvert(region: str) -> bool:
    """By the SDK's own list: nothing is asked."""
    import botocore.session

    session = botocore.session.get_session()
    return any(
        region in session.get_available_regions("mediaconvert", partition)
        for partition in session.get_available_partitions()
    )


def _is_bucket(name: str) -> bool:
    return bool(_BUCKET.match(name)) and ".." not in name and not _RESERVED.match(name)


def _refuse(wrong: bool, why: str) -> None:
    if wrong:
        raise OptionsRefused(why)


def read_public_keys(paths: Iterable[Path]) -> tuple[str, ...]:
    """The PEM texts of files. Raises `OptionsRefused`, also for a private key: nothing of it is repeated."""
    found = []
    for path in paths:
        try:
            with path.open("rb") as file:
                text = file.read(MAXIMUM_PEM_BYTES + 1).decode("ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise OptionsRefused(f"`{path}` cannot be read as a public key") from error
        text = text.replace("\r\n", "\n").strip() + "\n"
        if "PRIVATE KEY" in text:
            raise OptionsRefused(f"`{path}` is a private key: keep it, and give the public one")
        if len(text) > MAXIMUM_PEM_BYTES or not _PEM.match(text):
            raise OptionsRefused(
                f"`{path}` is no public key in PEM: `openssl rsa -in private.pem -pubout` writes one"
            )
        _refuse(
            not _signs(text), f"`{path}` is no key that signs for CloudFront: RSA with 2048 bits it has to be"
        )
        found.append(text)
    return tuple(found)


def _signs(pem: str) -> bool:
    """As `core.delivering.SigningKey` has it; CloudFront knows one more kind, and takes no longer ones."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem.encode())
    except ValueError:
        return False
    return isinstance(key, RSAPublicKey) and key.key_size == 2048
