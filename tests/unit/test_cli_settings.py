"""Flags > environment > profile, and where tokens are kept."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from paletta_cli import credentials, settings
from paletta_cli.errors import PalettaError, UsageError
from paletta_cli.settings import DEFAULT_URL, Profile


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PALETTA_URL", "PALETTA_PROFILE", "PALETTA_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PALETTA_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("PALETTA_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("PALETTA_KEYRING", "off")
    monkeypatch.setattr(settings, "flags", settings._Flags())


def test_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.load().url == DEFAULT_URL
    settings.save_profile(settings.load(), "studio", Profile("https://studio.example/", "ana@example.org"))
    settings.save_profile(settings.load(), "home", Profile("https://home.example"))
    assert (settings.load().profile, settings.load().url) == ("studio", "https://studio.example")
    monkeypatch.setenv("PALETTA_PROFILE", "home")
    assert settings.load().url == "https://home.example"
    monkeypatch.setenv("PALETTA_URL", "https://env.example")
    assert settings.load().url == "https://env.example"
    settings.flags.url = "http://localhost:1"
    assert settings.load().url == "http://localhost:1"


def test_profiles_are_kept_whatever_they_are_called(tmp_path: Path) -> None:
    odd = 'a "b".c\\d é'
    settings.save_profile(settings.load(), odd, Profile("https://x.example", 'q"\\'))
    settings.save_profile(settings.load(), "other", Profile(), make_default=True)
    loaded = settings.load()
    assert loaded.profiles == {odd: Profile("https://x.example", 'q"\\'), "other": Profile()}
    assert loaded.default_profile == "other"
    assert (tmp_path / "config" / "config.toml").stat().st_mode & 0o777 == 0o600


def test_a_damaged_config_is_named(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.toml").write_text("profiles = [")
    with pytest.raises(PalettaError, match=r"cannot read `.*config.toml`"):
        settings.load()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8750", "http://[::1]:1/x", "http://localhost", "https://a.example"]
)
def test_addresses_that_are_fine(url: str) -> None:
    assert settings.checked_url(url + "/") == url


@pytest.mark.parametrize(
    "url", ["http://a.example", "http://127.0.0.1.example", "ftp://x", "paletta", "http://"]
)
def test_addresses_that_are_not(url: str) -> None:
    with pytest.raises(UsageError):
        settings.checked_url(url)


def test_a_token_is_kept_for_its_address_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0)
    try:
        place = credentials.save_token(settings.load(), "plt_secret")
    finally:
        os.umask(before)
    path = tmp_path / "config" / "credentials.json"
    assert place == str(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert credentials.token(settings.load()) == "plt_secret"
    assert credentials.where(settings.load()) == str(path)
    monkeypatch.setenv("PALETTA_URL", "https://elsewhere.example")
    assert credentials.token(settings.load()) is None
    monkeypatch.delenv("PALETTA_URL")
    monkeypatch.setenv("PALETTA_TOKEN", " plt_env\n")
    assert credentials.token(settings.load()) == "plt_env"
    assert credentials.stored(settings.load()) == "plt_secret"
    assert credentials.where(settings.load()) == "PALETTA_TOKEN"
    monkeypatch.delenv("PALETTA_TOKEN")
    assert credentials.forget_token(settings.load())
    assert not credentials.forget_token(settings.load())
    assert credentials.token(settings.load()) is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_token_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    credentials.save_token(settings.load(), "plt_secret")
    path = tmp_path / "config" / "credentials.json"
    path.chmod(mode)
    with pytest.raises(PalettaError, match="can be read by others") as caught:
        credentials.token(settings.load())
    assert caught.value.hint is not None
    assert "chmod 600" in caught.value.hint


def test_a_token_file_that_is_a_link_is_refused(tmp_path: Path) -> None:
    credentials.save_token(settings.load(), "plt_secret")
    path = tmp_path / "config" / "credentials.json"
    path.rename(tmp_path / "real")
    path.symlink_to(tmp_path / "real")
    with pytest.raises(PalettaError):
        credentials.token(settings.load())


def test_a_place_that_takes_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("a file where a folder should be")
    with pytest.raises(PalettaError, match=r"cannot write `.*credentials.json`: not a directory|file exists"):
        settings.write_private(tmp_path / "config" / "credentials.json", "{}")


def test_a_damaged_token_file_is_named(tmp_path: Path) -> None:
    settings.write_private(tmp_path / "config" / "credentials.json", "{")
    with pytest.raises(PalettaError, match="damaged"):
        credentials.token(settings.load())


def test_a_keyring_is_used_where_there_is_one_and_never_waited_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    import keyring
    from keyring.backend import KeyringBackend

    class Ring(KeyringBackend):
        priority = 1.0  # type: ignore[assignment]
        kept: dict[tuple[str, str], str] = {}  # noqa: RUF012
        hung: threading.Event | None = None

        def get_password(self, service: str, username: str) -> str | None:
            if self.hung is not None:
                self.hung.wait()
            return self.kept.get((service, username))

        def set_password(self, service: str, username: str, password: str) -> None:
            self.kept[service, username] = password

        def delete_password(self, service: str, username: str) -> None:
            del self.kept[service, username]

    ring = Ring()
    before = keyring.get_keyring()
    keyring.set_keyring(ring)
    monkeypatch.setenv("PALETTA_KEYRING", "on")
    try:
        assert credentials.save_token(settings.load(), "plt_secret") == "keyring"
        written = (tmp_path / "config" / "credentials.json").read_text()
        assert "plt_secret" not in written
        assert json.loads(written) == {f"default {DEFAULT_URL}": {"store": "keyring"}}
        assert credentials.token(settings.load()) == "plt_secret"
        ring.hung = threading.Event()
        with monkeypatch.context() as impatient:  # with the one that hangs, not with the one that answers
            impatient.setattr(credentials, "_KEYRING_SECONDS", 0.05)
            assert credentials.token(settings.load()) is None
        ring.hung.set()
        ring.hung = None
        assert credentials.forget_token(settings.load())
        assert ring.kept == {}
    finally:
        keyring.set_keyring(before)
