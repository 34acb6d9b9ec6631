"""The bucket: nobody else reads it, it keeps what it should, and no more."""

from __future__ import annotations

from typing import Any

from paletta_server.aws.checks.base import Check, Missing, Problem, Unknown, ask
from paletta_server.aws.checks.target import Target

ORIGINALS = "originals/"
FOLDERS = (ORIGINALS, "media/")
"""Where films and what was made of them lie."""
AGAIN = "deploy the template again, or run `paletta-server migrate --bucket`"


def checks(s3: Any, target: Target) -> dict[str, Check]:
    bucket = target.bucket

    def public_access() -> str:
        try:
            found = ask(s3.get_public_access_block, Bucket=bucket)["PublicAccessBlockConfiguration"]
        except Missing as missing:
            if missing.code == "NoSuchBucket":
                raise Problem(
                    f"there is no bucket `{bucket}`", "check PALETTA_S3_BUCKET and the region"
                ) from None
            found = {}
        names = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
        if off := [name for name in names if not found.get(name)]:
            raise Problem(
                f"public access is not blocked: {', '.join(off)}", "block all public access of the bucket"
            )
        return "blocked"

    def encryption() -> str:
        answer = ask(s3.get_bucket_encryption, Bucket=bucket)
        rule = answer["ServerSideEncryptionConfiguration"]["Rules"][0]
        default = rule["ApplyServerSideEncryptionByDefault"]
        if target.kms_key:
            _with_our_key(default, target.kms_key)
        if default["SSEAlgorithm"] == "aws:kms" and not rule.get("BucketKeyEnabled"):
            raise Problem(
                "every object asks KMS: the bucket has no key of its own", "switch the bucket key on"
            )
        return str(default["SSEAlgorithm"])

    def lifecycle() -> str:
        versioned = ask(s3.get_bucket_versioning, Bucket=bucket).get("Status") == "Enabled"
        try:
            rules = ask(s3.get_bucket_lifecycle_configuration, Bucket=bucket)["Rules"]
        except Missing:
            rules = []
        on = [rule for rule in rules if rule["Status"] == "Enabled"]
        _stale_multiparts(on, target.settings.upload_expiry_hours)
        former = [rule for rule in on if "NoncurrentVersionExpiration" in rule]
        if versioned and not all(any(_covers(rule, folder) for rule in former) for folder in FOLDERS):
            raise Problem(
                "former versions are kept, and paid for, for ever", "let noncurrent versions expire"
            )
        markers = [rule for rule in on if rule.get("Expiration", {}).get("ExpiredObjectDeleteMarker")]
        if versioned and not all(any(_covers(rule, folder) for rule in markers) for folder in FOLDERS):
            raise Problem("what was deleted leaves its markers for ever, and listings read past them", AGAIN)
        return f"{len(on)} rules, {'versioned' if versioned else 'not versioned'}"

    def cors() -> str:
        try:
            rules = ask(s3.get_bucket_cors, Bucket=bucket)["CORSRules"]
        except Missing:
            rules = []
        for rule in rules:
            if "GET" in rule["AllowedMethods"] and {target.origin, "*"} & set(rule["AllowedOrigins"]):
                return f"pages of {target.origin} may read"
        raise Problem(f"pages of {target.origin} may not read previews", AGAIN)

    return {
        "bucket: access": public_access,
        "bucket: encryption": encryption,
        "bucket: lifecycle": lifecycle,
        "bucket: cors": cors,
    }


def _with_our_key(default: dict[str, Any], key: str) -> None:
    """What is stored without naming a key (by MediaConvert, by hand) gets the bucket's own: it is the service's."""
    named = str(default.get("KMSMasterKeyID", ""))
    if default["SSEAlgorithm"] not in ("aws:kms", "aws:kms:dsse"):
        raise Problem(
            f"the bucket encrypts with {default['SSEAlgorithm']}, not with the key that is set", AGAIN
        )
    if "alias/" in named or "alias/" in key:
        if named.rpartition(":")[2] != key.rpartition(":")[2]:
            raise Unknown(f"whether `{named}` is the key that is set", "compare them in KMS")
    elif named.rpartition("/")[2] != key.rpartition("/")[2]:
        raise Problem(
            f"the bucket encrypts with another key than the one that is set: {named or 'one of S3'}", AGAIN
        )


def _prefix(rule: dict[str, Any]) -> str | None:
    """What a rule is for; None where that is only a part of what has this prefix, by tags or sizes."""
    chosen = rule.get("Filter", {})
    if set(chosen) - {"Prefix"}:
        return None
    return str(chosen.get("Prefix", rule.get("Prefix", "")))


def _covers(rule: dict[str, Any], folder: str) -> bool:
    prefix = _prefix(rule)
    return prefix is not None and folder.startswith(prefix)


def _stale_multiparts(rules: list[dict[str, Any]], expiry_hours: float) -> None:
    aborting = [rule for rule in rules if "AbortIncompleteMultipartUpload" in rule]
    if not any(_covers(rule, ORIGINALS) for rule in aborting):
        raise Problem("parts of uploads that nobody finishes are kept for ever", AGAIN)
    # One for a part of the originals cuts those off, too.
    days = [
        rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
        for rule in aborting
        if (prefix := _prefix(rule)) is None or ORIGINALS.startswith(prefix) or prefix.startswith(ORIGINALS)
    ]
    if min(days) * 24 < expiry_hours:
        raise Problem(
            f"uploads are cut off after {min(days)} days, but may take {expiry_hours:.0f} hours", AGAIN
        )
