"""How tries are spaced and bounded, without a network: no clock is involved."""

from __future__ import annotations

import random

import pytest

from paletta_cli.api import jitter
from paletta_cli.transfer.pacing import Budget
from paletta_cli.transfer.retry import TRIES, Verdict, judge
from paletta_cli.transfer.wire import Answer


@pytest.mark.parametrize("attempt", range(40))
def test_a_wait_is_anything_between_nothing_and_its_bound(attempt: int) -> None:
    bound = min(30.0, 2.0**attempt)
    waits = [jitter(attempt, draw=random.Random(seed).random) for seed in range(200)]
    assert all(0 <= wait <= bound for wait in waits)
    assert len(set(waits)) == len(waits), "clients that failed together do not come back together"
    # Full jitter: the whole range is used, not a band at its end.
    assert min(waits) < 0.1 * bound
    assert max(waits) > 0.9 * bound


def test_the_bound_grows_to_a_half_minute_and_no_further() -> None:
    longest = [jitter(attempt, draw=lambda: 1.0) for attempt in range(100)]
    assert longest[:6] == [1, 2, 4, 8, 16, 30]
    assert set(longest[5:]) == {30}


def test_the_process_draws_its_own_waits() -> None:
    assert len({jitter(4) for _ in range(50)}) == 50


def test_all_tries_of_a_part_outlast_a_routers_restart_and_end_within_minutes() -> None:
    longest = sum(jitter(attempt, draw=lambda: 1.0) for attempt in range(1, TRIES))
    assert 120 <= longest / 2 <= 300


def test_a_store_that_asks_for_less_gets_less_each_time() -> None:
    now = 0.0
    budget = Budget(clock=lambda: now)
    pauses, limits = [], [budget.limit]
    for _ in range(10):
        budget.slow_down()
        pauses.append(budget._not_before - now)
        limits.append(budget.limit)
        now = budget._not_before
    assert pauses == [0.25, 0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert limits == [4, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(("asked", "pause"), [(7.0, 7.0), (0.0, 0.25), (3600.0, 60.0)])
def test_retry_after_is_obeyed_within_reason(asked: float, pause: float) -> None:
    budget = Budget(clock=lambda: 0.0)
    budget.slow_down(asked)
    assert budget._not_before == pause


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (Answer(200), Verdict.STORED),
        (Answer(400, "BadDigest"), Verdict.DAMAGED),
        (Answer(400, "RequestTimeout"), Verdict.AGAIN),
        (Answer(400, "InvalidArgument"), Verdict.FILE),
        (Answer(403, "AccessDenied"), Verdict.SIGN),
        (Answer(404, "NoSuchUpload"), Verdict.GONE),
        (Answer(409, "ConditionalRequestConflict"), Verdict.AGAIN),
        (Answer(429), Verdict.SLOWER),
        (Answer(500, "InternalError"), Verdict.AGAIN),
        (Answer(503, "SlowDown"), Verdict.SLOWER),
        (Answer(307), Verdict.ALL),
    ],
)
def test_the_stores_answers_are_judged_by_what_to_do(answer: Answer, verdict: Verdict) -> None:
    assert judge(answer, one_put=False) is verdict


def test_bytes_that_are_there_already_count_as_sent_only_for_a_whole_file() -> None:
    assert judge(Answer(412, "PreconditionFailed"), one_put=True) is Verdict.STORED
    assert judge(Answer(412, "PreconditionFailed"), one_put=False) is Verdict.FILE
