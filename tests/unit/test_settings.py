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
    for address in ("HTTP://shop.example", "ftp://shop.example", "shop.example"):
        assert "PALETTA_PUBLIC_URL must be https" in refused(env="production", public_url=address)
    assert Settings(_env_file=None, env="production", public_url="https://shop.example") is not None


def test_another_database_is_refused_without_telling_its_password() -> None:
    said = refused(database_url="mysql://paletta:hunter22@db/paletta")
    assert said.startswith("database_url: write it as postgresql://")
    assert "hunter22" not in said
