"""What people write into a search, as the question that an index is asked."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from paletta_server.core.errors import Invalid
from paletta_server.search import parsing
from paletta_server.search.index import Range


@pytest.mark.parametrize(
    ("written", "words", "phrases", "without"),
    [
        ("tram lisbon", ("tram", "lisbon"), (), ()),
        ("  Tram,  TRAM; São ", ("tram", "sao"), (), ()),
        ('"yellow tram" street', ("street",), ("yellow tram",), ()),
        ('tram -night -"steep street"', ("tram",), (), ("night", "steep street")),
        ("close-up", ("close", "up"), (), ()),
        ('"tram"', ("tram",), (), ()),
        ('"open phrase', ("open", "phrase"), (), ()),
        ("* [ ] ( : AND ~ \x1b[31m", ("and", "31m"), (), ()),
        ("", (), (), ()),
        ("カート", ("カート",), (), ()),
    ],
)
def test_words_phrases_and_exclusions(
    written: str, words: tuple[str, ...], phrases: tuple[str, ...], without: tuple[str, ...]
) -> None:
    assert parsing.text(written) == (words, phrases, without)


@pytest.mark.parametrize("written", ['- -- ""', "***", "🚋"])
def test_what_has_no_word_is_no_search_for_everything(written: str) -> None:
    with pytest.raises(Invalid) as refused:
        parsing.text(written)
    assert refused.value.code == "no_words"


def test_there_is_an_end_to_words() -> None:
    with pytest.raises(Invalid, match="more than 12 words"):
        parsing.text(" ".join(f"w{n}" for n in range(13)))


@pytest.mark.parametrize(
    ("least", "most", "found"),
    [
        (None, None, Range()),
        ("4k", None, Range(3840, None)),
        (None, "hd", Range(None, 2047)),
        ("HD", "hd", Range(1920, 2047)),
        (None, "8k", Range()),
        ("1080x1920", None, Range(1920, None)),
        ("2000", "3000px", Range(2000, 3000)),
    ],
)
def test_resolutions_have_names_or_pixels(least: str | None, most: str | None, found: Range) -> None:
    assert parsing.long_edge(least, most) == found


@pytest.mark.parametrize("text", ["large", "4", "4kk", "1920x", "-1"])
def test_other_resolutions_are_refused(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        parsing.long_edge(text, None)
    assert refused.value.code == "unknown_resolution"


def test_units() -> None:
    assert parsing.seconds(1.5, None) == Range(1500, None)
    assert parsing.money(Decimal("20"), Decimal("80.50"), 2) == Range(2000, 8050)
    assert parsing.money(Decimal("20"), None, 0) == Range(20, None)
    assert parsing.listed(date(1970, 1, 2), date(1970, 1, 2)) == Range(86_400, 2 * 86_400 - 1)
    assert parsing.filmed(date(1969, 1, 1), date(1970, 1, 3)) == Range(0, 2)
