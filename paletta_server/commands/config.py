"""`paletta-server config`: the effective settings, where each comes from, secrets masked."""

from __future__ import annotations

import json
import os
from typing import Any

from paletta_server.commands import terminal

MASK = "********"


def config(*, as_json: bool, stack_names: frozenset[str]) -> int:
    """Print every setting. `stack_names` are the environment names that a running stack's file gave."""
    found = effective(stack_names)
    if as_json:
        terminal.result(json.dumps(found, indent=2))
        return 0
    width = max(len(entry["name"]) for entry in found)
    for entry in found:
        value = "" if entry["value"] is None else str(entry["value"])
        terminal.result(f"{entry['name']:{width}}  {entry['origin']:11}  {value}".rstrip())
    return 0


def effective(stack_names: frozenset[str]) -> list[dict[str, Any]]:
    """Return `{name, value, origin}` per setting; origin is stack, environment, .env or default."""
    from pydantic import SecretStr

    from paletta_server.core.logging import mask
    from paletta_server.core.settings import get_settings

    settings = get_settings()
    found = []
    for field in type(settings).model_fields:
        name = f"PALETTA_{field.upper()}"
        value = getattr(settings, field)
        shown: Any
        if isinstance(value, SecretStr):
            # An address is worth reading without its password; any other secret is not shown at all.
            text = value.get_secret_value()
            shown = mask(text) if "://" in text else MASK
        elif isinstance(value, tuple):
            shown = ",".join(value)
        else:
            shown = value if isinstance(value, str | int | float | bool | None) else str(value)
        if name in stack_names:
            origin = "stack"
        elif name in os.environ:
            origin = "environment"
        else:
            origin = ".env" if field in settings.model_fields_set else "default"
        found.append({"name": name, "value": shown, "origin": origin})
    return found
