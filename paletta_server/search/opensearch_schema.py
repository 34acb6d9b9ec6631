"""Settings and mapping of the OpenSearch index, and how a document becomes one of its.

The analysis is tantivy's as far as OpenSearch has it: the same splitting at whatever is neither letter nor digit, no
accents, no case, the same stop words, the same stemmer (Snowball's English, there called `porter2`). Synonyms come
with the documents. What differs is the exact score, so that near the bottom of a page two clips may change places.
"""

from typing import Any

from paletta_server.search.document import Document
from paletta_server.search.fields import KEY_BITS, KEYS, NUMBERS, RAW, fields_of

FORMAT = 1
"""Raised with every change here or in `fields`: an index of an older format is rebuilt."""

STOP_WORDS = (
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it", "no", "not", "of",
    "on", "or", "such", "that", "the", "their", "then", "there", "these", "they", "this", "to", "was", "will", "with",
)  # fmt: skip
"""Lucene's list, which is tantivy's too. Written out, because a question of nothing else must be known as one."""

SORTED = {"by_newest": "listed", "by_popular": "popularity", "by_price": "price", "by_duration": "duration"}
"""The value in each of our keys. OpenSearch sorts by two fields, value and id, and needs no key made of both."""
_RELATES = ("shoot", "tag", "category", "contributor_key")
"""Kept as they came, for finding related clips; nothing else is asked back."""


def settings() -> dict[str, Any]:
    """Of a new index. One shard holds tens of millions of clips and keeps scores comparable."""
    return {
        "index": {
            "number_of_shards": 1,
            "auto_expand_replicas": "0-1",
            # What was written shows when its writer says so: never half of it.
            "refresh_interval": "-1",
            # For so long a deleted clip cannot come back by the late write of a node that was overtaken.
            "gc_deletes": "30m",
        },
        "analysis": {
            "tokenizer": {
                "words": {"type": "pattern", "pattern": "[\\W_]+", "flags": "UNICODE_CHARACTER_CLASS"}
            },
            "filter": {
                "short": {"type": "length", "max": 60},
                "empty": {"type": "stop", "stopwords": list(STOP_WORDS)},
                "stems": {"type": "stemmer", "language": "porter2"},
            },
            "analyzer": {
                "english_words": {
                    "type": "custom",
                    "tokenizer": "words",
                    "filter": ["short", "lowercase", "asciifolding", "empty", "stems"],
                }
            },
        },
    }


def mapping() -> dict[str, Any]:
    whole: dict[str, Any] = {"type": "keyword", "ignore_above": 1024}
    properties: dict[str, Any] = {
        "id": {"type": "long"},
        "shard": {"type": "integer"},
        "text": {"type": "text", "analyzer": "english_words", "position_increment_gap": 100},
        "kept": {"type": "keyword", "index": False, "doc_values": False},
        **dict.fromkeys(RAW, whole),
        **{name: {"type": "long"} for name in (*NUMBERS, *SORTED.values())},
    }
    return {
        "dynamic": "strict",
        "_source": {"includes": [*_RELATES, "kept"]},
        "properties": properties,
    }


def body_of(document: Document) -> dict[str, Any]:
    found = fields_of(document)
    for key in KEYS:
        found[SORTED[key]] = found.pop(key) >> KEY_BITS
    return found
