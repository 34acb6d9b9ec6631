"""Roles of the services: what each may do, and nothing else."""

from __future__ import annotations

from paletta_server.aws.options import Options
from paletta_server.aws.template.data import DATABASE_USER, objects
from paletta_server.aws.template.environment import Service, key_secrets, secrets
from paletta_server.aws.template.parts import Part, Value, get, ref, sub
from paletta_server.aws.template.policies import allow, policy, trusted_by

LOGS = {
    "api": "ApiLog",
    "worker": "WorkerLog",
    "completions": "CompletionsLog",
    "mail-events": "MailHandlerLog",
}
SETUP_LOG = "SetupLog"
READ, WRITE, DELETE = "s3:GetObject", "s3:PutObject", "s3:DeleteObject"
TAGGING = ("s3:DeleteObjectTagging", "s3:GetObjectTagging", "s3:PutObjectTagging")
MULTIPART = ("s3:AbortMultipartUpload", "s3:ListMultipartUploadParts")


def access(options: Options) -> Part:
    part = Part()
    _execution(part, options)
    # Who reads and writes objects needs the key that they are encrypted with.
    key = [allow("kms:Decrypt", "kms:GenerateDataKey", on=get("Key", "Arn"))] if options.kms else []
    _role(part, "ApiRole", [*_api(options), *key])
    _role(part, "WorkerRole", [*_worker(options), *key])
    if options.mediaconvert:
        _role(part, "CompletionsRole", _completions(options))
    _role(part, "MailHandlerRole", [allow(*_CONSUMING, on=get("MailEventsQueue", "Arn"))])
    part.resource(
        "SetupRole",
        "IAM::Role",
        {
            "AssumeRolePolicyDocument": trusted_by("ecs-tasks"),
            "Policies": [policy("database", _database())],
        },
        why="Migrations need the database, and nothing else.",
    )
    return part


def service_role(service: Service) -> str:
    return {
        "api": "ApiRole",
        "worker": "WorkerRole",
        "completions": "CompletionsRole",
        "mail-events": "MailHandlerRole",
    }[service]


def _role(part: Part, name: str, statements: list[Value]) -> None:
    part.resource(
        name,
        "IAM::Role",
        {
            "AssumeRolePolicyDocument": trusted_by("ecs-tasks"),
            "Policies": [policy("service", _database(), *statements)],
        },
    )


def _database() -> Value:
    user = "arn:${AWS::Partition}:rds-db:${AWS::Region}:${AWS::AccountId}:dbuser:${Database.DbiResourceId}/"
    return allow("rds-db:connect", on=sub(user + DATABASE_USER))


def _listing() -> Value:
    # Without s3:ListBucket a missing object answers 403 rather than 404.
    return allow("s3:ListBucket", "s3:ListBucketMultipartUploads", on=get("Bucket", "Arn"))


def _api(_options: Options) -> list[Value]:
    """What it signs addresses for is what it may do itself: upload originals, read everything."""
    return [
        allow(READ, on=[objects("originals/"), objects("media/"), objects("_paletta/")]),
        allow(WRITE, *MULTIPART, on=objects("originals/")),
        # An archived original is asked back when somebody buys it.
        allow("s3:RestoreObject", on=objects("originals/")),
        _listing(),
    ]


def _worker(options: Options) -> list[Value]:
    found = [
        allow(READ, WRITE, DELETE, *MULTIPART, on=[objects("originals/"), objects("media/")]),
        allow(READ, WRITE, DELETE, on=objects("_paletta/")),
        allow(*TAGGING, on=objects("media/")),
        allow("s3:RestoreObject", on=objects("originals/")),
        _listing(),
        allow(
            "ses:SendEmail",
            "ses:SendRawEmail",
            on=[_identity(), sub(_SES + "configuration-set/${MailSettings}")],
        ),
    ]
    if options.mediaconvert:
        found += [
            allow(
                "mediaconvert:CreateJob",
                "mediaconvert:ListJobs",
                on=[get("TranscodingQueue", "Arn"), sub(_MEDIACONVERT + "jobs/*")],
            ),
            *_jobs(),
            allow(
                "iam:PassRole",
                on=get("TranscodingRole", "Arn"),
                if_={"StringEquals": {"iam:PassedToService": "mediaconvert.amazonaws.com"}},
            ),
        ]
    return found


def _completions(_options: Options) -> list[Value]:
    """They hand on what they hear; workers check what was made."""
    return [allow(*_CONSUMING, on=get("Completions", "Arn"))]


_CONSUMING = (
    "sqs:ChangeMessageVisibility",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "sqs:ReceiveMessage",
)
_MEDIACONVERT = "arn:${AWS::Partition}:mediaconvert:${AWS::Region}:${AWS::AccountId}:"
_SES = "arn:${AWS::Partition}:ses:${AWS::Region}:${AWS::AccountId}:"


def _jobs() -> list[Value]:
    return [allow("mediaconvert:CancelJob", "mediaconvert:GetJob", on=sub(_MEDIACONVERT + "jobs/*"))]


def _identity() -> Value:
    return sub(_SES + "identity/${Domain}")


def _execution(part: Part, options: Options) -> None:
    """What ECS itself needs to start a task: the image, its logs, its secrets."""
    groups = [
        get(log, "Arn") for service, log in LOGS.items() if service != "completions" or options.mediaconvert
    ]
    groups.append(get(SETUP_LOG, "Arn"))
    named = sorted([*secrets(options).values(), *key_secrets(options).values()])
    part.resource(
        "ExecutionRole",
        "IAM::Role",
        {
            "AssumeRolePolicyDocument": trusted_by("ecs-tasks"),
            "Policies": [
                policy(
                    "start",
                    allow("ecr:GetAuthorizationToken", on="*"),
                    allow(
                        "ecr:BatchCheckLayerAvailability",
                        "ecr:BatchGetImage",
                        "ecr:GetDownloadUrlForLayer",
                        on=get("Repository", "Arn"),
                    ),
                    # A log group's ARN from GetAtt ends in `:*`, which stands for its streams.
                    allow("logs:CreateLogStream", "logs:PutLogEvents", on=groups),
                    allow(
                        "secretsmanager:GetSecretValue",
                        on=[*(ref(name) for name in named), get("Database", "MasterUserSecret.SecretArn")],
                    ),
                )
            ],
        },
    )
