"""The small parts of analytics: periods, words, buckets, and what a process keeps in memory."""

from __future__ import annotations

import random
import time
from collections import Counter
from datetime import date

import pytest

from paletta_server.analytics import buckets, collector
from paletta_server.analytics.collector import MOST_WAITING, Collector, Noted
from paletta_server.analytics.periods import By, span
from paletta_server.analytics.salts import visitor
from paletta_server.analytics.words import LONGEST, normalised
from paletta_server.core.errors import Invalid

TODAY = date(2026, 3, 5)


@pytest.mark.parametrize(
    ("by", "first", "second", "last", "count"),
    [
        ("day", date(2026, 2, 4), date(2026, 2, 5), TODAY, 30),
        ("week", date(2026, 2, 2), date(2026, 2, 9), date(2026, 3, 2), 5),
        ("month", date(2026, 2, 1), date(2026, 3, 1), date(2026, 3, 1), 2),
    ],
)
def test_the_last_thirty_days_by_period(by: By, first: date, second: date, last: date, count: int) -> None:
    starts = list(span(None, None, by, today=TODAY).starts())
    assert (starts[0], starts[1], starts[-1], len(starts)) == (first, second, last, count)


def test_a_span_has_its_ends_and_as_many_days_before() -> None:
    asked = span(date(2026, 1, 31), date(2026, 2, 2), "day", today=TODAY)
    assert list(asked.starts()) == [date(2026, 1, 31), date(2026, 2, 1), date(2026, 2, 2)]
    assert (asked.before.since, asked.before.until) == (date(2026, 1, 28), date(2026, 1, 30))


@pytest.mark.parametrize(
    ("since", "until"),
    [
        (date(2026, 2, 2), date(2026, 2, 1)),
        (date(1900, 1, 1), None),
        (date(2010, 1, 1), TODAY),
        (None, date(9999, 12, 31)),
        (date(1, 1, 1), date(1, 1, 2)),
    ],
)
def test_spans_that_make_no_sense_are_refused(since: date | None, until: date | None) -> None:
    with pytest.raises(Invalid) as refused:
        span(since, until, "day", today=TODAY)
    assert (refused.value.code, bool(refused.value.hint)) == ("bad_period", True)


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("  Tram   LISBON ", "tram lisbon"),
        ("e\u0301clair\x00\u202e", "éclair"),
        ("mail ana@example.org now", "mail … now"),
        ("call +351 912 345 678", "call …"),
        ("4111-1111-1111-1111 tram", "… tram"),
        ("4k 60 fps 2026", "4k 60 fps 2026"),
        (" \t ", None),
        ("x" * 200, "x" * LONGEST),
    ],
)
def test_of_a_search_only_its_words_are_kept(typed: str, kept: str | None) -> None:
    assert normalised(typed) == kept


def test_quantiles_are_within_two_and_a_half_per_cent() -> None:
    noise = random.Random(5)
    seconds = sorted(noise.lognormvariate(3, 1) for _ in range(2_000))
    runs = Counter(buckets.bucket(one) for one in seconds)
    for part in (0.5, 0.95):
        found = buckets.quantile(runs, part)
        assert found == pytest.approx(seconds[int(part * 2_000) - 1], rel=0.026)
    assert buckets.quantile({}, 0.5) is None


def test_a_visitor_is_the_same_for_a_day_only() -> None:
    one, other = b"1" * 32, b"2" * 32
    assert visitor(b"ana", one) == visitor(b"ana", one)
    assert len({visitor(b"ana", one), visitor(b"ben", one), visitor(b"ana", other)}) == 3


async def test_memory_is_bounded_while_nobody_writes() -> None:
    held = Collector(None)  # type: ignore[arg-type]  # nothing is written
    event = Noted(time.monotonic(), "view", b"ana")
    for _ in range(MOST_WAITING + 5):
        held.note(event)
    assert (held.held, held._lost) == (MOST_WAITING, 5)
    assert collector.MOST_IN_BATCH * 2 <= MOST_WAITING
