"""A stack that stands: what its next template may not change, and what no update may take away."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from paletta_server.aws.options import Options, OptionsRefused
from paletta_server.aws.template.parts import Value

BUCKET_BY_DEFAULT = "by account and region"
FIXED = {
    "bucket": ("--bucket", "the bucket would be replaced by an empty one"),
    "kms": (
        "--kms/--no-kms",
        "the database would be replaced by an empty one, and what is in the bucket kept under another key",
    ),
    "vpc": (
        "--vpc",
        "network, security groups and targets would be replaced, and the database cannot follow",
    ),
}
"""The options that hold for a stack's life: how the command line calls each, and what another value would do. A test
compares them with the properties that CloudFormation only takes while it creates something."""


def shape(options: Options) -> dict[str, Value]:
    """What was asked for, all of it but the text of keys: the template carries it as `Metadata.Options`."""
    from paletta_server.aws.template.environment import key_names

    return {
        "domain": options.domain,
        "bucket": options.bucket or BUCKET_BY_DEFAULT,
        "region": options.region,
        "vpc": options.vpc,
        "transcoder": options.transcoder,
        "opensearch": options.opensearch,
        "kms": options.kms,
        "originals_class": options.originals_class,
        "hosted_zone": options.hosted_zone or "none",
        "dmarc": options.dmarc,
        "public_keys": key_names(options),
        "gateways": list(options.gateways),
    }


def refuse_replacing(deployed: str, options: Options) -> None:
    """Raises `OptionsRefused` where `options` would replace what `deployed`, a template's text, has made, or take away
    what nobody asked to lose.

    It is taken as `aws cloudformation get-template` prints it, or as it was deployed.
    """
    template = _template(deployed)
    before = _options_of(template)
    for name, (option, what) in FIXED.items():
        had, wanted = before[name], shape(options)[name]
        if had != wanted:
            raise OptionsRefused(
                f"{option} holds for a stack's life: {what}\n"
                f"hint: deployed is {name} `{_word(had)}`, asked for `{_word(wanted)}`; another one takes another stack"
            )
    records = template.get("Resources", {}).get("MailRecords", {}).get("Properties", {}).get("RecordSets", [])
    has = any("_dmarc." in str(record["Name"]) for record in records)
    if has and options.hosted_zone is not None and not options.dmarc:
        # Stacks made it without being asked once. Without it, mail fails at whoever looks for it.
        raise OptionsRefused("the stack made the record `_dmarc`, and would take it away\nhint: give --dmarc")


def _template(text: str) -> dict[str, Any]:
    found: Any = _read(text)
    if isinstance(found, dict) and "TemplateBody" in found:
        # A template in JSON comes as what it is, one in YAML as a text.
        found = found["TemplateBody"]
        found = _read(found) if isinstance(found, str) else found
    return found if isinstance(found, dict) else {}


def _options_of(found: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        options = dict(found["Metadata"]["Options"])
        if "bucket" not in options:
            name = found["Resources"]["Bucket"]["Properties"]["BucketName"]
            options["bucket"] = name if isinstance(name, str) else BUCKET_BY_DEFAULT
        return {name: options[name] for name in FIXED}
    except (KeyError, TypeError, ValueError) as error:
        raise OptionsRefused(
            "what is deployed is no template of `paletta-server aws template`\n"
            "hint: `aws cloudformation get-template --stack-name …` prints it"
        ) from error


def _read(text: str) -> Any:
    import yaml

    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def _word(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def stack_policy(template: Mapping[str, Any]) -> dict[str, Value]:
    """What `aws cloudformation set-stack-policy` takes: no update replaces or deletes what is kept."""
    kept = [name for name, made in template["Resources"].items() if "DeletionPolicy" in made]
    return {
        "Statement": [
            {"Effect": "Allow", "Principal": "*", "Action": "Update:*", "Resource": "*"},
            {
                "Effect": "Deny",
                "Principal": "*",
                "Action": ["Update:Replace", "Update:Delete"],
                "Resource": [f"LogicalResourceId/{name}" for name in kept],
            },
        ]
    }
