"""What to look at: named by a stack's outputs, or by the settings of this process."""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parseaddr
from typing import Any
from urllib.parse import urlsplit

from paletta_server.aws.checks.base import Problem, ask
from paletta_server.core.settings import Settings


@dataclass(frozen=True)
class Target:
    """Names of one installation's parts; None where there is none, or where it is not known."""

    settings: Settings
    stack: str | None
    bucket: str
    origin: str
    """Whose pages may read from the bucket."""
    mail_domain: str
    transcodes: bool
    completions_url: str | None
    mails_by_ses: bool
    mail_events_url: str | None
    mediaconvert_queue: str | None
    configuration_set: str | None
    distribution: str | None
    distribution_domain: str | None
    signing_keys: tuple[str, ...]
    """Ids of the keys that addresses are signed with."""
    kms_key: str | None
    cluster: str | None
    """Where services run; None also while they are not to run."""
    started: bool
    """Whether the installation is set up: before, nothing in it is protected."""
    database: str | None
    database_host: str | None
    iam_login: bool


def from_settings(settings: Settings) -> Target:
    def named(name: str) -> Any:
        return getattr(settings, name, None)

    return Target(
        settings=settings,
        stack=None,
        bucket=settings.s3_bucket,
        origin=settings.public_url,
        mail_domain=parseaddr(settings.mail_from)[1].partition("@")[2],
        transcodes=settings.transcoder == "mediaconvert",
        completions_url=settings.completions_queue_url,
        mails_by_ses=settings.mailer == "ses",
        mail_events_url=named("mail_events_queue_url"),
        mediaconvert_queue=settings.mediaconvert_queue,
        configuration_set=named("ses_configuration_set"),
        distribution=None,
        distribution_domain=named("cloudfront_domain"),
        signing_keys=_signing_keys(settings),
        kms_key=settings.s3_kms_key,
        cluster=None,
        started=True,
        database=None,
        database_host=urlsplit(settings.libpq_url).hostname,
        iam_login=named("database_auth") == "iam",
    )


def _signing_keys(settings: Settings) -> tuple[str, ...]:
    """From `KID:path,KID:path`; whoever looks from outside has the setting, and perhaps not the files."""
    written = settings.cloudfront_keys.get_secret_value() if settings.cloudfront_keys else ""
    return tuple(word.strip().partition(":")[0] for word in written.split(",") if word.strip())


def from_stack(settings: Settings, description: dict[str, Any]) -> Target:
    """From one of `DescribeStacks`' answers. Raises `Problem` where its outputs are not ours."""
    outputs = {one["OutputKey"]: one["OutputValue"] for one in description.get("Outputs", [])}
    parameters = {
        one["ParameterKey"]: one.get("ParameterValue", "") for one in description.get("Parameters", [])
    }
    if "BucketName" not in outputs:
        raise Problem("it has no output BucketName", "name a stack made by `paletta-server aws template`")
    domain = parameters.get("Domain", "")
    return Target(
        settings=settings,
        stack=description["StackName"],
        bucket=outputs["BucketName"],
        origin=f"https://{domain}",
        mail_domain=domain,
        transcodes="TranscodingQueueArn" in outputs,
        completions_url=outputs.get("CompletionsQueueUrl"),
        mails_by_ses=True,
        mail_events_url=outputs.get("MailEventsQueueUrl"),
        mediaconvert_queue=outputs.get("TranscodingQueueArn"),
        configuration_set=outputs.get("MailSettingsName"),
        distribution=outputs.get("DistributionId"),
        distribution_domain=outputs.get("DistributionDomain"),
        signing_keys=tuple(
            value
            for key, value in sorted(outputs.items())
            if key.startswith("DeliveryKey") and key.endswith("Id") and key != "DeliveryKeyGroupId"
        ),
        kms_key=outputs.get("KeyArn"),
        cluster=outputs.get("ClusterName") if parameters.get("Start") != "no" else None,
        started=parameters.get("Start") != "no",
        database=outputs.get("DatabaseId"),
        database_host=outputs.get("DatabaseAddress"),
        iam_login=True,
    )


def describe(client: Any, stack: str) -> dict[str, Any]:
    """The stack as CloudFormation has it. Raises `Missing`, `Unknown`."""
    found: dict[str, Any] = ask(client.describe_stacks, StackName=stack)["Stacks"][0]
    return found


def stands(description: dict[str, Any]) -> str:
    """Whether the stack is whole, and its services are to run; whether they do is `running`'s to find out."""
    status = str(description["StackStatus"])
    if status.endswith("_IN_PROGRESS"):
        raise Problem(f"it is being changed: {status}", "wait, and look again")
    if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"):
        raise Problem(f"its last change failed: {status}", "the stack's events say why; deploy it again")
    parameters = {one["ParameterKey"]: one.get("ParameterValue") for one in description.get("Parameters", [])}
    if parameters.get("Start") == "no":
        raise Problem(
            "its services are not started",
            "push the image, fill in the secrets, run both setup tasks, then deploy with Start=yes",
        )
    return status
