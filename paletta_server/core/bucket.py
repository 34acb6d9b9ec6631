"""Setting up the bucket: what it should have, what it has, and making the one the other.

Run again it changes nothing. A store that does not know a feature says so, and that is told rather than hidden.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from paletta_server.core.settings import Settings
from paletta_server.core.storeclient import StoreClient, StoreError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

STALE_MULTIPART_DAYS = 90
"""The store's own broom behind ours. It counts from an upload's beginning, ours from its last sign of life: it must
never be the quicker one."""
SCRATCH_DAYS = 7
NONCURRENT_DAYS = 30
"""How long what was deleted or replaced can be brought back, in a bucket with versions. Also how long an erased
person's films linger in one."""
ORIGINALS_DAYS = {"INTELLIGENT_TIERING": 0, "GLACIER_IR": 30, "GLACIER": 30, "DEEP_ARCHIVE": 30}
"""Days after which originals move to a class. The archives bill 90 or 180 days for whatever is deleted sooner, and a
clip that is refused, made again or replaced mostly is so within its first month."""
CLASS_RULE = "originals-class"

Outcome = Literal["as wanted", "would change", "changed", "not kept", "not possible", "refused"]
Versioning = Literal["on", "off"]

_UNSET = {
    "NoSuchPublicAccessBlockConfiguration",
    "OwnershipControlsNotFoundError",
    "ServerSideEncryptionConfigurationNotFoundError",
    "NoSuchCORSConfiguration",
    "NoSuchLifecycleConfiguration",
}
_UNKNOWN = {"NotImplemented", "MethodNotAllowed", "501", "405", "XNotImplemented"}
_GONE = {"404", "NoSuchBucket"}


@dataclass(frozen=True, slots=True)
class Change:
    """One thing about the bucket. `before` and `after` are what the store calls it; None is nothing."""

    what: str
    outcome: Outcome
    before: Any
    after: Any
    why: str = ""


@dataclass(frozen=True, slots=True)
class _Aspect:
    """A thing to set: reading gives what is there in the form of `wanted(found)`, or None."""

    what: str
    wanted: Callable[[Any], Any]
    read: Callable[[S3Client], Any]
    write: Callable[[S3Client, Any], Any]


class BucketGone(Exception):
    """There is no such bucket."""


async def bootstrap(
    store: StoreClient, settings: Settings, *, versioning: Versioning | None = None, plan: bool = False
) -> list[Change]:
    """Set the bucket up; with `plan` only tell what would change. `versioning` None leaves that as it is.

    Raises `StoreError` where the bucket is somebody else's, and `Unavailable`.
    """
    return await store.call(lambda s3: _bootstrap(s3, store.bucket, settings, versioning, plan=plan))


async def look(store: StoreClient, settings: Settings) -> list[Change]:
    """What the bucket has and lacks. Raises `StoreError` where there is none."""
    found = await bootstrap(store, settings, plan=True)
    if found[0].outcome == "would change":
        raise StoreError("NoSuchBucket", f"there is no bucket `{store.bucket}`")
    return found


def _bootstrap(
    s3: S3Client, bucket: str, settings: Settings, versioning: Versioning | None, *, plan: bool
) -> list[Change]:
    there = _exists(s3, bucket)
    changes = [Change("bucket", "as wanted", bucket, bucket)]
    if not there:
        changes = [Change("bucket", "would change" if plan else "changed", None, bucket)]
        if not plan:
            _create(s3, bucket, settings)
    versions = versioning == "on" or (there and _has_versions(s3, bucket))
    for aspect in _aspects(bucket, settings, versioning, versions=versions):
        changes.append(_one(s3, aspect, plan=plan, fresh=not there and plan))
    return changes


def _one(s3: S3Client, aspect: _Aspect, *, plan: bool, fresh: bool) -> Change:
    before = None
    try:
        before = None if fresh else _read(s3, aspect)
        after = aspect.wanted(before)
        if _same(before, after):
            return Change(aspect.what, "as wanted", before, after)
        if plan:
            return Change(aspect.what, "would change", before, after)
        _write(s3, aspect, after)
        kept = _read(s3, aspect)
    except StoreError as error:
        after = aspect.wanted(before)
        outcome: Outcome = "not possible" if error.code in _UNKNOWN else "refused"
        return Change(aspect.what, outcome, before, after, str(error))
    if not _same(kept, after):
        return Change(aspect.what, "not kept", before, after, f"the store says {_words(kept)} afterwards")
    return Change(aspect.what, "changed", before, after)


def _read(s3: S3Client, aspect: _Aspect) -> Any:
    """What is set, None where nothing is. Raises `StoreError`."""
    from botocore.exceptions import ClientError

    try:
        return aspect.read(s3) or None
    except ClientError as error:
        refusal = _refusal(error)
        if refusal.code in _UNSET:
            return None
        raise refusal from error


def _write(s3: S3Client, aspect: _Aspect, value: Any) -> None:
    from botocore.exceptions import ClientError

    try:
        aspect.write(s3, value)
    except ClientError as error:
        raise _refusal(error) from error


def _refusal(error: Any) -> StoreError:
    said = error.response.get("Error", {})
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if status >= 500 and status != 501:
        raise error  # trouble that passes is for who called
    code = "501" if status == 501 else str(said.get("Code", "Unknown"))
    return StoreError(code, str(said.get("Message", "")))


def _same(one: Any, other: Any) -> bool:
    return _words(_plain(one or None)) == _words(_plain(other or None))


def _words(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _plain(value: Any) -> Any:
    """Without what stores leave out or add as they like: empty filters, and the order of rules and words."""
    if isinstance(value, Mapping):
        kept = {name: _plain(one) for name, one in value.items()}
        return {name: one for name, one in kept.items() if one not in ("", {}, [], None)}
    if isinstance(value, list):
        return sorted((_plain(one) for one in value), key=_words)
    return value


def _exists(s3: S3Client, bucket: str) -> bool:
    """Whether there is such a bucket. Raises botocore's error where it is somebody else's."""
    from botocore.exceptions import ClientError

    try:
        s3.head_bucket(Bucket=bucket)
    except ClientError as error:
        if str(error.response.get("Error", {}).get("Code")) in _GONE:
            return False
        raise
    return True


def _has_versions(s3: S3Client, bucket: str) -> bool:
    """Whether deletions leave something behind; one that makes no more versions still has its former ones."""
    from botocore.exceptions import ClientError

    try:
        return s3.get_bucket_versioning(Bucket=bucket).get("Status") is not None
    except ClientError as error:
        # Who may not look assumes it: to a bucket without versions the rule means nothing.
        return _refusal(error).code not in _UNKNOWN


def _create(s3: S3Client, bucket: str, settings: Settings) -> None:
    from botocore.exceptions import ClientError

    more: Any = {}
    if settings.s3_region != "us-east-1":
        more = {"CreateBucketConfiguration": {"LocationConstraint": settings.s3_region}}
    try:
        s3.create_bucket(Bucket=bucket, **more)
    except ClientError as error:
        # Another node was quicker; it is as much ours.
        if error.response.get("Error", {}).get("Code") != "BucketAlreadyOwnedByYou":
            raise


# ---- what a bucket should have


def _aspects(
    bucket: str, settings: Settings, versioning: Versioning | None, *, versions: bool
) -> list[_Aspect]:
    found = [
        _Aspect(
            "public access",
            lambda _found: dict.fromkeys(
                ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
            ),
            lambda s3: s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"],
            lambda s3, value: s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=value),
        ),
        _Aspect(
            "ownership",
            lambda _found: [{"ObjectOwnership": "BucketOwnerEnforced"}],
            lambda s3: s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]["Rules"],
            lambda s3, value: s3.put_bucket_ownership_controls(
                Bucket=bucket, OwnershipControls={"Rules": value}
            ),
        ),
        _Aspect(
            "cors",
            lambda _found: [cors_rule(settings.public_url)],
            lambda s3: s3.get_bucket_cors(Bucket=bucket).get("CORSRules"),
            lambda s3, value: s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": value}),
        ),
        _lifecycle(bucket, "lifecycle", sweeping_rules(versions=versions)),
        # By itself: a store without classes refuses all rules for the sake of this one.
        _lifecycle(
            bucket,
            "class of originals",
            class_rules(settings.s3_originals_class),
            instead_of=CLASS_RULE,
        ),
    ]
    # Amazon encrypts at no cost; what it costs another store is for its operator to decide.
    if settings.s3_endpoint is None or settings.s3_kms_key is not None:
        found.append(
            _Aspect(
                "encryption",
                lambda _found: [encryption_rule(settings)],
                lambda s3: [
                    _encryption_told(rule)
                    for rule in s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"][
                        "Rules"
                    ]
                ],
                lambda s3, value: s3.put_bucket_encryption(
                    Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": value}
                ),
            )
        )
    if versioning is not None:
        found.append(
            _Aspect(
                "versioning",
                # A bucket that never had versions says nothing; one that had can only stop making more.
                lambda found: "Enabled" if versioning == "on" else (None if found is None else "Suspended"),
                lambda s3: s3.get_bucket_versioning(Bucket=bucket).get("Status"),
                lambda s3, value: s3.put_bucket_versioning(
                    Bucket=bucket, VersioningConfiguration={"Status": value}
                ),
            )
        )
    if settings.s3_accelerate:
        found.append(
            _Aspect(
                "acceleration",
                lambda _found: "Enabled",
                lambda s3: s3.get_bucket_accelerate_configuration(Bucket=bucket).get("Status"),
                lambda s3, value: s3.put_bucket_accelerate_configuration(
                    Bucket=bucket, AccelerateConfiguration={"Status": value}
                ),
            )
        )
    return found


def _encryption_told(rule: Any) -> Any:
    """A rule without what a store adds to it: what else it refuses, and a bucket key that means nothing to AES256."""
    default = rule.get("ApplyServerSideEncryptionByDefault", {})
    told: dict[str, Any] = {"ApplyServerSideEncryptionByDefault": default}
    if default.get("SSEAlgorithm") != "AES256":
        told["BucketKeyEnabled"] = bool(rule.get("BucketKeyEnabled"))
    return told


def encryption_rule(settings: Settings) -> dict[str, Any]:
    """S3's own key, or one of KMS. The bucket key spares nearly all of the calls to KMS, each of which is billed."""
    if settings.s3_kms_key is None:
        return {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": settings.s3_kms_key}
    return {"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": True}


def cors_rule(web_origin: str) -> dict[str, Any]:
    """Pages of ours may read previews straight from the store; the command line is no page and needs no leave."""
    return {
        "AllowedOrigins": [web_origin],
        "AllowedMethods": ["GET", "HEAD"],
        "AllowedHeaders": ["range"],
        "ExposeHeaders": ["etag", "content-range"],
        "MaxAgeSeconds": 3600,
    }


def sweeping_rules(*, versions: bool) -> list[dict[str, Any]]:
    """What the store clears away by itself. Where there are `versions`, a deletion leaves a marker, which stays when
    nothing else is left under its name: every listing would read past more of them."""
    markers: dict[str, Any] = {"Expiration": {"ExpiredObjectDeleteMarker": True}} if versions else {}
    return [
        _rule(
            "stale-multiparts", AbortIncompleteMultipartUpload={"DaysAfterInitiation": STALE_MULTIPART_DAYS}
        ),
        # What the doctor tries out, where it could not clean up; other things of ours stay.
        _rule("trials", "_paletta/doctor-", Expiration={"Days": SCRATCH_DAYS}),
        _rule("noncurrent", NoncurrentVersionExpiration={"NoncurrentDays": NONCURRENT_DAYS}, **markers),
    ]


def class_rules(originals_class: str) -> list[dict[str, Any]]:
    """Where originals go when they have grown old: nowhere, or to one class."""
    days = ORIGINALS_DAYS.get(originals_class)
    if days is None:
        return []
    move = {"Days": days, "StorageClass": originals_class}
    return [_rule(CLASS_RULE, "originals/", Transitions=[move])]


def _lifecycle(bucket: str, what: str, rules: list[dict[str, Any]], instead_of: str = "") -> _Aspect:
    """Rules that replace those of the same names; all others stay, an operator's own among them."""
    names = {rule["ID"] for rule in rules} | {instead_of}

    def wanted(found: Any) -> list[dict[str, Any]]:
        return [*(rule for rule in found or [] if rule.get("ID") not in names), *rules]

    def write(s3: S3Client, value: Any) -> Any:
        if not value:
            return s3.delete_bucket_lifecycle(Bucket=bucket)
        return s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": value})

    return _Aspect(
        what, wanted, lambda s3: s3.get_bucket_lifecycle_configuration(Bucket=bucket).get("Rules"), write
    )


def _rule(name: str, prefix: str = "", **action: Any) -> dict[str, Any]:
    return {"ID": name, "Status": "Enabled", "Filter": {"Prefix": prefix}, **action}
