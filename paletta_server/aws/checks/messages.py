"""Queues, the rule that fills one of them, and MediaConvert's own queue."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from paletta_server.aws.checks.base import Check, Missing, Problem, Unknown, ask, need
from paletta_server.aws.checks.target import Target
from paletta_server.aws.checks.wording import may_send, passes
from paletta_server.ingest.mediaconvert.events import KIND, SOURCE

LEAST_VISIBLE_SECONDS = 30
LEAST_RECEIVES = 3
ENDS = ("COMPLETE", "ERROR", "CANCELED")
"""What has to be heard of each job; all else is news on the way."""


def checks(client: Callable[[str], Any], target: Target) -> dict[str, Check]:
    sqs = client("sqs")
    found: dict[str, Check] = {}
    if target.mail_events_url or target.mails_by_ses:
        found["queue: mail events"] = lambda: queue(
            sqs, need(target.mail_events_url, "PALETTA_MAIL_EVENTS_QUEUE_URL")
        )
    if not target.transcodes:
        return found
    events, mediaconvert = client("events"), client("mediaconvert")
    found["queue: completions"] = lambda: queue(
        sqs, need(target.completions_url, "PALETTA_COMPLETIONS_QUEUE_URL")
    )
    found["rule: completions"] = lambda: rule(
        events, sqs, need(target.completions_url, "PALETTA_COMPLETIONS_QUEUE_URL"), target.mediaconvert_queue
    )
    found["mediaconvert: queue"] = lambda: transcoding(mediaconvert, target.mediaconvert_queue)
    return found


def queue(sqs: Any, url: str) -> str:
    """It gives up on what cannot be handled, and nothing was given up."""
    found = ask(sqs.get_queue_attributes, QueueUrl=url, AttributeNames=["All"])["Attributes"]
    visible = int(found["VisibilityTimeout"])
    if visible < LEAST_VISIBLE_SECONDS:
        raise Problem(
            f"messages come again after {visible} s, while they are still handled", "set 60 s as visibility"
        )
    policy = json.loads(found.get("RedrivePolicy") or "{}")
    if not policy:
        raise Problem("it has no dead-letter queue: a message that fails comes for ever", "give it one")
    if int(policy["maxReceiveCount"]) < LEAST_RECEIVES:
        raise Problem("messages are given up after less than three tries", "raise maxReceiveCount to 8")
    waiting = _dead_letters(sqs, policy["deadLetterTargetArn"])
    if waiting:
        raise Problem(
            f"{waiting} messages were given up",
            "read them, mend what could not handle them, and start a redrive of the dead-letter queue",
        )
    if found.get("SqsManagedSseEnabled") != "true" and not found.get("KmsMasterKeyId"):
        raise Problem("messages are not encrypted", "switch SSE-SQS on")
    return f"{found['ApproximateNumberOfMessages']} waiting, none given up"


def _dead_letters(sqs: Any, arn: str) -> int:
    account, name = arn.split(":")[-2:]
    try:
        url = ask(sqs.get_queue_url, QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]
    except Missing:
        raise Problem("its dead-letter queue does not exist", "make it, or name another") from None
    wanted = ["ApproximateNumberOfMessages"]
    answer = ask(sqs.get_queue_attributes, QueueUrl=url, AttributeNames=wanted)
    return int(answer["Attributes"][wanted[0]])


def rule(events: Any, sqs: Any, url: str, transcoding_queue: str | None) -> str:
    """A rule that is on sends the queue every end of our jobs, and the queue lets it."""
    found = ask(sqs.get_queue_attributes, QueueUrl=url, AttributeNames=["QueueArn", "Policy"])["Attributes"]
    arn = found["QueueArn"]
    names = ask(events.list_rule_names_by_target, TargetArn=arn)["RuleNames"]
    if not names:
        raise Problem("no rule of EventBridge sends anything to the queue", "deploy the template again")
    # Of several rules one has to be right; what is wrong with the nearest to it is said.
    wrong = Problem("no rule sends MediaConvert's events to the queue", "deploy the template again")
    for name in names:
        description = ask(events.describe_rule, Name=name)
        pattern = json.loads(description.get("EventPattern") or "{}")
        if not pattern or not passes({"source": pattern.get("source", [SOURCE])}, {"source": SOURCE}):
            continue
        missing = _unheard(pattern, transcoding_queue or _default_queue(arn))
        if missing:
            wrong = Problem(
                f"the rule `{name}` does not tell of our jobs' {' and '.join(missing)}",
                "compare its pattern with the template's",
            )
            continue
        if description["State"] != "ENABLED":
            wrong = Problem(f"the rule `{name}` is off: no news of transcoding comes", "switch the rule on")
            continue
        targets = ask(events.list_targets_by_rule, Rule=name)["Targets"]
        mine = next(one for one in targets if one["Arn"] == arn)
        if "DeadLetterConfig" not in mine:
            wrong = Problem("what the rule cannot deliver is lost", "give its target a dead-letter queue")
            continue
        if not may_send(json.loads(found.get("Policy") or "{}"), "events", description["Arn"]):
            wrong = Problem(
                f"the queue's policy lets the rule `{name}` send nothing", "deploy the template again"
            )
            continue
        return f"`{name}` is on"
    raise wrong


def _unheard(pattern: dict[str, Any], transcoding_queue: str) -> list[str]:
    """Which ends of a job in our queue a rule's pattern keeps back."""
    event = {"source": SOURCE, "detail-type": KIND}
    return [
        status
        for status in ENDS
        if not passes(pattern, {**event, "detail": {"queue": transcoding_queue, "status": status}})
    ]


def _default_queue(arn: str) -> str:
    """The account's own queue for films, by the ARN of a queue for messages."""
    _, partition, _, region, account, _ = arn.split(":")
    return f"arn:{partition}:mediaconvert:{region}:{account}:queues/Default"


def transcoding(mediaconvert: Any, arn: str | None) -> str:
    """The account's default queue where none is named."""
    name = arn.rpartition("/")[2] if arn else "Default"
    found = ask(mediaconvert.get_queue, Name=name)["Queue"]
    if found["Status"] != "ACTIVE":
        raise Problem(f"the queue `{name}` is paused: films wait", "set it active")
    if arn and found.get("Arn", arn) != arn:
        raise Unknown(f"`{name}` is another queue than the one that is set", "compare region and account")
    return f"`{name}`: {found.get('ProgressingJobsCount', 0)} at work, {found.get('SubmittedJobsCount', 0)} waiting"
