"""The rules in force: the service's own when it can be reached, the shipped copy otherwise."""

from typing import TYPE_CHECKING

from paletta_cli.errors import PalettaError
from paletta_cli.manifests.rules import Rules

if TYPE_CHECKING:
    from paletta_cli.api import Service

_SECONDS_TO_WAIT = 5.0  # a check is worth doing without the service


def fetch_rules(service: "Service") -> Rules:
    """The service's rules.

    Raises PalettaError when it answers with something else or cannot be reached.
    """
    body = service.get("/v1/manifest-schema", timeout=_SECONDS_TO_WAIT)
    try:
        return Rules.from_schema_response(body)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise PalettaError(
            f"cannot use the manifest schema of {service.url}: {error}",
            hint="this `paletta` may be too old for the service; update it",
        ) from error


def current_rules(*, offline: bool = False) -> tuple[Rules, str]:
    """The rules to check against, and a word on where they are from."""
    if offline:
        return Rules.shipped(), "checked against the rules that came with `paletta` (--offline)"
    from paletta_cli import api

    try:
        with api.connect(login=False, tries=1) as service:
            return fetch_rules(service), f"checked against the rules of {service.url}"
    except PalettaError as error:
        reason = error.message
    return Rules.shipped(), f"checked against the rules that came with `paletta`: {reason}"
