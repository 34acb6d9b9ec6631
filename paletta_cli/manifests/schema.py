"""A JSON Schema, compiled into checkers that walk manifest nodes.

The field model is data: the service publishes a schema (draft 2020-12), and a field added there is known here
without a change. Supported: type, properties, required, additionalProperties, items, enum, pattern, format
date, the length, number and item limits, uniqueItems, `$ref` into `$defs`. A checker both reports what is
wrong, where it is written, and returns the typed value, so a manifest is walked once.
"""

import re
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, TypeAlias

from paletta_cli.manifests.nodes import EMPTY, MappingNode, Node, ScalarNode, SequenceNode, is_empty
from paletta_cli.text import closest, plural

# report(node, code, message, hint)
Report: TypeAlias = Callable[[Node, str, str, str | None], None]
Checker: TypeAlias = Callable[[Node, Report], Any]


class _Absent:
    """Stands for a value that was left out (`source:` with nothing behind it), or was wrong and reported."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = _Absent()

_KINDS = {ScalarNode: "a single value", SequenceNode: "a list", MappingNode: "a mapping"}
_TRUE = frozenset({"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})
_FALSE = frozenset({"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"})
# Field names of other tools, and ours.
_ALIASES = {
    "tags": "keywords", "keyword": "keywords", "tag": "keywords", "category": "categories", "name": "title",
    "filename": "file", "caption": "description", "camera": "source", "date": "shot_date",
    "created": "shot_date", "prices": "price", "release": "releases", "country": "location",
    "city": "location", "adult": "mature", "nudity": "mature", "poster": "poster_at", "ai": "ai_generated",
}  # fmt: skip


def resolve(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """`schema` with a local `$ref` (`#/$defs/title`) followed."""
    for _ in range(8):
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return schema
        target: Any = root
        for part in reference[2:].split("/"):
            target = target.get(part, {}) if isinstance(target, Mapping) else {}
        schema = target
    return schema


def _simple(schema: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    """`schema` with its reference followed and `anyOf` reduced to the richest alternative.

    In YAML every scalar is read as a string, so one kind is enough.
    """
    schema = resolve(schema, root)
    variants = [_simple(variant, root) for variant in schema.get("anyOf", ())]
    for kind in ("object", "array", "string", "number", "integer", "boolean"):
        for variant in variants:
            if variant.get("type") == kind:
                rest = {key: value for key, value in schema.items() if key != "anyOf"}
                return {**variant, **rest}
    simple = dict(schema)
    if isinstance(simple.get("type"), list):
        simple["type"] = next((kind for kind in simple["type"] if kind != "null"), "string")
    return simple


def compile_fields(schema: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Checker]:
    """A checker per property of an object schema."""
    return {
        name: compile_schema(child, root, name)
        for name, child in resolve(schema, root).get("properties", {}).items()
    }


def compile_schema(schema: Mapping[str, Any], root: Mapping[str, Any], name: str) -> Checker:
    """A checker for `schema`; `name` is how messages call the value (`location.country`)."""
    schema = _simple(schema, root)
    match schema.get("type"):
        case "object":
            return _mapping(schema, root, name)
        case "array":
            return _sequence(schema, root, name)
        case "boolean":
            return _boolean(name)
        case "number" | "integer" as kind:
            return _number(schema, name, whole=kind == "integer")
        case _:
            return _string(schema, name)


def _wrong_kind(node: Node, name: str, wanted: str, report: Report, hint: str | None = None) -> _Absent:
    report(node, "type", f"`{name}` must be {wanted}, not {_KINDS[type(node)]}", hint)
    return ABSENT


def _mapping(schema: Mapping[str, Any], root: Mapping[str, Any], name: str) -> Checker:
    extra = schema.get("additionalProperties", True)
    fields = {
        key: compile_schema(child, root, f"{name}.{key}")
        for key, child in schema.get("properties", {}).items()
    }
    values = compile_schema(extra, root, f"{name}.*") if isinstance(extra, Mapping) else None
    required = tuple(schema.get("required", ()))
    hint = (
        f"`{name}` is a mapping: {{{', '.join(f'{key}: …' for key in list(fields)[:3])}}}" if fields else None
    )

    def check(node: Node, report: Report) -> Any:
        if is_empty(node):
            return ABSENT
        if not isinstance(node, MappingNode):
            return _wrong_kind(node, name, "a mapping", report, hint)
        value: dict[str, Any] = {}
        for key, (key_node, child) in node.entries.items():
            if key in fields:
                found = fields[key](child, report)
            elif values is not None:
                found = values(child, report)
            elif extra is False:
                unknown_field(key_node, fields, report, f"{name}.")
                continue
            else:
                found = as_plain(child)
            value[key] = found
        for key in required:
            if key not in node.entries:
                report(node, "required", f"`{name}.{key}` is missing", None)
        return value

    return check


def unknown_field(key: ScalarNode, fields: Mapping[str, Any], report: Report, prefix: str = "") -> None:
    """Report a key that the schema does not have, with the one that was probably meant."""
    if key.value == "<<":
        report(key, "unknown_field", "YAML merge keys are not read", "put what clips share under `defaults`")
        return
    meant = closest(key.value, fields) or _ALIASES.get(key.value.casefold())
    hint = f"did you mean `{meant}`?" if meant in fields else f"known here: {', '.join(fields)}"
    report(key, "unknown_field", f"unknown field `{prefix}{key.value}`", hint)


def _sequence(schema: Mapping[str, Any], root: Mapping[str, Any], name: str) -> Checker:
    item = compile_schema(schema.get("items", {}), root, name)
    least, most = schema.get("minItems", 0), schema.get("maxItems")
    unique = bool(schema.get("uniqueItems"))
    noun = "entry" if name.endswith("s") else "item"

    def check(node: Node, report: Report) -> Any:
        if is_empty(node):
            return ABSENT
        if not isinstance(node, SequenceNode):
            hint = f"write it as a list: `{name.rpartition('.')[2]}: [{_as_items(node)}]`"
            return _wrong_kind(node, name, "a list", report, hint)
        values: list[Any] = []
        seen: dict[str, Any] = {}
        for child in node.items:
            value = item(child, report)
            if value is ABSENT:
                if is_empty(child):
                    report(
                        child, "empty_item", f"an empty {noun} in `{name}`", "delete it, or put it in quotes"
                    )
                continue
            if unique:
                folded = value.casefold()
                if folded in seen:
                    report(child, "duplicate_item", f"`{value}` is twice in `{name}`", "keep one of the two")
                    continue
                seen[folded] = value
            values.append(value)
        if len(node.items) < least:
            report(
                node,
                "too_few",
                f"`{name}` has {plural(len(node.items), 'entry', 'entries')}, at least {least} wanted",
                None,
            )
        elif most is not None and len(values) > most:
            report(
                node,
                "too_many",
                f"`{name}` has {plural(len(values), 'entry', 'entries')}, at most {most} allowed",
                None,
            )
        return values

    return check


def _as_items(node: Node) -> str:
    if isinstance(node, ScalarNode):
        words = [word.strip() for word in re.split(r"[,;]", node.value) if word.strip()]
        return ", ".join(words[:4]) + (", …" if len(words) > 4 else "")
    return "…"


def _boolean(name: str) -> Checker:
    def check(node: Node, report: Report) -> Any:
        if is_empty(node):
            return ABSENT
        if not isinstance(node, ScalarNode):
            return _wrong_kind(node, name, "true or false", report)
        if node.value in _TRUE:
            return True
        if node.value in _FALSE:
            return False
        report(node, "type", f"`{name}` must be true or false, not `{node.value}`", None)
        return ABSENT

    return check


def _number(schema: Mapping[str, Any], name: str, *, whole: bool) -> Checker:
    low, high = schema.get("minimum"), schema.get("maximum")
    above = schema.get("exclusiveMinimum")
    allowed = schema.get("enum") or ([schema["const"]] if "const" in schema else None)

    def check(node: Node, report: Report) -> Any:
        if is_empty(node):
            return ABSENT
        if not isinstance(node, ScalarNode):
            return _wrong_kind(node, name, "a number", report)
        try:
            value: float = int(node.value) if whole else float(node.value)
        except ValueError:
            value = float("nan")
        if not abs(value) < 1e15:  # also nan
            report(
                node,
                "type",
                f"`{name}` must be a {'whole ' if whole else ''}number, not `{node.value}`",
                None,
            )
        elif allowed and value not in allowed:
            report(
                node, "enum", f"`{name}` must be {' or '.join(map(str, allowed))}, not `{node.value}`", None
            )
        elif (low is not None and value < low) or (above is not None and value <= above):
            report(
                node,
                "too_small",
                f"`{name}` is {node.value}, at least {low if low is not None else above} wanted",
                None,
            )
        elif high is not None and value > high:
            report(node, "too_large", f"`{name}` is {node.value}, at most {high} allowed", None)
        else:
            return value
        return ABSENT

    return check


def _string(schema: Mapping[str, Any], name: str) -> Checker:
    words = [str(word) for word in schema["enum"]] if "enum" in schema else None
    if words is not None:
        return _word(frozenset(words), words, name)
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    most = float("inf") if most is None else most
    matches = _matcher(schema)
    description = schema.get("description")

    def check(node: Node, report: Report) -> Any:
        if type(node) is not ScalarNode:
            return _wrong_kind(node, name, "text", report)
        text, _, plain = node
        if plain and text in EMPTY:
            return ABSENT
        value = text.strip()
        if not value and least <= 1:
            return ABSENT if least else ""
        size = len(value)
        if size < least:
            report(
                node, "too_short", f"`{name}` has {plural(size, 'character')}, at least {least} wanted", None
            )
        elif size > most:
            report(node, "too_long", f"`{name}` has {size:,} characters, at most {most:,} allowed", None)
        elif matches is not None and not matches(value):
            _report_form(node, name, value, schema, description, report)
        else:
            return value
        return ABSENT

    return check


def _matcher(schema: Mapping[str, Any]) -> Callable[[str], object] | None:
    pattern = schema.get("pattern")
    if schema.get("format") == "date":
        return lambda value: not value or _is_date(value)
    if not pattern:
        return None
    return re.compile(pattern).search


def _is_date(value: str) -> bool:
    try:
        return len(value) == 10 and bool(date.fromisoformat(value))
    except ValueError:
        return False


def _report_form(
    node: ScalarNode,
    name: str,
    value: str,
    schema: Mapping[str, Any],
    description: str | None,
    report: Report,
) -> None:
    """A value whose pattern or format does not match; the commonest slips get a hint of their own."""
    if schema.get("format") == "date":
        report(node, "date", f"`{name}` is not a date: `{value}`", "write it as YYYY-MM-DD")
        return
    pattern = re.compile(schema["pattern"])
    slug = re.sub(r"[^a-z0-9]+", "-", value.casefold()).strip("-")
    for other in (value.replace(",", "."), value.lstrip("$€£ "), value.upper(), slug):
        if other and other != value and pattern.search(other) and not name.endswith(("keywords", "file")):
            hint: str | None = f"did you mean `{other}`?"
            break
    else:
        hint = (
            "a comma separates keywords: write two entries" if "," in value and name == "keywords" else None
        )
        if hint is None and description:
            hint = description[0].lower() + description[1:]
    report(node, "pattern", f"`{name}` has the wrong form: `{value}`", hint)


def _word(known: frozenset[str], words: list[str], name: str) -> Checker:
    def check(node: Node, report: Report) -> Any:
        if is_empty(node):
            return ABSENT
        if not isinstance(node, ScalarNode):
            return _wrong_kind(node, name, "one word", report, f"one of {', '.join(words)}")
        if node.value in known:
            return node.value
        meant = closest(node.value, words)
        hint = (
            f"did you mean `{meant}`? known are {', '.join(words)}" if meant else f"one of {', '.join(words)}"
        )
        report(node, "vocabulary", f"`{node.value}` is not a known `{name}`", hint)
        return ABSENT

    return check


def as_plain(node: Node) -> Any:
    """A node as dicts, lists and strings, where the schema says nothing of the inside (`agencies`)."""
    if isinstance(node, ScalarNode):
        return node.value
    if isinstance(node, SequenceNode):
        return [as_plain(item) for item in node.items]
    return {key: as_plain(child) for key, (_, child) in node.entries.items()}
