"""What an index keeps of a document, field by field, whatever its back end."""

from collections.abc import Iterator
from typing import Any

from paletta_server.search.document import Document, fold, words_of

RAW = (
    "category", "tag", "tier", "licence", "resolution", "orientation", "editorial", "people", "shot_size",
    "shot_angle", "shot_move", "shot_speed", "country", "city", "place", "contributor", "contributor_key", "shoot",
    "words", "phrase",
)  # fmt: skip
"""Fields of whole values: filtered by, counted as facets, and (`words`, `phrase`) what suggestions come from."""
NUMBERS = ("long_edge", "fps", "filmed")
KEYS = ("by_newest", "by_popular", "by_price", "by_duration")
"""What results are sorted by: the value above, the clip's key below, so that no two clips are equal and a page can
go on exactly behind the last one. They serve ranges of the value too."""
KEY_BITS = 32
MOST = (1 << KEY_BITS) - 1

SHARDS = 64
"""Every clip is in one of these, by a hash of its key: a shard is a fair sample of any result."""

TITLE, TAGS = 3, 2
"""How often title and tags count. Weighted term frequencies in one field, before they saturate, are BM25F's simple
form (Robertson, Zaragoza, Taylor, "Simple BM25 extension to multiple weighted fields", 2004), and one field is what
lets tantivy skip blocks of documents that cannot reach the page."""

WHOLE = {
    "categories": "category",
    "any_tags": "tag",
    "tiers": "tier",
    "licences": "licence",
    "orientation": "orientation",
    "people": "people",
    "shot_size": "shot_size",
    "shot_angle": "shot_angle",
    "shot_move": "shot_move",
    "shot_speed": "shot_speed",
    "places": "place",
    "countries": "country",
    "cities": "city",
    "contributors": "contributor_key",
}
"""Filters by whole values, and their fields."""


def key_of(value: int, clip_id: int) -> int:
    return (min(max(value, 0), MOST) << KEY_BITS) + clip_id


def shard_of(clip_id: int) -> int:
    """Knuth's multiplicative hash: keys that belong together are spread."""
    return (clip_id * 2_654_435_761 >> 16) % SHARDS


def fields_of(document: Document) -> dict[str, Any]:
    """A document as an index keeps it: texts to be analysed, whole values, numbers. Unknown values are left out."""
    title, tags = document.title, " ".join(document.tags)
    # Values of one field stand apart, so that no phrase reaches from one into the next.
    text = [title] * TITLE + [tags] * TAGS
    text += [*document.synonyms, *document.category_names, *document.places, document.description]
    words = {
        word for value in (title, tags, *document.places, document.description) for word in words_of(value)
    }
    phrases = {*document.tags, *document.category_names, *document.places, document.contributor or ""}
    found: dict[str, Any] = {
        "id": document.id,
        "shard": shard_of(document.id),
        "text": [value for value in text if value],
        "words": sorted(word for word in words if 2 < len(word) <= 40),
        "phrase": sorted({fold(phrase) for phrase in phrases} - {""}),
        "category": list(document.categories),
        "tag": [fold(tag) for tag in document.tags],
        "tier": list(document.tiers),
        "licence": list(document.licences),
        "editorial": "yes" if document.editorial else "no",
        "place": [fold(place) for place in document.places],
        "long_edge": document.long_edge,
        "by_newest": key_of(document.listed, document.id),
        "by_popular": key_of(document.popularity, document.id),
        "by_price": key_of(MOST if document.price is None else min(document.price, MOST - 1), document.id),
        "by_duration": key_of(document.duration, document.id),
    }
    found.update(_optional(document))
    return found


def _optional(document: Document) -> Iterator[tuple[str, Any]]:
    values = {
        "resolution": document.resolution,
        "orientation": document.orientation,
        "people": document.people,
        "country": fold(document.country or ""),
        "city": fold(document.city or ""),
        "contributor": document.contributor,
        "contributor_key": fold(document.contributor or ""),
        "shoot": document.shoot,
        "fps": document.fps,
        "filmed": document.filmed,
        **{f"shot_{name}": value for name, value in document.shot.items()},
    }
    for name, value in values.items():
        if value not in (None, ""):
            yield name, value
