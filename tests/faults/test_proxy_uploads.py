"""Uploads over a bad line: whatever the way to the store does, they end bit-exact or with a clear error.

PALETTA_TEST_FAULT_RUNS sets how many seeds the random runs have (the suite's 60 take two minutes).
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from paletta_cli.transfer.retry import DIGEST_TRIES, TRIES
from paletta_server.embedded.ports import free_ports
from tests.faults.plans import RandomPlan
from tests.faults.proxy import Exchange, Fault, FaultProxy, Step
from tests.faults.site import HASTE, PART, PATIENT, Server, Site, make_folder, runs

RUNS = runs("PALETTA_TEST_FAULT_RUNS", 60)
GAVE_UP, SOME_FAILED = 5, 6


@pytest.mark.parametrize("seed", range(RUNS))
def test_an_upload_over_a_bad_line_ends_bit_exact(site: Site, tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    sizes = [draw.randrange(100_000, 600_000) for _ in range(draw.randint(2, 4))]
    if seed % 4 == 0:
        sizes.append(PART + draw.randrange(1, 400_000))
    files = make_folder(tmp_path / "clips", sizes, seed=seed)
    site.to_store.plan = RandomPlan(seed, share=draw.uniform(0.3, 0.7), control=seed % 3 == 0)
    done = site.upload(tmp_path / "clips", state=tmp_path / "state").wait()
    told = f"seed {seed}\n{done}\n{_log(site.to_store)}"
    assert done.code == 0, told
    site.check(files)
    assert _most_per_part(site.to_store) <= 2 * TRIES, told
    # What the store had taken and the client knew of was not sent once more.
    known = Counter((one.path, one.part) for one in site.to_store.transfers if one.is_stored and one.answered)
    assert set(known.values()) <= {1}, told


HOPELESS: dict[str, tuple[Callable[[Exchange], Fault | None], int, str, int]] = {
    # What the store does, the exit code, what the person reads, how often each part is tried at most.
    "every answer is 500": (lambda _: Fault("answer", status=500), GAVE_UP, "out of reach", TRIES),
    "every answer is SlowDown": (
        lambda _: Fault("answer", status=503, code="SlowDown"),
        GAVE_UP,
        "out of reach",
        TRIES,
    ),
    # A kept connection that breaks is tried again at once: that costs no try, and happens once per try.
    "every connection is reset": (lambda _: Fault("reset", at=70_000), GAVE_UP, "out of reach", 2 * TRIES),
    "every byte is damaged": (lambda _: Fault("flip", at=9), SOME_FAILED, "arrives damaged", DIGEST_TRIES),
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
    files = make_folder(tmp_path / "clips", [200_000, 150_000], seed=case)
    site.to_store.plan = lambda exchange: plan(exchange) if exchange.is_transfer else None
    haste = (
        HASTE if code == GAVE_UP else PATIENT
    )  # it gives up when all tries are used, however each of them ended
    done = site.upload(tmp_path / "clips", state=tmp_path / "state", haste=haste).wait()
    told = f"{done}\n{_log(site.to_store)}"
    assert done.code == code, told
    assert words in told, told
    assert "hint:" in done.stderr, told
    assert 1 <= _most_per_part(site.to_store) <= most, told
    _mended(site, tmp_path, files)


def test_one_file_that_cannot_pass_does_not_keep_the_others(site: Site, tmp_path: Path) -> None:
    files = make_folder(tmp_path / "clips", [200_000, 150_000, 250_000], seed=0)
    site.to_store.plan = lambda exchange: Fault("flip") if exchange.length == 150_000 else None
    done = site.upload(tmp_path / "clips", state=tmp_path / "state").wait()
    assert done.code == SOME_FAILED, done
    assert {one["file"]: one["stage"] for one in done.result["items"]} == {
        "clip01.mp4": "stored",
        "clip02.mp4": "failed",
        "clip03.mp4": "stored",
    }
    site.to_store.heal()
    again = site.upload(options=("--failed", "last"), state=tmp_path / "state", haste=PATIENT).wait()
    assert again.code == 0, again
    assert [one.length for one in site.to_store.transfers] == [150_000], "the others are not sent again"
    site.check(files)


def test_the_upload_of_a_changed_file_is_given_up_before_the_command_ends(site: Site, tmp_path: Path) -> None:
    [file] = make_folder(tmp_path / "clips", [PART + 77], seed="changed")

    def edit(exchange: Exchange, step: Step) -> None:
        if step == "head" and exchange.is_transfer:
            file.write_bytes(b"another film")

    site.to_store.watch = edit
    site.to_api.plan = lambda exchange: (
        Fault("delay", seconds=0.3) if exchange.path.endswith("/cancel") else None
    )
    done = site.upload(tmp_path / "clips", state=tmp_path / "state").wait()
    assert done.code == SOME_FAILED, done
    assert [one["stage"] for one in done.result["items"]] == ["changed"], done
    assert site.sql("SELECT state FROM uploads") == [("cancelled",)], "the batch would wait for it for days"


def test_a_store_that_answers_nothing_is_not_waited_for_endlessly(site: Site, tmp_path: Path) -> None:
    files = make_folder(tmp_path / "clips", [300_000, PART + 9], seed=1)
    seen: Counter[int] = Counter()

    def plan(exchange: Exchange) -> Fault | None:
        if not exchange.is_transfer:
            return None
        seen[exchange.length] += 1
        return Fault("stall", at=exchange.length // 2) if seen[exchange.length] == 1 else None

    site.to_store.plan = plan
    done = site.upload(tmp_path / "clips", state=tmp_path / "state").wait()
    told = f"{done}\n{_log(site.to_store)}"
    assert done.code == 0, told
    sent = site.to_store.transfers
    stalled = Counter(one.length for one in sent if one.fault is not None)
    heard = Counter(one.length for one in sent if one.fault is None and one.answered)
    assert stalled == heard == Counter([300_000, PART, 9]), f"each part once in vain and once well\n{told}"
    site.check(files)


@pytest.fixture
def brief(site: Site) -> Iterator[Server]:
    """A second API on the same database, whose URLs are good for a second."""
    server = site.make_api(free_ports(1)[0], "api-brief", UPLOAD_URL_SECONDS="1").start()
    yield server
    server.kill()


def test_an_expired_url_is_signed_again_and_costs_no_try(site: Site, brief: Server, tmp_path: Path) -> None:
    """More refusals of old URLs than a part has tries, and as many parts that were never in trouble."""
    files = make_folder(tmp_path / "clips", [200_000, PART + 77], seed=2)
    late: Counter[int] = Counter()

    def plan(exchange: Exchange) -> Fault | None:
        if not exchange.is_transfer:
            return None
        late[exchange.length] += 1
        if exchange.length == 200_000 and late[200_000] <= TRIES + 1:
            # The store's own word for it; 0.9 s is old enough for the client to believe in age.
            return Fault("answer", status=403, code="AccessDenied", seconds=0.9)
        # The store itself counts in whole seconds: this is late for it.
        return Fault("delay", seconds=2.2) if late[exchange.length] == 1 else None

    site.to_store.plan = plan
    address = re.sub(r"/healthz$", "", str(brief.ready_url))
    done = site.upload(tmp_path / "clips", state=tmp_path / "state", url=address, haste=PATIENT).wait()
    told = f"{done}\n{_log(site.to_store)}"
    assert done.code == 0, told
    # At least: any address is too old by a second that this machine was busy elsewhere.
    assert late[200_000] >= TRIES + 2, told
    expired = [one for one in site.to_store.transfers if one.by_store and one.status == 403]
    assert {one.length for one in expired} >= {PART, 77}, f"the store refused both parts as expired\n{told}"
    site.check(files)


def _mended(site: Site, folder: Path, files: list[Path]) -> None:
    """The same command, once the line is good again, finishes the work."""
    site.to_store.heal()
    again = site.upload(folder / "clips", state=folder / "state").wait()
    assert again.code == 0, again
    site.check(files)


def _most_per_part(proxy: FaultProxy) -> int:
    return max(Counter((one.path, one.part) for one in proxy.transfers).values())


def _log(proxy: FaultProxy) -> str:
    return "\n".join(map(str, proxy.exchanges))
