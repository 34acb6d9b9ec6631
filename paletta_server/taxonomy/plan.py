"""What a taxonomy file would change: pure comparison of the file with what there is.

The file decides about the operator's entries. What contributors made is left alone unless the file names it: as
an entry (it becomes the operator's), as a former name, as a synonym (the tag is merged into the one whose synonym
it is) or under `moves`.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from paletta_server.core.nodes import Mark
from paletta_server.taxonomy.document import CategoryEntry, Document, Move, TagEntry, did_you_mean
from paletta_server.taxonomy.usage import Kind

Op = Literal["create", "rename", "change", "move", "delete"]
ORDER = "*"
"""The key of the change that puts the categories into another order."""


@dataclass(frozen=True, slots=True)
class CategoryRow:
    id: int
    key: str
    owner_id: int | None
    position: int
    name: str
    description: str
    parent: str | None
    agencies: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TagRow:
    id: int
    key: str
    owner_id: int | None
    synonyms: list[str]


Row = CategoryRow | TagRow
Entry = CategoryEntry | TagEntry


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a plan. `before` and `after` hold what differs; `clips` is how many clips it touches."""

    op: Op
    kind: Kind
    key: str
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    clips: int = 0
    blocked: str | None = None
    row_id: int | None = None


@dataclass
class Steps:
    """What applying does to one kind."""

    kept: dict[str, int] = field(default_factory=dict)
    """Entries of the file whose row stays (perhaps under another key): entry → row."""
    touched: set[str] = field(default_factory=set)
    """Entries to write: new ones, and kept ones that differ."""
    moves: dict[int, str] = field(default_factory=dict)
    """Rows whose clips go to the row with this key; the rows themselves go."""
    removed: set[int] = field(default_factory=set)
    """Every row that goes, the moved ones too."""


@dataclass
class Plan:
    changes: list[Change] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    categories: Steps = field(default_factory=Steps)
    tags: Steps = field(default_factory=Steps)
    stripped: list[tuple[TagRow, list[str]]] = field(default_factory=list)
    """Tags that the file does not name, and the synonyms that it leaves them."""
    reparented: dict[str, str] = field(default_factory=dict)
    """Categories that the file does not name and whose parent is merged into another: key → parent's key."""

    def digest(self) -> str:
        """Stands for what would change; not for how many clips, which changes by the minute."""
        essence = [(one.op, one.kind, one.key, one.before, one.after) for one in self.changes]
        return hashlib.sha256(json.dumps(essence, sort_keys=True).encode()).hexdigest()[:32]


def compare(
    document: Document,
    categories: Mapping[str, CategoryRow],
    tags: Mapping[str, TagRow],
    *,
    prune: bool = False,
    moves: Iterable[Move] = (),
) -> Plan:
    """The plan, before clips are counted. What cannot be applied is added to the document's problems."""
    plan = Plan()
    sure = [_kind_of(move, categories, tags, document) for move in moves]
    asked = [*document.moves, *filter(None, sure)]
    for kind, entries, rows, steps in (
        ("category", document.categories, categories, plan.categories),
        ("tag", document.tags, tags, plan.tags),
    ):
        _Comparison(document, plan, kind, entries, rows, steps).run(  # type: ignore[arg-type]
            [move for move in asked if move.kind == kind], prune
        )
    return plan


def _kind_of(
    move: Move, categories: Mapping[str, CategoryRow], tags: Mapping[str, TagRow], document: Document
) -> Move | None:
    """A move from the command line, with its kind."""
    kinds: list[Kind] = []
    if move.kind != "tag" and move.old in categories:
        kinds.append("category")
    if move.kind != "category" and move.old in tags:
        kinds.append("tag")
    if len(kinds) == 1:
        return replace(move, kind=kinds[0])
    if kinds:
        document.problem(
            move.mark,
            f"`{move.old}` is both a category and a tag",
            f"write `category:{move.old}={move.new}` or `tag:{move.old}={move.new}`",
        )
    else:
        what = move.kind or "category or tag"
        document.problem(
            move.mark, f"no {what} `{move.old}` to move", did_you_mean(move.old, [*categories, *tags])
        )
    return None


class _Comparison:
    """The comparison for one kind."""

    def __init__(
        self,
        document: Document,
        plan: Plan,
        kind: Kind,
        entries: Mapping[str, Entry],
        rows: Mapping[str, Row],
        steps: Steps,
    ) -> None:
        self.document, self.plan, self.kind = document, plan, kind
        self.entries, self.rows, self.steps = entries, rows, steps
        self.kept: dict[str, Row] = {}
        self.away: dict[str, str] = {}
        """Rows to be merged into another: key → key."""

    def run(self, moves: list[Move], prune: bool) -> None:
        self._match()
        self._merge(moves)
        self.renamed = {row.key: key for key, row in self.kept.items() if row.key != key}
        loose = [
            row for row in self.rows.values() if row.key not in self.renamed and row.key not in self.away
        ]
        missing = [row for row in loose if row.owner_id is None and row.key not in self.entries]
        self.deleted = {row.key: row for row in missing} if prune else {}
        self.left = {
            row.key: row for row in loose if row.key not in self.entries and row.key not in self.deleted
        }
        if missing and not prune:
            nouns = {"category": "categories", "tag": "tags"}
            noun = self.kind if len(missing) == 1 else nouns[self.kind]
            self.plan.warnings.append(
                f"{len(missing):,} {noun} of the operator not in the file: prune deletes what the file does not name"
            )
        self._check_targets(moves)
        self.steps.kept = {key: row.id for key, row in self.kept.items()}
        self.steps.moves = {self.rows[old].id: new for old, new in self.away.items()}
        self.steps.removed = {self.rows[key].id for key in (*self.away, *self.deleted)}
        changes = [self._written(key, entry) for key, entry in self.entries.items()]
        self.steps.touched = {key for key, change in zip(self.entries, changes, strict=True) if change}
        order = ("create", "rename", "change")
        self.plan.changes += sorted(filter(None, changes), key=lambda change: order.index(change.op))
        if self.kind == "category":
            self._order()
            self._check_parents()
        else:
            self._strip()
        for old, new in self.away.items():
            name = self._label
            self._add("move", old, {name: old}, {name: new}, row=self.rows[old])
        self._below = {
            row.parent: row.key for row in reversed(self.left.values()) if isinstance(row, CategoryRow)
        }
        for key, row in self.deleted.items():
            self._add("delete", key, _fields(row), None, row=row, blocked=self._orphans(key))

    # -- which row is which entry

    def _match(self) -> None:
        """Find each entry's row: by its key, or else by the first former name that there is."""
        for key, entry in self.entries.items():
            if key in self.rows:
                self.kept[key] = self.rows[key]
            for old in entry.renamed_from:
                if old not in self.rows or old in self.entries:
                    continue
                if key not in self.kept:
                    self.kept[key] = self.rows[old]
                elif self.kept[key].key != old:
                    self.away[old] = key

    def _merge(self, moves: list[Move]) -> None:
        """Find the rows to be merged: the asked ones, and tags that the file calls synonyms."""
        taken = {row.key: key for key, row in self.kept.items() if row.key not in self.entries}
        for move in moves:
            if move.old in self.entries:
                self.document.problem(move.mark, f"{self.kind} `{move.old}` is in the file, so it stays")
            elif taken.get(move.old, self.away.get(move.old, move.new)) != move.new:
                other = taken.get(move.old) or self.away[move.old]
                self.document.problem(move.mark, f"{self.kind} `{move.old}` goes to `{other}` already")
            elif move.old in self.rows and move.old not in taken:
                self.away[move.old] = move.new
        for key, entry in self.entries.items():
            for word, mark in entry.synonyms.items() if isinstance(entry, TagEntry) else ():
                if word not in self.rows or word in self.entries or word in taken:
                    continue
                if self.away.setdefault(word, key) != key:
                    message = f"tag `{word}` goes to `{self.away[word]}`, so it cannot be a synonym here"
                    self.document.problem(mark, message)

    def _check_targets(self, moves: list[Move]) -> None:
        for move in moves:
            if move.old in self.away and move.new not in self.entries and move.new not in self.left:
                near = did_you_mean(move.new, [*self.entries, *self.left])
                self.document.problem(move.mark, f"no {self.kind} `{move.new}` to move clips to", near)

    # -- what is written

    @property
    def _label(self) -> str:
        return "slug" if self.kind == "category" else "name"

    def _written(self, key: str, entry: Entry) -> Change | None:
        row = self.kept.get(key)
        wanted = _fields(entry)
        if row is None:
            return Change("create", self.kind, key, None, wanted)
        current = _fields(row)
        if "parent" in current:
            current["parent"] = self.renamed.get(current["parent"], current["parent"])
        names = [name for name in wanted if wanted[name] != current[name]]
        before = {name: current[name] for name in names}
        after = {name: wanted[name] for name in names}
        if row.owner_id is not None:
            before["owner"], after["owner"] = "a contributor", "the operator"
        if row.key != key:
            before, after = {self._label: row.key, **before}, {self._label: key, **after}
            return Change("rename", self.kind, row.key, before, after, row_id=row.id)
        return Change("change", self.kind, key, before, after, row_id=row.id) if before else None

    def _add(
        self,
        op: Op,
        key: str,
        before: dict[str, Any] | None,
        after: dict[str, Any] | None,
        *,
        row: Row | None = None,
        blocked: str | None = None,
    ) -> None:
        row_id = row.id if row else None
        self.plan.changes.append(Change(op, self.kind, key, before, after, blocked=blocked, row_id=row_id))

    # -- categories

    def _order(self) -> None:
        """Where the kept categories change places among themselves, say so; positions alone say nothing."""
        rows = {
            key: row
            for key, row in self.kept.items()
            if isinstance(row, CategoryRow) and row.owner_id is None
        }
        before = sorted(rows, key=lambda key: (rows[key].position, rows[key].name, rows[key].id))
        if before != list(rows):
            self._add("change", ORDER, {"order": before}, {"order": list(rows)})

    def _check_parents(self) -> None:
        """Every parent must be there afterwards, and nothing be above itself."""
        above: dict[str, str] = {}
        for key, row in self.left.items():
            assert isinstance(row, CategoryRow)
            if row.parent is None:
                continue
            above[key] = self.away.get(row.parent) or self.renamed.get(row.parent, row.parent)
            if row.parent in self.away:
                self.plan.reparented[key] = above[key]
        marks: dict[str, Mark] = {}
        for key, entry in self.entries.items():
            assert isinstance(entry, CategoryEntry)
            if entry.parent is None:
                continue
            above[key], marks[key] = entry.parent, entry.parent_mark
            if entry.parent not in self.entries and entry.parent not in self.left:
                now = self.renamed.get(entry.parent) or self.away.get(entry.parent)
                hint = f"it is `{now}` now" if now else did_you_mean(entry.parent, self.entries)
                self.document.problem(entry.parent_mark, f"no category `{entry.parent}` to be below", hint)
        for loop in _loops(above):
            at = next((marks[key] for key in loop if key in marks), Mark(0, 0))
            path = " < ".join(f"`{key}`" for key in (*loop, loop[0]))
            self.document.problem(at, f"these categories are below each other: {path}")

    def _orphans(self, key: str) -> str | None:
        """Why a category cannot be deleted although no clip may use it."""
        below = self._below.get(key)
        return f"`{below}` of a contributor is below it" if below else None

    # -- tags

    def _strip(self) -> None:
        """Take words that the file gives to its own tags from the synonyms of tags that it does not name."""
        words = set(self.entries)
        for entry in self.entries.values():
            words.update(entry.synonyms if isinstance(entry, TagEntry) else ())
        for key, row in self.left.items():
            assert isinstance(row, TagRow)
            kept = [word for word in row.synonyms if word not in words]
            if kept != row.synonyms:
                self.plan.stripped.append((row, kept))
                self._add("change", key, {"synonyms": row.synonyms}, {"synonyms": kept}, row=row)


def _fields(one: Row | Entry) -> dict[str, Any]:
    if isinstance(one, CategoryRow | CategoryEntry):
        return {
            "name": one.name,
            "description": one.description,
            "parent": one.parent,
            "agencies": dict(one.agencies),
        }
    return {"synonyms": list(one.synonyms)}


def _loops(above: Mapping[str, str]) -> list[list[str]]:
    """The circles in a map of child → parent, each once."""
    done: set[str] = set()
    found = []
    for start in above:
        path: list[str] = []
        at: str | None = start
        while at is not None and at not in done:
            done.add(at)
            path.append(at)
            at = above.get(at)
        if at in path:
            found.append(path[path.index(at) :])
    return found


def count_clips(plan: Plan, clips: Callable[[Kind, int], int]) -> None:
    """Say with each change how many clips it touches; deleting what clips use becomes blocked."""
    counted = []
    for change in plan.changes:
        number = clips(change.kind, change.row_id) if change.row_id else 0
        reason = change.blocked
        if change.op == "delete" and number:
            reason = f"{number:,} clip{' uses' if number == 1 else 's use'} it"
        counted.append(replace(change, clips=number, blocked=reason))
    plan.changes = counted
