"""Agency plans: how each agency's CSV holds our fields, read from `manifests/agencies/*.yaml`.

Nothing here knows an agency by name; a new one is a new data file. What the keys of a plan mean is described in
`manifests/README.md`.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from paletta_cli.errors import PalettaError, UsageError
from paletta_cli.manifests.data import data_file
from paletta_cli.manifests.loader import plain_metadata
from paletta_cli.manifests.model import Clip, Folder, Problem
from paletta_cli.manifests.rules import MediaLimits
from paletta_cli.manifests.schema import as_plain
from paletta_cli.manifests.source import parse
from paletta_cli.text import closest, plural

KINDS = ("line", "text", "list", "categories", "flag", "given", "country", "date", "money", "releases")


@dataclass(frozen=True)
class Column:
    """One column: its heading, the field of ours it holds, how the cell is written, and its limits."""

    name: str
    field: str
    kind: str = "line"
    also: tuple[str, ...] = ()
    required: bool = False
    written: bool = True
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def keys(self) -> tuple[str, ...]:
        """The headings it is recognised by, folded."""
        return tuple(fold(name) for name in (self.name, *self.also))

    def number(self, option: str) -> int | None:
        """A limit of the plan, such as `max_length`."""
        value = self.options.get(option)
        return int(value) if value is not None else None


@dataclass(frozen=True)
class Plan:
    """One agency's CSV."""

    agency: str
    name: str
    columns: tuple[Column, ...]
    options: Mapping[str, Any]

    @property
    def encoding(self) -> str:
        """What the agency reads."""
        return str(self.options.get("encoding", "utf-8"))

    @property
    def header(self) -> list[str]:
        """The headings that an export writes when the manifest does not name others."""
        return [column.name for column in self.columns if column.written]

    def column(self, heading: str) -> Column | None:
        """The column of that heading, in any case and spacing, or None."""
        return self._by_key.get(fold(heading))

    def size_complaints(self, rows: int, length: int) -> Iterator[str]:
        """What is too big for one file: `rows` without the heading, `length` in bytes."""
        for option, count, unit in (("max_rows", rows, "rows"), ("max_bytes", length, "bytes")):
            most = self.options.get(option)
            if most is not None and count > int(most):
                yield f"{self.name} takes at most {int(most):,} {unit} in a file, this has {count:,}: split the folder"

    @cached_property
    def _by_key(self) -> dict[str, Column]:
        return {key: column for column in reversed(self.columns) for key in column.keys}

    def category(self, slug: str) -> str | None:
        """The agency's word for a category of ours."""
        found = self.options.get("categories", {}).get(slug)
        return None if found is None else str(found)

    def slug(self, word: str) -> str | None:
        """Our category for the agency's word, or for our own slug."""
        named = {key.casefold(): slug for key, slug in self.options.get("categories_read", {}).items()}
        folded = word.strip().casefold()
        if folded in named:
            return str(named[folded])
        crosswalk = self.options.get("categories", {})
        for slug, theirs in crosswalk.items():
            if theirs.casefold() == folded:
                return str(slug)
        return folded if folded in crosswalk else None


def fold(heading: str) -> str:
    """A heading without case, spaces and punctuation: `File Name` and `filename` are the same."""
    return re.sub(r"[\W_]+", "", heading.casefold())


@cache
def plans() -> dict[str, Plan]:
    """All agencies' plans by name."""
    found = {}
    for path in sorted(data_file("agencies").glob("*.yaml")):
        document = parse(path.read_bytes(), str(path))
        if document.problems or document.root is None:
            raise PalettaError(f"an agency plan is broken: {document.problems[0]}")
        raw: Any = as_plain(document.root)
        columns = tuple(_column(item) for item in raw["columns"])
        found[raw["agency"]] = Plan(raw["agency"], raw["name"], columns, raw)
    return found


def _column(raw: dict[str, Any]) -> Column:
    kind = raw.get("as", "line")
    if kind not in KINDS:
        raise PalettaError(f"an agency plan has a column of unknown kind `{kind}`")
    return Column(
        name=raw["name"],
        field=raw["field"],
        kind=kind,
        also=tuple(raw.get("also", ())),
        required=raw.get("required") == "true",
        written=raw.get("written") != "false",
        options=raw,
    )


def plan(name: str) -> Plan:
    """The plan of an agency.

    Raises UsageError for a name that has none.
    """
    known = plans()
    if found := known.get(name.casefold()):
        return found
    meant = closest(name, known)
    hint = f"did you mean `{meant}`?" if meant else f"known are {', '.join(known)}"
    raise UsageError(f"unknown agency `{name}`", hint=hint)


def limit_problems(folder: Folder, agencies: Sequence[str]) -> list[Problem]:
    """What of each clip the named agencies would not take, as warnings at the field's place."""
    problems = []
    for name in agencies:
        chosen = plan(name)
        for clip in folder.clips:
            for pointer, message in _complaints(chosen, clip, plain_metadata(folder, clip)):
                problems.append(
                    folder.problem(
                        clip, pointer, f"{chosen.name}: {message}", code="agency_limit", severity="warning"
                    )
                )
            problems += _media_problems(chosen, folder, clip)
    return problems


def _complaints(chosen: Plan, clip: Clip, metadata: dict[str, Any]) -> Iterator[tuple[str, str]]:
    from paletta_cli.manifests.cells import cell, items_of, value_of

    seen = set()
    metadata["file"] = clip.file
    for column in chosen.columns:
        written = cell(chosen, column, metadata)
        pointer = "/" + column.field.replace(".", "/")
        if not written:
            if column.required and column.field not in seen:
                what = (
                    "the category has no equivalent"
                    if metadata.get(column.field)
                    else f"`{column.field}` is required"
                )
                yield pointer, what
            continue
        seen.add(column.field)
        name = column.field
        most, least = column.number("max_length"), column.number("min_length")
        if most is not None and len(written) > most:
            yield pointer, f"`{name}` has {len(written)} characters, at most {most} allowed"
        if least is not None and len(written) < least:
            yield pointer, f"`{name}` has {len(written)} characters, at least {least} wanted"
        items = items_of(value_of(metadata, column.field))
        most, least = column.number("max_items"), column.number("min_items")
        if most is not None and len(items) > most:
            yield pointer, f"`{name}` has {plural(len(items), 'entry', 'entries')}, at most {most} allowed"
        if least is not None and len(items) < least:
            yield pointer, f"`{name}` has {plural(len(items), 'entry', 'entries')}, at least {least} wanted"
        words = column.number("min_words")
        if words is not None and len(written.split()) < words:
            yield pointer, f"`{name}` has {plural(len(written.split()), 'word')}, at least {words} wanted"
        forbidden = column.options.get("forbid")
        if forbidden and forbidden in written:
            yield pointer, f"`{name}` must not contain `{forbidden}`"
        allowed = column.options.get("allow")
        if allowed and (bad := re.sub(allowed, "", written)):
            yield pointer, f"`{name}` must not contain `{bad[0]}`"
    yield from _cheap(chosen, metadata)


def _cheap(chosen: Plan, metadata: dict[str, Any]) -> Iterator[tuple[str, str]]:
    from paletta_cli.manifests.cells import value_of

    for name, least in chosen.options.get("minimum_price", {}).items():
        price = value_of(metadata, name)
        if isinstance(price, str) and re.fullmatch(r"\d+(\.\d+)?", price) and float(price) < float(least):
            yield "/" + name.replace(".", "/"), f"`{name}` is {price}, at least {least} wanted"


def _media_problems(chosen: Plan, folder: Folder, clip: Clip) -> Iterator[Problem]:
    """The agency's limits on the file itself, where the clip was opened."""
    found = folder.probes.get(clip.file)
    limits = chosen.options.get("media")
    if found is None or not limits:
        return
    from paletta_cli.manifests.preflight import check_numbers

    numbers = {key: float(value) for key, value in limits.items()}
    loose = {"min_seconds": 0.0, "max_seconds": float("inf"), "max_bytes": 2**62, "min_long_edge": 0}
    bounds = MediaLimits.from_dict({**loose, **numbers, "max_fps": float("inf")})
    for error in check_numbers(found, folder.files[clip.file], bounds):
        message = f"{chosen.name}: `{clip.file}` {error.message}"
        yield folder.problem(clip, "/file", message, code="agency_limit", hint=error.hint, severity="warning")
