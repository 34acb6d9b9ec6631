"""An operator's YAML file to nodes that know their line and column: a strict subset in which nothing can surprise or
exhaust us.

Scalars stay the strings that were written (a tag `no` or `2024` is that word). Anchors, aliases, tags, merge
keys, duplicate keys, a second document, control characters, deep nesting and absurd sizes are refused with a
position.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml import events

MAX_BYTES = 4 * 1024 * 1024
"""1,000 categories with descriptions and 10,000 tags with synonyms take about 1 MiB."""
MAX_NODES = 400_000
"""Bytes alone do not bound memory: 4 MiB of `[a,a,…` are two million nodes."""
MAX_DEPTH = 8
"""categories > category > agencies > name is 4."""
MAX_KEYS = 1_000

# C0 but tab and line ends, DEL, C1 but NEL, lone surrogates, noncharacters, and what reorders or hides text.
# Zero-width joiners stay: Persian, Hindi and emoji are written with them.
_UNWANTED = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u2028\u2029\u202a-\u202e"
    "\u2060-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the file, counted from 1; 0 is no place in particular."""

    line: int
    column: int


@dataclass(slots=True)
class Scalar:
    value: str
    mark: Mark
    plain: bool

    @property
    def empty(self) -> bool:
        """Whether nothing was written: no value, `~` or `null`."""
        return self.plain and self.value in ("", "~", "null")


@dataclass(slots=True)
class Sequence:
    mark: Mark
    items: list["Node"] = field(default_factory=list)


@dataclass(slots=True)
class Mapping:
    """Keys in the order of the file, each with its own node and its value's."""

    mark: Mark
    entries: dict[str, tuple[Scalar, "Node"]] = field(default_factory=dict)


Node = Scalar | Sequence | Mapping


@dataclass(slots=True)
class _Open:
    """A collection that is being read, and in a mapping the key whose value comes next."""

    node: Sequence | Mapping
    key: Scalar | None = None


class Unreadable(Exception):
    """Nothing from this place on can be read."""

    def __init__(self, mark: Mark, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.mark, self.message, self.hint = mark, message, hint


def read(text: str, repeated: Callable[[Scalar, Scalar], None]) -> Node | None:
    """The root node of `text`, None where it is empty. Raises `Unreadable`.

    `repeated(key, first)` is told of every key that a mapping has already; the first one counts.
    """
    _guard_text(text)
    try:
        return _build(text.removeprefix("\ufeff"), repeated)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = Mark(mark.line + 1, mark.column + 1) if mark else Mark(0, 0)
        message = f"not readable as YAML: {error.problem or error.context}"
        raise Unreadable(at, message, _hint(error, text)) from None
    except yaml.YAMLError as error:
        raise Unreadable(Mark(0, 0), f"not readable as YAML: {str(error).splitlines()[0]}") from None


def _guard_text(text: str) -> None:
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        hint = "a taxonomy of 10,000 tags takes about one"
        raise Unreadable(Mark(0, 0), f"larger than {MAX_BYTES >> 20} MiB", hint)
    if found := _UNWANTED.search(text, 1 if text.startswith("\ufeff") else 0):
        line = text.count("\n", 0, found.start()) + 1
        column = found.start() - text.rfind("\n", 0, found.start())
        raise Unreadable(Mark(line, column), f"control character U+{ord(found[0]):04X}", "delete it")


def _hint(error: yaml.MarkedYAMLError, text: str) -> str | None:
    mark = error.problem_mark
    lines = text.splitlines()
    if mark is not None and mark.line < len(lines) and lines[mark.line][: mark.column + 1].isspace():
        return "indent with spaces, not tabs"
    if "mapping values are not allowed" in str(error.problem) or "block end" in str(error.problem):
        return 'check the indentation, and put text with `: ` or `#` between "…"'
    return None


def _build(text: str, repeated: Callable[[Scalar, Scalar], None]) -> Node | None:
    """Follow the parser's events with a stack of our own, so that no depth reaches the interpreter's."""
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # without libyaml: the same, more slowly
    parser = loader(text)
    root: Node | None = None
    stack: list[_Open] = []
    documents = nodes = 0
    while (event := parser.get_event()) is not None:
        mark = Mark(event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, events.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise Unreadable(mark, "a second YAML document starts here", "keep one document in the file")
        elif isinstance(event, events.CollectionEndEvent):
            stack.pop()
        elif isinstance(event, events.NodeEvent):
            nodes += 1
            if nodes > MAX_NODES:
                raise Unreadable(mark, f"more than {MAX_NODES:,} values")
            node = _node(event, mark)
            if not stack:
                root = node
            elif not _put(stack[-1], node, repeated):
                continue
            if not isinstance(node, Scalar):
                if len(stack) >= MAX_DEPTH:
                    raise Unreadable(mark, f"nested deeper than {MAX_DEPTH} levels")
                stack.append(_Open(node))
    return root


def _node(event: events.NodeEvent, mark: Mark) -> Node:
    if isinstance(event, events.AliasEvent) or event.anchor is not None:
        hint = 'put text that begins so between "…"'
        raise Unreadable(mark, "anchors (`&`) and aliases (`*`) are not read", hint)
    if getattr(event, "tag", None) is not None:
        raise Unreadable(mark, "YAML tags (`!`) are not read", 'put text that begins so between "…"')
    if isinstance(event, events.ScalarEvent):
        if bad := _UNWANTED.search(event.value):  # written as an escape
            raise Unreadable(mark, f"control character U+{ord(bad[0]):04X}", "delete it")
        return Scalar(event.value, mark, not event.style)
    return Sequence(mark) if isinstance(event, events.SequenceStartEvent) else Mapping(mark)


def _put(top: _Open, node: Node, repeated: Callable[[Scalar, Scalar], None]) -> bool:
    """Add a node to an open collection; False when it is a mapping's key and its value is still to come."""
    if isinstance(top.node, Sequence):
        top.node.items.append(node)
        return True
    entries, key = top.node.entries, top.key
    if key is None:
        if not isinstance(node, Scalar):
            raise Unreadable(node.mark, "a key must be a word, not a list or a mapping")
        if node.plain and node.value == "<<":
            raise Unreadable(node.mark, "merge keys (`<<`) are not read")
        top.key = node
        return False
    top.key = None
    if key.value in entries:
        repeated(key, entries[key.value][0])
    elif len(entries) >= MAX_KEYS:
        raise Unreadable(key.mark, f"more than {MAX_KEYS:,} keys in one mapping")
    else:
        entries[key.value] = (key, node)
    return True
