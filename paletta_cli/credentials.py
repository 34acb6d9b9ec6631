"""The API token of a profile: environment first, then the system's keyring, else a file only its owner can
read.

A token belongs to one profile *and* one address, so that pointing PALETTA_URL elsewhere never sends it there.
`credentials.json` names every stored token; its value is the token itself or says that the keyring has it.
The keyring is asked only when it is known to hold something, in a thread with a time limit: on machines
without a desktop it may hang.
"""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paletta_cli.errors import PalettaError, UsageError
from paletta_cli.settings import Settings, write_private

_SERVICE = "paletta"
_KEYRING_SECONDS = 3.0  # a locked desktop keyring answers within it, and a person waits that long


def token(settings: Settings) -> str | None:
    """The token to send, or None when nobody is logged in.

    Raises PalettaError for a token file others can read.
    """
    return _from_environment() or stored(settings)


def stored(settings: Settings) -> str | None:
    """The token that a login on this machine left, whatever the environment says."""
    entry = _read(settings.config_dir).get(_key(settings.profile, settings.url))
    if entry is None:
        return None
    if entry.get("store") == "keyring":
        found = _keyring(lambda ring: ring.get_password(_SERVICE, _key(settings.profile, settings.url)))
    else:
        found = entry.get("token")
    return found if isinstance(found, str) else None


def where(settings: Settings) -> str | None:
    """Where `token` comes from, for people: `PALETTA_TOKEN`, `keyring`, or the file's path."""
    if _from_environment():
        return "PALETTA_TOKEN"
    entry = _read(settings.config_dir).get(_key(settings.profile, settings.url))
    if entry is None:
        return None
    return "keyring" if entry.get("store") == "keyring" else str(_path(settings.config_dir))


def known_logins(settings: Settings) -> frozenset[tuple[str, str]]:
    """The (profile, address) pairs that have a token here; the keyring is not asked."""
    pairs = (key.rpartition(" ") for key in _read(settings.config_dir))
    return frozenset((profile, url) for profile, _, url in pairs)


def save_token(settings: Settings, value: str) -> str:
    """Remember the token; returns where it went, for a message: `keyring` or the file's path."""
    key = _key(settings.profile, settings.url)
    in_keyring = _keyring(lambda ring: _store(ring, key, value)) is True
    entries = _read(settings.config_dir)
    entries[key] = {"store": "keyring"} if in_keyring else {"store": "file", "token": value}
    _write(settings.config_dir, entries)
    return "keyring" if in_keyring else str(_path(settings.config_dir))


def forget_token(settings: Settings) -> bool:
    """Drop the stored token; says whether there was one."""
    key = _key(settings.profile, settings.url)
    entries = _read(settings.config_dir)
    entry = entries.pop(key, None)
    if entry is None:
        return False
    if entry.get("store") == "keyring":
        _keyring(lambda ring: ring.delete_password(_SERVICE, key))
    _write(settings.config_dir, entries)
    return True


def _from_environment() -> str | None:
    token = os.environ.get("PALETTA_TOKEN", "").strip()
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise UsageError(
            "PALETTA_TOKEN is not a token: it has characters that none has",
            hint="copy it again, without line breaks",
        )
    return token or None


def _store(ring: Any, key: str, value: str) -> bool:
    ring.set_password(_SERVICE, key, value)
    return bool(ring.get_password(_SERVICE, key) == value)


def _keyring(action: Callable[[Any], Any]) -> Any:
    """The action's result, or None when the machine has no usable keyring or it does not answer in time."""
    if os.environ.get("PALETTA_KEYRING", "").lower() in ("0", "off", "no"):
        return None
    import threading

    result: list[Any] = []

    def ask() -> None:
        import contextlib

        # Backends raise whatever their platform raises: any failure means "no keyring here".
        with contextlib.suppress(Exception):
            import keyring

            result.append(action(keyring))

    thread = threading.Thread(target=ask, name="keyring", daemon=True)
    thread.start()
    thread.join(_KEYRING_SECONDS)
    return result[0] if result else None


def _key(profile: str, url: str) -> str:
    return f"{profile} {url}"


def _path(config_dir: Path) -> Path:
    return config_dir / "credentials.json"


def _write(config_dir: Path, entries: dict[str, dict[str, Any]]) -> None:
    write_private(_path(config_dir), json.dumps(entries, indent=1, sort_keys=True) + "\n")


def _read(config_dir: Path) -> dict[str, dict[str, Any]]:
    path = _path(config_dir)
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise PalettaError(f"cannot read `{path}`: {error.strerror}") from error
    with os.fdopen(descriptor, encoding="utf-8") as stream:
        mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
        if os.name == "posix" and mode & 0o077:
            raise PalettaError(
                f"`{path}` can be read by others (mode {mode:04o})",
                hint=f"run: chmod 600 {path}, then log in again",
            )
        try:
            document = json.load(stream)
        except ValueError as error:
            raise PalettaError(f"`{path}` is damaged", hint="remove it and run `paletta login`") from error
    if not isinstance(document, dict):
        return {}
    return {key: value for key, value in document.items() if isinstance(value, dict)}
