"""The span of days that a report is about, and the periods that it is told by. Days are UTC's."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from paletta_server.core.errors import Invalid

By = Literal["day", "week", "month"]

DEFAULT_DAYS = 30
MOST_DAYS = 3_660
"""Ten years; by day that is as much as anybody reads."""


@dataclass(frozen=True, slots=True)
class Span:
    """From `since` to `until`, both included. Weeks begin on Monday; a period that begins before the span is cut."""

    since: date
    until: date
    by: By

    @property
    def days(self) -> int:
        return (self.until - self.since).days + 1

    @property
    def before(self) -> "Span":
        """As many days before it."""
        return Span(self.since - timedelta(days=self.days), self.since - timedelta(days=1), self.by)

    def starts(self) -> Iterator[date]:
        """The first days of the periods, as `date_trunc` names them."""
        day = self.since
        if self.by == "week":
            day -= timedelta(days=day.weekday())
        elif self.by == "month":
            day = day.replace(day=1)
        while day <= self.until:
            yield day
            if self.by == "month":
                day = (day + timedelta(days=31)).replace(day=1)
            else:
                day += timedelta(days=7 if self.by == "week" else 1)


def span(since: date | None, until: date | None, by: By, *, today: date | None = None) -> Span:
    """The last 30 days, unless told otherwise. Raises `Invalid` (`bad_period`)."""
    today = today or datetime.now(UTC).date()
    last = until or max(today, since or today)
    if not date(2000, 1, 1) <= (since or last) <= last <= date(2200, 1, 1):
        raise Invalid(
            f"`from` ({since or '30 days before `to`'}) must be a day before `to` ({last}), from 2000 to 2200",
            code="bad_period",
            hint="both are days such as 2026-01-31, and both are included",
        )
    first = since or max(last - timedelta(days=DEFAULT_DAYS - 1), date(2000, 1, 1))
    if (last - first).days >= MOST_DAYS:
        raise Invalid(
            f"from {first} to {last} is more than {MOST_DAYS:,} days",
            code="bad_period",
            hint="ask for fewer years at once",
        )
    return Span(first, last, by)
