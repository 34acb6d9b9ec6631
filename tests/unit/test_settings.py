"""Settings that cannot work are refused by name, with what to write instead."""

from __future__ import annotations

import pytest
from pydantic import SecretStr, ValidationError

from paletta_server.core.settings import Settings


def refused(**given: object) -> str:
    """What is said about the one setting that cannot work, behind its name."""
    with pytest.raises(ValidationError) as error:
        Settings(_env_file=None, **given)  # type: ignore[arg-type]
    (only,) = error.value.errors()
    return f"{'_'.join(map(str, only['loc']))}: {only['msg'].removeprefix('Value error, ')}"


def test_a_proxy_that_nobody_could_trust_is_refused() -> None:
    assert refused(trusted_proxies="10.0.0.5/16") == (
        "trusted_proxies: `10.0.0.5/16` is no address and no network: did you mean 10.0.0.0/16?"
    )
    for word in ("10.0.0.0/33", "foo", "10.0.0.1;10.0.0.2", "10.1"):
        assert f"`{word}` is no address and no network; write" in refused(trusted_proxies=f"10.0.0.1,{word}")
    assert "stands alone" in refused(trusted_proxies="10.0.0.1, *")
    for good in ("", "*", "127.0.0.1", "10.0.0.0/8, 192.0.2.1, fd00::/8, ::1"):
        assert Settings(_env_file=None, trusted_proxies=good) is not None  # type: ignore[arg-type]


def test_what_may_be_left_out_is_not_set_when_it_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    optional = [name for name, field in Settings.model_fields.items() if field.default is None]
    assert {"metrics_token", "stripe_webhook_secret", "s3_endpoint", "database_ca"} <= set(optional)
    for name in optional:
        monkeypatch.setenv(f"PALETTA_{name.upper()}", "")
    empty = Settings(_env_file=None)
    assert {name: getattr(empty, name) for name in optional} == dict.fromkeys(optional)
    assert not empty.model_fields_set & set(optional)
    assert Settings(_env_file=None, metrics_token=SecretStr(" ")).metrics_token is None


def test_a_number_that_cannot_work_is_refused() -> None:
    for name, value in (("smtp_port", 99999), ("ingest_max_bytes", -1), ("token_idle_days", 0)):
        assert refused(**{name: value}).startswith(f"{name}: ")
    assert "PALETTA_INGEST_MIN_SECONDS" in refused(ingest_min_seconds=200)


def test_production_is_reached_by_https_alone() -> None:
    assert "PALETTA_PUBLIC_URL must be https" in refused(env="production", public_url="HTTP://shop.example")
    assert Settings(_env_file=None, env="production", public_url="https://shop.example") is not None


def test_another_database_is_refused_without_telling_its_password() -> None:
    said = refused(database_url="mysql://paletta:hunter22@db/paletta")
    assert said.startswith("database_url: write it as postgresql://")
    assert "hunter22" not in said


ADDRESSES = [
    *("public_url", "s3_endpoint", "aws_endpoint", "mediaconvert_endpoint", "otel_endpoint"),
    *("completions_queue_url", "mail_events_queue_url", "stripe_api_base"),
]


@pytest.mark.parametrize("name", ADDRESSES)
def test_an_address_is_one_before_anything_asks_it(name: str) -> None:
    for wrong in (
        *("shop.example", "s3://shop", "ftp://shop.example", "https://", "https://:443", "http://shop:x"),
        *(
            "https://shop.example?a=b",
            "https://shop.example#a",
            "https://shop.example\n",
            "https://sh op.example",
        ),
        *("https://ana:hunter22@shop.example", "http://shop.example:99999", "http://[::1"),
    ):
        said = refused(**{name: wrong})
        assert said.startswith(f"{name}: "), wrong
        assert "write it as https://HOST" in said, wrong
        assert "hunter22" not in said
    for good in (
        "https://shop.example/",
        "http://127.0.0.1:8333",
        "http://[::1]:4318",
        "https://shop.example/a/b",
    ):
        made = Settings(_env_file=None, **{name: good})  # type: ignore[arg-type]
        assert getattr(made, name) == good.rstrip("/")


def test_opensearch_may_want_a_login_which_is_not_told() -> None:
    made = Settings(_env_file=None, opensearch_url=SecretStr("https://ana:hunter22@search.example/"))
    assert made.opensearch_url == SecretStr("https://ana:hunter22@search.example")
    said = refused(opensearch_url=SecretStr("ana:hunter22@search.example"))
    assert said.startswith("opensearch_url: write it as https://HOST")
    assert "hunter22" not in said


def test_a_role_and_a_queue_are_named_as_amazon_names_them() -> None:
    role, queue = (
        "arn:aws:iam::111122223333:role/films",
        "arn:aws-cn:mediaconvert:cn-north-1:111122223333:queues/a",
    )
    assert (
        Settings(_env_file=None, mediaconvert_role=role, mediaconvert_queue=queue).mediaconvert_queue == queue
    )
    for wrong in (
        "films",
        queue,
        "arn:aws:iam::1111:role/films",
        "arn:aws:iam::111122223333:user/films",
        role + " ",
    ):
        assert "is no ARN of a role: arn:aws:iam::ACCOUNT:role/NAME" in refused(mediaconvert_role=wrong)
    assert "arn:aws:mediaconvert:REGION:ACCOUNT:queues/NAME" in refused(mediaconvert_queue="Default")


def test_mails_come_from_an_address() -> None:
    for wrong in (
        "Paletta",
        "Paletta <no-reply>",
        "a@b.example, c@d.example",
        "Shop, Inc <a@b.example>",
        "@b",
        "a@",
    ):
        assert "is no sender; write it as Paletta <no-reply@example.com>" in refused(mail_from=wrong)
    for good in ("no-reply@localhost", '"Shop, Inc" <a@b.example>', "Paletta <no-reply@localhost>"):
        assert Settings(_env_file=None, mail_from=good).mail_from == good
