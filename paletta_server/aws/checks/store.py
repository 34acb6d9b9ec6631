"""The bucket: nobody else reads it, it keeps what it should, and no more."""

from __future__ import annotations

from typing import Any

from paletta_server.aws.checks.base import Check, Missing, Problem, ask
from paletta_server.aws.checks.target import Target

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
        if versioned and not any("NoncurrentVersionExpiration" in rule for rule in on):
            raise Problem(
                "former versions are kept, and paid for, for ever", "let noncurrent versions expire"
            )
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


def _stale_multiparts(rules: list[dict[str, Any]], expiry_hours: float) -> None:
    days = [
        rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
        for rule in rules
        if "AbortIncompleteMultipartUpload" in rule
    ]
    if not days:
        raise Problem("parts of uploads that nobody finishes are kept for ever", AGAIN)
    if min(days) * 24 < expiry_hours:
        raise Problem(
            f"uploads are cut off after {min(days)} days, but may take {expiry_hours:.0f} hours", AGAIN
        )
