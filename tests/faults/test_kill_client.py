"""kill -9 of the command line, at seeded moments of every state it goes through; then the same command again.

PALETTA_TEST_KILL_MOMENTS sets how many moments there are (the suite has 102).
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from paletta_cli.transfer.drill import STATES
from paletta_cli.transfer.wire import UNREAD_BLOCK
from tests.faults.proxy import Exchange, Fault, Step
from tests.faults.site import PART, PATIENT, Site, make_folder, runs

MOMENTS = runs("PALETTA_TEST_KILL_MOMENTS", 102)
SMALL = (180_000, 250_000, 60_000)
LARGE = PART + 700_000  # two parts: one that may be there when the kill comes, and one that is not


@dataclass(frozen=True)
class Moment:
    """When to die: the `nth` time the process reaches `state`; then perhaps once more in the run that follows."""

    seed: int
    state: str
    nth: int
    large: bool
    again: str | None

    def __str__(self) -> str:
        size = "large" if self.large else "small"
        return f"{self.seed}-{self.state}-{self.nth}-{size}" + (f"-then-{self.again}" if self.again else "")


def moment(seed: int) -> Moment:
    """The states in turn, the rest drawn. `nth` is within what every run of such a folder reaches."""
    draw = random.Random(seed)
    state = STATES[seed % len(STATES)]
    # Only files of several parts are signed for, and only they are half there.
    large = state in ("sign", "part") or draw.random() < 0.2
    blocks = sum(1 + -(-size // UNREAD_BLOCK) for size in SMALL) + (LARGE // UNREAD_BLOCK if large else 0)
    most = {"fingerprint": 3 + large, "part": blocks}.get(state, 2)
    again = draw.choice([None, None, *STATES[1:]])
    nth = draw.randint(1, most)
    return Moment(seed, state, nth, large, f"{again}:{draw.randint(1, 2)}" if again else None)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, list[Path]]:
    """The files, made once: with the large one, and without."""
    base = tmp_path_factory.mktemp("killed")
    return {
        large: make_folder(base / str(large), [*SMALL, LARGE][: 3 + large], seed=f"kill {large}")
        for large in (False, True)
    }


class Acknowledged:
    """Watches the way to the store: what it had taken before a process began must not be sent by that process."""

    def __init__(self) -> None:
        self.before: set[tuple[str, int]] = set()
        self.sent_again: list[Exchange] = []
        self._now: set[tuple[str, int]] = set()

    def next_process(self) -> None:
        """A new process of the command begins."""
        self.before |= self._now
        self._now = set()

    def __call__(self, exchange: Exchange, step: str) -> None:
        about = (exchange.path, exchange.part)
        if step == "head" and exchange.is_transfer and about in self.before:
            self.sent_again.append(exchange)
        if step == "replied" and exchange.is_stored:
            self._now.add(about)


@pytest.fixture
def acknowledged(site: Site) -> Iterator[Acknowledged]:
    site.to_store.watch = made = Acknowledged()
    yield made
    site.to_store.watch = None


@pytest.mark.parametrize("chosen", [moment(seed) for seed in range(MOMENTS)], ids=str)
def test_killed_anywhere_the_same_command_goes_on(
    site: Site,
    acknowledged: Acknowledged,
    folders: dict[bool, list[Path]],
    tmp_path: Path,
    chosen: Moment,
) -> None:
    files = folders[chosen.large]
    folder, state = files[0].parent, tmp_path / "state"
    # No worker runs here: a process that polls waits for what never comes, until it is killed.
    until = "live" if chosen.state == "poll" else "uploaded"
    killed = site.upload(folder, state=state, until=until, kill_at=f"{chosen.state}:{chosen.nth}").wait()
    assert killed.killed, f"{chosen}: it was to die\n{killed}"
    if chosen.again:
        acknowledged.next_process()
        until = "live" if chosen.again.startswith("poll") else "uploaded"
        second = site.upload(folder, state=state, until=until, kill_at=chosen.again).wait()
        assert second.killed or second.code == 0, f"{chosen}\n{second}"
    acknowledged.next_process()
    last = site.upload(folder, state=state).wait()
    told = f"{chosen}\n{last}\n" + "\n".join(map(str, site.to_store.exchanges))
    assert last.code == 0, told
    site.check(files)
    assert acknowledged.sent_again == [], told


def test_another_machine_goes_on_with_what_one_left(
    site: Site, acknowledged: Acknowledged, folders: dict[bool, list[Path]], tmp_path: Path
) -> None:
    """The journal is a hint: without it, the service's word is enough."""
    files = folders[True]
    one_part_there = threading.Event()

    def watch(exchange: Exchange, step: Step) -> None:
        acknowledged(exchange, step)
        if step == "done" and exchange.is_stored and "partNumber" in exchange.query:
            one_part_there.set()

    site.to_store.watch = watch
    # Of the two parts one does not arrive as long as this process lives.
    site.to_store.plan = lambda exchange: Fault("stall", at=1000) if exchange.length == PART else None
    stuck = site.upload(files[0].parent, state=tmp_path / "one", haste=PATIENT)
    assert one_part_there.wait(60), stuck.wait()
    stuck.kill()
    assert stuck.killed
    site.to_store.plan = None
    acknowledged.next_process()
    last = site.upload(files[0].parent, state=tmp_path / "other").wait()
    assert last.code == 0, last
    site.check(files)
    assert acknowledged.sent_again == []
    parts = [one for one in site.to_store.transfers if "partNumber" in one.query and one.is_stored]
    assert sorted(one.part for one in parts) == [1, 2], "each part arrived once"
