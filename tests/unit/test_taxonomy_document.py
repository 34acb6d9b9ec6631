"""Reading the taxonomy file: every problem at once, with its place; nothing hostile gets through."""

from pathlib import Path

import pytest
import yaml

from paletta_server.core import nodes
from paletta_server.taxonomy.document import Document, parse


def said(document: Document) -> list[str]:
    return [
        f"{one.line}:{one.column} {one.message}" + (f" [{one.hint}]" if one.hint else "")
        for one in document.problems
    ]


def test_the_shipped_file(repository: Path) -> None:
    document = parse((repository / "manifests" / "taxonomy.yaml").read_text(encoding="utf-8"))
    assert said(document) == []
    assert len(document.categories) == 26
    assert len(document.tags) >= 150
    assert document.categories["transport"].agencies["adobe"] == "20"
    assert document.tags["time lapse"].synonyms.keys() >= {"timelapse"}


def test_scalars_stay_the_words_that_were_written() -> None:
    document = parse("paletta_taxonomy: 1\ntags: [no, on, 2024, 1.0, null-island, '~x', Yes]\n")
    assert said(document) == []
    assert list(document.tags) == ["no", "on", "2024", "1.0", "null-island", "~x", "yes"]


def test_every_problem_at_once_with_its_place() -> None:
    text = """\
paletta_taxonomy: 1
categories:
- slug: Sea Life
  name: Sea life
- slug: travel
  nmae: Travel
- {slug: food, name: Food, parent: food}
- {slug: food, name: Food again}
- name: no slug
- {slug: emoji, name: "🌊", agencies: {Adobe!: "1", blackbox: [a]}}
- {slug: long, name: "%s"}
tags:
- beach
- BEACH
- {name: sea, synonyms: [beach, ocean, Ocean]}
- {name: sand, synonyms: ocean}
- {name: lake, synonyms: [ocean], renamed_from: sea}
- a, b
tag: 1
moves: {tags: {sand: sea}, regions: {}}
""" % ("x" * 51)
    assert said(parse(text)) == [
        "3:9 `Sea Life` is not a slug (small letters, digits and single hyphens, at most 50) [write `sea-life`]",
        "5:3 a category needs a `name`",
        "6:3 unknown key `nmae` in a category [did you mean `name`?]",
        "7:36 a category cannot be below itself",
        "8:10 category `food` stands here twice, first on line 7",
        "9:3 a category needs a `slug`",
        "10:39 `Adobe!` cannot be an agency's name [write small letters and digits]",
        "10:62 expected a word, found a list or a mapping",
        "11:22 a name has at most 50 characters, this one 51",
        "14:3 tag `beach` stands here twice, first on line 13",
        "15:26 `beach` is a tag of its own on line 13",
        "15:40 `ocean` repeats itself here [delete it]",
        "16:26 `synonyms` must be a list [begin each item with `- `]",
        "17:27 `ocean` is a synonym of `sea` already, on line 15",
        "17:49 tag `sea` is still in the file [delete its entry on line 15]",
        "18:3 a tag must not contain a comma",
        "19:1 unknown key `tag` in the file [did you mean `tags`?]",
        "20:16 tag `sand` is still in the file [delete its entry on line 16]",
        "20:28 unknown key `regions` in moves [the keys are categories, tags]",
    ]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("", "1:1 not a taxonomy file [it begins with `paletta_taxonomy: 1`]"),
        ("tags: []", "1:1 not a taxonomy file [it begins with `paletta_taxonomy: 1`]"),
        ("- a", "1:1 not a taxonomy file [it begins with `paletta_taxonomy: 1`]"),
        ("paletta_taxonomy: 2", "1:19 an unknown version of the format [this service reads 1]"),
        ("paletta_taxonomy: 1\ntags: &t [a]", "2:7 anchors (`&`) and aliases (`*`) are not read"),
        ("paletta_taxonomy: 1\ntags: *t", "2:7 anchors (`&`) and aliases (`*`) are not read"),
        ("paletta_taxonomy: !!int 1", "1:19 YAML tags (`!`) are not read"),
        ("paletta_taxonomy: 1\n<<: {a: b}", "2:1 merge keys (`<<`) are not read"),
        ("paletta_taxonomy: 1\n---\na: b", "2:1 a second YAML document starts here"),
        ("paletta_taxonomy: 1\ntags:\n- a\x1b[2J", "3:4 control character U+001B [delete it]"),
        ('paletta_taxonomy: 1\ntags:\n- "a\\e[2J"', "3:3 control character U+001B [delete it]"),
        ("paletta_taxonomy: 1\ntags: [\u202eabc]", "2:8 control character U+202E [delete it]"),
        ("paletta_taxonomy: 1\n? [a, b]\n: c", "2:3 a key must be a word, not a list or a mapping"),
        ("paletta_taxonomy: 1\n\ttags: []", "2:1 not readable as YAML"),
        ("paletta_taxonomy: 1\ntags: [a", "3:1 not readable as YAML"),
        ("paletta_taxonomy: 1\ntags: " + "[" * 50_000, "2:14 nested deeper than 8 levels"),
        (
            "paletta_taxonomy: 1\npaletta_taxonomy: 1",
            "2:1 `paletta_taxonomy` stands here twice, first on line 1",
        ),
        ("#" * (nodes.MAX_BYTES + 1), "0:0 larger than 4 MiB"),
        ("paletta_taxonomy: 1\ntags: [" + "a," * (nodes.MAX_NODES + 1) + "]", "more than 400,000 values"),
        ("{" + ",".join(f"k{n}: v" for n in range(1002)) + "}", "more than 1,000 keys in one mapping"),
    ],
)
def test_hostile_and_broken_files(text: str, first: str) -> None:
    assert first in said(parse(text))[0]


def test_a_tab_has_a_hint() -> None:
    (problem,) = parse("paletta_taxonomy: 1\ntags:\n\t- a").problems
    assert problem.hint == "indent with spaces, not tabs"


def test_a_byte_order_mark_is_no_problem() -> None:
    assert said(parse("\ufeffpaletta_taxonomy: 1\ntags: [a]")) == []


def test_the_parser_without_libyaml_says_the_same(monkeypatch: pytest.MonkeyPatch, repository: Path) -> None:
    text = (repository / "manifests" / "taxonomy.yaml").read_text(encoding="utf-8")
    fast = parse(text)
    monkeypatch.delattr(yaml, "CSafeLoader")
    assert parse(text) == fast
