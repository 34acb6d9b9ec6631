"""Durations by buckets that grow by a twentieth: quantiles of any span of days from its sums, within 2.5 per cent."""

import math
from collections.abc import Mapping

GROWTH = 1.05


def bucket(seconds: float) -> int:
    """The bucket of a duration. The same is done in SQL (`books.py`)."""
    return math.floor(math.log(max(seconds, 0.001)) / math.log(GROWTH))


def quantile(runs: Mapping[int, int], part: float) -> float | None:
    """Seconds that `part` of the durations do not exceed; None without any."""
    total = sum(runs.values())
    seen = 0
    for number in sorted(runs):
        seen += runs[number]
        if seen >= part * total:
            return round(float(GROWTH ** (number + 0.5)), 3)
    return None
