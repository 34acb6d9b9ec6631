"""What the operator's desk says in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from paletta_cli.desk.words import left


@pytest.mark.parametrize(
    ("time", "said"),
    [
        (timedelta(days=6, hours=23, minutes=59), "in 6 days 23 h"),
        (timedelta(days=9, minutes=30), "in 9 days"),
        (timedelta(days=2), "in 2 days"),
        (timedelta(days=1, hours=23, minutes=59), "in 47 h 59 min"),
        (timedelta(hours=2, minutes=50), "in 2 h 50 min"),
        (timedelta(hours=1), "in 1 h"),
        (timedelta(minutes=59), "in 59 min"),
        (timedelta(), "in less than a minute"),
        (timedelta(minutes=-1), "over"),
    ],
)
def test_time_that_is_left_is_said_to_the_hour_and_to_the_minute(time: timedelta, said: str) -> None:
    until = datetime.now(UTC) + time + timedelta(seconds=30)
    assert left(until.isoformat()) == said


def test_where_nothing_is_due_nothing_is_said() -> None:
    assert left(None) == ""
