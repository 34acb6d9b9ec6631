"""`paletta-server aws check` against a server that speaks AWS (moto).

MediaConvert, SES, ECS, the balancer and CloudFormation, which moto has not, has in part, or cannot load here, are
botocore's Stubber, which validates what is asked and answered by the service's own model.
"""

from __future__ import annotations

import datetime
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from moto.server import ThreadedMotoServer

from paletta_server.aws import checks, clients
from paletta_server.aws.checks import base, edges, examine, messages
from paletta_server.aws.checks.base import Finding, Unknown, run
from paletta_server.aws.checks.target import from_settings
from paletta_server.aws.checks.wording import passes
from paletta_server.core.settings import Settings
from paletta_server.embedded.ports import free_ports
from tests.support.up import clean_env

REGION = "eu-west-1"
ACCOUNT = "123456789012"
DOMAIN = "shop.example.com"
QUEUE_ARN = f"arn:aws:mediaconvert:{REGION}:{ACCOUNT}:queues/films"
KEYS = {"AWS_ACCESS_KEY_ID": "a-test", "AWS_SECRET_ACCESS_KEY": "hunter22"}
PEM = """-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA0Z3VS5JJcds3xfn/ygWy
-----END PUBLIC KEY-----
"""


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(moto: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty account for each test."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    httpx.post(f"{moto}/moto-api/reset").raise_for_status()
    return moto


@cache
def client(address: str, service: str) -> Any:
    keys = {name.lower(): value for name, value in KEYS.items()}
    return boto3.client(service, endpoint_url=address, region_name=REGION, **keys)


class Account:
    """An installation in moto, made as the template would make it, and ways to spoil it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.s3, self.sqs, self.events = self("s3"), self("sqs"), self("events")
        self.rds, self.cloudfront, self.sns = self("rds"), self("cloudfront"), self("sns")
        self._bucket()
        self.completions, self.completions_dead = self._queue("completions")
        self.mail_events, _ = self._queue("mail-events")
        self._rule()
        self._topic()
        self._database()
        self.distribution, self.domain = self._distribution()
        self.transcoding = "ACTIVE"
        self.production, self.known, self.dkim = True, True, "SUCCESS"
        self.told, self.destination = ["BOUNCE", "COMPLAINT"], self.by_topic
        self.more_destinations: list[dict[str, Any]] = []
        self.wanted = 2
        self.running, self.rollout, self.health = 2, "COMPLETED", ["healthy", "initial"]
        self.more_outputs: dict[str, str] = {}

    def __call__(self, service: str) -> Any:
        return client(self.address, service)

    def _bucket(self) -> None:
        self.s3.create_bucket(Bucket="films", CreateBucketConfiguration={"LocationConstraint": REGION})
        self.s3.put_public_access_block(
            Bucket="films",
            PublicAccessBlockConfiguration=dict.fromkeys(
                ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
            ),
        )
        self.s3.put_bucket_encryption(
            Bucket="films",
            ServerSideEncryptionConfiguration={
                "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
            },
        )
        self.s3.put_bucket_versioning(Bucket="films", VersioningConfiguration={"Status": "Enabled"})
        self.lifecycle(days=90, noncurrent=True)
        self.s3.put_bucket_cors(
            Bucket="films",
            CORSConfiguration={
                "CORSRules": [{"AllowedMethods": ["GET", "HEAD"], "AllowedOrigins": [f"https://{DOMAIN}"]}]
            },
        )

    def lifecycle(
        self, *, days: int, noncurrent: bool, prefix: str = "", former: str = "", markers: bool = True
    ) -> None:
        rules: list[dict[str, Any]] = [
            {
                "ID": "stale",
                "Status": "Enabled",
                "Filter": {"Prefix": prefix},
                "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": days},
            }
        ]
        if noncurrent:
            rules.append(
                {
                    "ID": "former",
                    "Status": "Enabled",
                    "Filter": {"Prefix": former},
                    "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
                    **({"Expiration": {"ExpiredObjectDeleteMarker": True}} if markers else {}),
                }
            )
        self.s3.put_bucket_lifecycle_configuration(Bucket="films", LifecycleConfiguration={"Rules": rules})

    def _queue(self, name: str) -> tuple[str, str]:
        dead = self.sqs.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
        redrive = {"deadLetterTargetArn": self.arn(dead), "maxReceiveCount": 8}
        url = self.sqs.create_queue(
            QueueName=name,
            Attributes={
                "VisibilityTimeout": "60",
                "RedrivePolicy": json.dumps(redrive),
                "SqsManagedSseEnabled": "true",
            },
        )["QueueUrl"]
        return url, dead

    def let_in(self, url: str, service: str, source: str) -> None:
        """As the template's policy of a queue."""
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": f"{service}.amazonaws.com"},
            "Action": ["sqs:SendMessage"],
            "Resource": self.arn(url),
            "Condition": {"ArnEquals": {"aws:SourceArn": source}},
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})

    def change_queue(self, url: str, **changes: str) -> None:
        policy = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]
        # moto forgets the policy where it is not given again.
        self.sqs.set_queue_attributes(QueueUrl=url, Attributes=changes | policy)

    def _topic(self) -> None:
        topic = self.sns.create_topic(Name="mails")["TopicArn"]
        self.subscription = self.sns.subscribe(
            TopicArn=topic, Protocol="sqs", Endpoint=self.arn(self.mail_events)
        )["SubscriptionArn"]
        self.let_in(self.mail_events, "sns", topic)
        self.by_topic = {"SnsDestination": {"TopicArn": topic}}

    def pattern(self, **changes: Any) -> None:
        """The rule's, with changes."""
        pattern = {
            "source": ["aws.mediaconvert"],
            "detail-type": ["MediaConvert Job State Change"],
            "detail": {"queue": [QUEUE_ARN]},
            **changes,
        }
        self.events.put_rule(Name="transcoding", EventPattern=json.dumps(pattern), State="ENABLED")

    def arn(self, url: str) -> str:
        found = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return str(found["Attributes"]["QueueArn"])

    def _rule(self) -> None:
        self.pattern()
        self.let_in(self.completions, "events", self.events.describe_rule(Name="transcoding")["Arn"])
        self.events.put_targets(
            Rule="transcoding",
            Targets=[
                {
                    "Id": "completions",
                    "Arn": self.arn(self.completions),
                    "DeadLetterConfig": {"Arn": self.arn(self.completions_dead)},
                }
            ],
        )

    def _database(self) -> None:
        self.rds.create_db_instance(
            DBInstanceIdentifier="books",
            DBInstanceClass="db.m7g.large",
            Engine="postgres",
            AllocatedStorage=100,
            MasterUsername="owner",
            MasterUserPassword="hunter33",
            StorageEncrypted=True,
            DeletionProtection=True,
            BackupRetentionPeriod=14,
            EnableIAMDatabaseAuthentication=True,
            PubliclyAccessible=False,
            MultiAZ=True,
        )

    def _distribution(self) -> tuple[str, str]:
        key = self.cloudfront.create_public_key(
            PublicKeyConfig={"CallerReference": "1", "Name": "one", "EncodedKey": PEM}
        )["PublicKey"]["Id"]
        self.key = key
        group = self.cloudfront.create_key_group(KeyGroupConfig={"Name": "keys", "Items": [key]})["KeyGroup"][
            "Id"
        ]
        made = self.cloudfront.create_distribution(DistributionConfig=distribution(group))["Distribution"]
        return made["Id"], made["DomainName"]

    def settings(self, **changes: Any) -> Settings:
        host = self.rds.describe_db_instances()["DBInstances"][0]["Endpoint"]["Address"]
        return Settings(
            _env_file=None,
            aws_region=REGION,
            aws_endpoint=self.address,
            s3_region=REGION,
            s3_bucket="films",
            public_url=f"https://{DOMAIN}",
            mail_from=f"Shop <no-reply@{DOMAIN}>",
            database_url=f"postgresql://paletta:hunter44@{host}:5432/paletta",
            transcoder="mediaconvert",
            mediaconvert_role="arn:aws:iam::123456789012:role/transcoding",
            mediaconvert_queue=QUEUE_ARN,
            completions_queue_url=self.completions,
            **changes,
        )

    def outputs(self) -> dict[str, str]:
        return {
            "BucketName": "films",
            "CompletionsQueueUrl": self.completions,
            "MailEventsQueueUrl": self.mail_events,
            "TranscodingQueueArn": QUEUE_ARN,
            "MailSettingsName": "mail",
            "DistributionId": self.distribution,
            "DistributionDomain": self.domain,
            "DatabaseId": "books",
            "DeliveryKey1Id": self.key,
            "DeliveryKeyGroupId": "a-group",
            "ClusterName": "shop",
            **self.more_outputs,
        }


def distribution(group: str | None) -> dict[str, Any]:
    trusted = {"Enabled": group is not None, "Quantity": int(group is not None)}
    behaviour: dict[str, Any] = {
        "TargetOriginId": "bucket",
        "ViewerProtocolPolicy": "https-only",
        "TrustedKeyGroups": trusted | ({"Items": [group]} if group else {}),
        "MinTTL": 1,
        "ForwardedValues": {"QueryString": False, "Cookies": {"Forward": "none"}},
    }
    origin = {
        "Id": "bucket",
        "DomainName": "films.s3.eu-west-1.amazonaws.com",
        "OriginAccessControlId": "E2",
        "S3OriginConfig": {"OriginAccessIdentity": ""},
    }
    return {
        "CallerReference": "1",
        "Comment": "",
        "Enabled": True,
        "Origins": {"Quantity": 1, "Items": [origin]},
        "DefaultCacheBehavior": behaviour,
        "CacheBehaviors": {"Quantity": 1, "Items": [open_to_all("media/*/comp.mp4")]},
    }


def open_to_all(path: str) -> dict[str, Any]:
    return {
        "PathPattern": path,
        "TargetOriginId": "bucket",
        "ViewerProtocolPolicy": "https-only",
        "TrustedKeyGroups": {"Enabled": False, "Quantity": 0},
        "MinTTL": 1,
        "ForwardedValues": {"QueryString": False, "Cookies": {"Forward": "none"}},
    }


@pytest.fixture
def account(aws: str, monkeypatch: pytest.MonkeyPatch) -> Account:
    monkeypatch.setattr(base, "AT_ONCE", 1)  # stubs answer in one order
    return Account(aws)


def look(
    account: Account, *, start: str = "yes", stack_status: str = "CREATE_COMPLETE"
) -> dict[str, Finding]:
    """Every finding about the stack, by check. Stubbed are the stack with its outputs, and what moto cannot be."""
    mediaconvert, cloudformation, ses, ecs, balancer = (
        account(name) for name in ("mediaconvert", "cloudformation", "sesv2", "ecs", "elbv2")
    )
    with ExitStack() as stack:
        stubs = {
            client: stack.enter_context(Stubber(client))
            for client in (mediaconvert, cloudformation, ses, ecs, balancer)
        }
        mail(account, stubs[ses])
        if start == "yes":
            services(account, stubs[ecs], stubs[balancer])
        stubs[mediaconvert].add_response(
            "get_queue",
            {
                "Queue": {
                    "Name": "films",
                    "Arn": QUEUE_ARN,
                    "Status": account.transcoding,
                    "ProgressingJobsCount": 3,
                }
            },
            {"Name": "films"},
        )
        stubs[cloudformation].add_response(
            "describe_stacks",
            {
                "Stacks": [
                    {
                        "StackName": "shop",
                        "StackStatus": stack_status,
                        "CreationTime": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
                        "Parameters": [
                            {"ParameterKey": "Domain", "ParameterValue": DOMAIN},
                            {"ParameterKey": "Start", "ParameterValue": start},
                        ],
                        "Outputs": [
                            {"OutputKey": key, "OutputValue": value}
                            for key, value in account.outputs().items()
                        ],
                    }
                ]
            },
            {"StackName": "shop"},
        )
        return {finding.check: finding for finding in examine(account.settings(), "shop", account)}


GROUP = f"arn:aws:elasticloadbalancing:{REGION}:{ACCOUNT}:targetgroup/api/0123456789abcdef"


def services(account: Account, ecs: Stubber, balancer: Stubber) -> None:
    """ECS's and the balancer's answers: asked for once for the tasks, and once for who is behind the balancer."""
    arns = [f"arn:aws:ecs:{REGION}:{ACCOUNT}:service/shop/{name}" for name in ("worker", "api")]
    for _ in range(2):
        ecs.add_response("list_services", {"serviceArns": arns[:1], "nextToken": "more"}, {"cluster": "shop"})
        ecs.add_response("list_services", {"serviceArns": arns[1:]}, {"cluster": "shop", "nextToken": "more"})
        worker = {"serviceName": "worker", "status": "ACTIVE", "desiredCount": 1, "runningCount": 1}
        api = {
            "serviceName": "api",
            "status": "ACTIVE",
            "desiredCount": account.wanted,
            "runningCount": account.running,
            "deployments": [{"status": "PRIMARY", "rolloutState": account.rollout}],
            "loadBalancers": [{"targetGroupArn": GROUP, "containerName": "api", "containerPort": 8750}],
        }
        ecs.add_response(
            "describe_services", {"services": [worker, api]}, {"cluster": "shop", "services": arns}
        )
    states = [{"Target": {"Id": "10.0.0.1"}, "TargetHealth": {"State": state}} for state in account.health]
    balancer.add_response(
        "describe_target_health", {"TargetHealthDescriptions": states}, {"TargetGroupArn": GROUP}
    )


def mail(account: Account, stub: Stubber) -> None:
    """SES's answers in the order of the questions."""
    stub.add_response(
        "get_account",
        {
            "ProductionAccessEnabled": account.production,
            "SendingEnabled": True,
            "SendQuota": {"Max24HourSend": 50_000.0, "SentLast24Hours": 12.0},
        },
    )
    if account.known:
        stub.add_response(
            "get_email_identity",
            {
                "IdentityType": "DOMAIN",
                "VerifiedForSendingStatus": account.dkim == "SUCCESS",
                "DkimAttributes": {"SigningEnabled": True, "Status": account.dkim},
            },
            {"EmailIdentity": DOMAIN},
        )
    else:
        stub.add_client_error("get_email_identity", "NotFoundException", "not there", 404)
    destination = {
        "Name": "bounces",
        "Enabled": True,
        "MatchingEventTypes": account.told,
        **account.destination,
    }
    stub.add_response(
        "get_configuration_set_event_destinations",
        {"EventDestinations": [destination, *account.more_destinations]},
        {"ConfigurationSetName": "mail"},
    )


FORGOTTEN = "cloudfront: distribution"
"""moto keeps no origin access control; the test after next has CloudFront's own answer."""


def test_an_installation_as_the_template_makes_it_is_well(account: Account) -> None:
    found = look(account)
    assert [one for one in found.values() if one.outcome != "ok" and one.check != FORGOTTEN] == []
    assert found["ses: account"].detail == "50000 mails a day, 12 sent"
    assert found["services: running"].detail == "api 2, worker 1"
    assert found["balancer: nodes"].detail == "1 healthy, 1 not (yet)"
    assert list(found) == [
        "stack",
        "services: running",
        "balancer: nodes",
        "bucket: access",
        "bucket: encryption",
        "bucket: lifecycle",
        "bucket: cors",
        "queue: mail events",
        "queue: completions",
        "rule: completions",
        "mediaconvert: queue",
        "cloudfront: distribution",
        "cloudfront: keys",
        "ses: account",
        "ses: identity",
        "ses: events",
        "rds: settings",
    ]


def _unblock(account: Account) -> None:
    account.s3.delete_public_access_block(Bucket="films")


def _forever(account: Account) -> None:
    account.lifecycle(days=90, noncurrent=False)


def _cut_off(account: Account) -> None:
    account.lifecycle(days=1, noncurrent=True)


def _closed_pages(account: Account) -> None:
    account.s3.delete_bucket_cors(Bucket="films")


def _given_up(account: Account) -> None:
    account.sqs.send_message(QueueUrl=account.completions_dead, MessageBody="poison")


def _no_dead_letters(account: Account) -> None:
    account.change_queue(account.mail_events, RedrivePolicy="")


def _other_queue(account: Account) -> None:
    account.pattern(detail={"queue": [QUEUE_ARN + "-of-others"]})


def _errors_only(account: Account) -> None:
    account.pattern(detail={"queue": [QUEUE_ARN], "status": ["ERROR"]})


def _other_kind(account: Account) -> None:
    account.pattern(**{"detail-type": [{"prefix": "MediaConvert Queue"}]})


def _other_rule_let_in(account: Account) -> None:
    account.let_in(account.completions, "events", f"arn:aws:events:{REGION}:{ACCOUNT}:rule/another")


def _key_not_in_group(account: Account) -> None:
    account.more_outputs["DeliveryKey2Id"] = "KOTHER"


def _open_behaviour(account: Account) -> None:
    _change_distribution(account, CacheBehaviors={"Quantity": 1, "Items": [open_to_all("media/*/hd.mp4")]})


def _counted_only(account: Account) -> None:
    dimension = {
        "DimensionName": "kind",
        "DimensionValueSource": "MESSAGE_TAG",
        "DefaultDimensionValue": "none",
    }
    account.destination = {"CloudWatchDestination": {"DimensionConfigurations": [dimension]}}


def _not_subscribed(account: Account) -> None:
    account.sns.unsubscribe(SubscriptionArn=account.subscription)


def _topic_not_let_in(account: Account) -> None:
    account.let_in(account.mail_events, "sns", f"arn:aws:sns:{REGION}:{ACCOUNT}:another")


def _own_key_not_used(account: Account) -> None:
    account.more_outputs["KeyArn"] = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/ours"


def _another_key_used(account: Account) -> None:
    _own_key_not_used(account)
    default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/theirs"}
    account.s3.put_bucket_encryption(
        Bucket="films",
        ServerSideEncryptionConfiguration={
            "Rules": [{"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": True}]
        },
    )


def _elsewhere(account: Account) -> None:
    account.lifecycle(days=90, noncurrent=True, prefix="_paletta/")


def _former_elsewhere(account: Account) -> None:
    account.lifecycle(days=90, noncurrent=True, former="originals/")


def _markers_stay(account: Account) -> None:
    account.lifecycle(days=90, noncurrent=True, markers=False)


def _too_few(account: Account) -> None:
    account.running = 1


def _none_wanted(account: Account) -> None:
    account.wanted = account.running = 0


def _did_not_start(account: Account) -> None:
    account.rollout = "FAILED"


def _nobody_healthy(account: Account) -> None:
    account.health = ["unhealthy", "draining"]


def _hasty(account: Account) -> None:
    account.change_queue(account.completions, VisibilityTimeout="5")


def _rule_off(account: Account) -> None:
    account.events.disable_rule(Name="transcoding")


def _rule_gone(account: Account) -> None:
    account.events.remove_targets(Rule="transcoding", Ids=["completions"])
    account.events.delete_rule(Name="transcoding")


def _lost_events(account: Account) -> None:
    target = {"Id": "completions", "Arn": account.arn(account.completions)}
    account.events.put_targets(Rule="transcoding", Targets=[target])


def _paused(account: Account) -> None:
    account.transcoding = "PAUSED"


def _change_distribution(account: Account, **changes: Any) -> None:
    found = account.cloudfront.get_distribution(Id=account.distribution)
    config = found["Distribution"]["DistributionConfig"] | changes
    account.cloudfront.update_distribution(
        Id=account.distribution, IfMatch=found["ETag"], DistributionConfig=config
    )


def _open_to_all(account: Account) -> None:
    _change_distribution(account, DefaultCacheBehavior=distribution(None)["DefaultCacheBehavior"])


def _nobody_told(account: Account) -> None:
    account.told = ["DELIVERY"]


def _unknown_sender(account: Account) -> None:
    account.known = False


def _unsigned(account: Account) -> None:
    account.dkim = "PENDING"


def _in_the_sandbox(account: Account) -> None:
    account.production = False


def _not_backed_up(account: Account) -> None:
    account.rds.modify_db_instance(
        DBInstanceIdentifier="books", BackupRetentionPeriod=0, ApplyImmediately=True
    )


def _deletable(account: Account) -> None:
    account.rds.modify_db_instance(
        DBInstanceIdentifier="books", DeletionProtection=False, ApplyImmediately=True
    )


@pytest.mark.parametrize(
    ("spoil", "check", "said"),
    [
        (_unblock, "bucket: access", "not blocked"),
        (_forever, "bucket: lifecycle", "for ever"),
        (_cut_off, "bucket: lifecycle", "cut off after 1 days"),
        (_closed_pages, "bucket: cors", "may not read"),
        (_given_up, "queue: completions", "1 messages were given up"),
        (_no_dead_letters, "queue: mail events", "no dead-letter queue"),
        (_hasty, "queue: completions", "again after 5 s"),
        (_rule_off, "rule: completions", "is off"),
        (_rule_gone, "rule: completions", "no rule"),
        (_lost_events, "rule: completions", "lost"),
        (_other_queue, "rule: completions", "COMPLETE and ERROR and CANCELED"),
        (_errors_only, "rule: completions", "jobs' COMPLETE and CANCELED"),
        (_other_kind, "rule: completions", "does not tell"),
        (_other_rule_let_in, "rule: completions", "send nothing"),
        (_key_not_in_group, "cloudfront: keys", "does not know KOTHER"),
        (_open_behaviour, "cloudfront: keys", "`media/*/hd.mp4` needs no signed address"),
        (_counted_only, "ses: events", "BOUNCE and COMPLAINT"),
        (_not_subscribed, "ses: events", "does not come to our queue"),
        (_topic_not_let_in, "ses: events", "send nothing"),
        (_own_key_not_used, "bucket: encryption", "with AES256, not with the key"),
        (_another_key_used, "bucket: encryption", "another key"),
        (_elsewhere, "bucket: lifecycle", "nobody finishes"),
        (_former_elsewhere, "bucket: lifecycle", "former versions"),
        (_markers_stay, "bucket: lifecycle", "markers"),
        (_too_few, "services: running", "1 of 2"),
        (_none_wanted, "services: running", "none is wanted"),
        (_did_not_start, "services: running", "did not start"),
        (_nobody_healthy, "balancer: nodes", "draining, unhealthy"),
        (_paused, "mediaconvert: queue", "paused"),
        (_open_to_all, "cloudfront: keys", "no signed address"),
        (_nobody_told, "ses: events", "BOUNCE and COMPLAINT"),
        (_unknown_sender, "ses: identity", "does not know"),
        (_unsigned, "ses: identity", "not verified"),
        (_in_the_sandbox, "ses: account", "sandbox"),
        (_not_backed_up, "rds: settings", "not backed up"),
        (_deletable, "rds: settings", "may delete it"),
    ],
)
def test_what_is_wrong_is_found_with_its_fix(
    account: Account, spoil: Callable[[Account], None], check: str, said: str
) -> None:
    spoil(account)
    found = look(account)
    assert found[check].outcome == "problem", found[check]
    assert said in found[check].detail
    assert found[check].fix
    others = {name for name, finding in found.items() if finding.outcome == "problem"}
    assert others - {check, FORGOTTEN} == set(), [found[name] for name in others]


@pytest.mark.parametrize(
    ("enabled", "control", "status", "outcome", "said"),
    [
        (True, "E2", "Deployed", "ok", "d1.cloudfront.net"),
        (False, "E2", "Deployed", "problem", "switched off"),
        (True, "", "Deployed", "problem", "without an origin access control"),
        (True, "E2", "InProgress", "unknown", "rolled out"),
    ],
)
def test_a_distribution_reads_the_bucket_as_itself(
    aws: str, enabled: bool, control: str, status: str, outcome: str, said: str
) -> None:
    config = distribution("group")
    config["Enabled"] = enabled
    config["Origins"]["Items"][0]["OriginAccessControlId"] = control
    answer = {
        "Id": "E1",
        "ARN": "arn:aws:cloudfront::123456789012:distribution/E1",
        "Status": status,
        "LastModifiedTime": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        "InProgressInvalidationBatches": 0,
        "DomainName": "d1.cloudfront.net",
        "DistributionConfig": config,
    }
    cloudfront = client(aws, "cloudfront")
    target = replace(from_settings(Settings(_env_file=None)), distribution="E1")
    with Stubber(cloudfront) as stub:
        stub.add_response("get_distribution", {"Distribution": answer}, {"Id": "E1"})
        check = edges.delivery(cloudfront, target)[FORGOTTEN]
        (finding,) = run({FORGOTTEN: check})
    assert finding.outcome == outcome
    assert said in finding.detail


def _other_topic(account: Account, *kinds: str) -> str:
    """A topic that hears of these and tells somebody else. Its ARN comes before that of ours."""
    topic = str(account.sns.create_topic(Name="accounting")["TopicArn"])
    account.more_destinations.append(
        {
            "Name": "accounting",
            "Enabled": True,
            "MatchingEventTypes": list(kinds),
            "SnsDestination": {"TopicArn": topic},
        }
    )
    return topic


def _other_rule(account: Account, *, on: bool) -> None:
    """A rule before ours that sends its events to the same queue; moto lists rules in the order they were made."""
    _rule_gone(account)
    account.events.put_rule(
        Name="a-former-one",
        EventPattern=json.dumps({"source": ["aws.mediaconvert"]}),
        State="ENABLED" if on else "DISABLED",
    )
    account.events.put_targets(
        Rule="a-former-one", Targets=[{"Id": "completions", "Arn": account.arn(account.completions)}]
    )
    account._rule()


def test_others_may_hear_of_mails_as_well(account: Account) -> None:
    _other_topic(account, "BOUNCE", "COMPLAINT", "DELIVERY")
    assert look(account)["ses: events"].outcome == "ok"


def test_bounces_and_complaints_have_to_come_each(account: Account) -> None:
    account.told = ["BOUNCE"]
    _other_topic(account, "COMPLAINT")
    found = look(account)["ses: events"]
    assert (found.outcome, "`accounting`" in found.detail) == ("problem", True)


@pytest.mark.parametrize("on", [True, False])
def test_of_several_rules_one_has_to_be_right(account: Account, on: bool) -> None:
    _other_rule(account, on=on)
    found = look(account)["rule: completions"]
    assert (found.outcome, found.detail) == ("ok", "`transcoding` is on")


def test_a_stack_that_failed_or_is_not_started_is_a_problem(account: Account) -> None:
    assert "not started" in look(account, start="no")["stack"].detail
    _deletable(account)  # as the template leaves it until then
    assert look(account, start="no")["rds: settings"].outcome == "ok"
    assert "ROLLBACK" in look(account, stack_status="UPDATE_ROLLBACK_COMPLETE")["stack"].detail


def test_mails_by_ses_without_a_queue_are_a_problem(account: Account) -> None:
    settings = account.settings(mailer="ses", ses_configuration_set="mail")
    ses = account("sesv2")
    with Stubber(ses) as stub:
        mail(account, stub)
        checks_of_mail = {
            **messages.checks(account, from_settings(settings)),
            **edges.mail(account, from_settings(settings)),
        }
        found = {finding.check: finding for finding in run(checks_of_mail)}
    for check in ("queue: mail events", "ses: events"):
        assert (found[check].outcome, found[check].detail) == ("problem", "it is not set")
        assert "PALETTA_MAIL_EVENTS_QUEUE_URL" in found[check].fix


@pytest.mark.parametrize(
    ("pattern", "through"),
    [
        ({}, True),
        ({"detail": {"status": ["COMPLETE", "ERROR"]}}, True),
        ({"detail": {"status": [{"anything-but": ["ERROR"]}]}}, True),
        ({"detail": {"status": [{"anything-but": "COMPLETE"}]}}, False),
        ({"detail": {"other": [{"exists": False}]}}, True),
        ({"detail": {"other": ["x"]}}, False),
        ({"source": [{"prefix": "aws."}]}, True),
        ({"detail": {"status": {"deeper": ["x"]}}}, False),
    ],
)
def test_patterns_are_read_as_eventbridge_reads_them(pattern: dict[str, Any], through: bool) -> None:
    assert passes(pattern, {"source": "aws.mediaconvert", "detail": {"status": "COMPLETE"}}) == through


def test_a_comparison_that_we_do_not_know_is_unknown() -> None:
    for pattern in ({"a": [{"wildcard": "x*"}]}, {"$or": [{"a": ["x"]}]}, {"a": [{"numeric": ["=", 1]}]}):
        with pytest.raises(Unknown):
            passes(pattern, {"a": "x"})


# ---- who may not look


def test_missing_rights_are_unknown_with_the_right_named(account: Account) -> None:
    def denied(service: str) -> Any:
        client = boto3.client(service, endpoint_url=account.address, region_name=REGION)
        by_exception = service in ("sesv2", "mediaconvert", "events")
        error = {
            "Code": "AccessDeniedException" if by_exception else "AccessDenied",
            "Message": "not authorized",
        }

        def refuse(model: Any, **_: Any) -> None:
            raise ClientError({"Error": error, "ResponseMetadata": {"HTTPStatusCode": 403}}, model.name)  # type: ignore[typeddict-item]

        client.meta.events.register("before-call", refuse)
        return client

    found = {finding.check: finding for finding in examine(account.settings(), None, denied)}
    assert found.pop("ses: events").outcome == "problem"  # there is no configuration set to ask about
    assert {finding.outcome for finding in found.values()} == {"unknown"}
    named = {name: finding.detail.removeprefix("not allowed to look: ") for name, finding in found.items()}
    assert named == {
        "bucket: access": "s3:GetBucketPublicAccessBlock",
        "bucket: encryption": "s3:GetEncryptionConfiguration",
        "bucket: lifecycle": "s3:GetBucketVersioning",
        "bucket: cors": "s3:GetBucketCORS",
        "queue: completions": "sqs:GetQueueAttributes",
        "rule: completions": "sqs:GetQueueAttributes",
        "mediaconvert: queue": "mediaconvert:GetQueue",
        "ses: account": "ses:GetAccount",
        "ses: identity": "ses:GetEmailIdentity",
        "rds: settings": "rds:DescribeDBInstances",
    }


# ---- where to look


@pytest.mark.parametrize(
    ("variables", "settings", "region"),
    [
        ({}, {}, "us-east-1"),
        ({"AWS_REGION": "eu-north-1"}, {}, "eu-north-1"),
        ({"AWS_DEFAULT_REGION": "eu-north-1"}, {}, "eu-north-1"),
        ({"AWS_PROFILE": "shop"}, {}, "ap-south-1"),
        ({"AWS_REGION": "eu-north-1"}, {"aws_region": "eu-west-1"}, "eu-west-1"),
        ({"AWS_REGION": "eu-north-1"}, {"s3_region": "eu-west-3"}, "eu-west-3"),
        ({}, {"s3_region": "eu-west-3", "aws_region": "eu-west-1"}, "eu-west-1"),
    ],
)
def test_the_region_is_the_settings_or_the_sdks(
    variables: dict[str, str],
    settings: dict[str, str],
    region: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "config").write_text("[profile shop]\nregion = ap-south-1\n")
    for name in (
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_PROFILE",
        "PALETTA_AWS_REGION",
        "PALETTA_S3_REGION",
    ):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**KEYS, **variables, "AWS_CONFIG_FILE": str(tmp_path / "config")}.items():
        monkeypatch.setenv(name, value)
    look_with = checks._clients(Settings(_env_file=None, **settings))
    assert look_with("cloudformation").meta.region_name == region
    assert look_with("s3").meta.region_name == settings.get("s3_region", region)


# ---- the command


def check(aws: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    env = clean_env(
        PALETTA_AWS_ENDPOINT=aws,
        PALETTA_AWS_REGION=REGION,
        PALETTA_S3_ENDPOINT=aws,
        PALETTA_S3_REGION=REGION,
        PALETTA_DATABASE_URL="postgresql://paletta:hunter44@127.0.0.1/paletta",
        AWS_EC2_METADATA_DISABLED="true",
        **settings,
    )
    return subprocess.run(
        [sys.executable, "-m", "paletta_server.cli", "aws", "check", *arguments],
        capture_output=True,
        text=True,
        env=env,
        check=False,
    )


def test_the_command_says_what_is_wrong_and_no_secret(account: Account) -> None:
    done = check(account.address, PALETTA_S3_BUCKET="films", PALETTA_PUBLIC_URL=f"https://{DOMAIN}", **KEYS)
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["ok", "bucket:", "access", "blocked"]
    assert any("hint:" in line for line in lines)
    assert max(map(len, lines)) <= 80
    assert "hunter" not in done.stdout + done.stderr


def test_a_stack_that_is_not_there_or_not_ours_is_a_problem(aws: str) -> None:
    cloudformation = client(aws, "cloudformation")
    made = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    other = {"StackName": "other", "StackStatus": "CREATE_COMPLETE", "CreationTime": made}
    with Stubber(cloudformation) as stub:
        stub.add_client_error("describe_stacks", "ValidationError", "Stack with id none does not exist", 400)
        stub.add_response("describe_stacks", {"Stacks": [other]}, {"StackName": "other"})
        for name, said in (("none", "there is no stack `none`"), ("other", "no output BucketName")):
            (only,) = examine(Settings(_env_file=None), name, lambda _: cloudformation)
            assert (only.check, only.outcome) == ("stack", "problem")
            assert said in only.detail


def test_a_network_that_says_nothing_is_waited_for_by_all_checks_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(clients, "CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=200) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        waiting, most = 0, 0
        lock = threading.Lock()

        def made(service: str) -> Any:
            def count(change: int) -> None:
                nonlocal waiting, most
                with lock:
                    waiting += change
                    most = max(most, waiting)

            client = clients.quick(Settings(_env_file=None, aws_endpoint=address), service)
            client.meta.events.register("before-send", lambda **_: count(1))
            client.meta.events.register("needs-retry", lambda **_: count(-1))
            return client

        findings = examine(Settings(_env_file=None), None, made)
    assert {one.outcome for one in findings} <= {"unknown", "problem"}
    asked = [one for one in findings if one.outcome == "unknown"]
    assert len(asked) > 4
    assert all("does not answer" in one.detail for one in asked), findings
    assert most > 4, "each of them alone would wait as long"


def test_without_credentials_or_answers_everything_is_unknown(tmp_path: Path) -> None:
    nowhere = f"http://127.0.0.1:{free_ports(1)[0]}"
    bare = {"HOME": str(tmp_path), "AWS_CONFIG_FILE": "/nowhere", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere"}
    for credentials, said in (({}, "no credentials"), (KEYS, "AWS does not answer")):
        done = check(nowhere, "--json", **bare, **credentials)
        assert done.returncode in (1, 6), done.stderr
        assert "Traceback" not in done.stderr
        findings = {finding["check"]: finding for finding in json.loads(done.stdout)["findings"]}
        # That there is no configuration set needs no question.
        assert findings.pop("ses: events")["outcome"] == "problem"
        assert {finding["outcome"] for finding in findings.values()} == {"unknown"}
        assert all(said in finding["detail"] for finding in findings.values()), findings
    lost = check(nowhere, "--json", **bare, AWS_PROFILE="gone")
    assert lost.returncode == 6
    (only,) = json.loads(lost.stdout)["findings"]
    assert (only["check"], only["outcome"]) == ("credentials", "unknown")
    assert "gone" in only["detail"]
