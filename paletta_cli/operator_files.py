"""The operator's YAML files (taxonomy, prices): read here, judged by the service, told as `file:line:column`."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from paletta_cli.errors import ManifestInvalid, UsageError
from paletta_cli.text import clean

MAX_BYTES = 8 * 1024 * 1024
"""Twice what the service reads: the rest is refused here, before it is sent."""


def read_text(file: Path) -> str:
    """The file's text.

    Raises UsageError where it cannot be read, ManifestInvalid where it is too large or not UTF-8.
    """
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"`{file}` cannot be read: {(error.strerror or str(error)).lower()}") from error
    if len(raw) > MAX_BYTES:
        raise ManifestInvalid(f"`{file}` is larger than {MAX_BYTES >> 20} MiB")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8", "replace")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise ManifestInvalid(
            f"`{file}:{line}:{column}` is not UTF-8 text", hint="save the file as UTF-8"
        ) from None


def problem_lines(problems: Iterable[Mapping[str, Any]]) -> list[str]:
    """`file:line:column: error: …` and its hint, for each problem that the service found in the file."""
    lines = []
    for problem in problems:
        place = clean(problem.get("file") or "")
        if problem.get("line"):
            place = f"{place}:{problem['line']}:{problem['column']}"
        lines.append(f"{place}: error: {clean(problem.get('message'))}")
        if problem.get("hint"):
            lines.append(f"  hint: {clean(problem['hint'])}")
    return lines
