"""What every search index must do: what is found, in which order, page by page, and what it keeps of its state.

Runs on tantivy and on OpenSearch. The latter is a real server where PALETTA_TEST_OPENSEARCH_URL is given (indexes of
its own are made and removed there); otherwise our small one, which knows the documented shapes of requests and
answers. What it cannot show is said when the run ends: OpenSearch's own analysis and scores.
"""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from paletta_server.core.settings import Settings
from paletta_server.search import opensearch_index, opensearch_indexes, tantivy_index
from paletta_server.search.index import BadCursor, Index, Query, Range
from paletta_server.search.opensearch_client import connect
from paletta_server.search.opensearch_index import OpenSearchIndex
from paletta_server.search.tantivy_index import TantivyIndex
from tests.support import fake_opensearch
from tests.support.indexed import ALL, FERRY, FOREST, TRAM, many

REAL = os.environ.get("PALETTA_TEST_OPENSEARCH_URL")


@dataclass
class Backend:
    module: ModuleType
    nodes: Callable[[], list[Index]]
    """Two views of equal content: of one index where nodes share it, else two."""
    fill: Callable[[list[Index]], None]


@contextmanager
def _tantivy(folder: Path) -> Iterator[Backend]:
    made: list[Index] = []

    def nodes() -> list[Index]:
        made.extend(TantivyIndex.create(folder / f"index-{len(made)}-{number}") for number in range(2))
        return made[-2:]

    def fill(both: list[Index]) -> None:
        for index in both:
            index.apply(many(60), (), {})

    yield Backend(tantivy_index, nodes, fill)
    for index in made:
        index.close()


@contextmanager
def _opensearch(url: str) -> Iterator[Backend]:
    client = connect(Settings(search_backend="opensearch", opensearch_url=url))
    alias = f"paletta-test-{secrets.token_hex(4)}"
    made: list[Index] = []

    def nodes() -> list[Index]:
        name = opensearch_indexes.create(client, alias)
        made.extend(OpenSearchIndex(client, name) for _ in range(2))
        return made[-2:]

    yield Backend(opensearch_index, nodes, lambda both: both[0].apply(many(60), (), {}))
    for index in made:
        index.close()
    for name in opensearch_indexes.left_over(client, alias):
        opensearch_indexes.drop(client, name)
    client.close()


@pytest.fixture(params=["tantivy", "opensearch-real", "opensearch-shapes"])
def backend(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Backend]:
    monkeypatch.setattr(opensearch_index, "SNAPSHOT_AGE", 0.0)  # what was just written is looked for at once
    if request.param == "tantivy":
        with _tantivy(tmp_path) as made:
            yield made
    elif request.param == "opensearch-shapes":
        with fake_opensearch.serving() as fake, _opensearch(fake.url) as made:
            yield made
    else:
        if not REAL:
            pytest.skip(
                "no PALETTA_TEST_OPENSEARCH_URL: OpenSearch ran against the shapes of its API alone; its analysis"
                " and its scores were not proved"
            )
        with _opensearch(REAL) as made:
            yield made


@pytest.fixture
def index(backend: Backend) -> Index:
    made = backend.nodes()[0]
    made.apply(ALL, (), {"at": 1})
    return made


def ids(index: Index, **query: Any) -> list[int]:
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
def test_every_filter_and_order(index: Index, query: dict[str, Any], found: list[int]) -> None:
    assert ids(index, **query) == found
    assert index.search(Query(**query), limit=1).total.value == len(found)


def test_facets_count_what_was_found(index: Index) -> None:
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


def test_what_is_gone_leaves_nothing_behind(index: Index) -> None:
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
    index: Index, words: tuple[str, ...], instead: tuple[str, ...] | None
) -> None:
    found = index.search(Query(words=words), limit=5)
    assert found.instead == instead
    assert bool(found.clip_ids) == (instead is not None or words[0] == "ferri")


def test_a_filter_that_leaves_nothing_is_no_typo(index: Index) -> None:
    found = index.search(Query(words=("tram",), categories=("nature",)), limit=5)
    assert (found.clip_ids, found.instead) == ([], None)


def test_suggestions_go_on_from_what_was_typed(index: Index) -> None:
    assert index.suggest("lis", limit=5) == ["lisbon"]
    assert index.suggest("sao b", limit=5) == ["sao bento"]
    assert index.suggest("yellow tr", limit=5) == ["yellow tram"]
    assert index.suggest("yell", limit=5) == ["yellow"]
    assert index.suggest("ana", limit=5) == ["ana sa"]
    assert index.suggest("", limit=5) == []
    assert index.suggest('"*[', limit=5) == []
    assert len(index.suggest("f", limit=2)) == 2


def test_related_clips_share_the_most(index: Index) -> None:
    other = replace(FOREST, id=4, title="Tram depot", tags=("tram", "night"), shoot=None)
    index.apply([other], (), {})
    assert index.related(TRAM.id, limit=5) == [FERRY.id, 4]
    assert index.related(999, limit=5) == []


# ---- pages


@pytest.mark.parametrize("sort", ["relevance", "newest", "popular", "price", "duration"])
@pytest.mark.parametrize("words", [("night",), ()])
def test_pages_tell_every_clip_once_while_others_change(
    index: Index, sort: Any, words: tuple[str, ...]
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


def test_another_node_goes_on_behind_the_last_clip(backend: Backend) -> None:
    """Scores are the same there as long as the documents are; a cursor's snapshot, and the order of clips that have
    one score, may not be. Each clip comes once all the same."""
    nodes = backend.nodes()
    backend.fill(nodes)
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


def test_a_cursor_belongs_to_its_question(index: Index) -> None:
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


def test_corrected_words_are_kept_from_page_to_page(index: Index) -> None:
    first = index.search(Query(words=("trma",)), limit=1)
    second = index.search(Query(words=("trma",)), limit=1, cursor=first.next_cursor)
    assert [*first.clip_ids, *second.clip_ids] == [1, 2]
    assert second.instead == ("tram",)


def test_large_results_are_counted_by_sample_and_sorted_exactly(
    index: Index, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = many(3_000)
    index.apply(clips, (), {})
    everything = [clip.id for clip in sorted(clips, key=lambda clip: (-clip.listed, -clip.id))]
    monkeypatch.setattr(backend.module, "EXACT_UP_TO", 500)
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


def test_the_state_is_what_the_last_write_was_given(backend: Backend) -> None:
    index = backend.nodes()[0]
    assert index.state() == {}
    index.apply([TRAM], (), {"xid": 5})
    assert (index.state(), index.count(), ids(index)) == ({"xid": 5}, 1, [1])
    index.apply([FERRY], [TRAM.id], {"xid": 6, "anchor": [1, 2, 3, "now"]})
    assert (index.state()["xid"], index.count(), ids(index)) == (6, 1, [2])
