"""Cells of an agency's CSV: a value of ours as the agency writes it, and back.

For every kind of column, `cell` writes and `meaning` reads. They need not undo each other to the letter (`"a,b"`
and `"a, b"` mean the same); an import keeps the letters apart (see `exchange`).
"""

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

from paletta_cli.manifests.agencies import Column, Plan
from paletta_cli.manifests.countries import code_of, name_of

SEPARATOR = ", "
_TRUE = frozenset({"true", "yes", "y", "1", "on"})
_DATES = ("%Y-%m-%d",)


def value_of(metadata: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, or None."""
    value: Any = metadata
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def put(metadata: dict[str, Any], path: str, value: Any) -> None:
    """Set the value at a dotted path, unless there is one already."""
    *parents, last = path.split(".")
    for part in parents:
        metadata = metadata.setdefault(part, {})
    metadata.setdefault(last, value)


def items_of(value: Any) -> list[str]:
    """A value as a list of strings."""
    if isinstance(value, Mapping):
        return [item for part in value.values() for item in items_of(part)]
    if isinstance(value, list):
        return [item for item in value if isinstance(item, str)]
    return [value] if isinstance(value, str) and value else []


def cell(plan: Plan, column: Column, metadata: Mapping[str, Any], separator: str = SEPARATOR) -> str:
    """What the agency's column holds for a clip with this (merged, unchecked) metadata."""
    options = column.options
    needed = options.get("only_with")
    if needed and not value_of(metadata, needed):
        return ""
    value = value_of(metadata, column.field)
    if not value and "or_field" in options:
        value = value_of(metadata, options["or_field"])
    if not value and "compose" in options:
        return _composed(plan, options["compose"], metadata)
    if options.get("caption") and (caption := _caption(metadata)):
        return caption
    return _WRITERS[column.kind](plan, column, value, separator)


def meaning(plan: Plan, column: Column, text: str) -> Any:
    """The value of ours that a cell means; None for an empty or unintelligible one."""
    text = text.strip()
    return _READERS[column.kind](plan, column, text) if text or column.kind == "flag" else None


# Writers: value → cell


def _write_text(plan: Plan, column: Column, value: Any, separator: str) -> str:
    return value if isinstance(value, str) else ""


def _write_list(plan: Plan, column: Column, value: Any, separator: str) -> str:
    return separator.join(items_of(value))


def _write_categories(plan: Plan, column: Column, value: Any, separator: str) -> str:
    words = [word for slug in items_of(value) if (word := plan.category(slug)) is not None]
    most = column.number("max_items")
    return separator.join(dict.fromkeys(words[:most]))


def _write_flag(plan: Plan, column: Column, value: Any, separator: str) -> str:
    return _flag(plan, column, isinstance(value, str) and value.casefold() in _TRUE)


def _write_given(plan: Plan, column: Column, value: Any, separator: str) -> str:
    return _flag(plan, column, isinstance(value, Mapping) or bool(value))


def _flag(plan: Plan, column: Column, on: bool) -> str:
    words = column.options.get("flags") or plan.options["flags"]
    return str(words["true" if on else "false"])


def _write_country(plan: Plan, column: Column, value: Any, separator: str) -> str:
    if not isinstance(value, str):
        return ""
    return name_of(value) or value if plan.options.get("countries") == "name" else value


def _write_date(plan: Plan, column: Column, value: Any, separator: str) -> str:
    if not isinstance(value, str):
        return ""
    try:
        return date.fromisoformat(value).strftime(plan.options.get("dates", _DATES)[0])
    except ValueError:
        return value


def _write_releases(plan: Plan, column: Column, value: Any, separator: str) -> str:
    return separator.join(dict.fromkeys(items_of(value)))


def _composed(plan: Plan, fields: list[str], metadata: Mapping[str, Any]) -> str:
    """`city, region, country` from its parts, the country as the plan's country column spells it."""
    columns = {column.field: column for column in plan.columns}
    parts = [cell(plan, columns[name], metadata) for name in fields if name in columns]
    return ", ".join(part for part in parts if part)


def _caption(metadata: Mapping[str, Any]) -> str | None:
    """The caption that agencies want of editorial clips: `City, Country - Month Day, Year: text`."""
    editorial = metadata.get("editorial")
    if not isinstance(editorial, Mapping):
        return None
    text = editorial.get("text") or metadata.get("description")
    place = [editorial.get(part) for part in ("city", "state")]
    country = editorial.get("country")
    place.append(name_of(country) or country if isinstance(country, str) else None)
    try:
        day = date.fromisoformat(str(editorial.get("date")))
    except ValueError:
        return None
    where = ", ".join(part for part in place if part)
    return f"{where} - {day:%B} {day.day}, {day.year}: {text}" if where and text else None


# Readers: cell → value


def _read_line(plan: Plan, column: Column, text: str) -> Any:
    return " ".join(text.split()) or None


def _read_text(plan: Plan, column: Column, text: str) -> Any:
    return text or None


def _read_list(plan: Plan, column: Column, text: str) -> Any:
    parts = re.split("," if "," in text else ";", text)
    words: dict[str, str] = {}
    for part in parts:
        if word := " ".join(part.split()):
            words.setdefault(word.casefold(), word)
    return list(words.values()) or None


def _read_categories(plan: Plan, column: Column, text: str) -> Any:
    words = re.split("," if "," in text else ";", text)
    return list(dict.fromkeys(slug for word in words if (slug := plan.slug(word)))) or None


def _read_flag(plan: Plan, column: Column, text: str) -> Any:
    words = column.options.get("flags") or plan.options["flags"]
    if text.casefold() == str(words["true"]).casefold() or text.casefold() in _TRUE:
        return True
    return None


def _read_country(plan: Plan, column: Column, text: str) -> Any:
    return code_of(text)


def _read_date(plan: Plan, column: Column, text: str) -> Any:
    for form in (*plan.options.get("dates", ()), *_DATES):
        try:
            return datetime.strptime(text, form).date().isoformat()  # noqa: DTZ007  (a day has no zone)
        except ValueError:
            continue
    return None


def _read_money(plan: Plan, column: Column, text: str) -> Any:
    number = text.lstrip("$€£ ").replace(",", ".")
    return number if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,2})?", number) and float(number) > 0 else None


_WRITERS: dict[str, Callable[[Plan, Column, Any, str], str]] = {
    "line": _write_text,
    "text": _write_text,
    "list": _write_list,
    "categories": _write_categories,
    "flag": _write_flag,
    "given": _write_given,
    "country": _write_country,
    "date": _write_date,
    "money": _write_text,
    "releases": _write_releases,
}
_READERS: dict[str, Callable[[Plan, Column, str], Any]] = {
    "line": _read_line,
    "text": _read_text,
    "list": _read_list,
    "categories": _read_categories,
    "flag": _read_flag,
    "given": _read_flag,
    "country": _read_country,
    "date": _read_date,
    "money": _read_money,
    "releases": _read_list,
}
