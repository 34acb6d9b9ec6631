"""What is kept: the database and the bucket. Both outlive the stack."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from paletta_server.aws.options import Options
from paletta_server.aws.template.network import POSTGRES_PORT, private_subnets
from paletta_server.aws.template.parts import NOTHING, STARTED, Part, Value, get, ref, sub, when
from paletta_server.aws.template.policies import document, only_by_tls
from paletta_server.core import bucket as rules
from paletta_server.core.delivering import LABEL, WITHHELD

DATABASE, DATABASE_USER = "paletta", "paletta"
DATABASE_OWNER = "paletta_owner"
"""RDS's first user: it prepares the role of the service (`aws prepare-database`) and is not used otherwise."""
ENGINE = "18"
"""A major version: RDS takes its minor ones by itself, and a stack that named one would want it back."""

_KEY_ADMINISTRATION = (
    "CancelKeyDeletion",
    "CreateAlias",
    "CreateGrant",
    "Decrypt",
    "DeleteAlias",
    "DescribeKey",
    "DisableKey",
    "DisableKeyRotation",
    "EnableKey",
    "EnableKeyRotation",
    "Encrypt",
    "GenerateDataKey",
    "GetKeyPolicy",
    "GetKeyRotationStatus",
    "ListGrants",
    "ListKeyPolicies",
    "ListResourceTags",
    "PutKeyPolicy",
    "ReEncryptFrom",
    "ReEncryptTo",
    "RevokeGrant",
    "ScheduleKeyDeletion",
    "TagResource",
    "UntagResource",
    "UpdateAlias",
    "UpdateKeyDescription",
)


def data(options: Options) -> Part:
    part = Part()
    if options.kms:
        _key(part, options)
    _database(part, options)
    _bucket(part, options)
    return part


def bucket_name(options: Options) -> Value:
    return options.bucket or sub("paletta-${AWS::AccountId}-${AWS::Region}")


def objects(prefix: str) -> Value:
    """The ARN of the bucket's objects below `prefix`."""
    return sub("${Bucket.Arn}/" + prefix + "*")


def _key(part: Part, options: Options) -> None:
    statements = [
        {
            "Sid": "Administration",
            "Effect": "Allow",
            "Principal": {"AWS": sub("arn:${AWS::Partition}:iam::${AWS::AccountId}:root")},
            "Action": [f"kms:{action}" for action in _KEY_ADMINISTRATION],
            # In a key's own policy this is the key itself; its ARN is not known here yet.
            "Resource": "*",
        }
    ]
    if options.cloudfront:
        statements.append(
            {
                "Sid": "Delivery",
                "Effect": "Allow",
                "Principal": {"Service": "cloudfront.amazonaws.com"},
                "Action": ["kms:Decrypt"],
                "Resource": "*",
                "Condition": {
                    "StringLike": {
                        # Any distribution of this account: the one below needs the bucket, which needs this key.
                        "aws:SourceArn": sub(
                            "arn:${AWS::Partition}:cloudfront::${AWS::AccountId}:distribution/*"
                        )
                    }
                },
            }
        )
    part.resource(
        "Key",
        "KMS::Key",
        {
            "Description": sub("Bucket and database of ${AWS::StackName}"),
            "EnableKeyRotation": True,
            "KeyPolicy": document(*statements),
        },
        keep="Retain",
        why="The account's root stands for whom IAM lets use the key. Without it nothing can be read any more.",
    )
    part.output("KeyArn", get("Key", "Arn"), "PALETTA_S3_KMS_KEY.")


def _database(part: Part, options: Options) -> None:
    part.parameter(
        "DatabaseClass",
        "Size of the database's machine; a Graviton class costs least for what it does.",
        Default="db.m7g.large",
    )
    part.parameter("DatabaseGiB", "Storage to begin with.", kind="Number", Default=100, MinValue=20)
    part.parameter(
        "DatabaseMostGiB", "Storage it may grow to by itself.", kind="Number", Default=1000, MinValue=100
    )
    part.parameter(
        "DatabaseMultiAz",
        "A standby in another zone that takes over within about a minute, for twice the price.",
        Default="yes",
        AllowedValues=["yes", "no"],
    )
    part.parameter(
        "DatabaseBackupDays",
        "How far back the database can be put to any second.",
        kind="Number",
        Default=14,
        MinValue=1,
        MaxValue=35,
    )
    part.conditions["MultiAz"] = {"Fn::Equals": [ref("DatabaseMultiAz"), "yes"]}
    part.resource(
        "DatabaseSubnets",
        "RDS::DBSubnetGroup",
        {
            "DBSubnetGroupDescription": "Private subnets",
            "SubnetIds": private_subnets(options),
        },
    )
    part.resource(
        "DatabaseParameters",
        "RDS::DBParameterGroup",
        {
            "Family": f"postgres{ENGINE}",
            "Description": "TLS for everybody; a query that forgot its end is ended",
            "Parameters": {
                "rds.force_ssl": "1",
                "idle_in_transaction_session_timeout": "600000",
                "log_min_duration_statement": "2000",
            },
        },
    )
    part.resource(
        "Database",
        "RDS::DBInstance",
        {
            "Engine": "postgres",
            "EngineVersion": ENGINE,
            "DBInstanceClass": ref("DatabaseClass"),
            "DBName": DATABASE,
            "Port": str(POSTGRES_PORT),
            "AllocatedStorage": ref("DatabaseGiB"),
            "MaxAllocatedStorage": ref("DatabaseMostGiB"),
            "StorageType": "gp3",
            "StorageEncrypted": True,
            "KmsKeyId": get("Key", "Arn") if options.kms else NOTHING,
            "MasterUsername": DATABASE_OWNER,
            "ManageMasterUserPassword": True,
            "EnableIAMDatabaseAuthentication": True,
            "CACertificateIdentifier": "rds-ca-rsa2048-g1",
            "MultiAZ": when("MultiAz", True, False),
            "BackupRetentionPeriod": ref("DatabaseBackupDays"),
            "PreferredBackupWindow": "02:00-03:00",
            "PreferredMaintenanceWindow": "sun:03:30-sun:04:30",
            "CopyTagsToSnapshot": True,
            # What was not set up yet has nothing to lose, and has to go where the first deployment fails.
            "DeletionProtection": when(STARTED, True, False),
            "AutoMinorVersionUpgrade": True,
            "PubliclyAccessible": False,
            "EnablePerformanceInsights": True,
            "PerformanceInsightsRetentionPeriod": 7,
            "EnableCloudwatchLogsExports": ["postgresql"],
            "DBParameterGroupName": ref("DatabaseParameters"),
            "DBSubnetGroupName": ref("DatabaseSubnets"),
            "VPCSecurityGroups": [get("DatabaseGroup", "GroupId")],
        },
        keep="Snapshot",
        why="The service logs in with IAM tokens as `paletta`; the owner's password is RDS's own, changed weekly.",
    )
    part.output("DatabaseAddress", get("Database", "Endpoint.Address"), "Where the database answers.")
    part.output("DatabaseId", ref("Database"), "The instance, for RDS.")


def _bucket(part: Part, options: Options) -> None:
    part.resource(
        "Bucket",
        "S3::Bucket",
        {
            "BucketName": bucket_name(options),
            "PublicAccessBlockConfiguration": {
                "BlockPublicAcls": True,
                "BlockPublicPolicy": True,
                "IgnorePublicAcls": True,
                "RestrictPublicBuckets": True,
            },
            "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
            "BucketEncryption": {"ServerSideEncryptionConfiguration": [_encryption(options)]},
            "VersioningConfiguration": {"Status": "Enabled"},
            "CorsConfiguration": {"CorsRules": [_cors()]},
            "LifecycleConfiguration": {"Rules": _lifecycle(options)},
        },
        keep="Retain",
        why="The same rules as `paletta-server migrate --bucket` sets, which is not needed here.",
    )
    statements = [only_by_tls("s3:*", on=[get("Bucket", "Arn"), sub("${Bucket.Arn}/*")])]
    if options.cloudfront:
        service: Value = {"Service": "cloudfront.amazonaws.com"}
        statements += [
            {
                "Effect": "Allow",
                "Principal": service,
                "Action": ["s3:GetObject"],
                "Resource": [objects("originals/"), objects("media/")],
                "Condition": {"StringEquals": {"aws:SourceArn": _distribution()}},
            },
            {
                "Sid": "TakenDown",
                "Effect": "Deny",
                "Principal": service,
                "Action": ["s3:GetObject"],
                "Resource": objects("media/"),
                "Condition": {"StringEquals": {f"s3:ExistingObjectTag/{LABEL}": WITHHELD}},
            },
        ]
    part.resource(
        "BucketPolicy",
        "S3::BucketPolicy",
        {"Bucket": ref("Bucket"), "PolicyDocument": document(*statements)},
    )
    part.output("BucketName", ref("Bucket"), "PALETTA_S3_BUCKET.")


def _distribution() -> Value:
    return sub("arn:${AWS::Partition}:cloudfront::${AWS::AccountId}:distribution/${Distribution}")


def _encryption(options: Options) -> Value:
    if not options.kms:
        return {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    return {
        "BucketKeyEnabled": True,
        "ServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": get("Key", "Arn")},
    }


def _cors() -> Value:
    """`core.bucket.cors_rule` in CloudFormation's words; a test compares them."""
    return {
        "AllowedOrigins": [sub("https://${Domain}")],
        "AllowedMethods": ["GET", "HEAD"],
        "AllowedHeaders": ["range"],
        "ExposedHeaders": ["etag", "content-range"],
        "MaxAge": 3600,
    }


def _lifecycle(options: Options) -> list[Value]:
    """The rules of `core.bucket`, so that `migrate --bucket` finds nothing to change."""
    wanted = [*rules.class_rules(options.originals_class), *rules.sweeping_rules(versions=True)]
    return [_in_cloudformation(rule) for rule in wanted]


def _in_cloudformation(rule: Mapping[str, Any]) -> Value:
    """A lifecycle rule of S3's own interface in CloudFormation's words. KeyError for what no rule of ours has."""
    expiration: dict[str, Callable[[Any], tuple[str, Value]]] = {
        "Days": lambda days: ("ExpirationInDays", days),
        "ExpiredObjectDeleteMarker": lambda on: ("ExpiredObjectDeleteMarker", on),
    }
    words: dict[str, Callable[[Any], Value]] = {
        "AbortIncompleteMultipartUpload": lambda what: {"AbortIncompleteMultipartUpload": what},
        "Expiration": lambda what: dict(expiration[name](value) for name, value in what.items()),
        "NoncurrentVersionExpiration": lambda what: {"NoncurrentVersionExpiration": what},
        "Transitions": lambda what: {
            "Transitions": [
                {"StorageClass": one["StorageClass"], "TransitionInDays": one["Days"]} for one in what
            ]
        },
    }
    made: dict[str, Value] = {"Id": rule["ID"], "Status": rule["Status"]}
    if prefix := rule["Filter"]["Prefix"]:
        made["Prefix"] = prefix
    for name in rule.keys() - {"ID", "Status", "Filter"}:
        made |= words[name](rule[name])
    return made
