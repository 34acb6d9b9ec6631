"""The settings of the services: which PALETTA_… variables each container gets, and which come from secrets."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from paletta_server.aws.options import Options
from paletta_server.aws.template import network
from paletta_server.aws.template.data import DATABASE, DATABASE_USER
from paletta_server.aws.template.parts import NOTHING, Part, Value, get, is_given, ref, sub, when

Service = Literal["api", "worker", "completions", "mail-events"]

WORK_FOLDER = "/var/lib/paletta"
"""The image's one writable folder besides /tmp; the user of the image owns it."""
KEY_FOLDER = f"{WORK_FOLDER}/keys"
"""Where a container that runs before the API writes the private keys that sign addresses (`aws write-keys`)."""
CERTIFICATES = "/etc/paletta/rds-ca.pem"
"""Where the image has the certificates of RDS."""


SIGNS, PAYS = "SignsForCloudFront", "PaysByStripe"
"""Conditions: the secret of the key that signs is filled in; those of Stripe are. Containers that want a secret do not
start while it is empty, and CloudFormation makes it in the deployment that would want it."""
DRAIN_SECONDS = 10
"""How long an API node that was told to stop goes on serving, until the balancer has noticed."""


def environment(options: Options) -> dict[str, Value]:
    """What all services are told, by the setting's name; nothing secret."""
    found: dict[str, Value] = {
        "env": "production",
        "public_url": sub("https://${Domain}"),
        "trusted_proxies": network.cidr(options),
        "database_url": database_url(DATABASE_USER),
        "database_auth": "iam",
        "database_ca": CERTIFICATES,
        "aws_region": ref("AWS::Region"),
        "s3_region": ref("AWS::Region"),
        "s3_bucket": ref("Bucket"),
        "s3_originals_class": options.originals_class,
        "mailer": "ses",
        "ses_configuration_set": ref("MailSettings"),
        "mail_events_queue_url": ref("MailEventsQueue"),
        "mail_from": sub("Paletta <no-reply@${Domain}>"),
        "operator_emails": ref("OperatorEmails"),
        "gateways": gateways(options),
        "transcoder": options.transcoder,
        "log_format": "json",
        "scratch_dir": f"{WORK_FOLDER}/scratch",
        "search_dir": f"{WORK_FOLDER}/search",
    }
    found |= {one.setting: when(_given(one), ref(one.parameter), NOTHING) for one in CHOICES}
    if options.kms:
        found["s3_kms_key"] = get("Key", "Arn")
    if options.mediaconvert:
        found["mediaconvert_role"] = get("TranscodingRole", "Arn")
        found["mediaconvert_queue"] = get("TranscodingQueue", "Arn")
        found["completions_queue_url"] = ref("Completions")
    return found


def of_api(options: Options) -> dict[str, Value]:
    """What the API is told besides: it alone is behind the balancer, searches, and signs addresses for delivery."""
    found: dict[str, Value] = {"drain_seconds": str(DRAIN_SECONDS)}
    if options.opensearch:
        found["search_backend"] = "opensearch"
        found["opensearch_url"] = sub("https://${SearchDomain.DomainEndpoint}")
    if options.cloudfront:
        found["cloudfront_domain"] = when(SIGNS, get("Distribution", "DomainName"), NOTHING)
        found["cloudfront_keys"] = when(SIGNS, cloudfront_key(options), NOTHING)
    return found


@dataclass(frozen=True)
class Choice:
    """A setting whose value is a parameter of the template; left empty, it is not set at all."""

    setting: str
    parameter: str
    description: str
    pattern: str


_WHOLE_NUMBER = r"^([1-9][0-9]{0,17})?$"
CHOICES = (
    Choice(
        "ingest_queue_max",
        "IngestQueueMax",
        "Films that may wait for a worker before no new ones are taken in; empty is no limit.",
        _WHOLE_NUMBER,
    ),
    Choice(
        "ingest_queue_max_bytes",
        "IngestQueueMaxBytes",
        "The same by what they weigh; empty is no limit.",
        _WHOLE_NUMBER,
    ),
    Choice(
        "otel_endpoint",
        "OtelEndpoint",
        "A collector (OTLP over HTTP) for traces and metrics, which the services reach; empty sends none.",
        r"^(https?://[^\s/?#@]+/?)?$",
    ),
    Choice(
        "otel_sample_ratio",
        "OtelSampleRatio",
        "The share of traces that is recorded, from 0 to 1; empty is all of them.",
        r"^(0|1|0?\.[0-9]{1,6}|1\.0)?$",
    ),
)


def choices(options: Options) -> Part:
    """The parameters of `CHOICES`, and whether each is given; and what waits for secrets."""
    part = Part()
    for one in CHOICES:
        part.parameter(one.parameter, one.description, Default="", AllowedPattern=one.pattern)
        part.conditions[_given(one)] = is_given(one.parameter)
    if options.cloudfront:
        _later(part, SIGNS, "DeliverByCloudFront", "its private key is filled in, where CloudFront is added")
    if set(options.gateways) > {"stripe"}:
        _later(part, PAYS, "TakeStripe", "its two secrets are filled in, where Stripe is added")
    return part


def _later(part: Part, condition: str, parameter: str, until: str) -> None:
    """A parameter for what needs a secret that the same deployment makes."""
    words = f"`no` until {until} to services that run."
    part.parameter(parameter, words, Default="yes", AllowedValues=["yes", "no"])
    part.conditions[condition] = {"Fn::Equals": [ref(parameter), "yes"]}


def _given(one: Choice) -> str:
    return f"{one.parameter}Given"


def database_url(user: str) -> Value:
    """Without a password: it comes as an IAM token, or as PGPASSWORD where the owner logs in."""
    where = "${Database.Endpoint.Address}:${Database.Endpoint.Port}"
    return sub(f"postgresql://{user}@{where}/{DATABASE}?sslmode=verify-full&sslrootcert={CERTIFICATES}")


def of_service(options: Options, service: Service) -> list[Value]:
    """A container's `Environment`."""
    found = environment(options)
    if service == "worker":
        # Fargate's kernel makes no user namespaces, which bubblewrap needs; `deploy/README.md` says what is left.
        found["sandbox"] = "prefer"
    if service == "api":
        found |= of_api(options)
    return variables(found)


def gateways(options: Options) -> Value:
    """Without Stripe until it is set up, where others can be paid through meanwhile."""
    others = [one for one in options.gateways if one != "stripe"]
    everything = ",".join(options.gateways)
    return when(PAYS, everything, ",".join(others)) if options.stripe and others else everything


def cloudfront_key(options: Options) -> Value:
    """`KID:path` of the key that signs, the first one: id and path, no secret."""
    name = key_names(options)[0]
    return sub(f"${{DeliveryKey{name}}}:{KEY_FOLDER}/{name}.pem")


def key_names(options: Options) -> list[str]:
    """A name for each public key, which goes with its content and not its place: CloudFront changes no key, and what
    is held by name stays what it is when another one becomes the first, or one is taken out."""
    return [hashlib.sha256(pem.encode()).hexdigest()[:12] for pem in options.public_keys]


def of_migration(options: Options) -> list[Value]:
    """The database, what every process insists on, and for operators' commands that somebody sends mail: workers do,
    from what is written to the database."""
    needed = (
        "env",
        "public_url",
        "aws_region",
        "log_format",
        "database_url",
        "database_auth",
        "database_ca",
        "mailer",
    )
    return variables({name: value for name, value in environment(options).items() if name in needed})


def variables(found: dict[str, Value]) -> list[Value]:
    """Settings as a container's `Environment`. One that may be no value is not there at all then."""
    return [_variable(f"PALETTA_{name.upper()}", value) for name, value in sorted(found.items())]


def _variable(name: str, value: Value) -> Value:
    if isinstance(value, dict) and "Fn::If" in value:
        condition, then, otherwise = value["Fn::If"]
        if otherwise == NOTHING:
            return when(condition, _variable(name, then), NOTHING)
    return {"Name": name, "Value": value}


def secrets(options: Options) -> dict[str, str]:
    """The settings that come from Secrets Manager: the resource of each."""
    found = {"metrics_token": "MetricsToken"}
    if options.stripe:
        found |= {"stripe_secret_key": "StripeSecretKey", "stripe_webhook_secret": "StripeWebhookSecret"}
    return found


def key_secrets(options: Options) -> dict[str, str]:
    """The secrets with the private keys, by the keys' names."""
    return {name: f"DeliveryPrivateKey{name}" for name in key_names(options)}


def secrets_of_service(options: Options, service: Service) -> list[Value]:
    """A container's `Secrets`. A service gets what it needs: handlers and workers sign no downloads."""
    mine = {
        "api": {"metrics_token", "stripe_secret_key", "stripe_webhook_secret"},
        # Workers settle payments and answer disputes, so they speak to the gateway, and to nobody else.
        "worker": {"stripe_secret_key", "stripe_webhook_secret"},
        "completions": set[str](),
        "mail-events": set[str](),
    }[service]
    late = set(options.gateways) > {"stripe"}
    return [
        when(PAYS, entry, NOTHING) if late and name.startswith("stripe") else entry
        for name, resource in sorted(secrets(options).items())
        if name in mine
        for entry in [{"Name": f"PALETTA_{name.upper()}", "ValueFrom": ref(resource)}]
    ]


def secret_resources(options: Options) -> Part:
    """The secrets. All but the token are made empty: what is in them never passes through a template."""
    part = Part()
    part.resource(
        "MetricsToken",
        "SecretsManager::Secret",
        {
            "Description": "Whoever reads /metrics sends it",
            "GenerateSecretString": {"PasswordLength": 40, "ExcludePunctuation": True},
        },
    )
    described = {
        "StripeSecretKey": "Stripe's secret key; fill it in before the services start",
        "StripeWebhookSecret": "The signing secret of Stripe's webhook; fill it in before the services start",
    }
    for name, resource in secrets(options).items():
        if resource in described:
            part.resource(
                resource,
                "SecretsManager::Secret",
                {"Description": described[resource]},
                why=f"PALETTA_{name.upper()}. A service does not start while it is empty.",
            )
            part.output(f"{resource}Arn", ref(resource), described[resource] + ".")
    for key, resource in key_secrets(options).items():
        part.resource(
            resource,
            "SecretsManager::Secret",
            {
                "Description": f"The private key (PEM) of DeliveryKey{key}; fill it in before the services start"
            },
            why="The API does not start while it is empty.",
        )
        part.output(f"{resource}Arn", ref(resource), f"The private key (PEM) of DeliveryKey{key}.")
    return part
