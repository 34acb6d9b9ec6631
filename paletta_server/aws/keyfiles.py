"""`paletta-server aws write-keys`: private keys from variables into files that only this user reads.

A container that runs before the API does this on ECS, which gives secrets as variables alone. No key is ever printed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

PREFIX = "DELIVERY_KEY_"


class KeysRefused(ValueError):
    """There is no key, or one that is none; the message names the variable and nothing of what is in it."""


def write(folder: Path, environment: Mapping[str, str] | None = None) -> list[Path]:
    """Write every key, replacing what is there. Raises `KeysRefused`."""
    given = os.environ if environment is None else environment
    names = sorted(name for name in given if re.fullmatch(PREFIX + r"[0-9a-f]{12}", name))
    if not names:
        raise KeysRefused(f"there is no {PREFIX}… with a key")
    for name in names:
        text = given[name].strip()
        if not (text.startswith("-----BEGIN") and "PRIVATE KEY-----" in text):
            raise KeysRefused(f"{name} holds no private key in PEM: fill in its secret")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return [
            _write(folder / f"{name.removeprefix(PREFIX)}.pem", given[name].strip() + "\n") for name in names
        ]
    except OSError as error:
        raise KeysRefused(f"{folder}: {error.strerror}") from error


def _write(path: Path, text: str) -> Path:
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    return path
