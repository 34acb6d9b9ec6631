"""Nodes of a YAML file that know where they stand."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias


class ScalarNode(NamedTuple):
    """A scalar exactly as written; `plain` means without quotes. A tuple, for there are half a million."""

    value: str
    mark: Any  # yaml's: line and column from 0
    plain: bool

    @property
    def line(self) -> int:
        return int(self.mark.line) + 1

    @property
    def column(self) -> int:
        return int(self.mark.column) + 1


@dataclass(slots=True, eq=False)
class SequenceNode:
    """A list. `flow` means written as `[…]`; `end` is the offset just after its last character or item."""

    line: int
    column: int
    flow: bool
    start: int
    end: int = 0
    items: list["Node"] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class MappingNode:
    """A mapping: key → (the key's node, the value's node), in the order of the file."""

    line: int
    column: int
    flow: bool
    start: int
    end: int = 0
    entries: dict[str, tuple[ScalarNode, "Node"]] = field(default_factory=dict)

    def get(self, key: str) -> "Node | None":
        entry = self.entries.get(key)
        return entry[1] if entry else None


Node: TypeAlias = ScalarNode | SequenceNode | MappingNode


# What YAML writes for "nothing", without quotes.
EMPTY = frozenset({"", "~", "null", "Null", "NULL"})


def is_empty(node: Node | None) -> bool:
    """Whether a value was left out."""
    return node is None or (isinstance(node, ScalarNode) and node.plain and node.value in EMPTY)


def content_end(text: str, node: Node) -> int:
    """Offset just behind the last character of a node's content; comments behind it are not content."""
    while not isinstance(node, ScalarNode) and not node.flow:
        node = node.items[-1] if isinstance(node, SequenceNode) else next(reversed(node.entries.values()))[1]
    if not isinstance(node, ScalarNode):
        return node.end
    import yaml

    parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    start = int(node.mark.index)
    while not isinstance(event := parser.get_event(), yaml.StreamEndEvent):
        if (
            isinstance(event, yaml.ScalarEvent)
            and event.start_mark is not None
            and event.start_mark.index == start
        ):
            # A block scalar's mark stands behind its line ends.
            return start + len(text[start : event.end_mark.index].rstrip())  # type: ignore[union-attr]
    return start
