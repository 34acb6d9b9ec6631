"""Reading YAML: positions, strings that stay strings, and what a hostile file gets."""

import pytest

from paletta_cli.manifests import source
from paletta_cli.manifests.nodes import MappingNode, ScalarNode, SequenceNode
from paletta_cli.manifests.schema import as_plain
from paletta_cli.manifests.source import parse


def first_problem(text: str) -> tuple[int, int, str]:
    document = parse(text.encode(), "f.yaml")
    assert document.problems, text
    problem = document.problems[0]
    return problem.line, problem.col, problem.code


def test_values_stay_as_written() -> None:
    text = "country: NO\nkeywords: [on, 2024, 1e3, 0x1F, ~]\nday: 2026-05-14\nflag: yes\n"
    root = parse(text.encode(), "f").root
    assert root is not None
    assert as_plain(root) == {
        "country": "NO",
        "keywords": ["on", "2024", "1e3", "0x1F", "~"],
        "day": "2026-05-14",
        "flag": "yes",
    }


def test_positions_count_characters_from_one() -> None:
    root = parse("a: 1\nä: [x, 'ü ü', {k: v}]\n".encode(), "f").root
    assert isinstance(root, MappingNode)
    key, value = root.entries["ä"]
    assert (key.line, key.column) == (2, 1)
    assert isinstance(value, SequenceNode)
    assert (value.line, value.column) == (2, 4)
    second, third = value.items[1:]
    assert isinstance(second, ScalarNode)
    assert not second.plain
    assert (second.line, second.column, third.column) == (2, 8, 15)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: *x", (1, 4, "alias")),
        ("a: &x 1", (1, 4, "anchor")),
        ("a: &x [1]", (1, 4, "anchor")),
        ("a: !!python/object:os.system x", (1, 4, "tag")),
        ("a: !!map {}", (1, 4, "tag")),
        ("a: 1\n---\nb: 2", (2, 1, "several_documents")),
        ("a: 1\nb: 2\na: 3", (3, 1, "duplicate_key")),
        ("a: \x1b[31m", (1, 4, "control_character")),
        ("a: ok\nb: x\u202ey", (2, 5, "control_character")),
        ('a: "\\e[31m"', (1, 4, "control_character")),
        ('a: "\\u202e"', (1, 4, "control_character")),
        ("? [a]\n: 1", (1, 3, "yaml")),
        ("b:\n  c: 1\n d: 2", (3, 2, "yaml")),
        ("a: [1, 2", (1, 4, "yaml")),
        ("a: b: c", (1, 5, "yaml")),
        ("a: 'x\nb: 1\n", (1, 4, "yaml")),
    ],
)
def test_refused_with_a_position(text: str, expected: tuple[int, int, str]) -> None:
    assert first_problem(text) == expected


def test_deep_nesting_stops_at_the_limit() -> None:
    line, column, code = first_problem("[" * 100_000)
    assert (line, code) == (1, "too_deep")
    assert column == source.MAX_DEPTH + 2


def test_alias_bomb_is_refused_before_it_grows() -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(20)
    )
    assert first_problem(bomb)[2] == "anchor"


def test_too_many_keys() -> None:
    most = source.MAX_KEYS
    assert parse("".join(f"k{n}: 1\n" for n in range(most)).encode(), "f").problems == []
    assert first_problem("".join(f"k{n}: 1\n" for n in range(most + 1))) == (most + 1, 1, "too_large")


def test_too_many_values(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two million values take seconds to read.
    monkeypatch.setattr(source, "MAX_NODES", 50)
    assert first_problem("[" + "a," * 60 + "]")[2] == "too_large"


def test_too_many_bytes() -> None:
    comment = "#" * (source.MAX_BYTES - 1)
    assert parse(f"{comment}\n".encode(), "f").problems == []
    assert first_problem(f"{comment}#\n")[2] == "too_large"


def test_encodings() -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        document = parse("a: ü\n".encode(encoding), "f")
        assert not document.problems
        assert document.root is not None
        assert as_plain(document.root) == {"a": "ü"}
    broken = parse("a: 1\nb: \xfc\n".encode("latin-1"), "f").problems[0]
    assert (broken.line, broken.col, broken.code) == (2, 4, "encoding")
    film = parse(b"\xff\xfe\x00\xd8a\x00", "f").problems[0]
    assert (film.code, film.message) == ("encoding", "not UTF-8 text"), "nobody meant UTF-16"


def test_all_duplicate_keys_are_named() -> None:
    document = parse(b"a: 1\na: 2\nb: {c: 1, c: 2}\n", "f")
    assert [(p.line, p.col) for p in document.problems] == [(2, 1), (3, 11)]


def test_joiners_of_living_scripts_are_text() -> None:
    assert not parse("a: می\u200cخواهم\n".encode(), "f").problems
