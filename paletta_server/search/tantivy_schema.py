"""The fields of the tantivy index. What is in them, `fields` says; a document must be given the schema too, or its
numbers are mistaken for signed ones."""

import tantivy

from paletta_server.search.fields import KEYS, NUMBERS, RAW

FORMAT = 1
"""Raised with every change here or in `fields`: a replica of another format is rebuilt."""

WRITING_HEAP, BUILDING_HEAP = 64_000_000, 256_000_000


def analyzer() -> tantivy.TextAnalyzer:
    """English words: no accents, no case, no stop words, stems. Other languages' words are kept as they are."""
    return (
        tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
        .filter(tantivy.Filter.remove_long(60))
        .filter(tantivy.Filter.lowercase())
        .filter(tantivy.Filter.ascii_fold())
        .filter(tantivy.Filter.stopword("english"))
        .filter(tantivy.Filter.stemmer("english"))
        .build()
    )


def schema() -> tantivy.Schema:
    made = tantivy.SchemaBuilder()
    made.add_unsigned_field("id", indexed=True, fast=True)
    made.add_unsigned_field("shard", indexed=True)
    made.add_text_field("text", tokenizer_name="english", index_option="position")
    for name in RAW:
        made.add_text_field(name, tokenizer_name="raw", index_option="basic", fast=True)
    for name in (*NUMBERS, *KEYS):
        made.add_unsigned_field(name, fast=True)
    made.add_text_field("kept", tokenizer_name="raw", index_option="basic", stored=True)
    return made.build()
