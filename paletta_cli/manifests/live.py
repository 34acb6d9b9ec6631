"""The rules in force: the service's own when it can be reached, the shipped copy otherwise; and what it alone knows."""

from typing import TYPE_CHECKING

from paletta_cli.errors import PalettaError
from paletta_cli.manifests.keywords import fold, keywords_of
from paletta_cli.manifests.rules import Rules

if TYPE_CHECKING:
    from paletta_cli.api import Service
    from paletta_cli.manifests.model import Folder, Problem

_SECONDS_TO_WAIT = 5.0  # a check is worth doing without the service
_KEYWORDS_PER_CALL = 1000  # the service's limit


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


def near_tags(folder: "Folder") -> tuple[list["Problem"], str]:
    """A warning for each new tag that nearly repeats one of the service's, as an upload says them; and a word on why
    nobody looked, or an empty one.

    Only who may upload is told.
    """
    from paletta_cli import api

    first: dict[str, tuple[int, int]] = {}  # folded keyword → the clip and the place that it stands at
    for at, clip in enumerate(folder.clips):
        for position, keyword in enumerate(keywords_of(clip.metadata)):
            first.setdefault(fold(keyword), (at, position))
    words = list(first)
    found: list[Problem] = []
    try:
        with api.connect(tries=1) as service:
            for start in range(0, len(words), _KEYWORDS_PER_CALL):
                body = {"keywords": words[start : start + _KEYWORDS_PER_CALL]}
                answer = service.request(
                    "POST", "/v1/manifest-schema/tags", body=body, timeout=_SECONDS_TO_WAIT
                )
                for near in answer["near"]:
                    at, position = first[near["keyword"]]
                    clip = folder.clips[at]
                    alike = " or ".join(f"`{name}`" for name in near["did_you_mean"])
                    found.append(
                        folder.problem(
                            clip,
                            f"/keywords/{position}",
                            f"`{keywords_of(clip.metadata)[position]}` is a new tag",
                            code="near_duplicate_tag",
                            hint=f"did you mean {alike}?",
                            severity="warning",
                        )
                    )
    except PalettaError as error:
        return [], f"new tags were not compared with the service's: {error.message}"
    return found, ""
