"""The operator's taxonomy file: parsed, with every problem at once and where it stands.

paletta_taxonomy: 1
categories:
- slug: transport
  name: Transport
  description: Vehicles on land, water and in the air
  parent: travel                 # optional
  agencies: {adobe: "20", shutterstock: Transportation}
  renamed_from: vehicles         # optional: a former slug, or a list; its clips come along
tags:
- beach                          # a plain word, or:
- {name: time lapse, synonyms: [timelapse], renamed_from: time lapses}
moves:                           # optional: where the clips of entries that go away move
  categories: {old-slug: new-slug}
  tags: {old tag: new tag}
"""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal, TypeGuard

from paletta_server.core import nodes
from paletta_server.core.nodes import Mapping, Mark, Node, Scalar, Sequence
from paletta_server.taxonomy import words
from paletta_server.taxonomy.usage import Kind

VERSION = "1"
MAX_NAME, MAX_DESCRIPTION, MAX_EQUIVALENT = 50, 500, 100
MAX_SYNONYMS = 50
MOST_PROBLEMS = 200
"""More than a person reads; the rest is counted."""

_AGENCY = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}\Z")
_TOP = ("paletta_taxonomy", "categories", "tags", "moves")
_CATEGORY = ("slug", "name", "description", "parent", "agencies", "renamed_from")
_TAG = ("name", "synonyms", "renamed_from")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the file that cannot be applied; line 0 is no line in particular."""

    line: int
    column: int
    message: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class CategoryEntry:
    key: str
    mark: Mark
    name: str
    description: str
    parent: str | None
    parent_mark: Mark
    agencies: dict[str, str]
    renamed_from: dict[str, Mark]


@dataclass(frozen=True, slots=True)
class TagEntry:
    """Name, synonyms and former names are folded."""

    key: str
    mark: Mark
    synonyms: dict[str, Mark]
    renamed_from: dict[str, Mark]


@dataclass(frozen=True, slots=True)
class Move:
    """The clips of `old` go to `new`, and `old` goes. `kind` None: whichever kind has an entry `old`."""

    kind: Kind | None
    old: str
    new: str
    mark: Mark


@dataclass
class Document:
    categories: dict[str, CategoryEntry] = field(default_factory=dict)
    tags: dict[str, TagEntry] = field(default_factory=dict)
    moves: list[Move] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def problem(self, mark: Mark, message: str, hint: str | None = None) -> None:
        self.problems.append(Problem(mark.line, mark.column, message, hint))


def did_you_mean(word: str, choices: Iterable[str]) -> str | None:
    """A hint that names the choice nearest to `word`, or None."""
    close = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`?" if close else None


def parse(text: str) -> Document:
    """Read a taxonomy file. Never raises: what is wrong is in `problems`, in the order of the file."""
    document = Document()

    def repeated(key: Scalar, first: Scalar) -> None:
        document.problem(key.mark, f"`{key.value}` stands here twice, first on line {first.mark.line}")

    try:
        root = nodes.read(text, repeated)
    except nodes.Unreadable as error:
        document.problems = [Problem(error.mark.line, error.mark.column, error.message, error.hint)]
        return document
    _Reader(document).top(root)
    document.problems.sort(key=lambda problem: (problem.line, problem.column))
    return document


class _Reader:
    """Turns nodes into entries; a wrong value is a problem and its entry goes on without it."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problem = document.problem

    def top(self, root: Node | None) -> None:
        fields = self.fields(root, _TOP, "the file") if isinstance(root, Mapping) else {}
        if "paletta_taxonomy" not in fields:
            mark = root.mark if root is not None else Mark(1, 1)
            self.problem(mark, "not a taxonomy file", "it begins with `paletta_taxonomy: 1`")
            return
        version = fields["paletta_taxonomy"]
        if not isinstance(version, Scalar) or version.value != VERSION:
            self.problem(version.mark, "an unknown version of the format", f"this service reads {VERSION}")
        for node in self.items(fields.get("categories"), "categories"):
            self.category(node)
        for node in self.items(fields.get("tags"), "tags"):
            self.tag(node)
        moves = self.fields(fields.get("moves"), ("categories", "tags"), "moves")
        self.moves(moves.get("categories"), "category")
        self.moves(moves.get("tags"), "tag")
        self.check_synonyms()
        self.check_former()

    # -- entries

    def category(self, node: Node) -> None:
        fields = self.fields(node, _CATEGORY, "a category")
        slug = self.slug(fields.get("slug"), node)
        name = self.text(fields.get("name"), "name", MAX_NAME)
        if isinstance(node, Mapping) and "name" not in fields:
            self.problem(node.mark, "a category needs a `name`")
        if slug is None:
            return
        if first := self.document.categories.get(slug.value):
            self.repeats("category", slug, first.mark)
            return
        parent = self.slug(fields["parent"]) if _given(fields.get("parent")) else None
        if parent is not None and parent.value == slug.value:
            self.problem(parent.mark, "a category cannot be below itself")
            parent = None
        former = [self.slug(item) for item in _one_or_many(fields.get("renamed_from"))]
        self.document.categories[slug.value] = CategoryEntry(
            slug.value,
            slug.mark,
            name,
            self.text(fields.get("description"), "description", MAX_DESCRIPTION),
            parent.value if parent else None,
            parent.mark if parent else slug.mark,
            self.agencies(fields.get("agencies")),
            {old.value: old.mark for old in former if old is not None},
        )

    def tag(self, node: Node) -> None:
        fields = {"name": node} if isinstance(node, Scalar) else self.fields(node, _TAG, "a tag")
        name = self.word(fields.get("name"), node)
        if name is None:
            return
        if first := self.document.tags.get(name.value):
            self.repeats("tag", name, first.mark)
            return
        synonyms: dict[str, Mark] = {}
        for item in self.items(fields.get("synonyms"), "synonyms"):
            if (word := self.word(item)) is None:
                continue
            if word.value == name.value or word.value in synonyms:
                self.problem(word.mark, f"`{word.value}` repeats itself here", "delete it")
            synonyms[word.value] = word.mark
        if len(synonyms) > MAX_SYNONYMS:
            self.problem(name.mark, f"more than {MAX_SYNONYMS} synonyms")
        former = [word for item in _one_or_many(fields.get("renamed_from")) if (word := self.word(item))]
        self.document.tags[name.value] = TagEntry(
            name.value, name.mark, synonyms, {word.value: word.mark for word in former}
        )

    def moves(self, node: Node | None, kind: Literal["category", "tag"]) -> None:
        if not _given(node):
            return
        if not isinstance(node, Mapping):
            self.problem(node.mark, "expected pairs", "write {old: new}")
            return
        for key, value in node.entries.values():
            old, new = (self.slug(one) if kind == "category" else self.word(one) for one in (key, value))
            if old is not None and new is not None:
                self.document.moves.append(Move(kind, old.value, new.value, key.mark))

    # -- checks over entries

    def check_synonyms(self) -> None:
        """A word leads to one tag only."""
        tags = self.document.tags
        owner: dict[str, TagEntry] = {}
        for entry in tags.values():
            for word, mark in entry.synonyms.items():
                if word in tags and word != entry.key:
                    self.problem(mark, f"`{word}` is a tag of its own on line {tags[word].mark.line}")
                elif (other := owner.setdefault(word, entry)) is not entry:
                    where = f"`{other.key}` already, on line {other.mark.line}"
                    self.problem(mark, f"`{word}` is a synonym of {where}")

    def repeats(self, what: str, key: Scalar, first: Mark) -> None:
        self.problem(key.mark, f"{what} `{key.value}` stands here twice, first on line {first.line}")

    def check_former(self) -> None:
        """What was renamed or moved away cannot be in the file, nor become two things."""
        entries: tuple[tuple[Kind, dict[str, CategoryEntry] | dict[str, TagEntry]], ...] = (
            ("category", self.document.categories),
            ("tag", self.document.tags),
        )
        for kind, by_key in entries:
            former = [
                (old, entry.key, mark)
                for entry in by_key.values()
                for old, mark in entry.renamed_from.items()
            ]
            former += [(move.old, move.new, move.mark) for move in self.document.moves if move.kind == kind]
            seen: dict[str, str] = {}
            for old, new, mark in former:
                if old in by_key:
                    hint = f"delete its entry on line {by_key[old].mark.line}"
                    self.problem(mark, f"{kind} `{old}` is still in the file", hint)
                elif seen.setdefault(old, new) != new:
                    self.problem(mark, f"{kind} `{old}` cannot become both `{seen[old]}` and `{new}`")

    # -- values

    def fields(self, node: Node | None, known: tuple[str, ...], what: str) -> dict[str, Node]:
        if not _given(node):
            return {}
        if not isinstance(node, Mapping):
            self.problem(node.mark, f"{what} must be a mapping with the keys " + ", ".join(known))
            return {}
        for key, _ in node.entries.values():
            if key.value not in known:
                hint = did_you_mean(key.value, known) or "the keys are " + ", ".join(known)
                self.problem(key.mark, f"unknown key `{key.value[:60]}` in {what}", hint)
        return {name: value for name, (_, value) in node.entries.items()}

    def items(self, node: Node | None, what: str) -> list[Node]:
        if not _given(node):
            return []
        if not isinstance(node, Sequence):
            self.problem(node.mark, f"`{what}` must be a list", "begin each item with `- `")
            return []
        return node.items

    def scalar(self, node: Node) -> Scalar | None:
        if isinstance(node, Scalar):
            return node
        self.problem(node.mark, "expected a word, found a list or a mapping")
        return None

    def text(self, node: Node | None, what: str, most: int) -> str:
        """One line of text with single spaces, empty where it was left out."""
        if not _given(node) or (scalar := self.scalar(node)) is None:
            return ""
        text = " ".join(scalar.value.split())
        if char := words.invisible(text):
            self.problem(scalar.mark, f"control character {char}", "delete it")
        elif len(text) > most:
            self.problem(scalar.mark, f"a {what} has at most {most} characters, this one {len(text):,}")
        elif not text and what == "name":
            self.problem(scalar.mark, "a name must not be empty")
        return text

    def slug(self, node: Node | None, entry: Node | None = None) -> Scalar | None:
        if not _given(node):
            if isinstance(entry, Mapping):
                self.problem(entry.mark, "a category needs a `slug`")
            elif node is not None:
                self.problem(node.mark, "expected a slug")
            return None
        if (scalar := self.scalar(node)) is None:
            return None
        if not words.SLUG.match(scalar.value) or len(scalar.value) > words.MAX_SLUG:
            better = words.slug_of(scalar.value)
            hint = f"write `{better}`" if better and better != scalar.value else None
            rule = f"small letters, digits and single hyphens, at most {words.MAX_SLUG}"
            self.problem(scalar.mark, f"`{scalar.value[:60]}` is not a slug ({rule})", hint)
            return None
        return scalar

    def word(self, node: Node | None, entry: Node | None = None) -> Scalar | None:
        """A tag, folded."""
        if not _given(node):
            if isinstance(entry, Mapping):
                self.problem(entry.mark, "a tag needs a `name`")
            elif isinstance(node or entry, Scalar):
                mark = (node or entry).mark  # type: ignore[union-attr]
                self.problem(mark, "an empty tag", 'put a word such as `null` between "…"')
            return None
        if (scalar := self.scalar(node)) is None:
            return None
        if problem := words.tag_problem(scalar.value):
            self.problem(scalar.mark, problem)
            return None
        return replace(scalar, value=words.fold(scalar.value))

    def agencies(self, node: Node | None) -> dict[str, str]:
        if not _given(node):
            return {}
        if not isinstance(node, Mapping):
            self.problem(node.mark, "`agencies` must be pairs", 'write {adobe: "20", …}')
            return {}
        found = {}
        for key, value in node.entries.values():
            if not _AGENCY.match(key.value):
                message = f"`{key.value[:60]}` cannot be an agency's name"
                self.problem(key.mark, message, "write small letters and digits")
            elif text := self.text(value, "category's name", MAX_EQUIVALENT):
                found[key.value] = text
        return found


def _given(node: Node | None) -> TypeGuard[Node]:
    return node is not None and not (isinstance(node, Scalar) and node.empty)


def _one_or_many(node: Node | None) -> list[Node]:
    if not _given(node):
        return []
    return node.items if isinstance(node, Sequence) else [node]
