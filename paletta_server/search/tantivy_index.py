"""The embedded index: tantivy, in this process, in one folder."""

import json
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import tantivy
from tantivy import FieldType, Occur, Order

from paletta_server.search import cursors, tantivy_schema
from paletta_server.search.cursors import Cursor
from paletta_server.search.document import Document
from paletta_server.search.fields import KEY_BITS, KEYS, MOST, NUMBERS, SHARDS, WHOLE, fields_of
from paletta_server.search.index import (
    FACET_VALUES,
    FACETS,
    BadCursor,
    Count,
    Facets,
    Found,
    Query,
    Range,
    Sort,
)
from paletta_server.search.typos import MOST_MISTYPED, forgiven, nearest

EXACT_UP_TO = 20_000
"""Larger results are counted by sample: nobody minds whether it is 412,000 or 412,345, only how long it takes."""
SAMPLE = 10_000
"""How many clips a sample aims at; a value that a tenth of the results have is then told within 3 %."""
DEEPEST = 10_000
"""Behind so many results by relevance there is no next page."""
SNAPSHOT_SECONDS, SNAPSHOTS = 900.0, 64
"""How long, and how many, states of the index are kept for somebody who goes from page to page."""
_SORTED: dict[Sort, tuple[str, Order]] = {
    "newest": ("by_newest", Order.Desc),
    "popular": ("by_popular", Order.Desc),
    "price": ("by_price", Order.Asc),
    "duration": ("by_duration", Order.Asc),
}
_KEYED = {"duration": "by_duration", "price": "by_price", "listed": "by_newest"}
_STATE = "state"

Clause = tuple[Occur, tantivy.Query]


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """The index as one commit left it; it stays readable while later commits come."""

    name: str
    searcher: tantivy.Searcher


class TantivyIndex:
    """An `Index` in a folder of its own. Only one process may have it open."""

    def __init__(self, index: tantivy.Index, *, building: bool = False) -> None:
        self._index = index
        self._schema = index.schema
        self._analyzer = tantivy_schema.analyzer()
        index.register_tokenizer("english", self._analyzer)
        heap = tantivy_schema.BUILDING_HEAP if building else tantivy_schema.WRITING_HEAP
        self._writer: tantivy.IndexWriter | None = index.writer(heap, num_threads=2 if building else 1)
        self._name = secrets.token_hex(4)
        self._commits = 0
        self._kept: OrderedDict[str, tuple[float, _Snapshot]] = OrderedDict()
        self._lock = threading.Lock()
        self._now = self._snapshot()

    @classmethod
    def create(cls, folder: Path) -> Self:
        """A new, empty index in an empty folder, to be built and closed."""
        folder.mkdir(parents=True, exist_ok=True)
        return cls(tantivy.Index(tantivy_schema.schema(), str(folder), reuse=False), building=True)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The index in a folder. Raises ValueError when there is none that this code reads."""
        if not folder.is_dir() or not tantivy.Index.exists(str(folder)):
            raise ValueError(f"no index in {folder}")
        if not tantivy.Index.is_compatible(str(folder)):
            raise ValueError(f"the index in {folder} was written by another tantivy")
        return cls(tantivy.Index.open(str(folder)))

    # -- writing

    def apply(self, documents: Sequence[Document], gone: Collection[int], state: Mapping[str, Any]) -> None:
        """See `Index`. A tantivy commit is all or nothing, and the state is a document in it."""
        self.add(documents, gone)
        self.commit(state)

    def add(self, documents: Sequence[Document], gone: Collection[int] = ()) -> None:
        """Write without committing: a build commits once."""
        writer = self._open_writer()
        old = [*gone, *(document.id for document in documents)]
        if old and self._commits + self._now.searcher.num_docs:
            # Not `delete_documents_by_term`: it takes a number for a signed one and deletes nothing.
            writer.delete_documents_by_query(tantivy.Query.term_set_query(self._schema, "id", old))
        for document in documents:
            writer.add_document(tantivy.Document.from_dict(fields_of(document), self._schema))

    def commit(self, state: Mapping[str, Any]) -> None:
        writer = self._open_writer()
        writer.delete_documents_by_query(self._term("kept", _STATE))
        kept = {"id": 0, "kept": [_STATE, json.dumps(dict(state))], **dict.fromkeys(KEYS, 0)}
        writer.add_document(tantivy.Document.from_dict(kept, self._schema))
        writer.commit()
        self._index.reload()
        self._commits += 1
        self._now = self._snapshot()

    def _open_writer(self) -> tantivy.IndexWriter:
        if self._writer is None:
            raise RuntimeError("the index is closed")
        return self._writer

    def close(self) -> None:
        """Let running merges end and give the folder back."""
        if self._writer is not None:
            self._writer.wait_merging_threads()
            self._writer = None

    def _snapshot(self) -> _Snapshot:
        return _Snapshot(f"{self._name}.{self._commits}", self._index.searcher())

    # -- reading

    def state(self) -> dict[str, Any]:
        searcher = self._now.searcher
        hits = searcher.search(self._term("kept", _STATE), 1).hits
        if not hits:
            return {}
        texts = searcher.doc(hits[0][1]).get_all("kept")
        found: dict[str, Any] = json.loads(texts[1])
        return found

    def count(self) -> int:
        return self._clips(self._now.searcher)

    @staticmethod
    def _clips(searcher: tantivy.Searcher) -> int:
        return max(0, searcher.num_docs - 1)  # the state is a document too

    def search(self, query: Query, *, limit: int, cursor: str | None = None, facets: bool = False) -> Found:
        question = query.fingerprint()
        here = cursors.read(cursor, question) if cursor is not None else None
        snapshot = self._now
        if here is not None and here.instead is not None:
            return self._answer(snapshot, _corrected(query, here.instead), question, limit, here, facets)
        found = self._answer(snapshot, query, question, limit, here, facets)
        if here is None and not found.clip_ids and query.words:
            instead = self._instead(snapshot.searcher, query.words)
            if instead is not None:
                other = self._answer(
                    snapshot, _corrected(query, instead), question, limit, None, facets, instead
                )
                if other.clip_ids:
                    return other
        return found

    def _answer(
        self, snapshot: _Snapshot, query: Query, question: str, limit: int, here: Cursor | None, facets: bool,
        instead: tuple[str, ...] | None = None,
    ) -> Found:  # fmt: skip
        instead = tuple(here.instead) if here is not None and here.instead is not None else instead
        clauses = self._clauses(query)
        if clauses is None:
            return Found([], None, Count(0, True), Facets({}, True) if facets else None)
        total, sample = self._count(snapshot.searcher, clauses)
        start = Cursor(question=question, instead=list(instead) if instead else None)
        if query.sort == "relevance" and query.text:
            ids, after = self._by_relevance(snapshot, clauses, limit, here, start)
        else:
            sort: Sort = "newest" if query.sort == "relevance" else query.sort
            ids, after = self._by_key(snapshot.searcher, clauses, sort, limit, here, start)
        counted = self._facets(snapshot.searcher, clauses, total, sample) if facets else None
        return Found(ids, str(after) if after else None, total, counted, instead)

    # -- pages

    def _by_key(
        self, searcher: tantivy.Searcher, clauses: list[Clause], sort: Sort, limit: int, here: Cursor | None,
        start: Cursor,
    ) -> tuple[list[int], Cursor | None]:  # fmt: skip
        """A page in the order of unique keys: it goes on behind the last one, whatever came or went meanwhile."""
        field, order = _SORTED[sort]
        least, most = 1, None
        if here is not None:
            if here.key is None:
                raise BadCursor("the cursor belongs to another order")
            least, most = (1, here.key - 1) if order is Order.Desc else (here.key + 1, None)
        wanted = limit + 1
        bounds = Range(least, most)

        def top(query: tantivy.Query) -> list[tuple[int, tantivy.DocAddress]]:
            found: list[tuple[int, tantivy.DocAddress]] = searcher.search(
                query, wanted, count=False, order_by_field=field, order=order
            ).hits
            return found

        if self._clips(searcher) > EXACT_UP_TO:
            # The page lies before the place where a sample of the results has as many: only that much is sorted.
            narrow = [*clauses, *self._ranged(field, bounds), *self._shards(1)]
            sample = top(_all_of(narrow))
            if len(sample) == wanted:
                last = sample[-1][0]
                bounds = Range(last, most) if order is Order.Desc else Range(least, last)
        hits = top(_all_of([*clauses, *self._ranged(field, bounds)]))
        page = hits[:limit]
        ids = self._ids(searcher, [address for _, address in page])
        more = len(hits) > limit
        return ids, start.model_copy(update={"key": page[-1][0]}) if more else None

    def _by_relevance(
        self, snapshot: _Snapshot, clauses: list[Clause], limit: int, here: Cursor | None, start: Cursor
    ) -> tuple[list[int], Cursor | None]:
        """A page by score. Scores shift with every commit, so the next page comes from the state of the first one,
        while that is kept; later, or at another node, it goes on behind the last clip or its score."""
        query = _all_of(clauses)
        rank = here.rank if here is not None else 0
        if here is not None and here.key is not None:
            raise BadCursor("the cursor belongs to another order")
        kept = self._kept_snapshot(here.snapshot) if here is not None else snapshot
        chosen = kept or snapshot
        if kept is not None:
            hits = chosen.searcher.search(query, limit + 1, count=False, offset=rank).hits
        else:
            assert here is not None
            hits = self._behind(chosen.searcher, query, limit + 1, here)
        page = hits[:limit]
        ids = self._ids(chosen.searcher, [address for _, address in page])
        rank += len(page)
        if len(hits) <= limit or rank >= DEEPEST:
            return ids, None
        self._keep(chosen)
        last = page[-1][0]
        ties = [clip for clip, (score, _) in zip(ids, page, strict=True) if score == last]
        if here is not None and here.score == last:
            ties = [*here.ties, *ties]
        after = {"rank": rank, "clip_id": ids[-1], "score": last, "snapshot": chosen.name}
        return ids, start.model_copy(update={**after, "ties": ties[-cursors.MOST_TIES :]})

    def _behind(
        self, searcher: tantivy.Searcher, query: tantivy.Query, wanted: int, here: Cursor
    ) -> list[tuple[float, tantivy.DocAddress]]:
        """What comes behind the last clip told, in a state of the index that orders clips of one score otherwise
        and may give all of them another one."""
        hits = searcher.search(query, min(here.rank, DEEPEST) + wanted + 200, count=False).hits
        ids = self._ids(searcher, [address for _, address in hits])
        last = hits[ids.index(here.clip_id)][0] if here.clip_id in ids else here.score
        told = set(here.ties)
        return [
            hit
            for clip, hit in zip(ids, hits, strict=True)
            if hit[0] < last or (hit[0] == last and clip not in told)
        ][:wanted]

    def _keep(self, snapshot: _Snapshot) -> None:
        now = time.monotonic()
        with self._lock:
            self._kept[snapshot.name] = (now, snapshot)
            self._kept.move_to_end(snapshot.name)
            for name, (since, _) in list(self._kept.items()):
                if len(self._kept) > SNAPSHOTS or now - since > SNAPSHOT_SECONDS:
                    del self._kept[name]

    def _kept_snapshot(self, name: str) -> _Snapshot | None:
        with self._lock:
            found = self._kept.get(name)
        return found[1] if found is not None else None

    @staticmethod
    def _ids(searcher: tantivy.Searcher, addresses: list[tantivy.DocAddress]) -> list[int]:
        return [int(value or 0) for value in searcher.fast_field_values("id", addresses)] if addresses else []

    # -- what a query means

    def _clauses(self, query: Query) -> list[Clause] | None:
        """Everything that a clip must have (or not), or None where nothing can be found."""
        found: list[Clause] = []
        stems = [stem for word in query.words for stem in self._analyzer.analyze(word)]
        found += [(Occur.Must, self._term("text", stem)) for stem in dict.fromkeys(stems)]
        for phrase in query.phrases:
            if clause := self._phrase(phrase):
                found.append((Occur.Must, clause))
        if query.text and not found:
            return None  # nothing but words like "the"
        found += self._filters(query)
        refused = [(Occur.MustNot, clause) for text in query.without if (clause := self._phrase(text))]
        if refused and not found:
            found += self._ranged("by_newest", Range(1))  # every clip
        return found + refused

    def _phrase(self, text: str) -> tantivy.Query | None:
        stems = self._analyzer.analyze(text)
        if len(stems) > 1:
            # Stop words leave no gap of known width: a little slop stands for them.
            words = len(text.split())
            return tantivy.Query.phrase_query(
                self._schema, "text", list(stems), slop=max(0, words - len(stems))
            )
        return self._term("text", stems[0]) if stems else None

    def _filters(self, query: Query) -> Iterator[Clause]:
        for name, field in WHOLE.items():
            if values := getattr(query, name):
                yield _filter(self._any(field, values))
        for tag in query.tags:
            yield _filter(self._term("tag", tag))
        if query.editorial is not None:
            yield _filter(self._term("editorial", "yes" if query.editorial else "no"))
        for name in NUMBERS:
            yield from self._ranged(name, getattr(query, name))
        for name, field in _KEYED.items():
            bounds: Range = getattr(query, name)
            if not bounds.open:
                least = (bounds.least or 0) << KEY_BITS
                # The largest value stands for "unknown", which no range takes in.
                most = min(bounds.most if bounds.most is not None else MOST, MOST - 1)
                yield from self._ranged(field, Range(max(1, least), (most + 1 << KEY_BITS) - 1))

    def _any(self, field: str, values: Sequence[str]) -> tantivy.Query:
        if len(values) == 1:
            return self._term(field, values[0])
        return tantivy.Query.term_set_query(self._schema, field, list(values))

    def _term(self, field: str, value: str | int) -> tantivy.Query:
        option = "position" if field == "text" else "basic"
        return tantivy.Query.term_query(self._schema, field, value, index_option=option)

    def _ranged(self, field: str, bounds: Range) -> Iterator[Clause]:
        if bounds.open:
            return
        if bounds.most is not None and (bounds.most < 0 or bounds.most < (bounds.least or 0)):
            yield Occur.Must, tantivy.Query.empty_query()
            return
        yield _filter(
            tantivy.Query.range_query(self._schema, field, FieldType.Unsigned, bounds.least, bounds.most)
        )

    def _shards(self, number: int) -> list[Clause]:
        """The first `number` of the shards."""
        if number == 1:
            return [_filter(self._term("shard", 0))]
        return [_filter(tantivy.Query.term_set_query(self._schema, "shard", list(range(number))))]

    # -- counting

    def _count(self, searcher: tantivy.Searcher, clauses: list[Clause]) -> tuple[Count, int]:
        """How many there are, and from how many shards facets should be counted."""
        clips = self._clips(searcher)
        if not clauses:
            return Count(clips, True), _shards_for(clips)
        if clips > EXACT_UP_TO:
            about = self._number(searcher, [*clauses, *self._shards(1)]) * SHARDS
            if about > EXACT_UP_TO:
                return Count(_rounded(about), False), _shards_for(about)
        return Count(self._number(searcher, clauses), True), SHARDS

    @staticmethod
    def _number(searcher: tantivy.Searcher, clauses: list[Clause]) -> int:
        return int(
            searcher.aggregate(_all_of(clauses), {"n": {"value_count": {"field": "id"}}})["n"]["value"]
        )

    def _facets(self, searcher: tantivy.Searcher, clauses: list[Clause], total: Count, shards: int) -> Facets:
        exact = shards == SHARDS
        if not exact:
            clauses = [*clauses, *self._shards(shards)]
        wanted = {name: {"terms": {"field": name, "size": FACET_VALUES}} for name in FACETS}
        counted = searcher.aggregate(_all_of(clauses), wanted)
        found: dict[str, list[tuple[str, int]]] = {}
        for name in FACETS:
            found[name] = [
                (
                    _told(bucket["key"]),
                    bucket["doc_count"] if exact else _rounded(bucket["doc_count"] * SHARDS // shards),
                )
                for bucket in counted[name]["buckets"]
            ]
        return Facets(found, exact)

    # -- words

    def _instead(self, searcher: tantivy.Searcher, words: Sequence[str]) -> tuple[str, ...] | None:
        """The words with the nearest ones that there are in place of those that are nowhere."""
        found: list[str] = []
        mistyped = 0
        for word in words:
            stems = self._analyzer.analyze(word)
            if not stems or all(self._there(searcher, self._term("text", stem)) for stem in stems):
                found.append(word)
                continue
            mistyped += 1
            near = self._nearest(searcher, word) if mistyped <= MOST_MISTYPED else None
            if near is None:
                return None
            found.append(near)
        return tuple(found) if mistyped else None

    def _nearest(self, searcher: tantivy.Searcher, word: str) -> str | None:
        for most in forgiven(word):
            near = tantivy.Query.fuzzy_term_query(self._schema, "words", word, distance=most)
            wanted = {"words": {"terms": {"field": "words", "size": 500}}}
            buckets = searcher.aggregate(near, wanted)["words"]["buckets"]
            # Beside the words that are near these documents have others: `nearest` looks which ones they are.
            found = nearest(word, ((str(one["key"]), one["doc_count"]) for one in buckets), most)
            if found is not None:
                return found
        return None

    @staticmethod
    def _there(searcher: tantivy.Searcher, query: tantivy.Query) -> bool:
        return bool(searcher.search(query, 1, count=False).hits)

    def suggest(self, text: str, *, limit: int) -> list[str]:
        """Tags, categories, places and contributors that begin so; then words that go on from the last one."""
        searcher = self._now.searcher
        if not text:
            return []
        found = self._living(searcher, "phrase", text, limit)
        if len(found) < limit:
            before, _, last = text.rpartition(" ")
            if last and not before:
                found += self._living(searcher, "words", last, limit)
            elif last:
                clauses = self._clauses(Query(words=tuple(before.split()))) or []
                if clauses:
                    ends = searcher.terms_with_prefix("words", last, _all_of(clauses), limit)
                    found += [f"{before} {word}" for word, _ in ends]
        return list(dict.fromkeys(found))[:limit]

    def _living(self, searcher: tantivy.Searcher, field: str, prefix: str, limit: int) -> list[str]:
        """Terms that begin so, the most frequent first. The dictionary also has those of clips that are gone."""
        terms = [term for term, _ in searcher.terms_with_prefix(field, prefix, None, limit * 5)]
        found = []
        for term in terms:
            if self._there(searcher, self._term(field, term)):
                found.append(term)
                if len(found) == limit:
                    break
        return found

    def related(self, clip_id: int, *, limit: int) -> list[int]:
        searcher = self._now.searcher
        names = {"shoot": 4.0, "tag": 1.0, "category": 0.5, "contributor_key": 0.5}
        wanted = {name: {"terms": {"field": name, "size": 50}} for name in names}
        own = searcher.aggregate(self._term("id", clip_id), wanted)
        clauses: list[Clause] = []
        for name, weight in names.items():
            values = [bucket["key"] for bucket in own[name]["buckets"]]
            # The rarest tags say the most, and keep the question small.
            values.sort(key=lambda value: searcher.doc_freq(name, value))
            clauses += [
                (Occur.Should, tantivy.Query.boost_query(self._term(name, value), weight))
                for value in values[:6]
            ]
        if not clauses:
            return []
        hits = searcher.search(tantivy.Query.boolean_query(clauses), limit + 1, count=False).hits
        ids = self._ids(searcher, [address for _, address in hits])
        return [other for other in ids if other != clip_id][:limit]


def _filter(query: tantivy.Query) -> Clause:
    """A clause that decides and does not score."""
    return Occur.Must, tantivy.Query.const_score_query(query, 0.0)


def _all_of(clauses: list[Clause]) -> tantivy.Query:
    if not clauses:
        return tantivy.Query.all_query()
    if len(clauses) == 1 and clauses[0][0] is Occur.Must:
        return clauses[0][1]
    return tantivy.Query.boolean_query(clauses)


def _corrected(query: Query, words: Sequence[str]) -> Query:
    return replace(query, words=tuple(words))


def _shards_for(results: int) -> int:
    """How many shards give a sample of the wanted size; all of them where the result is small."""
    if results <= EXACT_UP_TO:
        return SHARDS
    return min(SHARDS // 2, max(1, round(SAMPLE * SHARDS / results)))


def _rounded(number: int) -> int:
    """Two digits: a sample knows no more."""
    return int(float(f"{number:.1e}"))


def _told(key: str | float) -> str:
    return str(int(key)) if isinstance(key, float) else str(key)
