"""The published schema and what the service accepts are two statements of one thing: they must agree."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from paletta_cli.text import name_trouble
from paletta_server.clips import metadata as fields
from paletta_server.clips.metadata import ClipMetadata
from paletta_server.manifest_schema.service import manifest_schema
from paletta_server.uploads.names import name_problem

GOOD: dict[str, Any] = {
    "title": "Yellow tram climbs a steep street",
    "description": "Wide shot of a tram\nin the morning",
    "keywords": ["tram", "lisbon", "street", "yellow", "hill"],
    "categories": ["transport", "travel"],
    "editorial": {"text": "Election day", "city": "Lisbon", "country": "Portugal"},
    "mature": False,
    "illustration": False,
    "location": {"city": "Lisbon", "country": "PT", "lat": 38.7, "lon": -9.1},
    "shot_date": "2026-05-14",
    "source": "Sony FX3",
    "releases": {"model": ["anna.pdf"], "property": []},
    "copyright": "A. Rossi",
    "batch": "lisbon-01",
    "price": {"hd": "49.00", "uhd4k": "99.00"},
    "people": {"count": "2"},
    "shot": {"size": "wide", "angle": "eye", "move": "pan", "speed": "normal"},
    "ai_generated": False,
    "exclusive": True,
    "poster_at": 1.5,
    "agencies": {"adobe": {"category": "20"}},
}

BAD: list[tuple[str, Any]] = [
    ("title", "Tram"),
    ("title", "x" * 201),
    ("title", "two\nlines"),
    ("title", None),
    ("description", "x" * 2001),
    ("keywords", ["one", "two", "three", "four"]),
    ("keywords", ["one", "two", "three", "four", "five, six"]),
    ("keywords", ["one", "two", "three", "four", "x" * 51]),
    ("keywords", [f"word{number}" for number in range(51)]),
    ("categories", []),
    ("categories", ["a", "b", "c"]),
    ("editorial", {"city": "Lisbon", "text": ""}),
    ("editorial", {"text": "x", "colour": "red"}),
    ("mature", "perhaps"),
    ("location", {"lat": 91}),
    ("location", {"planet": "Mars"}),
    ("shot_date", "14.05.2026"),
    ("source", "x" * 201),
    ("releases", {"model": "anna.pdf"}),
    ("price", {"hd": "-1"}),
    ("price", {"hd": "0"}),
    ("price", {"hd": "49.999"}),
    ("price", {"vhs": "1.00"}),
    ("people", {"count": "17"}),
    ("shot", {"size": "huge"}),
    ("shot", {"move": "teleport"}),
    ("poster_at", -1),
    ("agencies", {"adobe": "20"}),
    ("colour", "red"),
]


def _schema_accepts(clip: dict[str, Any]) -> bool:
    document = {"paletta": 1, "clips": [{"file": "tram.mp4", **clip}]}
    checker = jsonschema.Draft202012Validator(manifest_schema(), format_checker=jsonschema.FormatChecker())
    return not list(checker.iter_errors(document))


def _service_accepts(clip: dict[str, Any]) -> bool:
    try:
        ClipMetadata.model_validate(clip)
    except ValidationError:
        return False
    return True


def test_a_whole_clip_is_accepted_by_both() -> None:
    assert set(GOOD) == set(fields.FIELDS), "the example has every field"
    assert _schema_accepts(GOOD)
    assert _service_accepts(GOOD)


@pytest.mark.parametrize(("name", "value"), BAD, ids=lambda value: str(value)[:30])
def test_what_one_refuses_the_other_refuses(name: str, value: Any) -> None:
    clip = copy.deepcopy(GOOD)
    clip[name] = value
    assert (_schema_accepts(clip), _service_accepts(clip)) == (False, False)


@given(st.text(max_size=12))
@example("Tram 12:30.mov")
@example("a/b.mov")
@example("a\\b.mov")
@example("C:\\a.mov")
@example(" . ")
@example("...")
@example("a\u2028.mov")
@example("a\u202evom.mov")
@example("a\udce9.mov")
@example("a\uffff.mov")
def test_the_check_of_a_folder_and_the_service_refuse_the_same_names_of_files(name: str) -> None:
    assert (name_trouble(name) is None) == (name_problem(name) is None)


def test_both_know_the_same_fields_and_words() -> None:
    clip = manifest_schema()["$defs"]["clip"]["properties"]
    assert set(clip) - {"file"} == set(fields.FIELDS)
    shared = manifest_schema()["$defs"]
    for name, words in fields.VOCABULARIES.items():
        outer, _, inner = name.partition(".")
        assert tuple(shared[outer]["properties"][inner]["enum"]) == words


def test_the_copy_in_manifests_is_the_published_one(repository: Path) -> None:
    shipped = json.loads((repository / "manifests" / "paletta.schema.json").read_text())
    assert shipped == manifest_schema()
    jsonschema.Draft202012Validator.check_schema(shipped)
