"""The embedded index by itself: what is found, in which order, page by page; and what a crash leaves."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from paletta_server.search import tantivy_index
from paletta_server.search.background import to_the_end
from paletta_server.search.document import Document
from paletta_server.search.index import BadCursor, Query, Range
from paletta_server.search.tantivy_index import TantivyIndex
from paletta_server.search.typos import distance

TRAM = Document(
    id=1,
    title="Yellow tram climbs a steep street",
    tags=("tram", "lisbon", "são bento"),
    synonyms=("streetcar", "trolley"),
    categories=("railways", "transport"),
    category_names=("Railways", "Transport"),
    description="On its way up to the castle.",
    places=("Lisbon", "PT"),
    country="PT",
    city="Lisbon",
    contributor="Ana Sá",
    contributor_id=7,
    tiers=("hd", "original"),
    licences=("individual", "business"),
    long_edge=1920,
    orientation="landscape",
    fps=24,
    duration=8_040,
    people="2",
    shot={"size": "wide", "angle": "eye", "move": "pan", "speed": "normal"},
    shoot="7/lisbon",
    price=4_900,
    listed=1_000,
    filmed=20_000,
    popularity=3,
)
FERRY = Document(
    id=2,
    title="A ferry crosses the river",
    tags=("ferry", "lisbon", "river"),
    categories=("transport",),
    category_names=("Transport",),
    description="A tram waits at the pier.",
    places=("Lisbon", "PT"),
    country="PT",
    city="Lisbon",
    contributor="Ana Sá",
    contributor_id=7,
    tiers=("hd", "uhd4k", "original"),
    licences=("individual", "business", "premium"),
    long_edge=3840,
    orientation="portrait",
    fps=60,
    duration=20_000,
    editorial=True,
    people="crowd",
    shot={"size": "close-up", "angle": "aerial", "move": "drone", "speed": "slow"},
    shoot="7/lisbon",
    price=9_900,
    listed=2_000,
    filmed=20_100,
    popularity=1,
)
FOREST = Document(
    id=3,
    title="Morning fog in a forest",
    tags=("forest", "fog"),
    categories=("nature",),
    category_names=("Nature",),
    places=("Oslo", "NO"),
    country="NO",
    city="Oslo",
    contributor="Bo",
    contributor_id=8,
    tiers=("original",),
    licences=("individual",),
    long_edge=7680,
    orientation="square",
    fps=25,
    duration=5_000,
    listed=3_000,
)
ALL = (TRAM, FERRY, FOREST)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[TantivyIndex]:
    made = TantivyIndex.create(tmp_path / "index")
    made.apply(ALL, (), {"at": 1})
    yield made
    made.close()


def ids(index: TantivyIndex, **query: Any) -> list[int]:
    return list(index.search(Query(**query), limit=100).clip_ids)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, [3, 2, 1]),
        ({"words": ("tram",)}, [1, 2]),  # the title before the description
        ({"words": ("trams",)}, [1, 2]),  # stems
        ({"words": ("tram", "castle")}, [1]),  # all words
        ({"words": ("streetcar",)}, [1]),  # synonyms
        ({"words": ("railways",)}, [1]),  # names of categories
        ({"words": ("sao",)}, [1]),  # accents
        ({"words": ("oslo",)}, [3]),  # places
        ({"words": ("the",)}, []),  # nothing but a stop word
        ({"words": ("the", "fog")}, [3]),
        ({"phrases": ("yellow tram",)}, [1]),
        ({"phrases": ("street yellow",)}, []),  # no phrase from one value into the next
        ({"words": ("lisbon",), "without": ("ferry",)}, [1]),
        ({"without": ("tram",)}, [3]),
        ({"categories": ("transport",)}, [2, 1]),
        ({"categories": ("railways",)}, [1]),
        ({"categories": ("railways", "nature")}, [3, 1]),
        ({"tags": ("lisbon", "river")}, [2]),
        ({"any_tags": ("river", "fog")}, [3, 2]),
        ({"tiers": ("uhd4k",)}, [2]),
        ({"licences": ("business",)}, [2, 1]),
        ({"long_edge": Range(3840, None)}, [3, 2]),
        ({"long_edge": Range(None, 2047)}, [1]),
        ({"orientation": ("portrait", "square")}, [3, 2]),
        ({"fps": Range(24, 25)}, [3, 1]),
        ({"duration": Range(5_000, 8_040)}, [3, 1]),
        ({"duration": Range(5_001, 8_039)}, []),
        ({"duration": Range(9, 1)}, []),
        ({"editorial": True}, [2]),
        ({"editorial": False}, [3, 1]),
        ({"people": ("2", "crowd")}, [2, 1]),
        ({"shot_size": ("wide",)}, [1]),
        ({"shot_angle": ("aerial",)}, [2]),
        ({"shot_move": ("pan", "drone")}, [2, 1]),
        ({"shot_speed": ("slow",)}, [2]),
        ({"places": ("lisbon",)}, [2, 1]),
        ({"countries": ("no",)}, [3]),
        ({"cities": ("lisbon",)}, [2, 1]),
        ({"contributors": ("ana sa",)}, [2, 1]),
        ({"price": Range(4_900, 9_899)}, [1]),
        ({"price": Range(0, None)}, [2, 1]),  # an unknown price is in no range
        ({"listed": Range(1_001, 3_000)}, [3, 2]),
        ({"filmed": Range(20_000, 20_050)}, [1]),
        ({"sort": "popular"}, [1, 2, 3]),
        ({"sort": "price"}, [1, 2, 3]),  # and comes last
        ({"sort": "duration"}, [3, 1, 2]),
        ({"words": ("tram",), "sort": "newest"}, [2, 1]),
    ],
)
def test_every_filter_and_order(index: TantivyIndex, query: dict[str, Any], found: list[int]) -> None:
    assert ids(index, **query) == found
    assert index.search(Query(**query), limit=1).total.value == len(found)


def test_facets_count_what_was_found(index: TantivyIndex) -> None:
    found = index.search(Query(words=("lisbon",)), limit=1, facets=True)
    assert found.facets is not None
    assert found.facets.exact
    assert dict(found.facets.values["category"]) == {"transport": 2, "railways": 1}
    assert dict(found.facets.values["fps"]) == {"24": 1, "60": 1}
    assert dict(found.facets.values["editorial"]) == {"yes": 1, "no": 1}
    assert dict(found.facets.values["contributor"]) == {"Ana Sá": 2}
    everything = index.search(Query(), limit=1, facets=True)
    assert everything.facets is not None
    assert dict(everything.facets.values["resolution"]) == {"hd": 1, "4k": 1, "8k": 1}
    nothing = index.search(Query(words=("the",)), limit=1, facets=True)
    assert nothing.facets is not None
    assert dict(nothing.facets.values) == {}


def test_what_is_gone_leaves_nothing_behind(index: TantivyIndex) -> None:
    index.apply([replace(FERRY, title="A boat", tags=("boat",), description="")], [TRAM.id], {"at": 2})
    assert ids(index, words=("tram",)) == []
    assert ids(index, words=("boat",)) == [2]
    assert index.count() == 2
    assert index.suggest("tra", limit=5) == ["transport"]
    assert index.suggest("riv", limit=5) == []
    # Nothing that only hidden clips have is offered as a correction either.
    assert index.search(Query(words=("yelow",)), limit=5).instead is None
    facets = index.search(Query(), limit=1, facets=True).facets
    assert facets is not None
    assert {tag for tag, _ in facets.values["tag"]} == {"boat", "forest", "fog"}


@pytest.mark.parametrize(
    ("words", "instead"),
    [
        (("trma",), ("tram",)),
        (("ferri", "river"), None),  # its stem is `ferri`, and found
        (("yelow", "tram"), ("yellow", "tram")),
        (("yelow", "tram", "forset"), None),  # two corrected, but no clip has all three
        (("mornnigg",), ("morning",)),
        (("xyzzyx",), None),
        (("qq",), None),  # too short to guess
    ],
)
def test_typos_are_forgiven_only_where_nothing_matches(
    index: TantivyIndex, words: tuple[str, ...], instead: tuple[str, ...] | None
) -> None:
    found = index.search(Query(words=words), limit=5)
    assert found.instead == instead
    assert bool(found.clip_ids) == (instead is not None or words[0] == "ferri")


def test_a_filter_that_leaves_nothing_is_no_typo(index: TantivyIndex) -> None:
    found = index.search(Query(words=("tram",), categories=("nature",)), limit=5)
    assert (found.clip_ids, found.instead) == ([], None)


def test_suggestions_go_on_from_what_was_typed(index: TantivyIndex) -> None:
    assert index.suggest("lis", limit=5) == ["lisbon"]
    assert index.suggest("sao b", limit=5) == ["sao bento"]
    assert index.suggest("yellow tr", limit=5) == ["yellow tram"]
    assert index.suggest("yell", limit=5) == ["yellow"]
    assert index.suggest("ana", limit=5) == ["ana sa"]
    assert index.suggest("", limit=5) == []
    assert index.suggest('"*[', limit=5) == []
    assert len(index.suggest("f", limit=2)) == 2


def test_related_clips_share_the_most(index: TantivyIndex) -> None:
    other = replace(FOREST, id=4, title="Tram depot", tags=("tram", "night"), shoot=None)
    index.apply([other], (), {})
    assert index.related(TRAM.id, limit=5) == [FERRY.id, 4]
    assert index.related(999, limit=5) == []


# ---- pages


def many(count: int) -> list[Document]:
    noise = random.Random(5)
    return [
        replace(
            TRAM,
            id=10 + number,
            title=f"Tram {'night ' * noise.randrange(4)}{number}",
            listed=noise.randrange(50),
            price=noise.randrange(5) * 100,
            duration=noise.randrange(9) * 1000,
            popularity=noise.randrange(3),
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("sort", ["relevance", "newest", "popular", "price", "duration"])
@pytest.mark.parametrize("words", [("night",), ()])
def test_pages_tell_every_clip_once_while_others_change(
    index: TantivyIndex, sort: Any, words: tuple[str, ...]
) -> None:
    clips = many(200)
    index.apply(clips, (), {})
    query = Query(words=words, sort=sort)
    everything: list[int] = []
    cursor, turn = None, 0
    noise = random.Random(9)
    changed: set[int] = set()
    while True:
        found = index.search(query, limit=7, cursor=cursor)
        everything += found.clip_ids
        cursor = found.next_cursor
        if cursor is None:
            break
        turn += 1
        moved = noise.choice(clips)
        changed |= {moved.id, 1000 + turn}
        # One clip moves within the order, one comes, one goes.
        index.apply(
            [
                replace(moved, listed=noise.randrange(50), title="Tram night night"),
                replace(moved, id=1000 + turn),
            ],
            [clips[turn].id],
            {},
        )
        changed.add(clips[turn].id)
    steady = [clip for clip in everything if clip not in changed]
    assert len(steady) == len(set(steady))
    wanted = {clip.id for clip in clips if not words or "night" in clip.title} | (
        set() if words else {1, 2, 3}
    )
    assert set(steady) == wanted - changed


def test_another_node_goes_on_behind_the_last_clip(tmp_path: Path) -> None:
    """Scores are the same there as long as the documents are; a cursor's snapshot, and the order of clips that have
    one score, are not. Each clip comes once all the same."""
    nodes = []
    for name in ("one", "two"):
        made = TantivyIndex.create(tmp_path / name)
        made.apply(many(60), (), {})
        nodes.append(made)
    query = Query(words=("night",))
    told: list[int] = []
    cursor, turn = None, 0
    while True:
        found = nodes[turn % 2].search(query, limit=7, cursor=cursor)
        told += found.clip_ids
        cursor, turn = found.next_cursor, turn + 1
        if cursor is None:
            break
    assert sorted(told) == sorted(nodes[0].search(query, limit=100).clip_ids)
    for made in nodes:
        made.close()


def test_a_cursor_belongs_to_its_question(index: TantivyIndex) -> None:
    cursor = index.search(Query(), limit=1).next_cursor
    assert cursor is not None
    for query, text in (
        (Query(sort="price"), cursor),
        (Query(words=("tram",)), cursor),
        (Query(), "not ours"),
        (Query(), "e30"),
        (Query(), "é"),
    ):
        with pytest.raises(BadCursor):
            index.search(query, limit=1, cursor=text)


def test_corrected_words_are_kept_from_page_to_page(index: TantivyIndex) -> None:
    first = index.search(Query(words=("trma",)), limit=1)
    second = index.search(Query(words=("trma",)), limit=1, cursor=first.next_cursor)
    assert [*first.clip_ids, *second.clip_ids] == [1, 2]
    assert second.instead == ("tram",)


def test_large_results_are_counted_by_sample_and_sorted_exactly(
    index: TantivyIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = many(3_000)
    index.apply(clips, (), {})
    everything = [clip.id for clip in sorted(clips, key=lambda clip: (-clip.listed, -clip.id))]
    monkeypatch.setattr(tantivy_index, "EXACT_UP_TO", 500)
    query = Query(words=("tram",), categories=("railways",), sort="newest")
    told: list[int] = []
    cursor = None
    for _ in range(4):
        found = index.search(query, limit=25, cursor=cursor, facets=True)
        told += found.clip_ids
        cursor = found.next_cursor
    assert [clip for clip in told if clip != 1] == everything[:99]
    assert not found.total.exact
    assert 2_000 < found.total.value < 4_000
    assert found.facets is not None
    assert not found.facets.exact
    assert found.facets.values["category"][0][1] == pytest.approx(3_000, rel=0.2)


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
