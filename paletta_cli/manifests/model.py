"""What the manifest code talks about: a position, a problem, a clip, a folder."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from paletta_cli.text import clean, composed

if TYPE_CHECKING:
    from paletta_cli.manifests.nodes import MappingNode, Node
    from paletta_cli.manifests.probe import Probe

Severity = Literal["error", "warning"]


class Position(NamedTuple):
    """A place in a text file. Lines and columns (characters) count from 1; 0 means the file as a whole."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong (`error`: would not be accepted) or doubtful (`warning`) in a manifest or a clip.

    `line` and `col` count from 1 and are 0 when the file as a whole is meant. `code` is stable for scripts.
    `clip` is the name of the clip's file, where one clip is concerned.
    """

    file: str
    line: int
    col: int
    severity: Severity
    code: str
    message: str
    hint: str | None = None
    clip: str | None = None

    def __str__(self) -> str:
        # A name with a line end in it must not begin a line of its own, which would read as another problem.
        text = clean(f"{Position(self.file, self.line, self.col)}: {self.severity}: {self.message}")
        return f"{text}\n  hint: {clean(self.hint)}" if self.hint else text

    def as_json(self) -> dict[str, Any]:
        """The machine form of `check --json`."""
        return {
            "file": self.file,
            "line": self.line or None,
            "column": self.col or None,
            "severity": self.severity,
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "clip": self.clip,
        }


@dataclass(slots=True, eq=False)
class Clip:
    """One clip that a manifest describes.

    `file` is its name in the folder, as the folder spells it; `path` is where it should be (it may be missing: see
    `Folder.files`). `written` is how the manifest spells it.
    `node` holds the clip's own fields as written, `at` where its entry starts.
    """

    folder: "Folder"
    file: str
    path: Path
    manifest: str
    node: "MappingNode"
    at: Position
    sidecar: bool = False
    written: str = ""
    _metadata: dict[str, Any] | None = None

    @property
    def metadata(self) -> dict[str, Any]:
        """The object that the service takes: defaults applied, values typed, empty values left out.

        Typed by the rules that `lint` was given, or the shipped ones before. What was wrong is left out.
        """
        if self._metadata is None:
            self.folder.fill_metadata()
        return self._metadata or {}

    @metadata.setter
    def metadata(self, value: dict[str, Any]) -> None:
        self._metadata = value


@dataclass(slots=True, eq=False)
class Folder:
    """A folder with its manifests read.

    `problems` are what reading alone found (broken YAML, conflicting entries). `files` has the name and size in
    bytes of every regular file in the folder; `probes`, by name, what `preflight` found in the clips. `only` names
    the one clip that was asked for, or is None. `unread` says that the manifest's list of clips could
    not be read, so that nobody knows whom it mentions; `unread_sidecars` are the clips whose own could not be.
    """

    path: Path
    shown: str
    clips: list[Clip] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    files: Mapping[str, int] = field(default_factory=dict)
    defaults: "MappingNode | None" = None
    manifest: str | None = None
    sidecars: int = 0
    probes: dict[str, "Probe"] = field(default_factory=dict)
    only: str | None = None
    unread: bool = False
    unread_sidecars: set[str] = field(default_factory=set)
    _composed: dict[str, list[str]] | None = None

    def __iter__(self) -> Iterator[Clip]:
        return iter(self.clips)

    def fill_metadata(self) -> None:
        """Give every clip its metadata, typed by the shipped rules."""
        from paletta_cli.manifests.loader import fill_metadata
        from paletta_cli.manifests.rules import Rules

        fill_metadata(self, Rules.shipped())

    def by_file(self, name: str) -> Clip | None:
        """The clip of that file name, or None."""
        return next((clip for clip in self.clips if clip.file == name), None)

    def namesakes(self, name: str) -> list[str]:
        """The files whose names are the same as `name` but for how accents are encoded (NFC, NFD)."""
        if self._composed is None:
            self._composed = {}
            for file in self.files:
                self._composed.setdefault(composed(file), []).append(file)
        return self._composed.get(composed(name), [])

    def spelling(self, name: str) -> str:
        """The file that is meant, as the folder spells it; `name` itself where there is none, or no telling which."""
        found = [name] if name in self.files else self.namesakes(name)
        return found[0] if len(found) == 1 else name

    def locate(self, clip: Clip | str, pointer: str = "") -> Position:
        """Where the value that a JSON pointer names was written.

        `pointer` is the service's (`/metadata/title`, `/metadata/keywords/3`) or relative to the metadata
        (`/title`). A field that the clip takes from `defaults` is found there; what is written nowhere is
        placed at the clip's entry.
        """
        found = self.by_file(clip) if isinstance(clip, str) else clip
        if found is None:
            return Position(self.manifest or self.shown)
        parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/") if part]
        if parts and parts[0] == "metadata":
            parts = parts[1:]
        if parts[:1] == ["file"]:
            parts = ["file"]
        own, own_depth = _descend(found.node, parts)
        shared, shared_depth = _descend(self.defaults, parts) if self.defaults else (None, 0)
        if own is not None and own_depth >= max(shared_depth, 1):
            return Position(found.manifest, own.line, own.column)
        if shared is not None and shared_depth and self.manifest:
            return Position(self.manifest, shared.line, shared.column)
        return found.at

    def problem(
        self,
        clip: Clip | str,
        pointer: str,
        message: str,
        *,
        code: str,
        hint: str | None = None,
        severity: Severity = "error",
    ) -> Problem:
        """A problem that someone else (the service) found, placed where its cause was written."""
        at = self.locate(clip, pointer)
        name = clip if isinstance(clip, str) else clip.file
        return Problem(at.file, at.line, at.column, severity, code, message, hint, name)


def _descend(node: "Node | None", parts: list[str]) -> tuple["Node | None", int]:
    """The node that `parts` leads to, or the deepest one on the way, and how many parts led there."""
    from paletta_cli.manifests.nodes import MappingNode, SequenceNode

    for depth, part in enumerate(parts):
        if isinstance(node, MappingNode) and part in node.entries:
            node = node.entries[part][1]
        elif isinstance(node, SequenceNode) and part.isdigit() and int(part) < len(node.items):
            node = node.items[int(part)]
        else:
            return node, depth
    return node, len(parts)
