"""YAML text to nodes that know where they stand: the strict, hostile-proof subset that manifests use.

Every scalar stays the string that was written (`country: NO` is Norway, `2024` a keyword); types come from
the schema, later. Aliases, anchors, tags, merge keys, duplicate keys, several documents, control characters
and absurd sizes are errors with a position. libyaml does the parsing; we build the nodes from its event
stream with a stack of our own, so no depth of nesting reaches the interpreter's.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paletta_cli.manifests.model import Problem
from paletta_cli.manifests.nodes import MappingNode, Node, ScalarNode, SequenceNode

# A rich manifest (50 keywords, long descriptions, four agencies' spellings) takes about 3 KB a clip, so
# 10,000 clips fit with room; a file of this size is read in about 5 s.
MAX_BYTES = 32 * 1024 * 1024
# Bytes alone do not bound memory: 32 MiB of `[a,a,…` would be 16 million nodes. 10,000 rich clips have 1.3.
MAX_NODES = 2_000_000
# clips > clip > agencies > agency > spelling > list is 7.
MAX_DEPTH = 16
# A clip has about 20 fields and an agency's file about as many columns.
MAX_KEYS = 500

# Controls (C0 but tab and line ends, DEL, C1 but NEL), lone surrogates, noncharacters, and what reorders or
# hides text: line/paragraph separators, bidi embeddings, overrides and isolates, a byte order mark inside.
# Zero-width joiners stay: Persian, Hindi and emoji are written with them.
CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff"
    "\ud800-\udfff]"
)


@dataclass(slots=True)
class Document:
    """One YAML file: its text, the root node (None when empty or broken) and what was wrong with it."""

    file: str
    text: str
    root: Node | None
    problems: list[Problem]


class _Stop(Exception):
    """Nothing after this point can be read."""

    def __init__(self, line: int, column: int, code: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.line, self.column, self.code, self.message, self.hint = line, column, code, message, hint


def read(path: Path, shown: str) -> Document:
    """Read one YAML file; `shown` is its name in messages. Never raises: what is wrong is in `problems`."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return Document(
            shown, "", None, [Problem(shown, 0, 0, "error", "unreadable", f"cannot be read: {reason}")]
        )
    return parse(raw, shown)


def parse(raw: bytes, shown: str) -> Document:
    """Parse the bytes of one YAML file. Never raises."""
    document = Document(shown, "", None, [])
    try:
        document.text = _decode(raw)
        _refuse_controls(document.text)
        with without_collector():
            document.root = _Builder(document).build()
    except _Stop as stop:
        document.root = None
        document.problems.append(
            Problem(shown, stop.line, stop.column, "error", stop.code, stop.message, stop.hint)
        )
    return document


def _decode(raw: bytes) -> str:
    if len(raw) > MAX_BYTES:
        raise _Stop(
            0,
            0,
            "too_large",
            f"larger than {MAX_BYTES >> 20} MiB",
            "split the folder, or use a sidecar per clip",
        )
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    else:
        encoding = "utf-8"
        raw = raw.removeprefix(b"\xef\xbb\xbf")
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode(encoding, "replace")
        raise _Stop(
            before.count("\n") + 1,
            len(before) - before.rfind("\n"),
            "encoding",
            "not UTF-8 text",  # nor UTF-16, whatever its mark says: who has a film here never heard of that
            "save the file as UTF-8",
        ) from None


def _refuse_controls(text: str) -> None:
    if found := CONTROL.search(text):
        line, column = position(text, found.start())
        raise _Stop(line, column, "control_character", _control_message(found[0]), "delete it")


def _control_message(char: str) -> str:
    return f"control character U+{ord(char):04X}"


def position(text: str, offset: int) -> tuple[int, int]:
    """Line and column, from 1, of a character offset."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


@contextmanager
def without_collector() -> Iterator[None]:
    """The cyclic collector off: it would walk a growing tree of live nodes again and again, for nothing."""
    import gc

    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class _Builder:
    """Turns libyaml's events into nodes."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.root: Node | None = None
        self.open: list[SequenceNode | MappingNode] = []  # the containers around the one being filled
        self.flow: SequenceNode | MappingNode | None = (
            None  # the bracket that was opened last and not closed yet
        )
        self.documents = 0

    def build(self) -> Node | None:
        import yaml

        parser_class: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same events without libyaml
        try:
            self._consume(parser_class(self.document.text), yaml.events)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
            # Where a bracket or a quote was opened helps; the end of the file, where it was missed, does not.
            if self.flow is not None and _UNCLOSED.search(error.problem or ""):
                line, column = self.flow.line, self.flow.column
            elif error.context_mark and "end of stream" in (error.problem or ""):
                line, column = error.context_mark.line + 1, error.context_mark.column + 1
            raise _Stop(line, column, "yaml", *_readable(error.problem or error.context or "")) from None
        except yaml.YAMLError as error:
            raise _Stop(0, 0, "yaml", f"not readable as YAML: {str(error).splitlines()[0]}") from None
        return self.root

    def _consume(self, parser: Any, events: Any) -> None:
        """The hot loop: 600,000 events for 10,000 clips, so the common case, a scalar, is handled inline."""
        scalar_event, next_event = events.ScalarEvent, parser.get_event
        new_scalar = tuple.__new__  # past NamedTuple's own __new__, which costs three times as much
        starts = {events.SequenceStartEvent: SequenceNode, events.MappingStartEvent: MappingNode}
        ends = (events.SequenceEndEvent, events.MappingEndEvent)
        escapes = "\\" in self.document.text
        container: SequenceNode | MappingNode | None = None
        key: ScalarNode | None = None
        for _ in range(MAX_NODES):
            event = next_event()
            kind = type(event)
            if kind is scalar_event:
                value, plain = event.value, not event.style
                if event.anchor is not None or event.tag is not None:
                    raise _extra(event)
                if escapes and not plain and (bad := CONTROL.search(value)):
                    raise _stop(event, "control_character", _control_message(bad[0]), "delete it")
                scalar = new_scalar(ScalarNode, (value, event.start_mark, plain))
                if isinstance(container, SequenceNode):
                    container.items.append(scalar)
                elif container is None:
                    self.root = scalar
                elif key is None:
                    key = scalar
                else:
                    entries = container.entries
                    if key.value in entries or len(entries) >= MAX_KEYS:
                        self._refuse_key(container, key)
                    else:
                        entries[key.value] = key, scalar
                    key = None
            elif kind in starts:
                container, key = self._start(event, starts[kind], container, key), None
            elif kind in ends:
                assert container is not None
                container.end = event.end_mark.index
                container = self.open.pop() if self.open else None
                self.flow = container if container is not None and container.flow else None
            elif kind is events.AliasEvent:
                raise _extra(event)
            elif kind is events.DocumentStartEvent:
                self._document(event)
            elif kind is events.StreamEndEvent:
                return
        raise _Stop(0, 0, "too_large", f"more than {MAX_NODES:,} values", "split the folder")

    def _document(self, event: Any) -> None:
        self.documents += 1
        if self.documents > 1:
            raise _stop(
                event,
                "several_documents",
                "a second YAML document starts here",
                "keep one document in a manifest",
            )

    def _start(
        self,
        event: Any,
        kind: type[SequenceNode] | type[MappingNode],
        container: SequenceNode | MappingNode | None,
        key: ScalarNode | None,
    ) -> SequenceNode | MappingNode:
        if event.anchor is not None or event.tag is not None:
            raise _extra(event)
        if len(self.open) >= MAX_DEPTH:
            raise _stop(event, "too_deep", f"nested more than {MAX_DEPTH} levels deep")
        mark = event.start_mark
        node = kind(mark.line + 1, mark.column + 1, bool(event.flow_style), mark.index)
        self.flow = node if node.flow else None
        if container is None:
            self.root = node
            return node
        if isinstance(container, SequenceNode):
            container.items.append(node)
        elif key is None:
            raise _stop(event, "yaml", "a list or a mapping cannot be the name of a field")
        elif key.value in container.entries or len(container.entries) >= MAX_KEYS:
            self._refuse_key(container, key)
        else:
            container.entries[key.value] = key, node
        self.open.append(container)
        return node

    def _refuse_key(self, mapping: MappingNode, key: ScalarNode) -> None:
        """Too many keys end the reading; a duplicate is noted and passed over, so that all of them are named."""
        if key.value not in mapping.entries:
            raise _Stop(key.line, key.column, "too_large", f"more than {MAX_KEYS} fields in one mapping")
        first = mapping.entries[key.value][0]
        self.document.problems.append(
            Problem(
                self.document.file,
                key.line,
                key.column,
                "error",
                "duplicate_key",
                f"`{key.value}` is given twice",
                f"it is already in line {first.line}; keep one of the two",
            )
        )


def _stop(event: Any, code: str, message: str, hint: str | None = None) -> _Stop:
    return _Stop(event.start_mark.line + 1, event.start_mark.column + 1, code, message, hint)


def _extra(event: Any) -> _Stop:
    """What YAML can do and a manifest must not: an alias makes ten lines of text a gigabyte of data."""
    if getattr(event, "tag", None) is not None:
        return _stop(
            event, "tag", f"YAML tag `{event.tag}` is not allowed", "put text that starts with `!` in quotes"
        )
    name = "anchor" if hasattr(event, "start_mark") and hasattr(event, "implicit") else "alias"
    sign = "&" if name == "anchor" else "*"
    return _stop(
        event,
        name,
        f"YAML {name} `{sign}{event.anchor}` is not allowed",
        f"repeat the value, or put it under `defaults`; put text that starts with `{sign}` in quotes",
    )


_UNCLOSED = re.compile("',' or|node content")
# libyaml's words for the mistakes that people make, and ours.
_WORDS = (
    ("mapping values are not allowed", "unexpected `: `", "put text that contains `: ` in quotes"),
    ("could not find expected ':'", "a field needs `: ` after its name", None),
    ("did not find expected key", "not a field of this mapping", "check the indentation of this line"),
    (
        "did not find expected '-'",
        "not an item of this list",
        "check the indentation; each clip starts with `- `",
    ),
    (
        "did not find expected ',' or ']'",
        "the list is not closed",
        "separate items with `, ` and end with `]`",
    ),
    (
        "did not find expected ',' or '}'",
        "the mapping is not closed",
        "separate fields with `, ` and end with `}`",
    ),
    (
        "cannot start any token",
        "this character cannot start a value",
        "put the value in quotes; indent with spaces, not tabs",
    ),
    ("did not find expected node content", "`[` or `{` is not closed, or a comma is too many", None),
    ("unexpected end of stream", "the quotes are not closed", "add the closing quote"),
    (
        "unknown escape character",
        "unknown escape in double quotes",
        "write `\\\\` for a backslash, or use single quotes",
    ),
    ("undefined tag handle", "a value cannot start with `!`", "put it in quotes"),
    (
        "did not find expected alphabetic or numeric",
        "a value cannot start with `*` or `&`",
        "put it in quotes",
    ),
)


def _readable(problem: str) -> tuple[str, str | None]:
    for theirs, ours, hint in _WORDS:
        if theirs in problem:
            return ours, hint
    return f"not readable as YAML: {problem}", None
