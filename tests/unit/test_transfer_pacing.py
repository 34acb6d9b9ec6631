"""Concurrency and rate, with a clock that the test moves."""

from __future__ import annotations

import threading

from paletta_cli.transfer.pacing import START, Budget, RateLimit


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


MIB = 1024 * 1024


def transfer(budget: Budget, clock: Clock, *, rounds: int, speed: float = 0, each: float = 0) -> None:
    """Send parts of 1 MiB, as many at once as the budget allows, on a line of `speed` bytes per second in all or
    `each` per connection."""
    for _ in range(rounds):
        taken = budget.limit
        speed = each * taken if each else speed
        for _ in range(taken):
            assert budget.acquire()
        for _ in range(taken):
            clock.now += MIB / speed
            budget.release(MIB, MIB / speed * taken)


def test_grows_while_more_connections_help() -> None:
    clock = Clock()
    budget = Budget(clock=clock)
    transfer(budget, clock, each=10 * MIB, rounds=200)
    assert budget.limit > START + 3


def test_stays_where_it_is_when_they_do_not() -> None:
    clock = Clock()
    budget = Budget(clock=clock)
    transfer(budget, clock, speed=20 * MIB, rounds=300)
    assert START <= budget.limit <= START + 1


def test_never_more_for_parts_that_take_a_minute() -> None:
    clock = Clock()
    budget = Budget(clock=clock)
    transfer(budget, clock, each=MIB / 70, rounds=80)
    assert budget.limit == START


def test_slow_down_halves_and_pauses_everybody_once_per_burst() -> None:
    clock = Clock()
    budget = Budget(clock=clock, most=32)
    budget.limit = 16
    budget.slow_down()
    budget.slow_down()  # the same burst
    assert budget.limit == 8
    got = threading.Event()

    def wait() -> None:
        assert budget.acquire()
        got.set()

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    assert not got.wait(0.05), "nobody may go during the pause"
    clock.now += 31.0
    budget.release()  # wakes whoever waits (and gives back a slot that the next line takes)
    assert got.wait(60)
    assert budget.acquire()
    waiting.join()
    budget.slow_down(asked=20.0)
    assert budget.limit == 4


def test_a_fixed_number_stays_but_pauses() -> None:
    clock = Clock()
    budget = Budget(fixed=3, clock=clock)
    budget.slow_down()
    budget.back_off()
    clock.now += 60
    transfer(budget, clock, speed=100 * MIB, rounds=50)
    assert budget.limit == 3


def test_a_broken_connection_costs_one() -> None:
    budget = Budget(clock=Clock())
    for _ in range(10):
        budget.back_off()
    assert budget.limit == 1


def test_stop_lets_everybody_go() -> None:
    budget = Budget(fixed=1)
    assert budget.acquire()
    answers: list[bool] = []
    waiting = threading.Thread(target=lambda: answers.append(budget.acquire()))
    waiting.start()
    budget.stop()
    waiting.join(60)
    assert answers == [False]


def test_rate_limit_keeps_its_rate() -> None:
    clock = Clock()

    def wait(seconds: float) -> None:
        clock.now += seconds

    limit = RateLimit(1000 * 1024, clock=clock, wait=wait)
    began = clock.now
    for _ in range(100):
        limit.take(limit.block)
    rate = 100 * limit.block / (clock.now - began)
    assert 0.99 * limit.rate <= rate <= 1.1 * limit.rate
    assert limit.block * 4 <= limit.rate
    clock.now += 3600  # an hour of silence must not be saved up
    began = clock.now
    for _ in range(100):
        limit.take(limit.block)
    assert 100 * limit.block / (clock.now - began) <= 1.1 * limit.rate
