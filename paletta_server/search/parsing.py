"""What people write into a search, as a `Query`: words, "phrases", -exclusions, ranges and names of sizes."""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal

from paletta_server.core.errors import Invalid
from paletta_server.search.document import RESOLUTIONS, days, fold, words_of
from paletta_server.search.index import Range

MOST_WORDS = 12
"""More do not find more, and every one costs."""

_PIECE = re.compile(r'(?P<minus>(?<!\S)-)?(?:"(?P<phrase>[^"]*)"|(?P<word>[^\s"]+))')
_SIZE = re.compile(r"(\d{2,5})(?:\s*[x×]\s*(\d{2,5}))?(?:px)?\Z")


def text(written: str) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Words, phrases and what must not be there. Anything else that a person types is taken for space.

    Raises `Invalid` (`too_many_words`, and `no_words` where something was written and there is no word in it).
    """
    words: list[str] = []
    phrases: list[str] = []
    without: list[str] = []
    for piece in _PIECE.finditer(written):
        found = words_of(piece["phrase"] if piece["phrase"] is not None else piece["word"])
        if not found:
            continue
        if piece["minus"]:
            without.append(" ".join(found))
        elif piece["phrase"] is not None and len(found) > 1:
            phrases.append(" ".join(found))
        else:
            words += found
    if written.strip() and not (words or phrases or without):
        raise Invalid(
            f"there is no word in `{written[:40]}`", code="no_words", hint="leave it out to see everything"
        )
    if len(words) + len(phrases) + len(without) > MOST_WORDS:
        raise Invalid(f"more than {MOST_WORDS} words", code="too_many_words", hint="leave some out")
    return tuple(dict.fromkeys(words)), tuple(dict.fromkeys(phrases)), tuple(dict.fromkeys(without))


def folded(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(fold(value) for value in values))


def long_edge(least: str | None, most: str | None) -> Range:
    """From and up to a size: `4k`, or pixels such as `3840` or `3840x2160`. A name reaches up to the next one.

    Raises `Invalid` (`unknown_resolution`).
    """
    low = _edge(least) if least else None
    high = None
    if most:
        name = most.casefold()
        above = [edge for edge in RESOLUTIONS.values() if name in RESOLUTIONS and edge > RESOLUTIONS[name]]
        if name not in RESOLUTIONS:
            high = _edge(most)
        elif above:
            high = min(above) - 1
    if low is not None and high is not None and low > high:
        raise Invalid(f"`{least}` is more than `{most}`", code="empty_range")
    return Range(low, high)


def _edge(text: str) -> int:
    if text.casefold() in RESOLUTIONS:
        return RESOLUTIONS[text.casefold()]
    found = _SIZE.match(text.strip())
    if found is None:
        raise Invalid(
            f"`{text[:30]}` is not a resolution",
            code="unknown_resolution",
            hint="one of " + ", ".join(RESOLUTIONS) + ", or pixels such as 3840x2160",
        )
    return max(int(found[1]), int(found[2] or 0))


def seconds(least: float | None, most: float | None) -> Range:
    """A duration in milliseconds."""
    return Range(*(None if value is None else round(value * 1000) for value in (least, most)))


def money(least: Decimal | None, most: Decimal | None, digits: int) -> Range:
    """An amount in minor units of a currency with so many digits."""
    return Range(*(None if value is None else int(value.scaleb(digits)) for value in (least, most)))


def listed(since: date | None, until: date | None) -> Range:
    """Days (UTC), both whole, as seconds since 1970."""
    least = None if since is None else _midnight(since)
    most = None if until is None else _midnight(until) + 86_399
    return Range(least, most)


def filmed(since: date | None, until: date | None) -> Range:
    return Range(*(None if day is None else days(day) for day in (since, until)))


def _midnight(day: date) -> int:
    return max(0, int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()))
