"""`paletta-server aws plan`: what an installation will need and set, before there is any."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from paletta_server.aws.options import Options
from paletta_server.aws.template import render
from paletta_server.aws.template.environment import (
    environment,
    key_secrets,
    of_api,
    secrets,
)
from paletta_server.aws.template.parts import NOTHING

SERVICES = {
    "ApplicationAutoScaling": "how many API nodes and workers",
    "CertificateManager": "certificates",
    "CloudFront": "delivery with signed addresses",
    "CloudWatch": "alarms",
    "EC2": "network",
    "ECR": "the image",
    "ECS": "API, workers, handlers",
    "ElasticLoadBalancingV2": "the way in",
    "Events": "news of transcoding",
    "IAM": "roles",
    "KMS": "a key of our own",
    "Logs": "logs, and figures made of them",
    "MediaConvert": "transcoding",
    "OpenSearchService": "search",
    "RDS": "PostgreSQL",
    "Route53": "records of the domain",
    "S3": "films and previews",
    "SES": "mail",
    "SNS": "bounces and alarms",
    "SQS": "queues",
    "SecretsManager": "secrets",
}


@dataclass(frozen=True)
class Need:
    """A line of the plan. `kind`: service, quota, before, setting or secret."""

    kind: str
    name: str
    value: str


def plan(options: Options) -> list[Need]:
    return [
        *_services(options),
        *_quotas(options),
        *_before(options),
        *_settings(options),
        *_secrets(options),
    ]


def as_json(options: Options) -> dict[str, Any]:
    """The plan by kind, with its options; keys are counted, not shown."""
    found: dict[str, Any] = {"options": asdict(options) | {"public_keys": len(options.public_keys)}}
    for need in plan(options):
        found.setdefault(need.kind, []).append({"name": need.name, "value": need.value})
    return found


def _services(options: Options) -> list[Need]:
    counts: dict[str, int] = {}
    for resource in render(options)["Resources"].values():
        service = resource["Type"].split("::")[1]
        counts[service] = counts.get(service, 0) + 1
    return [
        Need("service", name, f"{SERVICES[name]}: {count} resource{'s' if count > 1 else ''}")
        for name, count in sorted(counts.items())
    ]


def _quotas(options: Options) -> list[Need]:
    found = [
        Need(
            "quota", "Fargate vCPUs", "8 API nodes, handlers and 20 workers: 100 (new accounts have far less)"
        ),
        Need("quota", "Fargate Spot vCPUs", "20 workers of 4: 80, where workers run on spare capacity"),
        Need("quota", "SES sending", "production access: in its sandbox SES mails verified addresses only"),
    ]
    if options.vpc == "new":
        found.append(Need("quota", "VPCs, elastic addresses", "one, and one or two, of five in a region"))
    if options.mediaconvert:
        found.append(Need("quota", "MediaConvert", "jobs at once in an on-demand queue: what is over waits"))
    return found


def _before(options: Options) -> list[Need]:
    """What has to be there before the stack, or is filled in after."""
    found = []
    linked = "service-linked role, once in an account"
    found += [Need("before", "ECS", linked), Need("before", "application autoscaling", f"for ECS: {linked}")]
    if options.opensearch:
        found.append(Need("before", "OpenSearch", linked))
    if not options.dmarc:
        found.append(Need("before", "DMARC", _dmarc(options)))
    if options.hosted_zone is None:
        found += [
            Need("before", "certificate", f"of ACM for {options.domain} in {options.region}"),
            Need("before", "DNS", f"{options.domain} and the records in the stack's outputs"),
        ]
    if options.vpc == "existing":
        found.append(
            Need("before", "network", "id, addresses, two public and two private subnets with a way out")
        )
    if not options.cloudfront:
        found.append(Need("before", "delivery", "straight from S3; --cloudfront-public-key adds CloudFront"))
    found += [
        Need("before", "image", "built with paletta_server/deploy/Containerfile, pushed to the repository"),
        Need("before", "tasks", "prepare once, migrate before each version, then Start=yes"),
    ]
    return found


def _dmarc(options: Options) -> str:
    """Mail that is signed is taken for ours only where the domain says what to do with other mail."""
    wanted = "a TXT record `_dmarc`, where the zone has none yet"
    return f"{wanted}; --dmarc makes it" if options.hosted_zone else wanted


def _settings(options: Options) -> list[Need]:
    found = environment(options) | of_api(options) | {"sandbox": "prefer (workers)"}
    known = {"${Domain}": options.domain, "${AWS::Region}": options.region, "${Bucket}": options.bucket}

    def text(value: Any) -> str:
        found = shown(value)
        for name, word in known.items():
            found = found.replace(name, word or name)
        return found

    return [Need("setting", f"PALETTA_{name.upper()}", text(value)) for name, value in sorted(found.items())]


def _secrets(options: Options) -> list[Need]:
    made = "made by the stack"
    filled = "filled in by you, in Secrets Manager"
    return [
        Need("secret", f"PALETTA_{name.upper()}", made if name == "metrics_token" else filled)
        for name in secrets(options)
    ] + [Need("secret", f"DELIVERY_KEY_{key}", filled) for key in key_secrets(options)]


def shown(value: Any) -> str:
    """An intrinsic function in a reader's words."""
    if not isinstance(value, dict):
        return str(value)
    ((function, argument),) = value.items()
    if function == "Fn::GetAtt":
        return "${" + ".".join(argument) + "}"
    if function == "Fn::If":
        _, then, otherwise = argument
        return f"{shown(then)}, or {'not set' if otherwise == NOTHING else shown(otherwise)}"
    if function == "Ref":
        return "${" + str(argument) + "}"
    return str(argument if isinstance(argument, str) else argument[0])
