"""A small OpenSearch, over HTTP on this machine: the subset that we use, and nothing else.

Every request is held against the documented shape of its body and parameters, and what is not known here is refused
(400), so that a misspelt option cannot pass unnoticed. What is known is really carried out: versions, refreshes,
aliases, points in time, queries, sorting, aggregations. What it does *not* prove is what only the real one knows:
its scores (a plain BM25 here), and its analysis (tantivy's stemmer stands in for `porter2`).
"""

from __future__ import annotations

import fnmatch
import json
import math
import re
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import tantivy

from paletta_server.search.typos import distance

Json = dict[str, Any]
Score = float | None
GAP = 100


class Problem(Exception):
    def __init__(self, status: int, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.kind, self.reason = status, kind, reason


def refuse(reason: str, kind: str = "parsing_exception") -> Problem:
    return Problem(400, kind, reason)


def keys(given: Any, where: str, *allowed: str, need: tuple[str, ...] = ()) -> Json:
    if not isinstance(given, dict):
        raise refuse(f"[{where}] must be an object")
    if unknown := set(given) - set(allowed) - set(need):
        raise refuse(f"[{where}] unknown {sorted(unknown)}")
    if missing := set(need) - set(given):
        raise refuse(f"[{where}] needs {sorted(missing)}")
    return given


def kind(value: Any, types: Any, where: str) -> Any:
    if not isinstance(value, types) or (isinstance(value, bool) and types is int):
        raise refuse(f"[{where}] has the wrong type: {value!r}")
    return value


def one(given: Any, where: str) -> tuple[str, Any]:
    if not isinstance(given, dict) or len(given) != 1:
        raise refuse(f"[{where}] must have exactly one member: {given!r}")
    return next(iter(given.items()))


_STEMS = (
    tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace())
    .filter(tantivy.Filter.stemmer("english"))
    .build()
)
_FOLD = (
    tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).filter(tantivy.Filter.ascii_fold()).build()
)


class Mapping:
    """Settings and mapping of one index, checked."""

    TYPES: dict[str, tuple[str, ...]] = {  # noqa: RUF012
        "long": (), "integer": (), "keyword": ("ignore_above", "index", "doc_values"),
        "text": ("analyzer", "position_increment_gap"),
    }  # fmt: skip

    def __init__(self, body: Json) -> None:
        keys(body, "create", "settings", "mappings", "aliases")
        settings = keys(body.get("settings", {}), "settings", "index", "analysis")
        keys(settings.get("index", {}), "index", "number_of_shards", "auto_expand_replicas", "refresh_interval",
             "gc_deletes")  # fmt: skip
        self.analysis = self._analysis(settings.get("analysis", {}))
        mapping = keys(body.get("mappings", {}), "mappings", "dynamic", "_source", "properties")
        if mapping.get("dynamic", True) not in (True, False, "strict", "true", "false"):
            raise refuse("[dynamic] is true, false or strict", "mapper_parsing_exception")
        self.includes = keys(mapping.get("_source", {}), "_source", "includes")["includes"]
        self.fields: dict[str, Json] = mapping["properties"]
        for name, made in self.fields.items():
            if made.get("type") not in self.TYPES:
                raise refuse(f"no handler for type [{made.get('type')}]", "mapper_parsing_exception")
            keys(made, name, "type", *self.TYPES[made["type"]])
            if "analyzer" in made and made["analyzer"] not in self.analysis["analyzer"]:
                raise refuse(
                    f"analyzer [{made['analyzer']}] has not been configured", "mapper_parsing_exception"
                )

    @staticmethod
    def _analysis(given: Json) -> Json:
        keys(given, "analysis", "tokenizer", "filter", "analyzer")
        shapes = {
            "pattern": ("pattern", "flags"), "length": ("max", "min"), "stop": ("stopwords",),
            "stemmer": ("language",), "custom": ("tokenizer", "filter"),
        }  # fmt: skip
        for part in given.values():
            for name, made in part.items():
                if made.get("type") not in shapes:
                    raise refuse(
                        f"unknown type [{made.get('type')}] for [{name}]", "illegal_argument_exception"
                    )
                keys(made, name, "type", *shapes[made["type"]])
        for made in given["analyzer"].values():
            for name in made["filter"]:
                if name not in given["filter"] and name not in ("lowercase", "asciifolding"):
                    raise refuse(f"filter [{name}] not found", "illegal_argument_exception")
            if given["tokenizer"][made["tokenizer"]]["flags"] != "UNICODE_CHARACTER_CLASS":
                raise refuse("without this flag é is no letter", "illegal_argument_exception")
        if given["filter"]["stems"]["language"] not in ("porter2", "english"):
            raise refuse("no such stemmer", "illegal_argument_exception")
        return given

    def positions(self, text: str, start: int = 0) -> list[tuple[int, str]]:
        """Terms with their places; stop words leave gaps."""
        stop = set(self.analysis["filter"]["empty"]["stopwords"])
        found = []
        for place, word in enumerate(re.split(r"[\W_]+", text.strip())):
            if not word or len(word) > 60:
                continue
            plain = _FOLD.analyze(word.lower())
            if plain and plain[0] not in stop:
                found.append((start + place, _STEMS.analyze(plain[0])[0]))
        return found

    def checked(self, source: Json) -> None:
        for name, value in source.items():
            made = self.fields.get(name)
            if made is None:
                raise Problem(
                    400, "strict_dynamic_mapping_exception", f"[{name}] within [_doc] is not allowed"
                )
            wanted = int if made["type"] in ("long", "integer") else str
            for single in value if isinstance(value, list) else [value]:
                if not isinstance(single, wanted) or isinstance(single, bool):
                    raise Problem(400, "mapper_parsing_exception", f"failed to parse field [{name}]")


@dataclass
class Doc:
    id: str
    version: int
    source: Json
    terms: list[tuple[int, str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def values(self, name: str) -> list[Any]:
        value = self.source.get(name, [])
        return value if isinstance(value, list) else [value]


@dataclass
class Index:
    mapping: Mapping
    aliases: set[str]
    docs: dict[str, Doc] = field(default_factory=dict)
    gone: dict[str, int] = field(default_factory=dict)
    shown: dict[str, Doc] = field(default_factory=dict)

    def put(self, doc_id: str, source: Json, version: int | None, version_type: str | None) -> int:
        self.mapping.checked(source)
        new = self._version(doc_id, version, version_type)
        doc = Doc(doc_id, new, source)
        place = 0
        for value in doc.values("text"):
            found = self.mapping.positions(value, place)
            doc.terms += found
            place = (found[-1][0] if found else place) + GAP
        doc.counts = Counter(term for _, term in doc.terms)
        self.docs[doc_id] = doc
        return new

    def delete(self, doc_id: str, version: int | None, version_type: str | None) -> bool:
        self.gone[doc_id] = self._version(doc_id, version, version_type)
        return self.docs.pop(doc_id, None) is not None

    def _version(self, doc_id: str, version: int | None, version_type: str | None) -> int:
        now = self.docs[doc_id].version if doc_id in self.docs else self.gone.get(doc_id, 0)
        if version_type is None:
            return now + 1
        if version_type != "external_gte" or version is None:
            raise refuse(f"version type {version_type}", "action_request_validation_exception")
        if version < now:
            raise Problem(409, "version_conflict_engine_exception", f"current version [{now}] is higher")
        return version


class Evaluation:
    """A query over one state of an index. Each clause becomes a function from a document to its score or None."""

    def __init__(self, index: Index, docs: dict[str, Doc]) -> None:
        self.index, self.docs = index, docs
        self.average = sum(len(doc.terms) for doc in docs.values()) / max(1, len(docs))

    def field(self, name: str, *types: str) -> Json:
        made = self.index.mapping.fields.get(name)
        if made is None:
            raise refuse(f"nothing is known of a field [{name}]")  # the real one finds nothing, silently
        if types and made["type"] not in types:
            raise refuse(f"[{name}] is {made['type']}")
        return made

    def of(self, query: Any) -> Callable[[Doc], Score]:
        name, body = one(query, "query")
        made = getattr(self, f"q_{name}", None)
        if made is None:
            raise refuse(f"unknown query [{name}]")
        found: Callable[[Doc], Score] = made(body)
        return found

    def q_match_none(self, body: Any) -> Callable[[Doc], Score]:
        keys(body, "match_none")
        return lambda doc: None

    def q_exists(self, body: Any) -> Callable[[Doc], Score]:
        name = keys(body, "exists", need=("field",))["field"]
        self.field(name)
        return lambda doc: 1.0 if doc.values(name) else None

    def q_bool(self, body: Any) -> Callable[[Doc], Score]:
        keys(body, "bool", "must", "filter", "must_not", "should", "minimum_should_match")
        parts = {name: [self.of(each) for each in kind(body.get(name, []), list, name)]
                 for name in ("must", "filter", "must_not", "should")}  # fmt: skip
        least = kind(body.get("minimum_should_match", 0), int, "minimum_should_match")

        def score(doc: Doc) -> Score:
            if any(part(doc) is None for part in parts["filter"]) or any(
                part(doc) is not None for part in parts["must_not"]
            ):
                return None
            must = [part(doc) for part in parts["must"]]
            should = [found for part in parts["should"] if (found := part(doc)) is not None]
            if None in must or len(should) < least:
                return None
            return sum(found for found in must if found is not None) + sum(should)

        return score

    def _idf(self, having: int) -> float:
        return math.log(1 + (len(self.docs) - having + 0.5) / (having + 0.5))

    def _bm25(self, term: str) -> Callable[[Doc], Score]:
        idf = self._idf(sum(1 for doc in self.docs.values() if term in doc.counts))

        def score(doc: Doc) -> Score:
            often = doc.counts.get(term, 0)
            if not often:
                return None
            return idf * often / (often + 1.2 * (0.25 + 0.75 * len(doc.terms) / self.average))

        return score

    def q_match(self, body: Any) -> Callable[[Doc], Score]:
        name, given = one(body, "match")
        self.field(name, "text")
        keys(given, "match", need=("query", "operator"))
        if given["operator"] != "and":
            raise refuse("[match] operator")
        terms = [
            self._bm25(term) for _, term in self.index.mapping.positions(kind(given["query"], str, "query"))
        ]

        def score(doc: Doc) -> Score:
            found = [term(doc) for term in terms]
            return None if None in found or not found else sum(each for each in found if each is not None)

        return score

    def q_match_phrase(self, body: Any) -> Callable[[Doc], Score]:
        name, given = one(body, "match_phrase")
        self.field(name, "text")
        wanted = self.index.mapping.positions(
            kind(keys(given, "phrase", need=("query",))["query"], str, "query")
        )

        def score(doc: Doc) -> Score:
            if not wanted:
                return None
            there = set(doc.terms)
            first = wanted[0]
            starts = [place - first[0] for place, term in doc.terms if term == first[1]]
            hit = any(all((start + place, term) in there for place, term in wanted) for start in starts)
            return 1.0 if hit else None

        return score

    def q_term(self, body: Any) -> Callable[[Doc], Score]:
        name, given = one(body, "term")
        self.field(name, "keyword", "long", "integer")
        keys(given, "term", "boost", need=("value",))
        value = given["value"]
        idf = self._idf(sum(1 for doc in self.docs.values() if value in doc.values(name)))
        return lambda doc: idf * given.get("boost", 1.0) if value in doc.values(name) else None

    def q_terms(self, body: Any) -> Callable[[Doc], Score]:
        name, values = one(body, "terms")
        self.field(name, "keyword", "integer")
        wanted = set(kind(values, list, "terms"))
        return lambda doc: 1.0 if wanted & set(doc.values(name)) else None

    def q_range(self, body: Any) -> Callable[[Doc], Score]:
        name, given = one(body, "range")
        self.field(name, "long", "integer")
        keys(given, "range", "gte", "lte")
        least, most = (
            kind(given.get(end, away), int, end) for end, away in (("gte", -(2**63)), ("lte", 2**63 - 1))
        )
        if not -(2**63) <= least < 2**63 or not -(2**63) <= most < 2**63:
            raise refuse("value out of range for a long", "query_shard_exception")
        return lambda doc: 1.0 if any(least <= value <= most for value in doc.values(name)) else None

    def q_prefix(self, body: Any) -> Callable[[Doc], Score]:
        name, given = one(body, "prefix")
        self.field(name, "keyword")
        start = kind(keys(given, "prefix", need=("value",))["value"], str, "prefix")
        return lambda doc: 1.0 if any(value.startswith(start) for value in doc.values(name)) else None

    def q_fuzzy(self, body: Any) -> Callable[[Doc], Score]:
        name, given = one(body, "fuzzy")
        self.field(name, "keyword")
        keys(given, "fuzzy", need=("value", "fuzziness", "transpositions"))
        word, most = given["value"], given["fuzziness"]
        if most not in (0, 1, 2):
            raise refuse("[fuzziness] is 0, 1 or 2")
        return lambda doc: (
            1.0 if any(distance(word, other, most) <= most for other in doc.values(name)) else None
        )

    def aggregated(self, wanted: Json, docs: list[Doc]) -> Json:
        return {name: self._aggregation(each, docs) for name, each in wanted.items()}

    def _aggregation(self, wanted: Any, docs: list[Doc]) -> Json:
        name, body = one(wanted, "aggregation")
        if name == "filters":
            parts = keys(body, "filters", need=("filters",))["filters"]
            made = {key: self.of(query) for key, query in parts.items()}
            return {"buckets": {key: {"doc_count": sum(part(doc) is not None for doc in docs)}
                                for key, part in made.items()}}  # fmt: skip
        if name != "terms":
            raise refuse(f"unknown aggregation [{name}]")
        keys(body, "terms", "include", need=("field", "size"))
        self.field(body["field"], "keyword", "long", "integer")
        include = _regex(body["include"]) if "include" in body else None
        counts = Counter(value for doc in docs for value in set(doc.values(body["field"]))
                         if include is None or include.fullmatch(value))  # fmt: skip
        best = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[: body["size"]]
        return {
            "doc_count_error_upper_bound": 0,
            "sum_other_doc_count": 0,
            "buckets": [{"key": key, "doc_count": count} for key, count in best],
        }


def _regex(text: str) -> re.Pattern[str]:
    """Lucene's, of which only literals and a last `.*` are known here."""
    body = text.removesuffix(".*")
    if body == text or re.search(r'(?<!\\)(?:\\\\)*[.?+*|{}\[\]()"#@&<>~]', body):
        raise refuse(f"[include] {text}: an operator was not escaped")
    return re.compile(re.escape(re.sub(r"\\(.)", r"\1", body)) + ".*", re.DOTALL)


def _float32(number: float) -> float:
    return float(struct.unpack("f", struct.pack("f", number))[0])


class FakeOpenSearch:
    """What is in it, and how it fails when a test wants it to."""

    def __init__(self) -> None:
        self.indexes: dict[str, Index] = {}
        self.points: dict[str, tuple[str, dict[str, Doc]]] = {}
        self._numbers = count()
        self.lock = threading.RLock()
        self.item_failures: dict[str, list[int]] = {}
        """Statuses with which the next writes of a document fail."""
        self.failures: list[tuple[str, int]] = []
        """Requests whose path has this text fail with this status, each once."""
        self.hanging = threading.Event()
        """While it is set nothing is answered."""
        self.hung = threading.Semaphore(0)
        """Counts the requests that are not being answered."""
        self.free = threading.Event()
        self.requests: list[tuple[str, str]] = []
        self.url = ""

    def lose_points(self) -> None:
        self.points.clear()

    def index(self, name: str, *, require_alias: bool = False) -> tuple[str, Index]:
        if name in self.indexes and not require_alias:
            return name, self.indexes[name]
        found = [key for key, index in self.indexes.items() if name in index.aliases]
        if len(found) != 1:
            raise Problem(404, "index_not_found_exception", f"no such index [{name}]")
        return found[0], self.indexes[found[0]]

    # -- routes: (method, pattern, allowed parameters)

    def answer(self, method: str, path: str, params: dict[str, str], raw: bytes) -> tuple[int, Any]:
        for verbs, pattern, allowed, name in ROUTES:
            match = re.fullmatch(pattern, path)
            if match is not None and method in verbs.split():
                if unknown := set(params) - set(allowed):
                    raise refuse(f"request contains unrecognized parameters {sorted(unknown)}")
                with self.lock:
                    found: tuple[int, Any] = getattr(self, name)(*map(unquote, match.groups()), params, raw)
                    return found
        raise refuse(f"no handler for {method} {path}")

    def info(self, params: Json, raw: bytes) -> tuple[int, Any]:
        return 200, {"version": {"number": "2.19.0", "distribution": "opensearch"}}

    def create(self, name: str, params: Json, raw: bytes) -> tuple[int, Any]:
        if name in self.indexes:
            raise refuse(f"index [{name}] already exists", "resource_already_exists_exception")
        body = json.loads(raw)
        for alias, options in body.get("aliases", {}).items():
            keys(options, alias)
        self.indexes[name] = Index(Mapping(body), set(body.get("aliases", {})))
        return 200, {"acknowledged": True, "shards_acknowledged": True, "index": name}

    def delete_index(self, name: str, params: Json, raw: bytes) -> tuple[int, Any]:
        if "*" in name:
            raise refuse("wildcards are not for deleting", "illegal_argument_exception")
        if name not in self.indexes:
            raise Problem(404, "index_not_found_exception", f"no such index [{name}]")
        del self.indexes[name]
        self.points = {key: point for key, point in self.points.items() if point[0] != name}
        return 200, {"acknowledged": True}

    def refresh(self, name: str, params: Json, raw: bytes) -> tuple[int, Any]:
        _, index = self.index(name)
        index.shown = dict(index.docs)
        return 200, {"_shards": {"total": 1, "successful": 1, "failed": 0}}

    def alias(self, name: str, params: Json, raw: bytes) -> tuple[int, Any]:
        found = {key: {"aliases": {name: {}}} for key, index in self.indexes.items() if name in index.aliases}
        if not found:
            return 404, {"error": f"alias [{name}] missing", "status": 404}
        return 200, found

    def aliases_of(self, pattern: str, params: Json, raw: bytes) -> tuple[int, Any]:
        return 200, {key: {"aliases": {alias: {} for alias in index.aliases}} for key, index in self.indexes.items()
                     if fnmatch.fnmatch(key, pattern)}  # fmt: skip

    def change_aliases(self, params: Json, raw: bytes) -> tuple[int, Any]:
        actions = kind(keys(json.loads(raw), "aliases", need=("actions",))["actions"], list, "actions")
        for action in actions:  # all are looked at before one is carried out
            name, given = one(action, "action")
            keys(given, name, need=("index", "alias"))
            if name not in ("add", "remove") or given["index"] not in self.indexes:
                raise Problem(404, "index_not_found_exception", f"no such index [{given['index']}]")
        for action in actions:
            name, given = one(action, "action")
            aliases = self.indexes[given["index"]].aliases
            (aliases.add if name == "add" else aliases.remove)(given["alias"])
        return 200, {"acknowledged": True}

    def put_doc(self, name: str, doc_id: str, params: Json, raw: bytes) -> tuple[int, Any]:
        key, index = self.index(name, require_alias=params.get("require_alias") == "true")
        version = int(params["version"]) if "version" in params else None
        made = index.put(doc_id, json.loads(raw), version, params.get("version_type"))
        return 201, {"_index": key, "_id": doc_id, "_version": made, "result": "created"}

    def get_doc(self, name: str, doc_id: str, params: Json, raw: bytes) -> tuple[int, Any]:
        key, index = self.index(name)
        doc = index.docs.get(doc_id)
        if doc is None:
            return 404, {"_index": key, "_id": doc_id, "found": False}
        return 200, {"_index": key, "_id": doc_id, "_version": doc.version, "found": True,
                     "_source": self._source(index, doc)}  # fmt: skip

    @staticmethod
    def _source(index: Index, doc: Doc) -> Json:
        return {name: value for name, value in doc.source.items() if name in index.mapping.includes}

    def bulk(self, name: str, params: Json, raw: bytes) -> tuple[int, Any]:
        if not raw.endswith(b"\n"):
            raise refuse(
                "The bulk request must be terminated by a newline [\\n]", "illegal_argument_exception"
            )
        try:
            key, index = self.index(name, require_alias=params.get("require_alias") == "true")
        except Problem as problem:  # the real one says so for each item
            error = {"status": problem.status, "error": {"type": problem.kind, "reason": problem.reason}}
            given = [json.loads(line) for line in raw.decode().split("\n")[:-1]]
            items = [{action: {"_id": one_["_id"], **error}} for line in given for action, one_ in line.items()
                     if action in ("index", "delete")]  # fmt: skip
            return 200, {"took": 1, "errors": True, "items": items}
        lines = iter(raw.decode().split("\n")[:-1])
        items: list[Json] = []
        for line in lines:
            action, given = one(json.loads(line), "bulk")
            if action not in ("index", "delete"):
                raise refuse(
                    f"Malformed action/metadata line, found [{action}]", "illegal_argument_exception"
                )
            keys(given, "bulk", "version", "version_type", need=("_id",))
            kind(given["_id"], str, "_id")
            source = json.loads(next(lines)) if action == "index" else None
            items.append({action: {"_index": key, "_id": given["_id"], **self._item(index, given, source)}})
        return 200, {
            "took": 1,
            "errors": any(one(item, "")[1]["status"] >= 300 for item in items),
            "items": items,
        }

    def _item(self, index: Index, given: Json, source: Json | None) -> Json:
        version = given.get("version"), given.get("version_type")
        try:
            if statuses := self.item_failures.get(given["_id"]):
                kind_ = {429: "rejected_execution_exception", 400: "mapper_parsing_exception"}
                status = statuses.pop(0)
                raise Problem(status, kind_.get(status, "exception"), "as the test wants it")
            if source is not None:
                return {"status": 201, "_version": index.put(given["_id"], source, *version)}
            return {"status": 200 if index.delete(given["_id"], *version) else 404}
        except Problem as problem:
            return {"status": problem.status, "error": {"type": problem.kind, "reason": problem.reason}}

    def count(self, name: str, params: Json, raw: bytes) -> tuple[int, Any]:
        _, index = self.index(name)
        score = Evaluation(index, index.shown).of(keys(json.loads(raw), "count", need=("query",))["query"])
        number = sum(score(doc) is not None for doc in index.shown.values())
        return 200, {"count": number, "_shards": {"total": 1, "successful": 1, "failed": 0}}

    def keep_point(self, name: str, params: Json, raw: bytes) -> tuple[int, Any]:
        if not re.fullmatch(r"\d+s", params.get("keep_alive", "")):
            raise refuse("[keep_alive] is needed", "action_request_validation_exception")
        key, index = self.index(name)
        point = f"point-{next(self._numbers)}_{key}=="
        self.points[point] = (key, dict(index.shown))
        return 200, {"pit_id": point, "_shards": {"failed": 0}, "creation_time": 0}

    def drop_points(self, params: Json, raw: bytes) -> tuple[int, Any]:
        names = kind(keys(json.loads(raw), "pit", need=("pit_id",))["pit_id"], list, "pit_id")
        return 200, {"pits": [{"successful": self.points.pop(name, None) is not None, "pit_id": name}
                              for name in names]}  # fmt: skip

    def search_point(self, params: Json, raw: bytes) -> tuple[int, Any]:
        body = json.loads(raw)
        pit = keys(body.pop("pit", None), "pit", need=("id", "keep_alive"))
        if not pit["id"].startswith("point-"):
            raise refuse("invalid id", "illegal_argument_exception")
        if pit["id"] not in self.points:
            raise Problem(
                404, "search_phase_execution_exception", "all shards failed: no search context found"
            )
        key, docs = self.points[pit["id"]]
        return 200, {"pit_id": pit["id"], **self._search(self.indexes[key], docs, body)}

    def search(self, name: str, params: Json, raw: bytes) -> tuple[int, Any]:
        body = json.loads(raw)
        if "pit" in body:
            raise refuse("[indices] cannot be used with point in time", "action_request_validation_exception")
        _, index = self.index(name)
        return 200, self._search(index, index.shown, body)

    def _search(self, index: Index, docs: dict[str, Doc], body: Json) -> Json:
        keys(body, "search", "size", "sort", "search_after", "track_total_hits", "_source", "timeout", "aggs",
             "terminate_after", need=("query",))  # fmt: skip
        evaluation = Evaluation(index, docs)
        score = evaluation.of(body["query"])
        size = kind(body.get("size", 10), int, "size")
        if not 0 <= size <= 10_000:
            raise refuse("Result window is too large", "illegal_argument_exception")
        found = [(_float32(points), doc) for doc in docs.values() if (points := score(doc)) is not None]
        if "terminate_after" in body:
            found = found[: kind(body["terminate_after"], int, "terminate_after")]
        counted = kind(body.get("track_total_hits", 10_000), bool | int, "track_total_hits")
        limit = len(found) if counted is True else int(counted)
        total = {"value": min(len(found), limit), "relation": "eq" if len(found) <= limit else "gte"}
        hits = self._ordered(index, found, body)[:size]
        answer: Json = {
            "took": 1,
            "timed_out": False,
            "_shards": {"total": 1, "successful": 1, "skipped": 0, "failed": 0},
            "hits": {"total": total, "max_score": None, "hits": hits},
        }
        if body.get("_source", True) is True:
            for hit in hits:
                hit["_source"] = self._source(index, docs[hit["_id"]])
        if "aggs" in body:
            answer["aggregations"] = evaluation.aggregated(body["aggs"], [doc for _, doc in found])
        return answer

    def _ordered(self, index: Index, found: list[tuple[float, Doc]], body: Json) -> list[Json]:
        orders = []
        for each in kind(body.get("sort", []), list, "sort"):
            name, given = one(each, "sort")
            if name != "_score" and index.mapping.fields.get(name, {}).get("type") != "long":
                raise refuse(f"No mapping found for [{name}] in order to sort on")
            orders.append((name, {"asc": 1, "desc": -1}[keys(given, "sort", need=("order",))["order"]]))
        rows = [
            ([points if name == "_score" else doc.values(name)[0] for name, _ in orders], points, doc)
            for points, doc in found
        ]
        signs = [sign for _, sign in orders]

        def place(values: list[Any]) -> list[Any]:
            return [value * sign for value, sign in zip(values, signs, strict=True)]

        rows.sort(key=lambda row: place(row[0]) if orders else [-row[1]])
        if "search_after" in body:
            after = kind(body["search_after"], list, "search_after")
            if len(after) != len(orders):
                raise refuse(f"search_after has {len(after)} value(s) but sort has {len(orders)}")
            rows = [row for row in rows if place(row[0]) > place(after)]
        return [{"_id": doc.id, "_score": None if orders and orders[0][0] != "_score" else points,
                 **({"sort": values} if orders else {})} for values, points, doc in rows]  # fmt: skip


_WRITE = ("version", "version_type", "require_alias")
ROUTES = (
    ("GET", r"/", (), "info"),
    ("POST", r"/_aliases", (), "change_aliases"),
    ("POST", r"/_search", ("allow_partial_search_results",), "search_point"),
    ("DELETE", r"/_search/point_in_time", (), "drop_points"),
    ("GET", r"/_alias/([^/]+)", (), "alias"),
    ("GET", r"/([^/]+)/_alias", (), "aliases_of"),
    ("POST", r"/([^/]+)/_search/point_in_time", ("keep_alive",), "keep_point"),
    ("POST", r"/([^/]+)/_search", ("allow_partial_search_results",), "search"),
    ("POST", r"/([^/]+)/_count", (), "count"),
    ("POST", r"/([^/]+)/_refresh", (), "refresh"),
    ("POST PUT", r"/([^/]+)/_bulk", ("require_alias",), "bulk"),
    ("PUT", r"/([^/]+)/_doc/([^/]+)", _WRITE, "put_doc"),
    ("GET", r"/([^/]+)/_doc/([^/]+)", (), "get_doc"),
    ("PUT", r"/([^/_][^/]*)", (), "create"),
    ("DELETE", r"/([^/_][^/]*)", (), "delete_index"),
)


@contextmanager
def serving() -> Iterator[FakeOpenSearch]:
    """One of them, at `url`."""
    import gzip

    fake = FakeOpenSearch()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            raw = self.rfile.read(length)
            if self.headers.get("content-encoding") == "gzip":
                raw = gzip.decompress(raw)
            url = urlsplit(self.path)
            fake.requests.append((self.command, url.path))
            if fake.hanging.is_set():
                fake.hung.release()
                fake.free.wait()
            status, body = self._answered(url.path, dict(parse_qsl(url.query)), raw)
            packed = json.dumps(body).encode()
            with suppress(BrokenPipeError):  # who gave up waiting
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(packed)))
                self.end_headers()
                self.wfile.write(packed)

        def _answered(self, path: str, params: dict[str, str], raw: bytes) -> tuple[int, Any]:
            for number, (part, status) in enumerate(fake.failures):
                if part in path:
                    del fake.failures[number]
                    return status, {
                        "error": {"type": "failed", "reason": "as the test wants it"},
                        "status": status,
                    }
            try:
                return fake.answer(self.command, path, params, raw)
            except Problem as problem:
                cause = {"type": problem.kind, "reason": problem.reason}
                return problem.status, {"error": {**cause, "root_cause": [cause]}, "status": problem.status}

        do_GET = do_POST = do_PUT = do_DELETE = _handle  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = (
            128  # whoever finds the queue of 5 full tries again after a second, and after more
        )

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        fake.free.set()
        server.shutdown()
        server.server_close()
        thread.join()
