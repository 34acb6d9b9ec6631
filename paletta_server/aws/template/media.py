"""Transcoding by MediaConvert: its queue and role, and how news of jobs comes to the completion handlers."""

from __future__ import annotations

from paletta_server.aws.options import Options
from paletta_server.aws.template.data import objects
from paletta_server.aws.template.parts import Part, Value, get, ref, sub
from paletta_server.aws.template.policies import (
    allow,
    document,
    only_by_tls,
    policy,
    service_sends,
    trusted_by,
)
from paletta_server.ingest.mediaconvert.marks import FOLDER as MARKS

RECEIVES = 8
"""How often a message may come before it is put aside for a person."""
DEAD_LETTER_SECONDS = 14 * 24 * 3600
"""The most that SQS keeps: time to mend what could not handle a message, and to send it again."""
VISIBILITY_SECONDS = 60
"""As long as `aws.queues` asks for."""


def media(options: Options) -> Part:
    part = Part()
    if not options.mediaconvert:
        return part
    part.resource(
        "TranscodingQueue",
        "MediaConvert::Queue",
        {"Description": sub("Films of ${AWS::StackName}"), "PricingPlan": "ON_DEMAND", "Status": "ACTIVE"},
    )
    rights = [
        allow("s3:GetObject", on=[objects("originals/"), objects(MARKS)]),
        allow("s3:PutObject", on=objects("media/")),
    ]
    if options.kms:
        rights.append(allow("kms:Decrypt", "kms:GenerateDataKey", on=get("Key", "Arn")))
    part.resource(
        "TranscodingRole",
        "IAM::Role",
        {
            "AssumeRolePolicyDocument": trusted_by("mediaconvert"),
            "Policies": [policy("films", *rights)],
        },
        why="With this role MediaConvert reads originals and writes what it makes of them.",
    )
    queue_pair(part, "Completions", sender="events", from_=get("TranscodingRule", "Arn"))
    part.resource(
        "TranscodingRule",
        "Events::Rule",
        {
            "Description": "News of our queue's jobs, and of no others",
            "EventPattern": {
                "source": ["aws.mediaconvert"],
                "detail-type": ["MediaConvert Job State Change"],
                "detail": {"queue": [get("TranscodingQueue", "Arn")]},
            },
            "State": "ENABLED",
            "Targets": [
                {
                    "Id": "completions",
                    "Arn": get("Completions", "Arn"),
                    "DeadLetterConfig": {"Arn": get("CompletionsUndelivered", "Arn")},
                    "RetryPolicy": {"MaximumEventAgeInSeconds": 86400, "MaximumRetryAttempts": 185},
                }
            ],
        },
    )
    part.resource(
        "CompletionsUndelivered",
        "SQS::Queue",
        {"MessageRetentionPeriod": DEAD_LETTER_SECONDS, "SqsManagedSseEnabled": True},
        why="What EventBridge itself could not deliver.",
    )
    part.resource(
        "CompletionsUndeliveredPolicy",
        "SQS::QueuePolicy",
        {
            "Queues": [ref("CompletionsUndelivered")],
            "PolicyDocument": document(
                service_sends(
                    "events",
                    "sqs:SendMessage",
                    to=get("CompletionsUndelivered", "Arn"),
                    from_=get("TranscodingRule", "Arn"),
                )
            ),
        },
    )
    part.output("TranscodingQueueArn", get("TranscodingQueue", "Arn"), "PALETTA_MEDIACONVERT_QUEUE.")
    part.output("TranscodingRoleArn", get("TranscodingRole", "Arn"), "PALETTA_MEDIACONVERT_ROLE.")
    part.output("CompletionsQueueUrl", ref("Completions"), "PALETTA_COMPLETIONS_QUEUE_URL.")
    part.output("TranscodingRuleName", ref("TranscodingRule"), "The rule that sends events to that queue.")
    return part


def queue_pair(part: Part, name: str, *, sender: str, from_: Value) -> None:
    """A queue with its dead-letter queue, to which one service may send on behalf of `from_` alone."""
    part.resource(
        f"{name}Dead",
        "SQS::Queue",
        {"MessageRetentionPeriod": DEAD_LETTER_SECONDS, "SqsManagedSseEnabled": True},
    )
    part.resource(
        name,
        "SQS::Queue",
        {
            "VisibilityTimeout": VISIBILITY_SECONDS,
            "MessageRetentionPeriod": DEAD_LETTER_SECONDS,
            "ReceiveMessageWaitTimeSeconds": 20,
            "SqsManagedSseEnabled": True,
            "RedrivePolicy": {"deadLetterTargetArn": get(f"{name}Dead", "Arn"), "maxReceiveCount": RECEIVES},
        },
    )
    part.resource(
        f"{name}Policy",
        "SQS::QueuePolicy",
        {
            "Queues": [ref(name)],
            "PolicyDocument": document(
                service_sends(sender, "sqs:SendMessage", to=get(name, "Arn"), from_=from_),
                only_by_tls("sqs:SendMessage", on=get(name, "Arn")),
            ),
        },
    )
