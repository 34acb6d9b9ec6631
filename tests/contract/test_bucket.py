"""Setting a bucket up: shown before, done once, nothing the second time; on every store that can run here."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from paletta_server.aws.options import Options
from paletta_server.aws.template import render
from paletta_server.commands.bucket import bootstrap as command
from paletta_server.core import bucket
from paletta_server.core.bucket import Change
from paletta_server.core.settings import Settings, get_settings
from paletta_server.core.storage import ObjectStore, StoreError
from tests.support import aws
from tests.support.stack import Addresses

KMS = "arn:aws:kms:eu-west-1:123456789012:key/11111111-2222-3333-4444-555555555555"


@pytest.fixture(scope="module")
def amazon() -> Iterator[str]:
    with aws.server() as address:
        yield address


@pytest.fixture(params=["amazon", "embedded"])
def fresh(request: pytest.FixtureRequest, amazon: str, stack: Addresses) -> Settings:
    """Settings of a store that has no such bucket yet."""
    endpoint, access, secret = (
        (amazon, aws.KEY, aws.KEY)
        if request.param == "amazon"
        else (stack.endpoint, stack.access_key, stack.secret_key)
    )
    return Settings(
        _env_file=None,
        s3_endpoint=endpoint,
        s3_access_key=access,
        s3_secret_key=secret,
        s3_bucket=f"fresh-{secrets.token_hex(6)}",
        s3_region="eu-west-1" if request.param == "amazon" else "us-east-1",
        public_url="https://paletta.example",
    )


def outcomes(changes: list[Change]) -> dict[str, str]:
    return {one.what: one.outcome for one in changes}


async def test_it_is_shown_then_done_then_nothing_is_left_to_do(fresh: Settings) -> None:
    async with ObjectStore(fresh) as store:
        shown = await bucket.bootstrap(store, fresh, versioning="on", plan=True)
        assert set(outcomes(shown).values()) <= {"would change", "as wanted"}
        with pytest.raises(StoreError, match="NoSuchBucket"):
            await bucket.look(store, fresh)  # a plan makes nothing
        done = outcomes(await bucket.bootstrap(store, fresh, versioning="on"))
        again = outcomes(await bucket.bootstrap(store, fresh, versioning="on"))
    assert "refused" not in done.values()
    can = {what for what, outcome in done.items() if outcome in ("changed", "as wanted")}
    assert {"bucket", "cors", "lifecycle", "versioning"} <= can
    assert {what for what, outcome in again.items() if outcome == "as wanted"} == can
    assert "changed" not in again.values()


async def test_what_the_embedded_store_lacks_is_said(stack: Addresses) -> None:
    lean = Settings(
        _env_file=None,
        s3_endpoint=stack.endpoint,
        s3_access_key=stack.access_key,
        s3_secret_key=stack.secret_key,
        s3_bucket=f"lean-{secrets.token_hex(6)}",
        s3_originals_class="GLACIER",
    )
    async with ObjectStore(lean) as store:
        done = outcomes(await bucket.bootstrap(store, lean))
        found = await bucket.look(store, lean)
    assert (done["public access"], done["class of originals"]) == ("not possible", "not possible")
    assert done["lifecycle"] == "changed", "one rule that it does not know must not cost the others"
    assert {one.what for one in found if one.outcome == "as wanted"} >= {"cors", "lifecycle"}


async def test_everything_is_set_as_amazon_reads_it(amazon: str) -> None:
    wanted = Settings(
        _env_file=None,
        s3_endpoint=amazon,
        s3_access_key=aws.KEY,
        s3_secret_key=aws.KEY,
        s3_region="eu-west-1",
        s3_bucket=f"ours-{secrets.token_hex(6)}",
        s3_kms_key=KMS,
        s3_originals_class="DEEP_ARCHIVE",
    )
    async with ObjectStore(wanted) as store:
        await bucket.bootstrap(store, wanted)
        s3: Any = store._client()
        name = {"Bucket": store.bucket}
        access = s3.get_public_access_block(**name)["PublicAccessBlockConfiguration"]
        assert list(access.values()) == [True] * 4
        (rule,) = s3.get_bucket_encryption(**name)["ServerSideEncryptionConfiguration"]["Rules"]
        assert rule["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"] == KMS
        assert rule["BucketKeyEnabled"] is True
        assert s3.get_bucket_location(**name)["LocationConstraint"] == "eu-west-1"

        # An operator's own rule stays, and the class goes when it is not wanted any more.
        rules = s3.get_bucket_lifecycle_configuration(**name)["Rules"]
        theirs = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "x/"}, "Expiration": {"Days": 3}}
        s3.put_bucket_lifecycle_configuration(**name, LifecycleConfiguration={"Rules": [*rules, theirs]})
        back = wanted.model_copy(update={"s3_originals_class": "STANDARD"})
        changed = outcomes(await bucket.bootstrap(store, back))
        names = {one["ID"] for one in s3.get_bucket_lifecycle_configuration(**name)["Rules"]}
    assert [what for what, outcome in changed.items() if outcome == "changed"] == ["class of originals"]
    assert names == {"stale-multiparts", "trials", "noncurrent", "theirs"}


async def test_markers_of_what_was_deleted_go_where_there_are_versions(fresh: Settings) -> None:
    async with ObjectStore(fresh) as store:
        s3: Any = store._client()
        name = {"Bucket": store.bucket}

        def cleared() -> bool:
            rules = s3.get_bucket_lifecycle_configuration(**name)["Rules"]
            (rule,) = (one for one in rules if one["ID"] == "noncurrent")
            assert rule["NoncurrentVersionExpiration"] == {"NoncurrentDays": bucket.NONCURRENT_DAYS}
            return bool(rule.get("Expiration", {}).get("ExpiredObjectDeleteMarker"))

        async def again(versioning: bucket.Versioning | None = None) -> str:
            return outcomes(await bucket.bootstrap(store, fresh, versioning=versioning))["lifecycle"]

        assert (await again(), cleared()) == ("changed", False)
        assert (await again("on"), cleared()) == ("changed", True)
        # Nobody has to say it again: not who leaves versions as they are, nor who makes no more of them.
        assert (await again(), cleared()) == ("as wanted", True)
        assert (await again("off"), cleared()) == ("as wanted", True)
        assert (await again(), cleared()) == ("as wanted", True)


async def test_after_the_template_nothing_is_left_to_do(amazon: str) -> None:
    options = Options(domain="paletta.example", originals_class="GLACIER")
    made = render(options)["Resources"]["Bucket"]["Properties"]
    (cors,) = made["CorsConfiguration"]["CorsRules"]
    settings = Settings(
        _env_file=None,
        s3_endpoint=amazon,
        s3_access_key=aws.KEY,
        s3_secret_key=aws.KEY,
        s3_bucket=f"made-{secrets.token_hex(6)}",
        s3_originals_class="GLACIER",
        public_url="https://paletta.example",
    )
    async with ObjectStore(settings) as store:
        s3: Any = store._client()
        name = {"Bucket": store.bucket}
        s3.create_bucket(**name)
        s3.put_bucket_versioning(**name, VersioningConfiguration=made["VersioningConfiguration"])
        s3.put_public_access_block(
            **name, PublicAccessBlockConfiguration=made["PublicAccessBlockConfiguration"]
        )
        s3.put_bucket_ownership_controls(**name, OwnershipControls=made["OwnershipControls"])
        cors |= {"AllowedOrigins": ["https://paletta.example"], "MaxAgeSeconds": cors.pop("MaxAge")}
        cors["ExposeHeaders"] = cors.pop("ExposedHeaders")
        s3.put_bucket_cors(**name, CORSConfiguration={"CORSRules": [cors]})
        rules = [_as_s3_has_it(rule) for rule in made["LifecycleConfiguration"]["Rules"]]
        s3.put_bucket_lifecycle_configuration(**name, LifecycleConfiguration={"Rules": rules})
        found = await bucket.bootstrap(store, settings, plan=True)
    assert set(outcomes(found).values()) == {"as wanted"}, found


def _as_s3_has_it(rule: dict[str, Any]) -> dict[str, Any]:
    """A lifecycle rule of CloudFormation in the words of S3's own interface."""
    told: dict[str, Any] = {"ID": rule["Id"], "Filter": {"Prefix": rule.get("Prefix", "")}}
    for name, value in rule.items():
        if name == "ExpirationInDays":
            told["Expiration"] = {"Days": value}
        elif name == "ExpiredObjectDeleteMarker":
            told["Expiration"] = {"ExpiredObjectDeleteMarker": value}
        elif name == "Transitions":
            moves = [{"Days": one["TransitionInDays"], "StorageClass": one["StorageClass"]} for one in value]
            told["Transitions"] = moves
        elif name not in ("Id", "Prefix"):
            told[name] = value
    return told


def test_the_command_shows_the_difference_and_a_taken_name_is_told(
    amazon: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PALETTA_S3_ENDPOINT", amazon)
    monkeypatch.setenv("PALETTA_S3_ACCESS_KEY", aws.KEY)
    monkeypatch.setenv("PALETTA_S3_SECRET_KEY", aws.KEY)
    monkeypatch.setenv("PALETTA_S3_BUCKET", f"told-{secrets.token_hex(6)}")
    get_settings.cache_clear()
    try:
        assert command(plan=True, versioning=None, as_json=False) == 0
        shown = capsys.readouterr().out
        assert "cors\twould change" in shown
        assert '+ [{"AllowedHeaders": ["range"]' in shown
        assert command(plan=False, versioning="on", as_json=True) == 0
        assert {one["outcome"] for one in json.loads(capsys.readouterr().out)} <= {"changed", "as wanted"}
        monkeypatch.setenv("PALETTA_S3_ENDPOINT", "http://127.0.0.1:1")
        get_settings.cache_clear()
        assert command(plan=True, versioning=None, as_json=False) == 1
        assert "does not answer" in capsys.readouterr().err
    finally:
        get_settings.cache_clear()
