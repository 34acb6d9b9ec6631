"""kill -9 of the API and of the object store while a contributor uploads: the command line rides it out.

The suite kills each of them once at every moment listed here; PALETTA_TEST_SERVER_KILLS sets another number of
kills for each of the two, round after round through its moments.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from paletta_server.embedded.objectstore import EmbeddedStore
from tests.faults.proxy import Exchange, FaultProxy, Step
from tests.faults.site import PART, Site, StoreAddress, make_folder, runs

if TYPE_CHECKING:
    from tests.support.stack import Addresses

# With more haste than this the tries would be used up before a server has started again.
UNHURRIED = 4.0


@dataclass(frozen=True)
class Where:
    """A point on the way of a request, before the API or before the store; `pick` says which requests."""

    name: str
    before: str
    step: Step
    pick: Callable[[Exchange], bool]


def _api(path: str, step: Step) -> Where:
    return Where(f"api {path} {step}", "api", step, lambda one: one.path.endswith(path))


def _store(name: str, step: Step, pick: Callable[[Exchange], bool]) -> Where:
    return Where(f"store {name} {step}", "store", step, pick)


def _begins(one: Exchange) -> bool:
    return one.method == "POST" and "uploads" in one.query


def _joins(one: Exchange) -> bool:
    return one.method == "POST" and "uploadId" in one.query


def _looks(one: Exchange) -> bool:
    return one.method == "HEAD"


def _sends(one: Exchange) -> bool:
    return one.is_transfer


API_MOMENTS = [
    # `sent`: the API has the request and is at work on it. Its own requests to the store tell how far it is.
    *(_api(path, "sent") for path in ("/upload-batches", "/items", "/sign", "/complete", "/seal")),
    *(_api(path, "done") for path in ("/items", "/sign", "/complete")),
    _store("begin multipart", "head", _begins),
    _store("begin multipart", "replied", _begins),
    _store("join parts", "head", _joins),
    _store("join parts", "replied", _joins),
    _store("look at object", "head", _looks),
    _store("look at object", "replied", _looks),
    _store("send part", "body", _sends),
]
STORE_MOMENTS = [
    *(_store("send part", step, _sends) for step in ("head", "body", "sent", "replied", "done")),
    *(_store("begin multipart", step, _begins) for step in ("head", "sent", "replied")),
    *(_store("join parts", step, _joins) for step in ("head", "sent", "replied", "done")),
    *(_store("look at object", step, _looks) for step in ("head", "sent", "done")),
    *(_api(path, "sent") for path in ("/items", "/sign", "/complete")),
]


def _seeds(moments: list[Where]) -> range:
    return range(runs("PALETTA_TEST_SERVER_KILLS", len(moments)))


def _spread(moments: list[Where], seed: int) -> Where:
    """All of them in turn, in an order of their own for each round."""
    turn, place = divmod(seed, len(moments))
    return random.Random(f"round {turn}").sample(moments, len(moments))[place]


@dataclass
class Trigger:
    """Kills once, at the `nth` time that something reaches `where`."""

    where: Where
    nth: int
    kill: Callable[[], None]
    fired: threading.Event = field(default_factory=threading.Event)
    stored: set[tuple[str, int]] = field(default_factory=set)
    """Parts that the store had acknowledged when it happened."""
    last: int = 0
    """The number of the last request to the store before it happened."""

    def arm(self, site: Site) -> None:
        proxies: dict[str, FaultProxy] = {"api": site.to_api, "store": site.to_store}

        def watch(exchange: Exchange, step: Step) -> None:
            if self.fired.is_set() or step != self.where.step or not self.where.pick(exchange):
                return
            self.nth -= 1
            if self.nth <= 0:
                before = site.to_store.transfers
                self.stored = {(one.path, one.part) for one in before if one.is_stored and one.answered}
                self.last = len(site.to_store.exchanges)
                self.kill()
                self.fired.set()

        proxies[self.where.before].watch = watch

    def sent_again(self, site: Site) -> list[Exchange]:
        """Requests that sent what had been acknowledged before."""
        later = [one for one in site.to_store.transfers if one.number > self.last]
        return [one for one in later if (one.path, one.part) in self.stored]


def ride_out(
    site: Site, folder: Path, seed: int, where: Where, kill: Callable[[], None], revive: Callable[[], None]
) -> None:
    """Upload, kill at a moment drawn from the seed, start again; the upload must not notice more than a pause."""
    draw = random.Random(seed)
    sizes = [draw.randrange(50_000, 400_000) for _ in range(3)]
    files = make_folder(folder / "clips", [*sizes, PART + draw.randrange(1, 500_000)], seed=seed)
    nth = draw.randint(1, 60) if where.step == "body" else 1
    trigger = Trigger(where, nth, kill)
    trigger.arm(site)
    running = site.upload(folder / "clips", state=folder / "state", haste=UNHURRIED)
    happened = trigger.fired.wait(60)
    if happened:
        revive()
    log = "\n".join(["to the store:", *map(str, site.to_store.exchanges), "to the API:"])
    done = running.wait()
    told = f"seed {seed}, {where.name}, {nth}\n{done}\n{log}\n" + "\n".join(map(str, site.to_api.exchanges))
    assert happened, f"the moment never came\n{told}"
    assert done.code == 0, told
    site.check(files)
    assert not trigger.sent_again(site), f"what was acknowledged was sent again\n{told}"


@pytest.mark.parametrize("seed", _seeds(API_MOMENTS))
def test_the_api_dies_and_the_upload_goes_on(site: Site, tmp_path: Path, seed: int) -> None:
    where = _spread(API_MOMENTS, seed)

    def revive() -> None:
        site.api.start()

    ride_out(site, tmp_path, seed, where, site.api.kill, revive)


@pytest.fixture(scope="module")
def mortal_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    """A store of this module's own, that may die."""
    store = EmbeddedStore(tmp_path_factory.mktemp("mortal"), "unused")
    store.start()
    yield store
    store.stop()


@pytest.fixture(scope="module")
def mortal_site(
    mortal_store: EmbeddedStore,
    stack: Addresses,
    worker_name: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    from tests.support.stack import make_database

    address = mortal_store.address()
    site = Site(
        tmp_path_factory.mktemp("mortal-site"),
        make_database(stack, f"paletta_mortal_{worker_name}"),
        StoreAddress(address.endpoint, address.access_key, address.secret_key),
        "paletta",
        settings={"UPLOAD_CLAIM_SECONDS": "2"},
    )
    with site:
        yield site


@pytest.mark.parametrize("seed", _seeds(STORE_MOMENTS))
def test_the_store_dies_and_the_upload_goes_on(
    mortal_site: Site, mortal_store: EmbeddedStore, tmp_path: Path, seed: int
) -> None:
    def kill() -> None:
        assert mortal_store.process is not None
        mortal_store.process.kill()

    def revive() -> None:
        mortal_store.stop()  # it is dead: this only clears away its sockets
        before = mortal_store.address()
        assert mortal_store.start() == before, "the store came back at another address"

    ride_out(mortal_site, tmp_path, seed, _spread(STORE_MOMENTS, seed), kill, revive)
    mortal_site.clear()
