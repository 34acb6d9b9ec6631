"""What a question means in OpenSearch's query language."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from paletta_server.search.document import words_of
from paletta_server.search.fields import MOST, NUMBERS, WHOLE
from paletta_server.search.index import FACET_VALUES, FACETS, Query, Range
from paletta_server.search.opensearch_schema import STOP_WORDS

Clause = dict[str, Any]

CLIPS: Clause = {"exists": {"field": "id"}}
"""Every clip; the index has a document of another kind too, with how far it has come."""
NOTHING: Clause = {"match_none": {}}
_RANGES = {"duration": "duration", "price": "price", "listed": "listed"}
_EMPTY = frozenset(STOP_WORDS)


def meaning(text: str) -> str:
    """The words of a text that are looked for."""
    return " ".join(word for word in words_of(text) if word not in _EMPTY)


def clauses(query: Query) -> Clause | None:
    """Everything that a clip must have (or not), or None where nothing can be found."""
    words = [word for word in query.words if meaning(word)]
    phrases = [phrase for phrase in query.phrases if meaning(phrase)]
    if query.text and not (words or phrases):
        return None  # nothing but words like "the"
    must: list[Clause] = []
    if words:
        must.append({"match": {"text": {"query": " ".join(words), "operator": "and"}}})
    must += [_phrase(phrase) for phrase in phrases]
    made: Clause = {"filter": [CLIPS, *_filters(query)]}
    if must:
        made["must"] = must
    if refused := [_phrase(text) for text in query.without if meaning(text)]:
        made["must_not"] = refused
    return {"bool": made}


def word(text: str) -> Clause:
    return {"match": {"text": {"query": text, "operator": "and"}}}


def _phrase(text: str) -> Clause:
    return {"match_phrase": {"text": {"query": text}}}


def _filters(query: Query) -> Iterator[Clause]:
    for name, field in WHOLE.items():
        if values := getattr(query, name):
            yield {"terms": {field: list(values)}}
    for tag in query.tags:
        yield {"term": {"tag": {"value": tag}}}
    if query.editorial is not None:
        yield {"term": {"editorial": {"value": "yes" if query.editorial else "no"}}}
    for name in NUMBERS:
        yield from _range(name, getattr(query, name), None)
    for name, field in _RANGES.items():
        # The largest value stands for "unknown", which no range takes in.
        yield from _range(field, getattr(query, name), MOST - 1)


def _range(field: str, bounds: Range, ceiling: int | None) -> Iterator[Clause]:
    if bounds.open:
        return
    least, most = bounds.least, bounds.most
    if most is not None and (most < 0 or most < (least or 0)):
        yield NOTHING
        return
    limits: dict[str, int] = {}
    if least is not None:
        limits["gte"] = min(least, 2**62)
    if most is not None or ceiling is not None:
        limits["lte"] = min(most if most is not None else MOST, ceiling if ceiling is not None else 2**62)
    yield {"range": {field: limits}}


def narrowed(question: Clause, *more: Clause) -> Clause:
    """A question of ours, and more that must hold."""
    return {"bool": {**question["bool"], "filter": [*question["bool"]["filter"], *more]}}


def facets() -> dict[str, Any]:
    return {name: {"terms": {"field": name, "size": FACET_VALUES}} for name in FACETS}


def beginning(field: str, prefix: str, size: int) -> dict[str, Any]:
    """The values of a field that begin so, the most frequent first."""
    return {"terms": {"field": field, "size": size, "include": f"{escaped(prefix)}.*"}}


def escaped(text: str) -> str:
    """A text for Lucene's regular expressions, which have more operators than others."""
    return re.sub(r"([^\w\s])", r"\\\1", text)


def related(source: dict[str, Any], clip_id: int) -> Clause | None:
    """What shares the most with a clip of which `source` was kept. Rare values score more by themselves (idf)."""
    weights = {"shoot": 4.0, "tag": 1.0, "category": 0.5, "contributor_key": 0.5}
    should: list[Clause] = []
    for name, weight in weights.items():
        kept = source.get(name) or []
        values: Sequence[str] = [kept] if isinstance(kept, str) else kept
        should += [{"term": {name: {"value": value, "boost": weight}}} for value in values[:12]]
    if not should:
        return None
    return {
        "bool": {
            "filter": [CLIPS],
            "must_not": [{"term": {"id": {"value": clip_id}}}],
            "should": should,
            "minimum_should_match": 1,
        }
    }
