"""Comparing a file with what there is, without a database."""

from typing import Any

import pytest

from paletta_server.core.nodes import Mark
from paletta_server.taxonomy.document import Document, Move, parse
from paletta_server.taxonomy.plan import CategoryRow, Plan, TagRow, compare

HEAD = "paletta_taxonomy: 1\n"
SOMEBODY = 7


def category(
    key: str, *, owner: int | None = None, position: int = 0, parent: str | None = None
) -> CategoryRow:
    return CategoryRow(hash(key) & 0xFFFF | 1, key, owner, position, key.title(), "", parent, {})


def tag(key: str, *synonyms: str, owner: int | None = None) -> TagRow:
    return TagRow(hash(key) & 0xFFFF | 1, key, owner, list(synonyms))


def planned(
    text: str,
    *rows: CategoryRow | TagRow,
    prune: bool = False,
    moves: tuple[tuple[str | None, str, str], ...] = (),
) -> tuple[Plan, Document]:
    document = parse(HEAD + text)
    assert document.problems == []
    plan = compare(
        document,
        {row.key: row for row in rows if isinstance(row, CategoryRow)},
        {row.key: row for row in rows if isinstance(row, TagRow)},
        prune=prune,
        moves=[Move(kind, old, new, Mark(0, 0)) for kind, old, new in moves],  # type: ignore[arg-type]
    )
    return plan, document


def lines(plan: Plan) -> list[Any]:
    return [(one.op, one.kind, one.key, one.before, one.after) for one in plan.changes]


def problems(document: Document) -> list[str]:
    return [
        f"{one.line}:{one.column} {one.message}" + (f" [{one.hint}]" if one.hint else "")
        for one in document.problems
    ]


def test_what_is_as_the_file_says_is_left_alone() -> None:
    plan, _ = planned(
        "categories: [{slug: sea, name: Sea}]\ntags: [{name: beach, synonyms: [shore]}]",
        category("sea", position=9),
        tag("beach", "shore"),
        tag("theirs", owner=SOMEBODY),
    )
    assert lines(plan) == []
    assert plan.warnings == []


def test_only_what_differs_is_shown() -> None:
    plan, _ = planned("categories: [{slug: sea, name: Sea, description: Salt water}]", category("sea"))
    assert lines(plan) == [("change", "category", "sea", {"description": ""}, {"description": "Salt water"})]


def test_a_rename_keeps_the_row() -> None:
    old = category("ocean")
    plan, _ = planned("categories: [{slug: sea, name: Ocean, renamed_from: ocean}]", old)
    assert lines(plan) == [("rename", "category", "ocean", {"slug": "ocean"}, {"slug": "sea"})]
    assert plan.categories.kept == {"sea": old.id}
    assert plan.categories.removed == set()


def test_a_rename_that_was_applied_changes_nothing() -> None:
    plan, _ = planned("categories: [{slug: sea, name: Sea, renamed_from: [ocean, water]}]", category("sea"))
    assert lines(plan) == []


def test_a_former_name_beside_the_new_one_is_merged() -> None:
    old, new = category("ocean"), category("sea")
    plan, _ = planned("categories: [{slug: sea, name: Sea, renamed_from: ocean}]", old, new)
    assert lines(plan) == [("move", "category", "ocean", {"slug": "ocean"}, {"slug": "sea"})]
    assert plan.categories.moves == {old.id: "sea"}
    assert plan.categories.removed == {old.id}


def test_children_of_a_renamed_category_are_not_changed_by_it() -> None:
    plan, _ = planned(
        "categories: [{slug: sea, name: Ocean, renamed_from: ocean}, {slug: reef, name: Reef, parent: sea}]",
        category("ocean", position=1),
        category("reef", parent="ocean", position=2),
    )
    assert [one.op for one in plan.changes] == ["rename"]


def test_without_prune_a_missing_entry_is_only_mentioned() -> None:
    plan, _ = planned("tags: [beach]", tag("beach"), tag("old"), tag("theirs", owner=SOMEBODY))
    assert lines(plan) == []
    assert plan.warnings == [
        "1 tag of the operator not in the file: prune deletes what the file does not name"
    ]


def test_prune_deletes_the_operators_entries_only() -> None:
    plan, _ = planned("tags: [beach]", tag("beach"), tag("old"), tag("theirs", owner=SOMEBODY), prune=True)
    assert lines(plan) == [("delete", "tag", "old", {"synonyms": []}, None)]


def test_naming_a_contributors_entry_makes_it_the_operators() -> None:
    plan, _ = planned("tags: [theirs]", tag("theirs", owner=SOMEBODY))
    assert lines(plan) == [
        ("change", "tag", "theirs", {"owner": "a contributor"}, {"owner": "the operator"}),
    ]


def test_a_tag_that_becomes_a_synonym_is_merged() -> None:
    seaside = tag("seaside", owner=SOMEBODY)
    plan, _ = planned("tags: [{name: beach, synonyms: [seaside]}]", seaside)
    assert [(one.op, one.key) for one in plan.changes] == [("create", "beach"), ("move", "seaside")]
    assert plan.tags.moves == {seaside.id: "beach"}


def test_synonyms_are_taken_from_tags_that_the_file_does_not_name() -> None:
    coast = tag("coast", "shore", "seaside", "cliff")
    plan, _ = planned("tags: [{name: beach, synonyms: [seaside]}, shore]", coast)
    assert lines(plan)[-1] == (
        "change", "tag", "coast", {"synonyms": ["shore", "seaside", "cliff"]}, {"synonyms": ["cliff"]},
    )  # fmt: skip


def test_moves_of_the_file_and_of_the_command_line() -> None:
    rows = tag("a"), tag("b"), category("c", owner=SOMEBODY), category("d")
    plan, document = planned(
        "tags: [x]\nmoves: {tags: {a: x, long-gone: x}, categories: {c: d}}", *rows, moves=((None, "b", "x"),)
    )
    assert problems(document) == []
    assert [
        (one.kind, one.key, (one.after or {}).popitem()[1]) for one in plan.changes if one.op == "move"
    ] == [
        ("category", "c", "d"),
        ("tag", "a", "x"),
        ("tag", "b", "x"),
    ]


@pytest.mark.parametrize(
    ("text", "move", "problem"),
    [
        ("tags: [x]", (None, "nothing", "x"), "0:0 no category or tag `nothing` to move"),
        (
            "tags: [x]",
            (None, "both", "x"),
            "0:0 `both` is both a category and a tag [write `category:both=x` or `tag:both=x`]",
        ),
        ("tags: [x]", ("tag", "both", "nowhere"), "0:0 no tag `nowhere` to move clips to"),
        ("tags: [both]", ("tag", "both", "both"), "0:0 tag `both` is in the file, so it stays"),
        ("tags: [{name: x, renamed_from: both}, y]", ("tag", "both", "y"), "0:0 tag `both` goes to `x` already"),
    ],
)  # fmt: skip
def test_moves_that_cannot_be(text: str, move: tuple[str | None, str, str], problem: str) -> None:
    _, document = planned(text, tag("both"), category("both"), moves=(move,))
    assert problems(document) == [problem]


def test_a_move_to_what_is_pruned_is_a_problem() -> None:
    _, document = planned("tags: [x]", tag("a"), tag("b"), prune=True, moves=(("tag", "a", "b"),))
    assert problems(document) == ["0:0 no tag `b` to move clips to"]


def test_parents_must_exist_afterwards() -> None:
    _, document = planned(
        "categories:\n- {slug: a, name: A, parent: gone}\n- {slug: b, name: B, parent: ocean}\n"
        "- {slug: sea, name: Sea, renamed_from: ocean}\n- {slug: c, name: C, parent: theirs}\n"
        "- {slug: d, name: D, parent: se}",
        category("gone"),
        category("ocean"),
        category("theirs", owner=SOMEBODY),
        prune=True,
    )
    assert problems(document) == [
        "3:30 no category `gone` to be below",
        "4:30 no category `ocean` to be below [it is `sea` now]",
        "7:30 no category `se` to be below [did you mean `sea`?]",
    ]


def test_circles_of_parents() -> None:
    _, document = planned(
        "categories:\n- {slug: a, name: A, parent: b}\n- {slug: b, name: B, parent: c}\n- {slug: c, name: C, parent: a}"
    )
    assert problems(document) == ["3:30 these categories are below each other: `a` < `b` < `c` < `a`"]


def test_children_follow_a_merged_category() -> None:
    plan, document = planned(
        "categories: [{slug: sea, name: Sea, renamed_from: ocean}]",
        category("sea"),
        category("ocean"),
        category("reef", owner=SOMEBODY, parent="ocean"),
    )
    assert problems(document) == []
    assert plan.reparented == {"reef": "sea"}


def test_a_contributors_child_keeps_its_parent() -> None:
    plan, _ = planned(
        "categories: []", category("ocean"), category("reef", owner=SOMEBODY, parent="ocean"), prune=True
    )
    assert [(one.op, one.key, one.blocked) for one in plan.changes] == [
        ("delete", "ocean", "`reef` of a contributor is below it")
    ]


def test_another_order_is_one_change() -> None:
    rows = category("a", position=1), category("b", position=2), category("c", position=3)
    same, _ = planned(
        "categories: [{slug: a, name: A}, {slug: new, name: New}, {slug: b, name: B}, {slug: c, name: C}]",
        *rows,
    )
    assert [(one.op, one.key) for one in same.changes] == [("create", "new")]
    other, _ = planned("categories: [{slug: c, name: C}, {slug: a, name: A}, {slug: b, name: B}]", *rows)
    assert lines(other) == [
        ("change", "category", "*", {"order": ["a", "b", "c"]}, {"order": ["c", "a", "b"]}),
    ]


def test_the_digest_stands_for_the_changes() -> None:
    first, _ = planned("tags: [a, b]", tag("a"))
    again, _ = planned("tags:\n- a\n- b\n", tag("a"))
    other, _ = planned("tags: [a, b]")
    assert first.digest() == again.digest()
    assert first.digest() != other.digest()
