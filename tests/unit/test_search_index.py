"""The embedded index by itself: what a crash leaves, and words that are near. What any index must do is in
`tests/contract/test_search_index.py`."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from paletta_server.search.background import to_the_end
from paletta_server.search.index import Query
from paletta_server.search.tantivy_index import TantivyIndex
from paletta_server.search.typos import distance
from tests.support.indexed import FERRY, TRAM, many


def ids(index: TantivyIndex, **query: Any) -> list[int]:
    return list(index.search(Query(**query), limit=100).clip_ids)


# ---- state


def test_the_state_is_in_the_commit_and_comes_back(tmp_path: Path) -> None:
    made = TantivyIndex.create(tmp_path / "index")
    made.apply([TRAM], (), {"xid": 5})
    made.add([FERRY])  # written, never committed: the process dies here
    made.close()
    again = TantivyIndex.open(tmp_path / "index")
    assert (again.state(), again.count(), ids(again)) == ({"xid": 5}, 1, [1])
    again.apply([FERRY], [TRAM.id], {"xid": 6})
    again.close()
    last = TantivyIndex.open(tmp_path / "index")
    assert (last.state(), ids(last)) == ({"xid": 6}, [2])
    last.close()


async def test_a_write_that_is_cancelled_ends_before_the_index_is_closed(tmp_path: Path) -> None:
    index = TantivyIndex.create(tmp_path)
    begun = threading.Event()

    def write() -> None:
        begun.set()
        index.apply(many(3_000), (), {"position": 5})

    writing = asyncio.create_task(to_the_end(write))
    await asyncio.to_thread(begun.wait)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    index.close()
    assert TantivyIndex.open(tmp_path).state() == {"position": 5}


def test_a_folder_without_an_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no index"):
        TantivyIndex.open(tmp_path)


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [("tram", "tram", 0), ("trma", "tram", 1), ("tam", "tram", 1), ("trams", "tram", 1), ("trem", "tram", 1),
     ("mart", "tram", 3), ("tram", "ferry", 3), ("", "ab", 2)],
)  # fmt: skip
def test_distance_counts_what_a_finger_does_wrong(one: str, other: str, apart: int) -> None:
    assert distance(one, other, 2) == apart
    assert distance(other, one, 2) == apart
