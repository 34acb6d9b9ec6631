"""The shared index: OpenSearch, behind one name for every node.

Reading goes through an alias. Writing goes to the index that the alias names, by whoever has the lock that
`shared_follower` takes; `opensearch_writing` has that half.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from paletta_server.core.errors import Unavailable
from paletta_server.search import cursors
from paletta_server.search import opensearch_query as dsl
from paletta_server.search.cursors import Cursor
from paletta_server.search.document import Document
from paletta_server.search.fields import KEY_BITS, SHARDS, key_of
from paletta_server.search.index import BadCursor, Count, Facets, Found, Query, Sort
from paletta_server.search.opensearch_client import (
    READ_SECONDS,
    Missing,
    Refused,
    Silent,
    asking,
    building,
    left,
)
from paletta_server.search.opensearch_writing import Writer
from paletta_server.search.typos import MOST_MISTYPED, forgiven, nearest

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

EXACT_UP_TO = 20_000
"""Larger results are counted by sample, as the embedded index does."""
SAMPLE = 10_000
DEEPEST = 10_000
"""Behind so many results by relevance there is no next page; it is also OpenSearch's own window."""
SNAPSHOT_SECONDS = 60
"""How long OpenSearch keeps a state of the index for somebody who goes from page to page, since the last page.

It keeps 300 for all nodes, and a busy node needs 120 (this through SNAPSHOT_AGE). Those are never given back before
their time, since nobody knows who holds a cursor into them; where there is no room, new questions do without."""
SNAPSHOT_AGE = 0.5
"""Within which questions share a state. Part of the two seconds in which a change must show."""

_SORTED: dict[Sort, tuple[str, str]] = {
    "newest": ("listed", "desc"),
    "popular": ("popularity", "desc"),
    "price": ("price", "asc"),
    "duration": ("duration", "asc"),
}


class OpenSearchIndex:
    """An `Index` by name: of an alias for reading, of the index behind it for writing."""

    def __init__(self, client: OpenSearch, name: str) -> None:
        self._client = client
        self.name = name
        self._writer = Writer(client, name)
        self._snapshots = _Snapshots(client, name)

    # -- writing

    def apply(
        self,
        documents: Sequence[Document],
        gone: Collection[int],
        state: Mapping[str, Any],
        *,
        version: int | None = None,
    ) -> None:
        """See `Index`; and `Writer.write` for `version`. The documents first, then shown, then the state: whoever
        dies between leaves a state from which the documents are written again.

        It shows in questions by relevance within SNAPSHOT_AGE, at whichever node it was written."""
        chosen = self._writer.version() + 1 if version is None else version
        self._writer.write(documents, gone, chosen)
        self._writer.show()
        self._writer.keep(state, chosen)

    def add(self, documents: Sequence[Document], gone: Collection[int] = (), *, version: int) -> None:
        """Write without showing: for a build."""
        self._writer.write(documents, gone, version)

    def close(self) -> None:
        """Nothing to do: the client is its maker's to close, and states are left to those who page in them, which
        they may do at any node."""

    # -- reading

    def state(self) -> dict[str, Any]:
        return self._writer.state()

    def count(self) -> int:
        try:
            with asking():
                body = {"query": {"bool": {"filter": [dsl.CLIPS]}}}
                return int(self._client.count(index=self.name, body=body)["count"])
        except Missing:
            raise building() from None

    def search(self, query: Query, *, limit: int, cursor: str | None = None, facets: bool = False) -> Found:
        question = query.fingerprint()
        here = cursors.read(cursor, question) if cursor is not None else None
        if here is not None and here.instead is not None:
            return self._answer(_corrected(query, here.instead), question, limit, here, facets)
        found = self._answer(query, question, limit, here, facets)
        if here is None and not found.clip_ids and query.words:
            instead = self._instead(query.words)
            if instead is not None:
                other = self._answer(_corrected(query, instead), question, limit, None, facets, instead)
                if other.clip_ids:
                    return other
        return found

    def _answer(
        self, query: Query, question: str, limit: int, here: Cursor | None, facets: bool,
        instead: tuple[str, ...] | None = None,
    ) -> Found:  # fmt: skip
        instead = tuple(here.instead) if here is not None and here.instead is not None else instead
        wanted = dsl.clauses(query)
        if wanted is None:
            return Found([], None, Count(0, True), Facets({}, True) if facets else None)
        start = Cursor(question=question, instead=list(instead) if instead else None)
        if query.sort == "relevance" and query.text:
            ids, after, total = self._by_relevance(wanted, limit, here, start)
        else:
            sort: Sort = "newest" if query.sort == "relevance" else query.sort
            ids, after, total = self._by_key(wanted, sort, limit, here, start)
        count, counted = self._counted(wanted, total, facets)
        return Found(ids, str(after) if after else None, count, counted, instead)

    # -- pages

    def _by_key(
        self, wanted: dsl.Clause, sort: Sort, limit: int, here: Cursor | None, start: Cursor
    ) -> tuple[list[int], Cursor | None, Count]:
        """A page by value and id, which no two clips share: it goes on behind the last one, whatever came or went
        meanwhile."""
        field, order = _SORTED[sort]
        body = {
            "query": wanted,
            "size": limit + 1,
            "sort": [{field: {"order": order}}, {"id": {"order": order}}],
            "track_total_hits": EXACT_UP_TO,
            "_source": False,
        }
        if here is not None:
            if here.key is None:
                raise BadCursor("the cursor belongs to another order")
            body["search_after"] = [here.key >> KEY_BITS, here.key & ((1 << KEY_BITS) - 1)]
        found = self._search(body)
        hits = found["hits"]["hits"]
        page = [hit["sort"] for hit in hits[:limit]]
        after = None
        if len(hits) > limit:
            after = start.model_copy(update={"key": key_of(*page[-1])})
        return [int(clip) for _, clip in page], after, _total(found)

    def _by_relevance(
        self, wanted: dsl.Clause, limit: int, here: Cursor | None, start: Cursor
    ) -> tuple[list[int], Cursor | None, Count]:
        """A page by score. Scores shift with every change, so the next page comes from the state of the first one
        (a point in time) while that is kept; later it goes on behind the last clip, as it scores now."""
        body = {
            "query": wanted,
            "size": limit + 1,
            "sort": [{"_score": {"order": "desc"}}, {"id": {"order": "desc"}}],
            "track_total_hits": EXACT_UP_TO,
            "_source": False,
        }
        if here is not None and (here.key is not None or not here.clip_id):
            raise BadCursor("the cursor belongs to another order")
        snapshot, found = self._in_state(body, here)
        hits = found["hits"]["hits"]
        page = [hit["sort"] for hit in hits[:limit]]
        ids = [int(clip) for _, clip in page]
        rank = (here.rank if here is not None else 0) + len(page)
        if len(hits) <= limit or rank >= DEEPEST:
            return ids, None, _total(found)
        after = {"rank": rank, "clip_id": ids[-1], "score": float(page[-1][0]), "snapshot": snapshot}
        made = start.model_copy(update=after)
        if len(str(made)) > cursors.LONGEST:  # an index of many shards has long names for its states
            made = made.model_copy(update={"snapshot": ""})
        return ids, made, _total(found)

    def _in_state(self, body: dict[str, Any], here: Cursor | None) -> tuple[str, dict[str, Any]]:
        """The answer, and the state that gave it ("" is no state that can be asked again)."""
        if here is not None and here.snapshot:
            if not here.snapshot.replace("-", "").replace("_", "").replace("=", "").isalnum():
                raise BadCursor("the cursor is not one of ours")
            try:
                behind = {**body, "search_after": [here.score, here.clip_id]}
                return here.snapshot, self._snapshots.search(behind, here.snapshot)
            except (Missing, Refused):
                pass  # it was kept for long enough, or its index was replaced
        if here is not None:
            body = {**body, "search_after": [self._score_now(body["query"], here), here.clip_id]}
        name = self._snapshots.newest()
        if name:
            try:
                return name, self._snapshots.search(body, name)
            except (Missing, Refused):
                self._snapshots.forget()
        return "", self._search(body)

    def _score_now(self, wanted: dsl.Clause, here: Cursor) -> float:
        one = dsl.narrowed(wanted, {"term": {"id": {"value": here.clip_id}}})
        hits = self._search({"query": one, "size": 1, "_source": False})["hits"]["hits"]
        return float(hits[0]["_score"]) if hits else here.score

    def _search(self, body: dict[str, Any]) -> dict[str, Any]:
        """Raises `Unavailable` also where a part of the index did not answer: half a result is a wrong one."""
        try:
            with asking():
                found: dict[str, Any] = self._client.search(
                    index=self.name,
                    body={"timeout": f"{READ_SECONDS - 1}s", **body},
                    params={"allow_partial_search_results": "false", "request_timeout": left()},
                )
        except Missing:
            raise building() from None
        _whole(found)
        return found

    # -- counting

    def _counted(self, wanted: dsl.Clause, total: Count, facets: bool) -> tuple[Count, Facets | None]:
        if total.exact:
            if not facets:
                return total, None
            found = self._search({"query": wanted, "size": 0, "aggs": dsl.facets()})
            return total, Facets(_values(found["aggregations"], 1, 1), True)
        one = dsl.narrowed(wanted, {"terms": {"shard": [0]}})
        about = self._number(one) * SHARDS
        if about <= EXACT_UP_TO:
            about = self._number(wanted)
        count = Count(_rounded(about), False)
        if not facets:
            return count, None
        shards = min(SHARDS // 2, max(1, round(SAMPLE * SHARDS / about)))
        sample = dsl.narrowed(wanted, {"terms": {"shard": list(range(shards))}})
        found = self._search({"query": sample, "size": 0, "aggs": dsl.facets()})
        return count, Facets(_values(found["aggregations"], SHARDS, shards), False)

    def _number(self, wanted: dsl.Clause) -> int:
        found = self._search({"query": wanted, "size": 0, "track_total_hits": True})
        return int(found["hits"]["total"]["value"])

    # -- words

    def _instead(self, words: Sequence[str]) -> tuple[str, ...] | None:
        """The words with the nearest ones that there are in place of those that are nowhere."""
        asked = {str(number): dsl.word(word) for number, word in enumerate(words) if dsl.meaning(word)}
        if not asked:
            return None
        counting = {"words": {"filters": {"filters": asked}}}
        there = self._search({"query": dsl.CLIPS, "size": 0, "aggs": counting})["aggregations"]["words"]
        missing = [number for number in asked if not there["buckets"][number]["doc_count"]]
        if not missing or len(missing) > MOST_MISTYPED:
            return None
        found = list(words)
        for number in missing:
            near = self._nearest(words[int(number)])
            if near is None:
                return None
            found[int(number)] = near
        return tuple(found)

    def _nearest(self, word: str) -> str | None:
        for most in forgiven(word):
            near = {"fuzzy": {"words": {"value": word, "fuzziness": most, "transpositions": True}}}
            wanted = {"words": {"terms": {"field": "words", "size": 500}}}
            found = self._search({"query": near, "size": 0, "aggs": wanted})
            buckets = found["aggregations"]["words"]["buckets"]
            if other := nearest(word, ((one["key"], one["doc_count"]) for one in buckets), most):
                return other
        return None

    def suggest(self, text: str, *, limit: int) -> list[str]:
        """Tags, categories, places and contributors that begin so; then words that go on from the last one."""
        if not text:
            return []
        found = self._begun("phrase", text, {"prefix": {"phrase": {"value": text}}}, limit)
        before, _, last = text.rpartition(" ")
        if len(found) < limit and last:
            begun: dsl.Clause = {"prefix": {"words": {"value": last}}}
            wanted = dsl.clauses(Query(words=tuple(before.split()))) if before else None
            if wanted is not None:
                begun = dsl.narrowed(wanted, begun)
            if wanted is not None or not before:
                ends = self._begun("words", last, begun, limit)
                found += [f"{before} {word}".strip() for word in ends]
        return list(dict.fromkeys(found))[:limit]

    def _begun(self, field: str, prefix: str, query: dsl.Clause, limit: int) -> list[str]:
        wanted = {"values": dsl.beginning(field, prefix, limit)}
        # Somebody types: what many clips have is found among the first ones too.
        body = {"query": query, "size": 0, "terminate_after": 2 * SAMPLE, "aggs": wanted}
        return [str(one["key"]) for one in self._search(body)["aggregations"]["values"]["buckets"]]

    def related(self, clip_id: int, *, limit: int) -> list[int]:
        own = self._search({"query": {"term": {"id": {"value": clip_id}}}, "size": 1})["hits"]["hits"]
        query = dsl.related(own[0]["_source"], clip_id) if own else None
        if query is None:
            return []
        hits = self._search({"query": query, "size": limit, "_source": False})["hits"]["hits"]
        return [int(hit["_id"]) for hit in hits]


class _Snapshots:
    """States of the index (points in time) that this node has OpenSearch keep."""

    def __init__(self, client: OpenSearch, name: str) -> None:
        self._client = client
        self._name = name
        self._lock = threading.Lock()
        self._newest: Future[str] | None = None
        self._made_at = 0.0

    def newest(self) -> str:
        """A state not older than SNAPSHOT_AGE; "" where OpenSearch keeps no more of them, which is not asked for
        again before that either.

        One asks for it, outside the lock, and whoever comes meanwhile waits for what it gets, also for its failure:
        asking one after the other would add up everybody's patience.
        """
        with self._lock:
            newest = self._newest
            asked = newest is None or (newest.done() and time.monotonic() - self._made_at >= SNAPSHOT_AGE)
            if newest is None or asked:
                newest = self._newest = Future()
                self._made_at = time.monotonic()
        if not asked:
            try:
                return newest.result(left())
            except TimeoutError:
                raise Silent from None
        try:
            name = self._make()
        except BaseException as error:
            self.forget()
            newest.set_exception(error)
            raise
        newest.set_result(name)
        return name

    def _make(self) -> str:
        left()  # who has no time left asks nothing
        # With all the patience there is: others wait for it who have more left than this one.
        params = {"keep_alive": f"{SNAPSHOT_SECONDS}s", "request_timeout": READ_SECONDS}
        try:
            with asking():
                return str(self._client.create_pit(index=self._name, params=params)["pit_id"])
        except Missing:
            raise building() from None
        except Silent:
            raise
        except (Refused, Unavailable):
            return ""

    def forget(self) -> None:
        """The newest state is not kept after all."""
        with self._lock:
            self._newest = None

    def search(self, body: dict[str, Any], name: str) -> dict[str, Any]:
        """Raises `Missing` for a state that is no longer kept, `Refused` for what never was one."""
        pit = {"id": name, "keep_alive": f"{SNAPSHOT_SECONDS}s"}
        with asking():
            found: dict[str, Any] = self._client.search(
                body={"timeout": f"{READ_SECONDS - 1}s", **body, "pit": pit},
                params={"allow_partial_search_results": "false", "request_timeout": left()},
            )
        _whole(found)
        return found


def _whole(found: dict[str, Any]) -> None:
    if found.get("timed_out") or found.get("_shards", {}).get("failed"):
        raise Unavailable("the search index did not answer in time", code="index_unavailable", retry_after=2)


def _total(found: dict[str, Any]) -> Count:
    total = found["hits"]["total"]
    return Count(int(total["value"]), total["relation"] == "eq")


def _values(counted: dict[str, Any], times: int, among: int) -> dict[str, list[tuple[str, int]]]:
    found = {}
    for name, facet in counted.items():
        found[name] = [
            (
                str(one["key"]),
                one["doc_count"] if times == among else _rounded(one["doc_count"] * times // among),
            )
            for one in facet["buckets"]
        ]
    return found


def _rounded(number: int) -> int:
    """Two digits: a sample knows no more."""
    return int(float(f"{number:.1e}"))


def _corrected(query: Query, words: Sequence[str]) -> Query:
    return replace(query, words=tuple(words))
