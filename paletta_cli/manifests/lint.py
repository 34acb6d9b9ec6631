"""Everything that can be known to be wrong before the first byte is sent, all at once."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from paletta_cli.manifests.loader import MANIFEST, VIDEO_SUFFIXES, merged
from paletta_cli.manifests.model import Clip, Folder, Position, Problem, Severity
from paletta_cli.manifests.nodes import MappingNode, Node, ScalarNode, SequenceNode
from paletta_cli.manifests.rules import Rules
from paletta_cli.manifests.schema import Checker, Report, unknown_field
from paletta_cli.manifests.source import without_collector
from paletta_cli.text import closest, composed, name_trouble, plural

# Anything else is refused by the schema already, with a better hint.
_SLUG = re.compile("[a-z0-9]+(-[a-z0-9]+)*").fullmatch
# Doubtful rather than wrong: the service takes these as they are.
_WARNINGS = frozenset({"duplicate_item"})


def lint(
    folder: Folder,
    rules: Rules,
    *,
    media: bool | Callable[[int, int], None] = False,
    agencies: Sequence[str] = (),
) -> list[Problem]:
    """All problems of a folder, in the order of its files and lines.

    `media`: also open every clip and check it against `rules.media` (a callable is told `done, total`).
    `agencies`: names of agencies whose limits are checked too, as warnings.
    Refreshes every clip's `metadata` with the types of `rules`.
    """
    run = _Run(folder, rules)
    with without_collector():
        run.fields()
        run.titles()
        run.files()
    problems = run.problems
    if media:
        from paletta_cli.manifests.preflight import preflight

        problems += preflight(folder, rules.media, media if callable(media) else None)
    if agencies:
        from paletta_cli.manifests.agencies import limit_problems

        problems += limit_problems(folder, agencies)
    return ordered(folder.problems + problems)


def ordered(problems: Iterable[Problem]) -> list[Problem]:
    """By file and line, as one reads; errors before warnings of the same place."""
    return sorted(set(problems), key=lambda p: (p.file, p.line, p.col, p.severity, p.message))


@dataclass(slots=True)
class _Sink:
    """Where a checker's reports go: knows the file and the clip they are about."""

    problems: list[Problem]
    file: str
    clip: str | None = None

    def __call__(self, node: Node, code: str, message: str, hint: str | None) -> None:
        severity: Severity = "warning" if code in _WARNINGS else "error"
        self.problems.append(
            Problem(self.file, node.line, node.column, severity, code, message, hint, self.clip)
        )


class _Run:
    """One lint of one folder."""

    def __init__(self, folder: Folder, rules: Rules) -> None:
        self.folder, self.rules = folder, rules
        self.problems: list[Problem] = []

    def fields(self) -> None:
        """Field by field: the schema, the fields that are missing, the categories."""
        checkers = self.rules.clip_fields
        shared = {}
        if self.folder.defaults is not None and self.folder.manifest:
            sink = _Sink(self.problems, self.folder.manifest)
            shared = self._checked(self.folder.defaults, checkers, sink, ("file",))
            self._vocabulary(self.folder.defaults, sink)
        for clip in self.folder.clips:
            sink = _Sink(self.problems, clip.manifest, clip.file)
            own = self._checked(clip.node, checkers, sink, ("file",) if clip.sidecar else ())
            clip.metadata = merged(shared, own)
            self._required(clip)
            self._vocabulary(clip.node, sink)

    def _checked(
        self, node: MappingNode, checkers: dict[str, Checker], report: Report, banned: tuple[str, ...]
    ) -> dict[str, object]:
        values = {}
        for key, (key_node, child) in node.entries.items():
            checker = checkers.get(key)
            if checker is None or key in banned:
                unknown_field(key_node, {name: None for name in checkers if name not in banned}, report)
            elif key == "file":
                checker(child, report)
            else:
                values[key] = checker(child, report)
        return values

    def _required(self, clip: Clip) -> None:
        for name in self.rules.required:
            if name in clip.metadata or self._was_reported(clip, name):
                continue
            key = clip.node.entries.get(name)
            at = Position(clip.manifest, key[0].line, key[0].column) if key else clip.at
            if key is not None:
                self._forget_too_short(clip, key[1])
            what = "is empty" if key else "is missing"
            hint = f"give it here, or under `defaults` in `{MANIFEST}`" if name != "title" else None
            self._add(at, "error", "required", f"`{name}` {what} for `{clip.file}`", hint, clip.file)

    def _forget_too_short(self, clip: Clip, node: Node) -> None:
        """`title: ""` is empty; that it has no five characters either is not worth a second line."""
        same = (clip.manifest, node.line, node.column, "too_short")
        self.problems[:] = [p for p in self.problems if (p.file, p.line, p.col, p.code) != same]

    def _was_reported(self, clip: Clip, name: str) -> bool:
        """Whether the field is there but wrong, which has been said already."""
        for node in (clip.node, self.folder.defaults):
            child = node.get(name) if node is not None else None
            if isinstance(child, ScalarNode) and child.value.strip():
                return True
            if isinstance(child, SequenceNode | MappingNode):
                return True
        return False

    def _vocabulary(self, node: MappingNode, report: _Sink) -> None:
        """Categories against the taxonomy; countries against ISO 3166-1."""
        categories = node.get("categories")
        if isinstance(categories, SequenceNode) and self.rules.categories:
            for item in categories.items:
                if (
                    isinstance(item, ScalarNode)
                    and _SLUG(item.value)
                    and item.value not in self.rules.categories
                ):
                    self._unknown_category(item, report)
        for name in ("location", "editorial"):
            place = node.get(name)
            country = place.get("country") if isinstance(place, MappingNode) else None
            if isinstance(country, ScalarNode) and country.value:
                self._country(country, name, report)

    def _unknown_category(self, item: ScalarNode, report: _Sink) -> None:
        known = self.rules.categories
        names = {name.casefold(): slug for slug, name in known.items()}
        meant = names.get(item.value.casefold()) or closest(item.value, known)
        if meant is None and (name := closest(item.value, names)):
            meant = names[name]
        hint = f"did you mean `{meant}`?" if meant else "`paletta categories list` shows them all"
        if self.rules.live or meant:
            report(item, "category", f"unknown category `{item.value}`", hint)
            return
        at = Position(report.file, item.line, item.column)
        message = f"category `{item.value}` is not in the shipped taxonomy"
        self._add(
            at,
            "warning",
            "category",
            message,
            "the service may know it: check without --offline",
            report.clip,
        )

    def _country(self, node: ScalarNode, field: str, report: _Sink) -> None:
        from paletta_cli.manifests.countries import code_of, is_code

        if is_code(node.value):
            return
        code = code_of(node.value)
        hint = f"write `{code}`" if code else "two capital letters, ISO 3166-1, such as PT"
        at = Position(report.file, node.line, node.column)
        message = f"`{field}.country` is not a country code: `{node.value}`"
        self._add(at, "warning", "country", message, hint, report.clip)

    def titles(self) -> None:
        """The same title twice makes two clips look like one in a search."""
        seen: dict[str, Clip] = {}
        for clip in self.folder.clips:
            title = clip.metadata.get("title")
            if not isinstance(title, str):
                continue
            first = seen.setdefault(title.casefold(), clip)
            if first is not clip:
                at = self.folder.locate(clip, "/title")
                hint = f"`{first.file}` has the same; say what is different"
                self._add(
                    at,
                    "warning",
                    "duplicate_title",
                    f"the title of `{clip.file}` is not unique",
                    hint,
                    clip.file,
                )

    def files(self) -> None:
        """Entries without a file, files without an entry, files described twice."""
        folder = self.folder
        seen: dict[str, Clip] = {}
        videos = {name for name in folder.files if _is_video(name)}
        mentioned = {clip.file for clip in folder.clips}
        for clip in folder.clips:
            if (trouble := name_trouble(clip.file)) and not _refused_by_schema(clip):
                self._bad_name(clip, trouble)
            first = seen.setdefault(clip.file.casefold(), clip)
            if first is not clip:
                self._twice(clip, first)
            elif len(folder.namesakes(clip.file)) > 1:
                self._ambiguous(folder.locate(clip, "/file"), clip.file)
            elif clip.file not in folder.files:
                self._missing(clip, videos - mentioned or videos)
        if not folder.clips and not folder.problems:
            self._nothing(videos)
        elif folder.only is None:
            told = {composed(name) for name in mentioned}  # at the entry
            twins = {name for name in videos if len(folder.namesakes(name)) > 1}
            for name in sorted(twins):
                if composed(name) not in told:
                    self._ambiguous(self._place(name), name)
            if not folder.unread:
                self._unmentioned(sorted(videos - mentioned - folder.unread_sidecars - twins))

    def _twice(self, clip: Clip, first: Clip) -> None:
        at = self.folder.locate(clip, "/file")
        where = self.folder.locate(first, "/file")
        if clip.file == first.file:
            self._add(
                at,
                "error",
                "duplicate_file",
                f"`{clip.file}` is described twice",
                f"first at {where}",
                clip.file,
            )
        else:
            message = f"`{clip.file}` and `{first.file}` differ only in case"
            hint = "rename one: many systems and agencies take them for the same file"
            self._add(at, "warning", "duplicate_file", message, hint, clip.file)

    def _bad_name(self, clip: Clip, trouble: str) -> None:
        hint = _rename(trouble, "rename it")
        message = f"the file name `{clip.file}` {trouble}"
        self._add(self.folder.locate(clip, "/file"), "error", "bad_name", message, hint, clip.file)

    def _ambiguous(self, at: Position, name: str) -> None:
        message = (
            f"the folder has two files of the name `{name}`, which differ only in how accents are encoded"
        )
        hint = "rename one: many systems and agencies take them for the same file"
        self._add(at, "error", "ambiguous_file", message, hint, name)

    def _place(self, name: str) -> Position:
        """A file that no manifest mentions."""
        return Position(str(self.folder.path / name) if self.folder.shown else name)

    def _missing(self, clip: Clip, candidates: set[str]) -> None:
        at = self.folder.locate(clip, "/file")
        if _refused_by_schema(clip):
            return
        meant = closest(clip.file, candidates) if len(candidates) <= 2000 else None
        if meant is None or meant == clip.file:
            meant = {name.casefold(): name for name in candidates}.get(clip.file.casefold())
        hint = f"did you mean `{meant}`?" if meant else None
        self._add(at, "error", "missing_file", f"`{clip.file}` is not in the folder", hint, clip.file)

    def _nothing(self, videos: set[str]) -> None:
        folder = self.folder
        shown = folder.shown or "."
        if folder.manifest:
            at, what = Position(folder.manifest), "the manifest lists no clips"
        elif folder.only:
            at, what = Position(str(folder.path / folder.only)), "no manifest mentions this clip"
            if not _is_video(folder.only):
                hint = f"name a folder of clips, its `{MANIFEST}`, or one clip"
                self._add(at, "error", "no_manifest", "neither a clip nor a manifest", hint, None)
                return
        else:
            at, what = Position(shown), f"no `{MANIFEST}` and no sidecars here"
        hint = (
            f"`paletta manifest init {shown}` writes one"
            if videos
            else "there are no clips in this folder either"
        )
        self._add(at, "error", "no_manifest", what, hint, None)

    def _unmentioned(self, names: list[str]) -> None:
        """One line for each of a few; one for all when most of the folder is unmentioned."""
        shown = self.folder.shown or "."
        troubles = {name: trouble for name in names if (trouble := name_trouble(name))}
        for name, trouble in list(troubles.items())[:20]:  # `init` leaves these out
            hint = _rename(trouble, f"rename it: its name {trouble}, which no manifest can hold")
            self._unmentioned_one(name, hint)
        names = [name for name in names if name not in troubles]
        hint = f"`paletta manifest init {shown}` adds them"
        for name in names[:20]:
            self._unmentioned_one(name, hint)
        if len(troubles) > 20:
            message = f"{plural(len(troubles) - 20, 'more clip')} whose names no manifest can hold"
            self._add(Position(shown), "warning", "unmentioned", message, "rename them", None)
        if len(names) > 20:
            message = f"{plural(len(names) - 20, 'more clip')} that no manifest mentions"
            self._add(Position(shown), "warning", "unmentioned", message, hint, None)

    def _unmentioned_one(self, name: str, hint: str) -> None:
        message = "no manifest mentions this clip"
        self._add(self._place(name), "warning", "unmentioned", message, hint, name)

    def _add(
        self, at: Position, severity: Severity, code: str, message: str, hint: str | None, clip: str | None
    ) -> None:
        self.problems.append(Problem(at.file, at.line, at.column, severity, code, message, hint, clip))


def _rename(trouble: str, otherwise: str) -> str:
    """What to do about a name with this trouble."""
    old_disk = "rename it: names from old disks are often in another encoding (`convmv` converts them)"
    return old_disk if "UTF-8" in trouble else otherwise


def _refused_by_schema(clip: Clip) -> bool:
    """Whether `file:` itself was reported. A sidecar has none: its clip's name is nowhere but in the folder."""
    return not clip.sidecar and ("/" in clip.file or "\\" in clip.file)


def _is_video(name: str) -> bool:
    return name[name.rfind(".") :].casefold() in VIDEO_SUFFIXES if "." in name else False
