"""Folding of tags and what counts as a near-duplicate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from paletta_server.clips.metadata import ClipMetadata
from paletta_server.taxonomy.words import alike, fold, near_keys, slug_of, tag_problem


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("  Beach ", "beach"),
        ("Time \t  Lapse", "time lapse"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("ＦＵＬＬ　ＷＩＤＴＨ", "full width"),
        ("cafe\u0301", "café"),
        ("no", "no"),
        ("ÉTÉ", "été"),
    ],
)
def test_folding(written: str, stored: str) -> None:
    assert fold(written) == stored


@given(st.text(max_size=60))
def test_folding_twice_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a,b", "comma"),
        ("a，b", "comma"),  # full width: NFKC makes it an ordinary one
        ("be\x1b[31mach", "U+001B"),
        ("beach\u202e", "U+202E"),
        ("two\nlines", "U+000A"),
        ("\ud800", "U+D800"),
        ("", "letter"),
        (" .. ", "letter"),
        ("x" * 51, "50"),
        ("ﷺ" * 3, "50"),  # one character, folded to 18
    ],
)
def test_what_cannot_be_a_tag(name: str, words: str) -> None:
    assert words in (tag_problem(name) or "")


@pytest.mark.parametrize(
    "name", ["4k", "24/7", "c++", "🌊", "می‌خواهم", "x" * 50, "bird's eye view", "2024", "no"]
)
def test_what_can_be_a_tag(name: str) -> None:
    assert tag_problem(name) is None


ALIKE = [
    ("beach", "beaches", 0),
    ("cat", "cats", 0),
    ("city", "cities", 0),
    ("movie", "movies", 0),
    ("horse", "horses", 0),
    ("bus", "buses", 0),
    ("timelapse", "time lapse", 0),
    ("time-lapse", "time lapse", 0),
    ("cafe", "café", 0),
    ("beach", "beahc", 1),
    ("lisbon", "lisbn", 1),
    ("lisbon", "lisbonn", 1),
    ("architecture", "architectire", 1),
    ("light", "night", None),
    ("car", "cat", None),
    ("4k", "8k", None),
    ("1980s", "1990s", None),
    ("news", "new", None),
    ("sunset", "sunrise", None),
    ("beach", "mountain", None),
]


@pytest.mark.parametrize(("one", "other", "grade"), ALIKE)
def test_near_duplicates(one: str, other: str, grade: int | None) -> None:
    assert alike(one, other) == grade
    assert alike(other, one) == grade


@pytest.mark.parametrize(("one", "other", "grade"), ALIKE)
def test_near_duplicates_share_a_key(one: str, other: str, grade: int | None) -> None:
    if grade is not None:
        assert set(near_keys([one])) & set(near_keys([other]))


letters = st.text("abcdefgst ", min_size=5, max_size=20)


@given(letters, st.data())
def test_one_slip_anywhere_is_found_through_the_index(word: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(word) - 1))
    slip = data.draw(
        st.sampled_from(
            [word[:at] + word[at + 1 :], word[:at] + "q" + word[at:], word[:at] + "q" + word[at + 1 :]]
        )
    )
    one, other = fold(word), fold(slip)
    if alike(one, other) is not None and one and other:
        assert set(near_keys([one])) & set(near_keys([other]))


def test_keys_fit_the_column() -> None:
    keys = near_keys(["a rather long tag with many letters", "and a synonym"])
    assert keys == sorted(set(keys))
    assert all(-(2**31) <= key < 2**31 for key in keys)


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Sea Life", "sea-life"),
        ("Café & Bar", "cafe-bar"),
        ("日本", ""),
        ("Bird's eye", "birds-eye"),
        ("  --  ", ""),
    ],
)
def test_slugs_from_names(name: str, slug: str) -> None:
    assert slug_of(name) == slug


def test_a_manifests_keywords_obey_the_same_rules() -> None:
    """One bad keyword is that item's problem, found before its page of clips is registered."""
    metadata = {"title": "Waves at dusk", "categories": ["travel"], "keywords": ["a", "b", "c", "d", "ﷺﷺﷺ"]}
    with pytest.raises(ValidationError, match="50 characters"):
        ClipMetadata.model_validate(metadata)
