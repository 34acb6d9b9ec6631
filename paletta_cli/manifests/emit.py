"""Writes manifests: YAML that a person will go on editing, and that every YAML version reads alike."""

import json
import re
from collections.abc import Mapping
from typing import Any

# Plain where nothing could be mistaken: starts with a letter, no colon, no `#`, no flow signs.
_PLAIN = re.compile(r"[^\W\d_][\w ./()'+%@-]*")
_RESERVED = frozenset("y n yes no on off true false null none nan inf".split())  # noqa: SIM905
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
# JSON's strings are YAML's double-quoted ones, but for these, which YAML wants escaped.
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")
_BLOCKS = frozenset({"agencies", "spelling", "words"})


def scalar(value: object) -> str:
    """One value, quoted only if it must be."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    if _PLAIN.fullmatch(text) and not text.endswith(" ") and text.casefold() not in _RESERVED:
        return text
    if _DATE.fullmatch(text):
        return text
    return _ESCAPED.sub(lambda char: f"\\u{ord(char[0]):04x}", json.dumps(text, ensure_ascii=False))


def flow(value: object) -> str:
    """A value on one line: `[a, b]`, `{city: Lisbon}`."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(key)}: {flow(child)}" for key, child in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    return scalar(value)


def fields(values: Mapping[str, Any], indent: str) -> list[str]:
    """Lines of a block mapping; what agencies say gets lines of its own, the rest one line a field."""
    lines = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value and (key in _BLOCKS or indent.count("  ") > 1):
            lines.append(f"{indent}{scalar(key)}:")
            lines += fields(value, indent + "  ")
        elif value is None:
            lines.append(f"{indent}{scalar(key)}:")
        else:
            lines.append(f"{indent}{scalar(key)}: {flow(value)}")
    return lines


def clip_entry(
    values: Mapping[str, Any], notes: Mapping[str, str] | None = None, indent: str = ""
) -> list[str]:
    """Lines of one item of `clips:`; `notes` are comments behind a field (`# from XMP`)."""
    lines = fields(values, indent + "  ")
    lines[0] = f"{indent}- {lines[0].strip()}"
    for number, line in enumerate(lines):
        key = line.strip().removeprefix("- ").partition(":")[0]
        if notes and key in notes and len(line) - len(line.lstrip()) <= len(indent) + 2:
            lines[number] = f"{line}  # {notes[key]}"
    return lines


def document(heading: list[str], defaults: Mapping[str, Any], clips: list[list[str]]) -> str:
    """A whole manifest from its parts."""
    lines = [*heading, "paletta: 1", ""]
    if defaults:
        lines += ["defaults:", *fields(defaults, "  "), ""]
    lines.append("clips:" if clips else "clips: []")
    for number, clip in enumerate(clips):
        lines += ([""] if number else []) + clip
    return "\n".join(lines) + "\n"
