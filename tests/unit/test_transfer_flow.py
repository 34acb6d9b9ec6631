"""How many parts are on the way at once, on lines that are made up here, with a clock that the test moves."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from paletta_cli.transfer.flow import SHALLOW, Flow

KIB = 1024
MIB = 1024 * KIB
TICK = 0.05


@dataclass(eq=False)
class Load:
    length: int
    counted: int = 0


@dataclass
class Line:
    """`speed` bytes per second in all, of which a connection gets `each` at most."""

    speed: float
    each: float = float("inf")
    flow: Flow = field(init=False)
    now: float = 100.0
    going: list[Load] = field(default_factory=list)
    arrived: int = 0
    most: int = 0
    """Parts that were on the way at once."""

    def __post_init__(self) -> None:
        self.flow = Flow(clock=lambda: self.now)

    def send(self, waiting: deque[Load], seconds: float, connections: int = 32) -> None:
        """Send for so long, or until all has arrived."""
        end = self.now + seconds
        while self.now < end and (waiting or self.going):
            while waiting and len(self.going) < connections and self.flow.begin(waiting[0]):
                self.going.append(waiting.popleft())
            self.most = max(self.most, len(self.going))
            self.tick()

    def tick(self) -> None:
        self.now += TICK
        share = int(min(self.each, self.speed / max(1, len(self.going))) * TICK)
        for load in list(self.going):
            count = min(share, load.length - load.counted)
            load.counted += count
            self.flow.moved(load, count)
            if load.counted == load.length:
                self.going.remove(load)
                self.arrived += load.length
                self.flow.end(load, arrived=True)


def parts(count: int, size: int) -> deque[Load]:
    return deque(Load(size) for _ in range(count))


def test_a_slow_line_has_one_clip_after_another() -> None:
    line = Line(speed=MIB)
    line.send(parts(6, 5 * MIB), 15)
    assert line.most <= 2
    assert line.arrived >= 10 * MIB


def test_a_fast_line_is_filled() -> None:
    line = Line(speed=400 * MIB, each=50 * MIB)
    line.send(parts(100, 16 * MIB), 60)
    assert line.most >= 8
    assert line.now - 100 < 1.5 * 100 * 16 / 400


def test_a_long_line_that_gives_each_connection_little_gets_more_of_them() -> None:
    line = Line(speed=100 * MIB, each=MIB)
    line.send(parts(200, 16 * MIB), 120)
    assert line.most >= 8


def test_a_full_line_is_not_shared_out_for_good() -> None:
    line = Line(speed=MIB // 2)
    line.send(parts(50, 16 * MIB), 800)
    assert line.flow.least <= 2
    assert line.most <= 3


def test_small_files_go_together_on_any_line() -> None:
    line = Line(speed=KIB)
    line.send(parts(50, 10 * KIB), 1)
    assert line.most == 32


def test_waiting_for_files_to_be_read_is_not_slowness() -> None:
    line = Line(speed=100 * MIB)
    line.send(parts(4, 16 * MIB), 60)
    before = line.flow.rate
    line.now += 300
    assert line.flow.rate == pytest.approx(before)


@settings(max_examples=60, deadline=None)
@given(
    speed=st.integers(20 * KIB, 20 * MIB),
    sizes=st.lists(st.integers(1, 16 * MIB), min_size=1, max_size=40),
    seconds=st.floats(1, 300),
)
@example(
    speed=31_520, sizes=[1, 1_048_577, 1_345_413, 1_345_413], seconds=48.0
)  # three parts, each of them large
def test_what_a_cut_loses_is_bounded(speed: int, sizes: list[int], seconds: float) -> None:
    """Of what left until the line is cut, all is there but a few parts: what is on the way is four seconds' worth, or
    two parts, and one that was being tried out."""
    line = Line(speed=speed)
    line.send(deque(Load(size) for size in sorted(sizes)), seconds)
    on_the_way = sum(load.length for load in line.going)
    largest = max(sizes)
    assert on_the_way <= max(SHALLOW, 4 * speed, largest) + 2 * largest
    if seconds > 1 + 2 * min(sizes) / speed + 2 * SHALLOW / speed:
        assert line.arrived, "a run that lasts as long as two parts gets on"


def test_winding_down_keeps_what_the_line_can_carry_in_time() -> None:
    line = Line(speed=2 * MIB)
    line.send(parts(1, 2 * MIB), 60)
    loads = [Load(16 * MIB, 12 * MIB), Load(4 * MIB, 3 * MIB), Load(4 * MIB, 2 * MIB)]
    line.flow.least = 3
    assert all(line.flow.begin(load) for load in loads)
    assert line.flow.wind_down(1.6) == 2, "1 and 2 of 3.2 MiB"
    assert not line.flow.begin(Load(1)), "nothing begins any more"
    assert line.flow.awaited == 2
    with pytest.raises(ConnectionAbortedError):
        line.flow.moved(loads[0], 1)
    line.flow.moved(loads[1], 1)
    for load in loads:
        line.flow.end(load, arrived=True)
    assert line.flow.awaited == len(line.flow) == 0
