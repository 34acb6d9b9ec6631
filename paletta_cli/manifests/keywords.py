"""Keywords that become something else: a synonym is stored as the tag that it stands for."""

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from paletta_cli.text import plural

_MOST_NAMED = 5  # `--json` has them all


def fold(keyword: str) -> str:
    """A keyword as the service stores it: NFKC, case-folded, trimmed, inner spaces joined."""
    for _ in range(2):  # case-folding may leave what NFKC composes, and the other way round
        keyword = unicodedata.normalize("NFKC", keyword).casefold()
    return " ".join(unicodedata.normalize("NFKC", keyword).split())


def keywords_of(metadata: Mapping[str, Any]) -> list[str]:
    """The keywords of one clip; none where what is there is no list."""
    found = metadata.get("keywords")
    return [word for word in found if isinstance(word, str)] if isinstance(found, list) else []


def taken_as_tags(clips: Iterable[Mapping[str, Any]], synonyms: Mapping[str, str]) -> dict[str, str]:
    """keyword as written → tag, of those that the service will store under another name, in their order."""
    written = dict.fromkeys(word for metadata in clips for word in keywords_of(metadata))
    return {word: synonyms[fold(word)] for word in written if fold(word) in synonyms}


def words_for(taken: Mapping[str, str]) -> str:
    """`2 keywords are taken as their tag: meadow → field, dusk → sunset`; empty when there are none."""
    if not taken:
        return ""
    one = len(taken) == 1
    pairs = [f"{word} → {tag}" for word, tag in list(taken.items())[:_MOST_NAMED]]
    if len(taken) > _MOST_NAMED:
        pairs.append(f"… and {len(taken) - _MOST_NAMED:,} more")
    return (
        f"{plural(len(taken), 'keyword')} {'is' if one else 'are'} taken as {'its' if one else 'their'} tag: "
        + (", ".join(pairs))
    )
