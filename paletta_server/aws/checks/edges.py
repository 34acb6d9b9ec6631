"""What faces people and what keeps the books: CloudFront, SES, RDS."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from paletta_server.aws.checks.base import Check, Missing, Problem, Unknown, ask, need
from paletta_server.aws.checks.target import Target
from paletta_server.aws.checks.wording import may_send
from paletta_server.core.delivering import PUBLIC_PATHS


def delivery(cloudfront: Any, target: Target) -> dict[str, Check]:
    if not target.distribution and not target.distribution_domain:
        return {}

    def distribution() -> str:
        found = _distribution(cloudfront, target)
        config = found["DistributionConfig"]
        if not config["Enabled"]:
            raise Problem("the distribution is switched off", "enable it")
        bare = [
            one["DomainName"] for one in config["Origins"]["Items"] if not one.get("OriginAccessControlId")
        ]
        if bare:
            raise Problem(f"it reads {bare[0]} without an origin access control", "deploy the template again")
        status = found["Status"]
        if status != "Deployed":
            raise Unknown(f"it is being rolled out: {status}", "look again in a few minutes")
        return str(found["DomainName"])

    def keys() -> str:
        config = _distribution(cloudfront, target)["DistributionConfig"]
        if not (groups := _trusted(config["DefaultCacheBehavior"])):
            raise Problem(
                "films for sale need no signed address: whoever knows a key's name reads them",
                "give the default behaviour its key group, at once",
            )
        for behaviour in config.get("CacheBehaviors", {}).get("Items", []):
            pattern = behaviour["PathPattern"].lstrip("/")
            if pattern not in PUBLIC_PATHS and not _trusted(behaviour):
                raise Problem(
                    f"`{pattern}` needs no signed address: whoever knows a key's name reads what it matches",
                    "take the behaviour out, or give it the key group, at once",
                )
        items: list[str] = []
        for group in groups:
            items += ask(cloudfront.get_key_group, Id=group)["KeyGroup"]["KeyGroupConfig"]["Items"]
        if not items:
            raise Problem("the key group is empty: no signed address works", "add the public key")
        if strange := [key for key in target.signing_keys if key not in items]:
            raise Problem(
                f"the key group does not know {', '.join(strange)}, which the service signs with",
                "add the public key to the group, or set PALETTA_CLOUDFRONT_KEYS right",
            )
        return f"{len(items)} trusted key{'s' if len(items) > 1 else ''}"

    return {"cloudfront: distribution": distribution, "cloudfront: keys": keys}


def _trusted(behaviour: dict[str, Any]) -> list[str]:
    """The key groups without whose signature it gives nothing."""
    groups = behaviour.get("TrustedKeyGroups", {})
    return list(groups.get("Items", [])) if groups.get("Enabled") else []


def _distribution(cloudfront: Any, target: Target) -> dict[str, Any]:
    wanted = target.distribution
    marker: dict[str, str] = {}
    while not wanted:
        listed = ask(cloudfront.list_distributions, **marker)["DistributionList"]
        for one in listed.get("Items", []):
            names = {one["DomainName"], *one.get("Aliases", {}).get("Items", [])}
            if target.distribution_domain in names:
                wanted = one["Id"]
        if not wanted and not listed.get("IsTruncated"):
            raise Problem(
                f"no distribution has the name {target.distribution_domain}",
                "check PALETTA_CLOUDFRONT_DOMAIN",
            )
        marker = {"Marker": listed.get("NextMarker", "")}
    found: dict[str, Any] = ask(cloudfront.get_distribution, Id=wanted)["Distribution"]
    return found


def mail(client: Callable[[str], Any], target: Target) -> dict[str, Check]:
    ses = client("sesv2")

    def account() -> str:
        found = ask(ses.get_account)
        if not found.get("SendingEnabled", True):
            raise Problem("SES has stopped the account's mail", "answer AWS's review in the SES console")
        if not found.get("ProductionAccessEnabled"):
            raise Problem(
                "SES is in its sandbox: only verified addresses are mailed",
                "ask for production access in SES",
            )
        quota = found.get("SendQuota", {})
        return f"{quota.get('Max24HourSend', 0):.0f} mails a day, {quota.get('SentLast24Hours', 0):.0f} sent"

    def identity() -> str:
        try:
            found = ask(ses.get_email_identity, EmailIdentity=target.mail_domain)
        except Missing:
            raise Problem(f"SES does not know {target.mail_domain}", "deploy the template") from None
        if not found.get("VerifiedForSendingStatus"):
            raise Problem(
                f"{target.mail_domain} is not verified", "add the DKIM records of the stack's outputs"
            )
        status = found.get("DkimAttributes", {}).get("Status")
        if status != "SUCCESS":
            raise Problem(f"mail is not signed: DKIM is {status}", "check the three DKIM records")
        return f"{target.mail_domain} is verified and signs"

    def events() -> str:
        name = target.configuration_set
        if not name:
            raise Problem(
                "there is no configuration set: bounces go unnoticed", "set PALETTA_SES_CONFIGURATION_SET"
            )
        answer = ask(ses.get_configuration_set_event_destinations, ConfigurationSetName=name)
        # Others (CloudWatch, Firehose) count mails; only what comes by a topic reaches our queue.
        topics: dict[str, set[str]] = {}
        for one in answer.get("EventDestinations", []):
            if one.get("Enabled") and "SnsDestination" in one:
                kinds = topics.setdefault(one["SnsDestination"]["TopicArn"], set())
                kinds.update(event.upper() for event in one["MatchingEventTypes"])
        if missing := {"BOUNCE", "COMPLAINT"} - {kind for kinds in topics.values() for kind in kinds}:
            raise Problem(
                f"nobody is told of {' and '.join(sorted(missing))}", "add an event destination by SNS"
            )
        url = need(target.mail_events_url, "PALETTA_MAIL_EVENTS_QUEUE_URL")
        for kind in ("BOUNCE", "COMPLAINT"):
            _one_reaches(client, sorted(topic for topic, kinds in topics.items() if kind in kinds), url)
        return f"`{name}` tells the queue of bounces and complaints"

    return {"ses: account": account, "ses: identity": identity, "ses: events": events}


def _one_reaches(client: Callable[[str], Any], topics: list[str], url: str) -> None:
    """What one of the topics says comes to the queue; others may tell other people. Raises `Problem`."""
    problem: Problem | None = None
    for topic in topics:
        try:
            _reaches(client, topic, url)
        except Problem as error:
            problem = error
        else:
            return
    if problem is not None:
        raise problem


def _reaches(client: Callable[[str], Any], topic: str, url: str) -> None:
    """What the topic says comes to the queue. Raises `Problem`."""
    wanted = ["QueueArn", "Policy"]
    queue = ask(client("sqs").get_queue_attributes, QueueUrl=url, AttributeNames=wanted)["Attributes"]
    name, more = topic.rpartition(":")[2], dict[str, str]()
    while True:
        page = ask(client("sns").list_subscriptions_by_topic, TopicArn=topic, **more)
        for one in page["Subscriptions"]:
            # Until it is confirmed, this is no ARN.
            if one["Endpoint"] == queue["QueueArn"] and one["SubscriptionArn"].startswith("arn:"):
                if not may_send(json.loads(queue.get("Policy") or "{}"), "sns", topic):
                    raise Problem(
                        f"the queue's policy lets the topic `{name}` send nothing",
                        "deploy the template again",
                    )
                return
        if not page.get("NextToken"):
            raise Problem(
                f"what the topic `{name}` says of mails does not come to our queue",
                "subscribe the queue to the topic, or deploy the template again",
            )
        more = {"NextToken": page["NextToken"]}


def database(rds: Any, target: Target) -> dict[str, Check]:
    if not target.database and not (target.database_host or "").endswith(".rds.amazonaws.com"):
        return {}

    def settings() -> str:
        found = _instance(rds, target)
        wrong = [
            (
                not found.get("StorageEncrypted"),
                "its storage is not encrypted",
                "restore a snapshot, encrypted",
            ),
            (found.get("PubliclyAccessible"), "it can be reached from outside", "switch public access off"),
            (not found.get("BackupRetentionPeriod"), "it is not backed up", "set 14 days of backups"),
            (
                target.started and not found.get("DeletionProtection"),
                "anybody with the right may delete it",
                "protect it",
            ),
            (
                target.iam_login and not found.get("IAMDatabaseAuthenticationEnabled"),
                "it takes no IAM tokens, with which the service logs in",
                "enable IAM authentication",
            ),
        ]
        for is_wrong, detail, fix in wrong:
            if is_wrong:
                raise Problem(detail, fix)
        status = found["DBInstanceStatus"]
        if status not in ("available", "backing-up", "configuring-enhanced-monitoring"):
            raise Problem(f"it is {status}", "its events in RDS say why")
        zones = "two zones" if found.get("MultiAZ") else "one zone: when it fails, so does the service"
        return f"{found['Engine']} {found['EngineVersion']}, {found['BackupRetentionPeriod']} days of backups, {zones}"

    return {"rds: settings": settings}


def _instance(rds: Any, target: Target) -> dict[str, Any]:
    if target.database:
        found: dict[str, Any] = ask(rds.describe_db_instances, DBInstanceIdentifier=target.database)[
            "DBInstances"
        ][0]
        return found
    marker: dict[str, str] = {}
    while True:
        answer = ask(rds.describe_db_instances, **marker)
        for one in answer["DBInstances"]:
            if one.get("Endpoint", {}).get("Address") == target.database_host:
                return dict(one)
        if not answer.get("Marker"):
            raise Unknown(
                f"no instance of this account and region answers at {target.database_host}",
                "a proxy or a cluster? look at it in RDS",
            )
        marker = {"Marker": answer["Marker"]}
