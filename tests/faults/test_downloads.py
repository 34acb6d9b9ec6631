"""Downloads over a bad line: whatever the store, the line or the disk does, they end bit-exact or with a clear error,
and never with half a file under a final name.

PALETTA_TEST_DOWNLOAD_RUNS sets how many seeded cases there are (the suite has 208). Files are small and ranges smaller,
so that each of them has many.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from paletta_cli.transfer.drill import DOWNLOAD_STATES
from paletta_cli.transfer.retry import TRIES
from paletta_server.embedded.ports import free_ports
from tests.faults.bought import Bought, buy
from tests.faults.proxy import Exchange, Fault, Step
from tests.faults.site import PATIENT, Server, Site, runs

RUNS = runs("PALETTA_TEST_DOWNLOAD_RUNS", 208)
PAGE = 4096
"""What a tmpfs gives out at once."""
RANGE = 64 * 1024
OK, GAVE_UP, SOME_FAILED, INTERRUPTED = 0, 5, 6, 130
SCENARIOS = ("line", "line", "line", "swap", "expire", "full", "kill", "kill")


@dataclass
class BadLine:
    """Faults drawn for each try of each range, at most three of one in a row and two flips per file."""

    seed: int
    share: float
    _tries: Counter[tuple[str, int]] = field(default_factory=Counter)
    _flips: Counter[str] = field(default_factory=Counter)

    def __call__(self, exchange: Exchange) -> Fault | None:
        if not exchange.is_download:
            return None
        about = (exchange.path, exchange.first // RANGE)
        self._tries[about] += 1
        draw = random.Random(f"{self.seed}/{about}/{self._tries[about]}")
        if self._tries[about] > 3 or draw.random() >= self.share:
            return None
        kind = draw.choice(
            [
                "delay",
                "reset",
                "lose_reply",
                "cut_body",
                "cut_body",
                "reset_body",
                "stall_body",
                "flip_body",
                "answer",
            ]
        )
        if kind == "flip_body":
            self._flips[exchange.path] += 1
            if self._flips[exchange.path] > 2:
                return None
        if kind == "stall_body" and draw.random() < 0.7:  # each costs a second
            kind = "cut_reply"
        if kind == "answer":
            status, code = draw.choice([(500, "InternalError"), (503, "SlowDown"), (400, "RequestTimeout")])
            return Fault("answer", status=status, code=code)
        at = draw.randrange(200) if kind == "cut_reply" else draw.randrange(RANGE // 2)
        return Fault(kind, at=at, seconds=draw.uniform(0, 0.2))  # type: ignore[arg-type]


def bad_api(seed: int) -> Callable[[Exchange], Fault | None]:
    """A service whose answers get lost now and then."""
    draw, left = random.Random(seed), [2]

    def plan(exchange: Exchange) -> Fault | None:
        if exchange.path != "/v1/downloads" or not left[0] or draw.random() < 0.5:
            return None
        left[0] -= 1
        return draw.choice([Fault("answer", status=503), Fault("lose_reply"), Fault("cut_body", at=30)])

    return plan


@pytest.fixture(scope="module")
def brief(session_site: Site) -> Iterator[Server]:
    """A second API on the same database, whose addresses are good for a second."""
    server = session_site.make_api(free_ports(1)[0], "api-brief-get", DOWNLOAD_URL_SECONDS="1").start()
    yield server
    server.kill()


@dataclass
class Case:
    """One seeded case: an order, a folder to fetch it to, and what happens on the way."""

    site: Site
    seed: int
    draw: random.Random
    bought: Bought
    folder: Path
    state: Path

    def go(self, **how: object) -> tuple[int, str]:
        """The exit code, and the story."""
        argv = ("download", self.bought.number, "--to", str(self.folder))
        self.done = self.site.download(*argv, state=self.state, range_bytes=RANGE, **how).wait()  # type: ignore[arg-type]
        told = "\n".join(map(str, self.site.to_store.exchanges))
        return self.done.code, f"seed {self.seed}\n{self.done}\n{told}"

    def mended(self) -> None:
        """The same command, once everything is good again, finishes the work."""
        self.site.to_store.heal()
        self.site.to_api.heal()
        code, told = self.go()
        assert code == OK, told
        self.bought.check(self.folder)


@pytest.mark.parametrize("seed", range(RUNS))
def test_a_download_ends_bit_exact_or_with_a_clear_error(
    site: Site, brief: Server, tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)
    sizes = [draw.randrange(1, 5 * RANGE) for _ in range(draw.randint(1, 4))]
    if draw.random() < 0.2:
        sizes.append(RANGE * draw.randint(1, 3))  # the last range is a whole one
    case = Case(site, seed, draw, buy(site, sizes, seed=seed), tmp_path / "films", tmp_path / "state")
    if draw.random() < 0.8:
        site.to_store.plan = BadLine(seed, draw.uniform(0.1, 0.6))
    if seed % 3 == 0:
        site.to_api.plan = bad_api(seed)
    {"line": on_a_bad_line, "swap": swapped, "expire": expiring, "full": full, "kill": killed}[
        SCENARIOS[seed % len(SCENARIOS)]
    ](case, brief)


def on_a_bad_line(case: Case, brief: Server) -> None:
    code, told = case.go()
    assert code == OK, told
    case.bought.check(case.folder)


def expiring(case: Case, brief: Server) -> None:
    """Addresses that are old before they are used."""
    plan = case.site.to_store.plan
    slow = Counter[str]()

    def late(exchange: Exchange) -> Fault | None:
        if exchange.is_download and not slow[exchange.path]:
            slow[exchange.path] += 1
            return Fault("delay", seconds=2.1)  # the store counts in whole seconds
        return plan(exchange) if plan else None

    case.site.to_store.plan = late
    code, told = case.go(url=re.sub(r"/healthz$", "", str(brief.ready_url)), haste=40)
    assert code == OK, told
    case.bought.check(case.folder)
    assert any(
        one.is_download and one.by_store and one.status == 403 for one in case.site.to_store.exchanges
    ), told


def swapped(case: Case, brief: Server) -> None:
    """Another object takes the place of one while it is fetched; later the right one is back."""
    site, name = case.site, case.draw.choice(list(case.bought.files))
    key, data = case.bought.keys[name], case.bought.files[name]
    other = random.Random(-case.seed).randbytes(len(data))
    when, seen, was = case.draw.randint(1, 5), [0], threading.Event()

    def watch(exchange: Exchange, step: Step) -> None:
        if step == "replied" and exchange.is_download and exchange.path.endswith(key):
            seen[0] += 1
            if seen[0] == when and not was.is_set():
                was.set()
                site.s3.put_object(Bucket=site.bucket, Key=key, Body=other)

    site.to_store.watch = watch
    code, told = case.go()
    there = case.bought.check_names(case.folder)
    if name in there:
        assert code == OK, told
    else:
        assert code == SOME_FAILED, told
        [failed] = [one for one in case.done.result["files"] if one["result"] == "failed"]
        assert failed["code"] in ("damaged", "changing"), told
        assert failed["path"] == name
    site.to_store.watch = None
    site.s3.put_object(Bucket=site.bucket, Key=key, Body=data)
    case.mended()


def full(case: Case, brief: Server) -> None:
    """The system does not let it write files so large."""
    largest = max(len(data) for data in case.bought.files.values())
    limit = case.draw.randrange(8192, max(8193, largest))
    code, told = case.go(most_file=limit)
    there = case.bought.check_names(case.folder)
    too_large = {name for name, data in case.bought.files.items() if len(data) > limit}
    if too_large:
        assert code == SOME_FAILED, told
        said = {one["path"]: one["why"] for one in case.done.result["files"] if one["result"] == "failed"}
        assert set(said) == too_large, told
        assert all("larger than allowed" in why and "hint:" in why for why in said.values()), told
    assert set(there) == set(case.bought.files) - too_large
    parts = [path.name for path in case.folder.rglob("*.part*")]
    assert parts == [], "nothing is left of what found no room"
    case.mended()


def killed(case: Case, brief: Server) -> None:
    """kill -9, perhaps twice; then the same command goes on."""
    blocks = sum(-(-len(data) // RANGE) for data in case.bought.files.values())
    for _ in range(case.draw.randint(1, 2)):
        state = case.draw.choice(DOWNLOAD_STATES)
        nth = case.draw.randint(
            1, {"range": blocks, "block": blocks, "publish": 2 * len(case.bought.files)}.get(state, 1)
        )
        code, told = case.go(kill_at=f"{state}:{nth}")
        assert case.done.killed or code == OK, told
        case.bought.check_names(case.folder)
    case.mended()
    result = case.done.result
    assert result["received"] + result["skipped"] == sum(map(len, case.bought.files.values()))


@pytest.mark.parametrize(("moment", "again"), [("verify:1", 0), ("publish:1", 0), ("publish:2", 0)])
def test_killed_after_the_last_byte_nothing_is_fetched_again(
    site: Site, tmp_path: Path, moment: str, again: int
) -> None:
    bought = buy(site, [5 * RANGE + 7], seed=moment)
    argv = ("download", "--all", "--to", str(tmp_path / "films"))
    assert site.download(*argv, state=tmp_path, range_bytes=RANGE, kill_at=moment).wait().killed
    assert len(bought.check_names(tmp_path / "films")) == (moment == "publish:2")
    done = site.download(*argv, state=tmp_path, range_bytes=RANGE).wait()
    assert (done.code, done.result["received"]) == (OK, again), done
    bought.check(tmp_path / "films")


def test_interrupted_it_says_how_to_go_on_and_does(site: Site, tmp_path: Path) -> None:
    bought = buy(site, [20 * RANGE], seed="interrupted")
    some = threading.Event()

    def watch(exchange: Exchange, step: Step) -> None:
        if step == "done" and exchange.is_download and exchange.first >= 6 * RANGE:
            some.set()

    site.to_store.watch = watch
    # However late it is interrupted, it has not come to its end.
    site.to_store.plan = lambda exchange: (
        Fault("stall_body") if exchange.is_download and exchange.first >= 12 * RANGE else None
    )
    argv = ("download", "--all", "--to", str(tmp_path / "films"))
    slow = site.download(*argv, "--jobs", "2", state=tmp_path, range_bytes=RANGE, haste=PATIENT)
    assert some.wait(60), slow.wait()
    slow.interrupt()
    slow.wait()
    assert (slow.code, "run the same command again" in slow.stderr) == (INTERRUPTED, True), slow
    assert bought.check_names(tmp_path / "films") == []
    site.to_store.heal()
    last = site.download(*argv, state=tmp_path, range_bytes=RANGE).wait()
    assert last.code == OK, last
    assert last.result["skipped"] >= 5 * RANGE, last
    bought.check(tmp_path / "films")


HOPELESS: dict[str, tuple[Callable[[Exchange], Fault | None], int, str, int]] = {
    "every answer is 500": (lambda _: Fault("answer", status=500), GAVE_UP, "out of reach", TRIES),
    "every connection is reset": (lambda _: Fault("reset"), GAVE_UP, "out of reach", 2 * TRIES),
    "every byte is damaged": (lambda _: Fault("flip_body", at=9), SOME_FAILED, "arrives damaged", 4),
    "a fresh address is refused": (
        lambda _: Fault("answer", status=403, code="AccessDenied"),
        SOME_FAILED,
        "refused with a fresh address",
        3,
    ),
    "the request is malformed": (
        lambda _: Fault("answer", status=400, code="InvalidArgument"),
        SOME_FAILED,
        "answered 400 InvalidArgument",
        1,
    ),
}


@pytest.mark.parametrize("case", HOPELESS)
def test_a_hopeless_line_is_given_up_in_bounds_and_said_so(site: Site, tmp_path: Path, case: str) -> None:
    plan, code, words, most = HOPELESS[case]
    bought = buy(site, [50_000], seed=case)
    site.to_store.plan = lambda exchange: plan(exchange) if exchange.is_download else None
    haste = (
        120 if code == GAVE_UP else PATIENT
    )  # it gives up when all tries are used, however each of them ended
    argv = ("download", "--all", "--to", str(tmp_path / "films"))
    done = site.download(*argv, state=tmp_path, range_bytes=RANGE, haste=haste).wait()
    told = f"{done}\n" + "\n".join(map(str, site.to_store.exchanges))
    assert done.code == code, told
    assert words in told, told
    assert bought.check_names(tmp_path / "films") == []
    assert sum(one.is_download for one in site.to_store.exchanges) <= most, told
    site.to_store.heal()
    assert site.download(*argv, state=tmp_path).wait().code == OK
    bought.check(tmp_path / "films")


def test_a_right_that_ends_half_way_ends_the_download(site: Site, brief: Server, tmp_path: Path) -> None:
    buy(site, [3 * RANGE], seed="revoked")

    def watch(exchange: Exchange, step: Step) -> None:
        if step == "replied" and exchange.is_download:
            site.sql("UPDATE entitlements SET status = 'suspended'")

    site.to_store.watch = watch
    site.to_store.plan = lambda exchange: Fault("delay", seconds=1.1) if exchange.is_download else None
    address = re.sub(r"/healthz$", "", str(brief.ready_url))
    argv = ("download", "--all", "--to", str(tmp_path / "films"), "--jobs", "1")
    done = site.download(*argv, state=tmp_path, range_bytes=RANGE, url=address).wait()
    assert done.code == SOME_FAILED, done
    [file] = done.result["files"]
    assert (file["code"], "disputed" in file["why"]) == ("suspended", True), done
    assert list((tmp_path / "films").rglob("*.mov")) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_costs_the_file_that_found_no_room(site: Site, small_disk: Path, tmp_path: Path) -> None:
    bought = buy(site, [300_000, 2_000_000, 200_000], seed="disk")
    argv = ("download", "--all", "--to", str(small_disk), "--no-certificates")
    done = site.download(*argv, state=tmp_path / "state", range_bytes=RANGE).wait()
    assert done.code == SOME_FAILED, done
    [failed] = [one for one in done.result["files"] if one["result"] == "failed"]
    assert (failed["size"], "the disk is full" in failed["why"]) == (2_000_000, True), done
    assert len(bought.check_names(small_disk)) == 2
    assert list(small_disk.rglob("*.part*")) == []


def test_a_disk_with_room_for_the_film_alone_says_so(site: Site, small_disk: Path, tmp_path: Path) -> None:
    """The film's place is taken, and the first line of its log finds none."""
    buy(site, [8 * PAGE - 100], seed="no room")
    (small_disk / "films").mkdir()
    with (small_disk / "filler").open("wb", buffering=0) as filler:
        with suppress(OSError):
            while True:
                filler.write(bytes(PAGE))
        filler.truncate(filler.tell() - 8 * PAGE)
    argv = ("download", "--all", "--to", str(small_disk / "films"), "--layout", "{clip}.{ext}")
    done = site.download(*argv, "--no-certificates", state=tmp_path / "state", range_bytes=RANGE).wait()
    assert done.code == SOME_FAILED, done
    assert "the disk is full" in done.result["files"][0]["why"], done


def test_two_at_once_do_not_spoil_each_other(site: Site, tmp_path: Path) -> None:
    bought = buy(site, [30 * RANGE, 30 * RANGE], seed="two")
    argv = ("download", "--all", "--to", str(tmp_path / "films"))
    both = [site.download(*argv, state=tmp_path / str(n), range_bytes=RANGE) for n in range(2)]
    codes = sorted(one.wait().code for one in both)
    assert codes[0] in (OK, SOME_FAILED), [str(one) for one in both]
    bought.check_names(tmp_path / "films")
    last = site.download(*argv, state=tmp_path / "0", range_bytes=RANGE).wait()
    assert last.code == OK, last
    bought.check(tmp_path / "films")


def test_nothing_presigned_is_printed(site: Site, tmp_path: Path) -> None:
    buy(site, [1000], seed="secrets")
    site.to_store.plan = lambda exchange: (
        Fault("answer", status=400, code="Odd") if exchange.is_download else None
    )
    done = site.download("download", "--all", "--to", str(tmp_path / "films"), state=tmp_path).wait()
    assert "X-Amz" not in str(done)
    assert os.environ.get("PALETTA_TOKEN", site.token) not in str(done)
