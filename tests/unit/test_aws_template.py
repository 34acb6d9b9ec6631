"""The CloudFormation template: for every shape of an installation it holds together and gives no right too many.

cfn-lint takes seconds for each: four shapes that have every option both ways are linted here, all of them with
`PALETTA_TEST_EVERY_TEMPLATE=1`.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from cfnlint.api import ManualArgs, lint
from cfnlint.helpers import REGIONS
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER, ResourceNotFoundError
from typer.testing import CliRunner

from paletta_server.aws.options import (
    WITHOUT_QUEUES,
    Options,
    OptionsRefused,
    OriginalsClass,
    read_public_keys,
)
from paletta_server.aws.plan import as_json, plan
from paletta_server.aws.template import MOST_BYTES, render, to_yaml
from paletta_server.aws.template.environment import key_names
from paletta_server.aws.template.policies import ON_ANYTHING, allow
from paletta_server.aws.template.standing import FIXED, refuse_replacing, shape, stack_policy
from paletta_server.cli import app as server
from paletta_server.commands.serve import GRACE_SECONDS, KEEP_ALIVE_SECONDS
from paletta_server.core.bucket import class_rules, cors_rule, sweeping_rules
from paletta_server.core.delivering import LABEL, PUBLIC_PATHS, WITHHELD
from paletta_server.core.jobs import STOP_SECONDS
from paletta_server.core.settings import Settings
from paletta_server.ingest.command import POSTER_PREFIX
from paletta_server.ingest.plan import plan_outputs
from tests.support.cloudformation import decided
from tests.support.up import clean_env
from tests.unit.test_ingest_gate import video

ONE, TWO = "DELIVERY_KEY_0123456789ab", "DELIVERY_KEY_ba9876543210"
KEYS = tuple(f"-----BEGIN PUBLIC KEY-----\n{letter * 64}\n-----END PUBLIC KEY-----\n" for letter in "AB")
EVERY = [
    Options(
        vpc=vpc,
        transcoder=transcoder,
        opensearch=search,
        kms=kms,
        hosted_zone=zone,
        public_keys=keys,
        gateways=("stripe", "invoice") if kms else ("invoice",),
    )
    for vpc, transcoder, search, kms, zone, keys in itertools.product(
        ("new", "existing"),
        ("mediaconvert", "ffmpeg"),
        (False, True),
        (False, True),
        (None, "Z0ABC"),
        ((), KEYS),
    )
]
FEW = [
    Options(),
    Options(opensearch=True, kms=True, hosted_zone="Z0ABC", dmarc=True, public_keys=KEYS),
    Options(vpc="existing", transcoder="ffmpeg", kms=True, public_keys=KEYS[:1], gateways=("invoice",)),
    Options(
        vpc="existing", opensearch=True, region="eu-central-2", bucket="films-of-ours", transcoder="ffmpeg"
    ),
]
ALL_LINTED = "PALETTA_TEST_EVERY_TEMPLATE"


def named(options: Options) -> str:
    words = [options.vpc, options.transcoder]
    words += [name for name in ("opensearch", "kms", "hosted_zone", "cloudfront") if getattr(options, name)]
    return "-".join(words)


# ---- cfn-lint


@pytest.mark.parametrize("options", EVERY + FEW if os.environ.get(ALL_LINTED) else FEW, ids=named)
def test_cfn_lint_finds_nothing(options: Options) -> None:
    text = to_yaml(render(options))
    assert [f"{match}" for match in lint(text, config=ManualArgs(regions=[options.region]))] == []


def test_cfn_lint_would_find_something() -> None:
    template = render(Options())
    template["Resources"]["Bucket"]["Properties"]["VersioningConfiguration"]["Status"] = "Perhaps"
    template["Resources"]["ApiRole"]["Properties"]["Nonsense"] = 1
    found = {match.rule.id for match in lint(to_yaml(template), config=ManualArgs(regions=["us-east-1"]))}
    assert {"E3030", "E3002"} <= found


def test_the_command_prints_what_the_linter_reads(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "paletta_server.cli", "aws", "template", "--ffmpeg"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    assert yaml.safe_load(done.stdout) == render(Options(transcoder="ffmpeg"))
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_a_template_that_cannot_be_written_is_said_to_be_none() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "paletta_server.cli", "aws", "template"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot write: No space left on device\n")
    assert "Traceback" not in done.stderr


def test_the_same_options_give_the_same_text_and_cloudformation_takes_it() -> None:
    for options in FEW:
        text = to_yaml(render(options))
        assert text == to_yaml(render(Options(**vars(options))))
        assert len(text.encode()) < MOST_BYTES
        assert "&id" not in text


# ---- rights


def statements(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every statement of every policy in the template, with where it stands."""
    if isinstance(node, dict):
        if "Statement" in node and "Version" in node:
            for statement in node["Statement"]:
                yield path, statement
        for key, value in node.items():
            yield from statements(value, (*path, key))
    elif isinstance(node, list):
        for value in node:
            yield from statements(value, path)


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize("options", EVERY, ids=named)
def test_no_statement_allows_a_wildcard_action_or_everything_without_a_reason(options: Options) -> None:
    seen = 0
    for path, statement in statements(render(options)["Resources"]):
        seen += 1
        actions = as_list(statement["Action"])
        if statement["Effect"] == "Deny":
            # It only takes away: what comes without TLS, and previews of what was taken down.
            assert statement["Condition"] in (
                {"Bool": {"aws:SecureTransport": "false"}},
                {"StringEquals": {"s3:ExistingObjectTag/paletta-access": "withheld"}},
            ), path
            continue
        assert not [action for action in actions if "*" in action], path
        resources = as_list(statement.get("Resource", []))
        if "KeyPolicy" in path:
            continue  # there `*` is the key itself
        if "*" in resources:
            assert set(actions) <= ON_ANYTHING.keys(), path
        for resource in resources:
            # At least the service and what kind of thing it is are named.
            assert resource == "*" or not isinstance(resource, str), path
        principal = statement.get("Principal", {})
        assert principal.get("AWS") != "*", path
        if "Service" in principal and "elasticloadbalancing" not in principal["Service"]:
            assert "Condition" in statement, f"{path}: any account could have it done"
    assert seen > 15


def test_rights_are_refused_while_they_are_written() -> None:
    with pytest.raises(ValueError, match="name the actions"):
        allow("s3:*", on={"Ref": "Bucket"})
    with pytest.raises(ValueError, match="no reason"):
        allow("s3:GetObject", on="*")


def test_everything_that_is_allowed_on_everything_is_listed_with_its_reason() -> None:
    template = render(FEW[1])
    found = {
        action
        for path, statement in statements(template["Resources"])
        if "*" in as_list(statement.get("Resource", [])) and "KeyPolicy" not in path
        for action in as_list(statement["Action"])
    }
    assert found == ON_ANYTHING.keys()
    assert template["Metadata"]["OnEveryResource"] == ON_ANYTHING


def test_a_role_is_passed_to_mediaconvert_alone() -> None:
    passing = [
        statement
        for _, statement in statements(render(FEW[1])["Resources"])
        if "iam:PassRole" in as_list(statement["Action"])
    ]
    assert len(passing) == 1
    assert passing[0]["Resource"] == {"Fn::GetAtt": ["TranscodingRole", "Arn"]}
    assert passing[0]["Condition"] == {"StringEquals": {"iam:PassedToService": "mediaconvert.amazonaws.com"}}


def test_services_without_mediaconvert_may_not_touch_it() -> None:
    text = to_yaml(render(Options(transcoder="ffmpeg")))
    assert "mediaconvert:" not in text
    assert "Completions" not in text


# ---- what the services are told


def containers(options: Options, **parameters: str) -> dict[str, dict[str, Any]]:
    return {
        container["Name"]: container
        for resource in decided(render(options), **parameters)["Resources"].values()
        if resource["Type"] == "AWS::ECS::TaskDefinition"
        for container in resource["Properties"]["ContainerDefinitions"]
    }


def told_to_api(options: Options, **parameters: str) -> dict[str, Any]:
    found = containers(options, **parameters)["api"]
    return {entry["Name"]: entry["Value"] for entry in found["Environment"]}


GIVEN = {
    "IngestQueueMax": "70000",
    "IngestQueueMaxBytes": "21000000000000",
    "OtelEndpoint": "http://collector.internal:4318",
    "OtelSampleRatio": "0.05",
}


MADE = {
    "Completions": "https://sqs.us-east-1.amazonaws.com/123456789012/completions",
    "MailEventsQueue": "https://sqs.us-east-1.amazonaws.com/123456789012/mail-events",
    "TranscodingQueue": "arn:aws:mediaconvert:us-east-1:123456789012:queues/films",
    "TranscodingRole": "arn:aws:iam::123456789012:role/transcoding",
}
"""What settings are held to, of what the template makes: an SQS queue's `Ref` is its address, the others' `Arn`."""


def resolved(value: Any) -> str:
    """Something of the right shape for what CloudFormation puts in."""
    if isinstance(value, str):
        return value
    text = str(value)
    if value.get("Ref") in GIVEN:
        return GIVEN[value["Ref"]]
    if value.get("Ref") in ("Completions", "MailEventsQueue"):
        return MADE[value["Ref"]]
    name, attribute = value.get("Fn::GetAtt", ("", ""))
    if attribute == "Arn" and name in MADE:
        return MADE[name]
    if "CidrBlock" in text or "VpcCidr" in text:
        return "10.20.0.0/16"
    if "OperatorEmails" in text:
        return "olga@example.com"
    if "Fn::Sub" in value:
        text = value["Fn::Sub"]
        for name in ("${Domain}", "${Database.Endpoint.Address}", "${SearchDomain.DomainEndpoint}"):
            text = text.replace(name, "shop.example.com")
        return text.replace("${Database.Endpoint.Port}", "5432")
    return "arn:aws:service:us-east-1:123456789012:thing"


@pytest.mark.parametrize("given", [True, False], ids=["every choice", "no choice"])
@pytest.mark.parametrize("options", FEW, ids=named)
def test_everything_a_container_is_told_is_a_setting(
    options: Options, given: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("PALETTA_")]:
        monkeypatch.delenv(name)
    known = Settings.model_fields.keys()
    for service, container in containers(options, **(GIVEN if given else {})).items():
        told = {entry["Name"]: resolved(entry["Value"]) for entry in container["Environment"]}
        secret = {entry["Name"]: "secret" for entry in container.get("Secrets", [])}
        assert not told.keys() & secret.keys()
        for name in told | secret:
            if name == "PGPASSWORD" or name.startswith("DELIVERY_KEY_"):
                assert service in ("prepare", "keys")  # libpq's own; what `aws write-keys` reads
                continue
            assert name.removeprefix("PALETTA_").lower() in known, f"{service}: {name}"
        with monkeypatch.context() as patch:
            for name, value in (told | secret).items():
                patch.setenv(name, value)
            settings = Settings(_env_file=None)
        if service == "keys":
            continue  # it is told nothing but the keys
        assert settings.env == "production"
        assert settings.public_url == "https://shop.example.com"
        if service in ("api", "worker", "completions"):
            assert settings.transcoder == options.transcoder
            assert settings.trusted_proxies == ("10.20.0.0/16",)
            assert settings.ingest_queue_max == (70_000 if given else None)
            assert settings.otel_endpoint == (GIVEN["OtelEndpoint"] if given else None)
            assert settings.otel_sample_ratio == (0.05 if given else 1.0)


def test_a_choice_takes_what_its_setting_takes() -> None:
    parameters = render(Options())["Parameters"]
    for name, value in GIVEN.items():
        pattern = parameters[name]["AllowedPattern"]
        assert re.fullmatch(pattern, value), name
        assert parameters[name]["Default"] == ""
        assert re.fullmatch(pattern, "")
    wrong = {
        "IngestQueueMax": ["0", "-1", "many", "1.5"],
        "IngestQueueMaxBytes": ["0", "1e12"],
        "OtelEndpoint": ["collector:4318", "http://user:secret@collector", "http://a/b", "http://a\nb"],
        "OtelSampleRatio": ["2", "-0.1", "1.5", "all"],
    }
    for name, values in wrong.items():
        for value in values:
            assert not re.fullmatch(parameters[name]["AllowedPattern"], value), (name, value)


def test_operators_commands_of_the_readme_are_for_containers_that_exist() -> None:
    readme = (Path(__file__).parents[2] / "paletta_server" / "deploy" / "README.md").read_text("utf-8")
    resources = render(FEW[1])["Resources"]
    found = re.findall(r"one_off (\S+) '(\[.+?\])'", readme)
    assert {name for name, _ in found} == {"migrate", "worker", "api"}
    for name, words in found:
        (definition,) = [
            one["Properties"]
            for one in resources.values()
            if one["Type"] == "AWS::ECS::TaskDefinition"
            and one["Properties"]["ContainerDefinitions"][0]["Name"] == name
        ]
        assert definition["Family"] == {"Fn::Sub": "${AWS::StackName}-" + name}
        parsed = CliRunner().invoke(server, [*json.loads(words), "--help"])
        assert parsed.exit_code == 0, words
        assert all(word in parsed.stdout for word in json.loads(words) if word.startswith("--")), words
    for log in re.findall(r"\| `(\w+Log)` \|", readme):
        assert resources[log]["Type"] == "AWS::Logs::LogGroup"


def test_only_the_api_searches_and_writes_the_shared_index() -> None:
    resources = render(FEW[1])["Resources"]
    assert resources["SearchRights"]["Properties"]["Roles"] == [{"Ref": "ApiRole"}]
    (statement,) = resources["SearchDomain"]["Properties"]["AccessPolicies"]["Statement"]
    assert statement["Principal"] == {"AWS": {"Fn::GetAtt": ["ApiRole", "Arn"]}}
    for name, container in containers(FEW[1]).items():
        told = {entry["Name"] for entry in container["Environment"]}
        assert ("PALETTA_OPENSEARCH_URL" in told) == (name == "api"), name


def test_nothing_secret_stands_in_the_template() -> None:
    for options in FEW:
        for container in containers(options, **GIVEN).values():
            for entry in container["Environment"]:
                assert "secret" not in entry["Name"].lower()
                assert "token" not in entry["Name"].lower()
                assert "PASSWORD" not in entry["Name"]
        for resource in render(options)["Resources"].values():
            assert "SecretString" not in resource.get("Properties", {})
            assert "MasterUserPassword" not in resource.get("Properties", {})


def test_containers_have_no_root_to_write_to_and_end_in_time() -> None:
    found = containers(FEW[1])
    assert set(found) == {"api", "keys", "worker", "completions", "mail-events", "prepare", "migrate"}
    assert len({str(container["Image"]) for container in found.values()}) == 1
    for container in found.values():
        assert container["ReadonlyRootFilesystem"] is True
        assert container["LinuxParameters"]["Capabilities"] == {"Drop": ["ALL"]}
        assert "Privileged" not in container
    assert found["worker"]["StopTimeout"] > STOP_SECONDS
    template = decided(render(FEW[1]))["Resources"]
    targets = {
        entry["Key"]: entry["Value"]
        for entry in template["ApiTargets"]["Properties"]["TargetGroupAttributes"]
    }
    balancer = {
        entry["Key"]: entry["Value"] for entry in template["Balancer"]["Properties"]["LoadBalancerAttributes"]
    }
    drain = int(targets["deregistration_delay.timeout_seconds"])
    # ECS takes a node out of the balancer and tells it to stop at the same time.
    assert 55 + GRACE_SECONDS <= drain < found["api"]["StopTimeout"] <= 120
    assert 55 < int(balancer["idle_timeout.timeout_seconds"]) < KEEP_ALIVE_SECONDS


def test_commands_of_the_containers_exist() -> None:
    for name, container in containers(FEW[1]).items():
        words = [word for word in container["Command"] if word[0] not in "-/" and not word[0].isdigit()]
        done = subprocess.run(
            [sys.executable, "-m", "paletta_server.cli", *words, "--help"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (name, done.stderr)


# ---- films


def test_previews_are_for_everybody_and_what_is_sold_is_not() -> None:
    plan = plan_outputs(video(width=3840, height=2160, coded_width=3840, coded_height=2160, codec="hevc"))
    folder = "media/clip_7h3k9m2qxw4t/run_7h3k9m2qxw4t/"
    previews = {
        plan.comp.name,
        plan.loop.name,
        plan.storyboard.name,
        plan.storyboard.vtt_name,
        f"{POSTER_PREFIX}3.jpg",
    }
    sold = {rendition.name for rendition in plan.renditions}
    assert len(sold) == 2

    def public(key: str) -> bool:
        return any(fnmatchcase(key, pattern) for pattern in PUBLIC_PATHS)

    assert all(public(folder + name) for name in previews)
    assert not any(public(folder + name) for name in sold)
    assert not public("originals/clip_7h3k9m2qxw4t/obj_7h3k9m2qxw4t")
    config = render(FEW[1])["Resources"]["Distribution"]["Properties"]["DistributionConfig"]
    assert config["DefaultCacheBehavior"]["TrustedKeyGroups"] == [{"Ref": "DeliveryKeys"}]
    assert {one["PathPattern"] for one in config["CacheBehaviors"]} == set(PUBLIC_PATHS)


def test_the_bucket_has_the_rules_that_migrate_sets() -> None:
    mine = render(Options())["Resources"]["Bucket"]["Properties"]["CorsConfiguration"]["CorsRules"][0]
    ours = cors_rule("https://${Domain}")
    assert mine["AllowedOrigins"] == [{"Fn::Sub": ours["AllowedOrigins"][0]}]
    assert mine["AllowedMethods"] == ours["AllowedMethods"]
    assert mine["AllowedHeaders"] == ours["AllowedHeaders"]
    assert mine["ExposedHeaders"] == ours["ExposeHeaders"]
    assert mine["MaxAge"] == ours["MaxAgeSeconds"]


@pytest.mark.parametrize("originals_class", get_args(OriginalsClass))
def test_the_bucket_has_the_lifecycle_that_migrate_sets(originals_class: OriginalsClass) -> None:
    options = Options(originals_class=originals_class)
    rules = render(options)["Resources"]["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    found = {}
    for rule in rules:
        told = {name: value for name, value in rule.items() if name not in ("Id", "Prefix")}
        if "ExpirationInDays" in told:
            told["Expiration"] = {"Days": told.pop("ExpirationInDays")}
        if "ExpiredObjectDeleteMarker" in told:
            told["Expiration"] = {"ExpiredObjectDeleteMarker": told.pop("ExpiredObjectDeleteMarker")}
        for move in told.get("Transitions", []):
            move["Days"] = move.pop("TransitionInDays")
        found[rule["Id"]] = {"ID": rule["Id"], "Filter": {"Prefix": rule.get("Prefix", "")}, **told}
    assert found == {
        rule["ID"]: rule for rule in [*sweeping_rules(versions=True), *class_rules(originals_class)]
    }
    assert ("originals-class" in found) == (originals_class != "STANDARD")
    assert told_to_api(options)["PALETTA_S3_ORIGINALS_CLASS"] == originals_class


def test_previews_of_what_was_taken_down_are_kept_from_cloudfront() -> None:
    resources = render(FEW[1])["Resources"]
    media = {"Fn::Sub": "${Bucket.Arn}/media/*"}
    (denied,) = (one for path, one in statements(resources["BucketPolicy"]) if one.get("Sid") == "TakenDown")
    assert denied == {
        "Sid": "TakenDown",
        "Effect": "Deny",
        "Principal": {"Service": "cloudfront.amazonaws.com"},
        "Action": ["s3:GetObject"],
        "Resource": media,
        "Condition": {"StringEquals": {f"s3:ExistingObjectTag/{LABEL}": WITHHELD}},
    }
    tagging = {"s3:GetObjectTagging", "s3:PutObjectTagging", "s3:DeleteObjectTagging"}
    allowed = [one for _, one in statements(resources["WorkerRole"]) if tagging <= set(one["Action"])]
    assert [one["Resource"] for one in allowed] == [media]


def test_what_is_kept_outlives_the_stack() -> None:
    resources = render(FEW[1])["Resources"]
    kept = {
        name: (made["DeletionPolicy"], made["UpdateReplacePolicy"])
        for name, made in resources.items()
        if "DeletionPolicy" in made
    }
    # A creation that fails keeps none of it, or the next one would find its names taken.
    retained = dict.fromkeys(
        ("AccessLogs", "Bucket", "Key", "Repository"), ("RetainExceptOnCreate", "Retain")
    )
    assert kept == {**retained, "Database": ("Snapshot", "Snapshot")}


def test_nothing_is_protected_before_there_is_anything_to_lose() -> None:
    """Or a first deployment that fails could not be undone, nor one that was never started be deleted."""
    found = {}
    for start in ("no", "yes"):
        resources = decided(render(FEW[1]), Start=start)["Resources"]
        attributes = {
            one["Key"]: one["Value"] for one in resources["Balancer"]["Properties"]["LoadBalancerAttributes"]
        }
        # The balancer tries its bucket out with a file, and what is not empty is not taken back.
        found[start] = (
            resources["Database"]["Properties"]["DeletionProtection"],
            attributes["deletion_protection.enabled"],
            attributes.get("access_logs.s3.enabled"),
            "access_logs.s3.bucket" in attributes,
        )
    assert found == {"no": (False, "false", None, False), "yes": (True, "true", "true", True)}


def test_a_node_has_the_time_that_a_large_index_takes() -> None:
    template = render(Options())
    service = template["Resources"]["ApiService"]["Properties"]
    assert service["HealthCheckGracePeriodSeconds"] == {"Ref": "ApiGraceSeconds"}
    grace = template["Parameters"]["ApiGraceSeconds"]
    # By the capacity page: twice what a clip costs, on one vCPU, for five million of them.
    assert grace["MinValue"] < 2 * 0.32e-3 * 5_000_000 < grace["Default"] < grace["MaxValue"]


# ---- stacks that stand

OTHERWISE: dict[str, Any] = {
    "domain": "films.example.org",
    "bucket": "films-of-ours",
    "region": "eu-west-1",
    "vpc": "existing",
    "transcoder": "ffmpeg",
    "opensearch": True,
    "kms": True,
    "originals_class": "DEEP_ARCHIVE",
    "hosted_zone": "Z0DEF",
    "dmarc": True,
    "public_keys": KEYS[:1],
    "gateways": ("invoice",),
}
"""Another value for each option."""


def replaced(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """What CloudFormation would make anew or take out: by the properties that its schemas call create-only."""
    found = set()
    for name, made in before["Resources"].items():
        now = after["Resources"].get(name)
        schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", made["Type"]).schema
        only = [*schema.get("createOnlyProperties", ()), *schema.get("conditionalCreateOnlyProperties", ())]
        paths = [path.removeprefix("/properties/").split("/") for path in only]
        if now is None or any(at(made["Properties"], path) != at(now["Properties"], path) for path in paths):
            found.add(name)
    return found


def at(node: Any, path: list[str]) -> Any:
    for word in path:
        node = node.get(word) if isinstance(node, dict) else None
    return node


def test_options_that_would_replace_what_is_kept_hold_for_a_stacks_life() -> None:
    assert OTHERWISE.keys() == {field.name for field in fields(Options)} == shape(Options()).keys()
    base = Options(hosted_zone="Z0ABC")
    before = render(base)
    kept = {name for name, made in before["Resources"].items() if "DeletionPolicy" in made}
    lost = {}
    for name, value in OTHERWISE.items():
        changed = replace(base, **{name: value})
        lost[name] = replaced(before, render(changed)) & (kept | {"DatabaseGroup"})
        for one, other in ((base, changed), (changed, base)):
            deployed = to_yaml(render(one))
            if name in FIXED:
                with pytest.raises(OptionsRefused, match=FIXED[name][0]):
                    refuse_replacing(deployed, other)
            elif name == "dmarc" and one.dmarc:
                with pytest.raises(OptionsRefused, match="give --dmarc"):
                    refuse_replacing(deployed, other)
            else:
                refuse_replacing(deployed, other)
    assert {name: found for name, found in lost.items() if found} == {
        "bucket": {"Bucket"},
        "kms": {"Database"},
        "vpc": {"DatabaseGroup"},
    }
    assert {name for name, found in lost.items() if found} == FIXED.keys()


def as_told(template: dict[str, Any], form: str) -> str:
    """A template as `aws cloudformation get-template` prints it, or as it is."""
    if form == "yaml":
        return to_yaml(template)
    if form == "json":
        return json.dumps(template)
    body = template if form == "answer, json" else to_yaml(template)
    return json.dumps({"TemplateBody": body, "StagesAvailable": ["Original", "Processed"]})


@pytest.mark.parametrize("form", ["yaml", "json", "answer, json", "answer, yaml"])
def test_what_is_deployed_is_read_in_every_form(form: str) -> None:
    options = Options(bucket="films-of-ours")
    template = render(options)
    refuse_replacing(as_told(template, form), options)
    del template["Metadata"]["Options"]["bucket"]  # it was not always there
    refuse_replacing(as_told(template, form), options)
    with pytest.raises(
        OptionsRefused, match=r"--bucket .* replaced by an empty one\nhint: .*`films-of-ours`"
    ):
        refuse_replacing(as_told(template, form), Options())


@pytest.mark.parametrize("text", ["", "[]", "{}", "a: !Ref b", '{"TemplateBody": "Resources: {}"}', "\x00"])
def test_what_is_no_template_of_ours_is_refused(text: str) -> None:
    with pytest.raises(OptionsRefused, match="no template of `paletta-server aws template`"):
        refuse_replacing(text, Options())


def test_the_command_refuses_to_replace_and_prints_the_policy_against_it(tmp_path: Path) -> None:
    deployed = as_told(render(Options(kms=True)), "answer, yaml")
    (tmp_path / "deployed.json").write_text(deployed)

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "paletta_server.cli", "aws", "template", *words],
            capture_output=True,
            text=True,
            input=deployed,
            cwd=tmp_path,
            check=False,
        )

    for source in ("-", "deployed.json"):
        refused = command("--deployed", source)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert refused.stderr.startswith(
            "error: --kms/--no-kms holds for a stack's life: the database would be"
        )
    done = command("--deployed", "-", "--kms")
    assert yaml.safe_load(done.stdout) == render(Options(kms=True))
    policy = command("--deployed", "-", "--kms", "--stack-policy")
    assert json.loads(policy.stdout) == stack_policy(render(Options(kms=True)))


@pytest.mark.parametrize("options", EVERY, ids=named)
def test_a_stack_policy_names_what_is_kept_and_nothing_that_is_not_there(options: Options) -> None:
    template = render(options)
    everything, denied = stack_policy(template)["Statement"]
    assert (everything["Effect"], everything["Action"], everything["Resource"]) == ("Allow", "Update:*", "*")
    assert (denied["Effect"], denied["Action"]) == ("Deny", ["Update:Replace", "Update:Delete"])
    named_ = {one.removeprefix("LogicalResourceId/") for one in denied["Resource"]}
    assert named_ <= template["Resources"].keys()
    assert named_ >= {"Database", "Bucket", "Repository"} | ({"Key"} if options.kms else set())


def test_a_record_that_zones_mostly_have_is_made_only_when_asked_for() -> None:
    def names(options: Options) -> list[Any]:
        records = render(options)["Resources"]["MailRecords"]["Properties"]["RecordSets"]
        return [record["Name"] for record in records]

    mine = {"Fn::Sub": "_dmarc.${Domain}"}
    assert mine not in names(Options(hosted_zone="Z0ABC"))
    assert mine in names(Options(hosted_zone="Z0ABC", dmarc=True))


def test_every_queue_gives_up_into_a_watched_one() -> None:
    resources = render(FEW[1])["Resources"]
    watched = {
        resource["Properties"]["Dimensions"][0]["Value"]["Fn::GetAtt"][0]
        for resource in resources.values()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
        and resource["Properties"]["MetricName"] == "ApproximateNumberOfMessagesVisible"
    }
    for name, resource in resources.items():
        if resource["Type"] == "AWS::SQS::Queue":
            redrive = resource["Properties"].get("RedrivePolicy")
            assert name in watched or redrive["deadLetterTargetArn"]["Fn::GetAtt"][0] in watched, name


# ---- options


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"domain": "no domain"}, "no domain"),
        ({"bucket": "Films"}, "no name for a bucket"),
        ({"bucket": "xn--films"}, "no name for a bucket"),
        ({"bucket": "films-s3alias"}, "no name for a bucket"),
        ({"bucket": "films.of.ours"}, "dashes"),
        ({"region": "../etc"}, "no region"),
        ({"hosted_zone": "x"}, "hosted zone"),
        ({"gateways": ("sandbox",)}, "sandbox"),
        ({"gateways": ()}, "nobody can pay"),
        ({"gateways": ("invoice", "invoice")}, "twice"),
        ({"region": "cn-north-1", "transcoder": "ffmpeg"}, "SES"),
        ({"region": "us-gov-west-1"}, "take --ffmpeg"),
        ({"region": "eu-central-2"}, "MediaConvert is not in `eu-central-2`: take --ffmpeg"),
        ({"region": "af-south-1"}, "no queue of MediaConvert in `af-south-1`: take --ffmpeg"),
        ({"dmarc": True}, "--hosted-zone"),
        ({"public_keys": KEYS[:1] * 2}, "twice"),
    ],
)
def test_options_that_cannot_work_are_refused(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(OptionsRefused, match=why):
        Options(**wrong)


def test_regions_are_taken_where_cloudformation_makes_what_is_asked_for() -> None:
    taken = set()
    for region in REGIONS:
        try:
            taken.add(Options(region=region).region)
        except OptionsRefused:
            continue
        PROVIDER_SCHEMA_MANAGER.get_resource_schema(
            region, "AWS::MediaConvert::Queue"
        )  # raises where it is not
    assert {"us-east-1", "eu-central-1", "ap-southeast-2"} <= taken
    assert len(taken) >= 15
    for region in WITHOUT_QUEUES:
        with pytest.raises(ResourceNotFoundError):
            PROVIDER_SCHEMA_MANAGER.get_resource_schema(region, "AWS::MediaConvert::Queue")


def test_a_private_key_is_refused_and_not_repeated(tmp_path: Path) -> None:
    private = tmp_path / "private.pem"
    private.write_text("-----BEGIN PRIVATE KEY-----\nHUNTER22\n-----END PRIVATE KEY-----\n")
    done = subprocess.run(
        [sys.executable, "-m", "paletta_server.cli", "aws", "plan", "--cloudfront-public-key", str(private)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "keep it" in done.stderr
    assert "HUNTER22" not in done.stdout + done.stderr
    junk = tmp_path / "junk.pem"
    junk.write_bytes(b"\xff\x00" * 9000)
    with pytest.raises(OptionsRefused, match="cannot be read"):
        read_public_keys([junk])


def test_a_key_that_cannot_sign_for_cloudfront_is_refused_before_anything_is_deployed(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    path = tmp_path / "public.pem"
    for private in (
        rsa.generate_private_key(public_exponent=65537, key_size=3072),
        ec.generate_private_key(ec.SECP256R1()),
    ):
        pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        path.write_bytes(pem)
        with pytest.raises(OptionsRefused, match="2048 bits"):
            read_public_keys([path])


def test_a_real_key_is_taken(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    path = tmp_path / "public.pem"
    path.write_bytes(
        key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).replace(b"\n", b"\r\n")
    )
    (text,) = read_public_keys([path])
    template = render(Options(public_keys=(text,)))
    [name] = [
        one for one, made in template["Resources"].items() if made["Type"] == "AWS::CloudFront::PublicKey"
    ]
    config = template["Resources"][name]["Properties"]["PublicKeyConfig"]
    read = yaml.safe_load(to_yaml(template))
    assert read["Resources"][name]["Properties"]["PublicKeyConfig"] == config
    assert config["EncodedKey"] == text


def test_the_plan_fits_eighty_columns_and_names_what_the_template_sets() -> None:
    from paletta_server.aws.tables import sections

    for options in FEW:
        needs = plan(options)
        printed = sections((need.kind, need.name, need.value) for need in needs)
        assert max(map(len, printed.splitlines())) <= 80
        told = {
            entry["Name"]
            for name, container in containers(options, **GIVEN).items()
            if name not in ("prepare", "migrate")
            for entry in container["Environment"] + container.get("Secrets", [])
        }
        # A key that does not sign yet is filled in, and told to nobody.
        told |= {f"DELIVERY_KEY_{name}" for name in key_names(options)[1:]}
        assert told == {need.name for need in needs if need.kind in ("setting", "secret")}
        assert as_json(options)["options"]["public_keys"] == len(options.public_keys)
        types = {resource["Type"].split("::")[1] for resource in render(options)["Resources"].values()}
        named_ = {need.name for need in needs if need.kind == "service"}
        assert types == named_


def test_the_plan_names_what_no_stack_makes() -> None:
    def before(options: Options) -> set[str]:
        return {need.name for need in plan(options) if need.kind == "before"}

    least = before(Options(hosted_zone="Z0ABC"))
    assert {"ECS", "application autoscaling", "DMARC"} <= least
    more = Options(hosted_zone="Z0ABC", dmarc=True, opensearch=True)
    assert before(more) == least - {"DMARC"} | {"OpenSearch"}


def test_private_keys_become_files_for_one_user_and_are_never_told(tmp_path: Path) -> None:
    pem = "-----BEGIN RSA PRIVATE KEY-----\nHUNTER22\n-----END RSA PRIVATE KEY-----"
    folder = tmp_path / "keys"

    def command(**keys: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "paletta_server.cli", "aws", "write-keys", "--to", str(folder)],
            capture_output=True,
            text=True,
            env=clean_env(**keys),
            check=False,
        )

    for keys in ({}, {ONE: "HUNTER22"}, {ONE: pem, TWO: ""}):
        refused = command(**keys)
        assert refused.returncode == 1
        assert "HUNTER22" not in refused.stdout + refused.stderr
        assert not folder.exists()
    for _ in range(2):  # a task that is started again finds its files
        done = command(**{ONE: pem, TWO: pem})
        assert done.returncode == 0, done.stderr
        assert "HUNTER22" not in done.stdout + done.stderr
    assert [path.name for path in sorted(folder.iterdir())] == ["0123456789ab.pem", "ba9876543210.pem"]
    assert (folder / "0123456789ab.pem").read_text() == pem + "\n"
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    told = told_to_api(FEW[1])
    name = key_names(FEW[1])[0]
    path = f"${{DeliveryKey{name}}}:/var/lib/paletta/keys/{name}.pem"
    assert told["PALETTA_CLOUDFRONT_KEYS"] == {"Fn::Sub": path}


def test_a_key_stays_what_it_is_while_others_come_and_go() -> None:
    """CloudFront changes no public key: one that moved to another name would end the deployment, or every download."""
    first, second = KEYS
    held: dict[str, set[str]] = {}
    for keys in ((first,), (first, second), (second, first), (second,)):
        options = Options(public_keys=keys)
        for name, made in render(options)["Resources"].items():
            if made["Type"] == "AWS::CloudFront::PublicKey":
                held.setdefault(name, set()).add(made["Properties"]["PublicKeyConfig"]["EncodedKey"])
        told = told_to_api(options)
        assert told["PALETTA_CLOUDFRONT_KEYS"]["Fn::Sub"].startswith(
            f"${{DeliveryKey{key_names(options)[0]}}}:"
        )
    assert sorted(map(len, held.values())) == [1, 1], held


def test_a_container_wants_no_secret_that_its_own_deployment_makes() -> None:
    """Whoever wants an empty secret does not start, and the deployment that made it is undone with the secret."""
    first, second = KEYS

    def wanted(options: Options, **parameters: str) -> set[str]:
        found = containers(options, **parameters).values()
        return {one["ValueFrom"]["Ref"] for container in found if container["Name"] not in ("prepare", "migrate")
                for one in container.get("Secrets", [])}  # fmt: skip

    def made(options: Options) -> set[str]:
        resources = render(options)["Resources"].items()
        # The token has a value from the beginning.
        return {
            name for name, one in resources if one["Type"] == "AWS::SecretsManager::Secret"
        } - {"MetricsToken"}  # fmt: skip

    one_key, two_keys = (
        Options(public_keys=keys, gateways=("invoice",)) for keys in ((first,), (first, second))
    )
    assert not wanted(two_keys) & (made(two_keys) - made(one_key))
    swapped = Options(public_keys=(second, first), gateways=("invoice",))
    assert made(swapped) == made(two_keys)
    assert wanted(swapped) - wanted(two_keys) == made(two_keys) - made(one_key)
    none = Options(gateways=("invoice",))
    assert not wanted(one_key, DeliverByCloudFront="no") & made(one_key)
    found = containers(one_key, DeliverByCloudFront="no")
    assert "keys" not in found
    assert "DependsOn" not in found["api"]
    assert told_to_api(one_key, DeliverByCloudFront="no") == told_to_api(none)
    both = Options(gateways=("stripe", "invoice"))
    assert not wanted(both, TakeStripe="no") & (made(both) - made(none))
    assert told_to_api(both, TakeStripe="no")["PALETTA_GATEWAYS"] == "invoice"
    assert told_to_api(both)["PALETTA_GATEWAYS"] == "stripe,invoice"
    assert wanted(both) >= made(both)


def test_the_database_is_migrated_by_the_new_image_while_the_old_one_runs() -> None:
    old, new = (
        {"Fn::Sub": "${Repository.RepositoryUri}:${ImageTag}"},
        "${Repository.RepositoryUri}:${MigrateImageTag}",
    )
    found = containers(FEW[1], MigrateImageTag="0.2.0")
    images = {name: container["Image"] for name, container in found.items()}
    assert {name for name, image in images.items() if image == {"Fn::Sub": new}} == {"prepare", "migrate"}
    assert {str(image) for name, image in images.items() if name not in ("prepare", "migrate")} == {str(old)}
    assert {str(container["Image"]) for container in containers(FEW[1]).values()} == {str(old)}


def test_how_many_run_is_left_to_whoever_scales() -> None:
    off, on = (decided(render(FEW[1]), Start=start)["Resources"] for start in ("no", "yes"))
    for service, scaled in (("Api", True), ("Worker", True), ("Completions", False), ("MailHandler", False)):
        properties = [one[f"{service}Service"]["Properties"] for one in (off, on)]
        assert properties[0]["DesiredCount"] == 0
        assert ("DesiredCount" in properties[1]) != scaled
        if scaled:
            assert on[f"{service}Scaling"]["Properties"]["MinCapacity"]["Ref"]
    strategy = on["WorkerService"]["Properties"]["CapacityProviderStrategy"]
    assert [(one["CapacityProvider"], one.get("Base", 0)) for one in strategy] == [
        ("FARGATE", 1),
        ("FARGATE_SPOT", 0),
    ]
    forced = {name for name, one in on.items() if one["Properties"].get("ForceNewDeployment")}
    assert forced == {"WorkerService"}, "ECS takes another strategy only with a new deployment"
    assert "JobsUncountedAlarm" in on
    assert "JobsUncountedAlarm" not in off
