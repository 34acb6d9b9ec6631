"""How a process asks OpenSearch: so many at a time, each for so long, and not at all while nothing comes back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from opensearchpy import exceptions

from paletta_server.core.errors import Unavailable
from paletta_server.search import opensearch_asking, opensearch_client
from paletta_server.search.opensearch_asking import AT_ONCE, IN_VAIN, MOST, Asking
from paletta_server.search.opensearch_client import Silent, left
from paletta_server.search.opensearch_index import _Snapshots


@pytest.fixture
def asking() -> Iterator[Asking]:
    made = Asking()
    yield made
    made.close()


@pytest.fixture
def free() -> Iterator[threading.Event]:
    """What questions wait for; also given where a test fails, since a process waits for its threads."""
    made = threading.Event()
    yield made
    made.set()


def nothing_comes() -> None:
    with opensearch_client.asking():
        raise Silent


def it_answers() -> str:
    with opensearch_client.asking():
        return "an answer"


def it_is_being_built() -> None:
    it_answers()
    raise Unavailable("the search index is being built", code="index_building")


async def test_one_request_without_an_answer_is_one_however_many_waited_for_it(
    asking: Asking, free: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as wait for one state of the index, which one of them asked for."""
    monkeypatch.setattr(opensearch_client, "READ_SECONDS", 2.0)
    client = Mute(free)
    states = _Snapshots(client, "clips")  # type: ignore[arg-type]  # what is asked of it is all that it has
    answers = await asyncio.gather(
        *(asking.ask(states.newest) for _ in range(2 * IN_VAIN)), return_exceptions=True
    )
    assert {type(one) for one in answers} == {Silent}
    assert client.asked == 1
    monkeypatch.setattr(opensearch_client, "READ_SECONDS", 60.0)
    assert await asking.ask(lambda: "asked") == "asked"


class Mute:
    """An OpenSearch that takes a request and answers nothing."""

    def __init__(self, free: threading.Event) -> None:
        self._free, self.asked = free, 0

    def create_pit(self, **_: object) -> object:
        self.asked += 1
        self._free.wait(60)
        raise exceptions.ConnectionTimeout("TIMEOUT", "no answer", None)


async def test_so_many_are_asked_so_many_wait_and_the_rest_is_refused(
    asking: Asking, free: threading.Event
) -> None:
    busy = threading.Semaphore(0)

    def question() -> bool:
        busy.release()
        return free.wait(60)

    asked = [asyncio.create_task(asking.ask(question)) for _ in range(MOST)]
    for _ in range(AT_ONCE):
        assert await asyncio.to_thread(busy.acquire, timeout=60)
    with pytest.raises(Unavailable, match="too many"):
        await asking.ask(question)
    assert not busy.acquire(blocking=False)
    free.set()
    assert await asyncio.gather(*asked) == [True] * MOST
    assert await asking.ask(question)  # every place is free again


async def test_the_time_for_a_thread_counts_and_who_gave_up_is_not_asked_for(
    asking: Asking, free: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opensearch_client, "READ_SECONDS", 0.5)
    put: list[int] = []
    asked = [asyncio.create_task(asking.ask(free.wait)) for _ in range(AT_ONCE)]
    asked += [asyncio.create_task(asking.ask(lambda: put.append(1))) for _ in range(AT_ONCE)]
    async with asyncio.timeout(60):
        answers = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(one) for one in answers} == {Silent}
    free.set()
    await asyncio.to_thread(asking._threads.shutdown)
    assert put == []


async def test_all_requests_of_a_question_share_its_time(asking: Asking) -> None:
    first, second = await asking.ask(lambda: (left(), left()))
    assert second < first < opensearch_client.READ_SECONDS
    assert left() == opensearch_client.READ_SECONDS  # work beside the requests has as much for each
    with opensearch_client.within(0.0), pytest.raises(Silent):
        left()


async def test_after_several_in_vain_one_tries_and_the_others_wait_for_how_it_goes(
    asking: Asking, free: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opensearch_asking, "PAUSE_SECONDS", 0.0)
    for _ in range(IN_VAIN):
        with pytest.raises(Silent):
            await asking.ask(nothing_comes)
    with pytest.raises(
        Unavailable, match="being built"
    ):  # a pause of no length: this one tries, and it is an answer
        await asking.ask(it_is_being_built)
    for _ in range(IN_VAIN - 1):
        with pytest.raises(Silent):
            await asking.ask(nothing_comes)
    assert await asking.ask(it_answers)  # not several in a row
    for _ in range(IN_VAIN):
        with pytest.raises(Silent):
            await asking.ask(nothing_comes)
    monkeypatch.setattr(opensearch_asking, "PAUSE_SECONDS", 600.0)
    trying = asyncio.create_task(asking.ask(lambda: free.wait() and it_answers()))
    await asyncio.sleep(0)  # it was let in
    with pytest.raises(Silent):
        await asking.ask(lambda: pytest.fail("it was asked"))
    free.set()
    assert await trying
    assert await asking.ask(lambda: "as before")


def a_bad_cursor() -> None:
    raise ValueError("no cursor of ours")


async def test_what_needs_no_request_is_no_sign_of_an_answer(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While somebody types, or sends a bad cursor, everybody else would wait three seconds for nothing."""
    monkeypatch.setattr(opensearch_asking, "PAUSE_SECONDS", 600.0)
    for _ in range(IN_VAIN - 1):
        with pytest.raises(Silent):
            await asking.ask(nothing_comes)
        assert await asking.ask(list) == []
        with pytest.raises(ValueError, match="no cursor"):
            await asking.ask(a_bad_cursor)
    with pytest.raises(Silent):
        await asking.ask(nothing_comes)
    with pytest.raises(Silent):
        await asking.ask(lambda: pytest.fail("it was asked"))
    asking._again_at = 0.0  # the pause is over
    assert await asking.ask(list) == []  # which does not use up the one question that may try
    assert await asking.ask(it_answers) == "an answer"
