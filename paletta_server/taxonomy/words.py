"""How tags are written, and when two of them are the same word twice. Pure functions, no database.

Near-duplicates are found through *nearness keys*: hashes of a word's skeleton (no spaces, hyphens, accents or
plural ending) and of that skeleton with each one letter left out. Two words one slip apart (a letter too
many, too few, wrong, or two swapped) share a key, so an index over the keys finds every candidate without
comparing a word with all others; this is the symmetric-delete idea of W. Garbe's SymSpell. It needs no
extension of PostgreSQL (`CREATE EXTENSION pg_trgm` takes a privilege that not every host gives), works for
every script whatever the database's locale (pg_trgm drops what the locale does not call a letter), and finds
swapped letters in short words, which share too few trigrams.
"""

import re
import unicodedata
import zlib
from collections.abc import Iterable

MAX_TAG = 50
MAX_SLUG = 50
SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*\Z")

SLIPS_FROM = 5
"""Shorter words differ by one letter from too many others (`car`, `cat`, `bar`)."""
WRONG_LETTER_FROM = 7
"""Up to about six letters, a wrong one makes another English word (`light`, `night`; `winter`, `winner`)."""

_JOINERS = frozenset("\u200c\u200d")  # Persian, Hindi and emoji are written with them
_SEPARATORS = re.compile(r"[\s_'’.\-‐‑–]+")
_NOT_PLURAL = frozenset({"gas", "lens", "news"})


def fold(text: str) -> str:
    """A tag as it is stored: NFKC, case-folded, trimmed, inner spaces joined. Idempotent."""
    for _ in range(2):  # case-folding may leave what NFKC composes, and the other way round
        text = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", text).split())


def invisible(text: str) -> str | None:
    """The first character that nobody can see (control, bidi override, lone surrogate), as `U+XXXX`."""
    for char in text:
        if unicodedata.category(char) in {"Cc", "Cf", "Cs"} and char not in _JOINERS:
            return f"U+{ord(char):04X}"
    return None


def tag_problem(text: str) -> str | None:
    """Why `text` cannot be a tag (a clip's keyword), or None."""
    if char := invisible(text):
        return f"a tag must not contain the control character {char}"
    folded = fold(text)
    if not any(unicodedata.category(char)[0] in "LNS" for char in folded):
        return "a tag needs a letter, a digit or a symbol"
    if "," in folded:
        return "a tag must not contain a comma"
    if len(folded) > MAX_TAG:
        return f"a tag has at most {MAX_TAG} characters, this one {len(folded)}"
    return None


def slug_of(name: str) -> str:
    """A slug made from a category's name; empty where the name has no Latin letter or digit."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().casefold()
    return re.sub(r"[^a-z0-9]+", "-", plain.replace("'", "")).strip("-")[:MAX_SLUG].strip("-")


def skeleton(word: str) -> str:
    """What is left of a folded word without accents, separators and the plural ending of its last part."""
    bare = "".join(char for char in unicodedata.normalize("NFKD", word) if not "\u0300" <= char <= "\u036f")
    head, _, last = unicodedata.normalize("NFC", bare).rpartition(" ")
    return _SEPARATORS.sub("", head + _singular(last))


def _singular(word: str) -> str:
    """One spelling for an English word and its plural, to compare by: `horse` and `horses` become `hors`.

    Goes by the ending alone and errs for the odd word, which costs a needless question and nothing else.
    """
    if len(word) < 4 or word in _NOT_PLURAL:
        return word
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    if word.endswith(("se", "xe", "ze", "che", "she")):
        return word[:-1]
    return word[:-2] + "y" if word.endswith("ie") and len(word) > 4 else word


def near_keys(words: Iterable[str]) -> list[int]:
    """Nearness keys of a tag's name and synonyms: sorted signed 32-bit hashes."""
    keys: set[str] = set()
    for word in words:
        bones = skeleton(word)
        keys.add(bones)
        if len(bones) >= SLIPS_FROM:
            keys.update(bones[:at] + bones[at + 1 :] for at in range(len(bones)))
    return sorted({zlib.crc32(key.encode()) - 0x80000000 for key in keys})


def alike(one: str, other: str) -> int | None:
    """0:

    the same but for spelling or plural. 1: one slip apart. None: not near-duplicates. Takes folded words.
    """
    if one == other:
        return 0
    # `4k` and `8k`, `1980s` and `1990s` are different things, however close.
    if re.sub(r"\D", "", one) != re.sub(r"\D", "", other):
        return None
    a, b = skeleton(one), skeleton(other)
    if a == b:
        return 0
    return 1 if min(len(a), len(b)) >= SLIPS_FROM and one_slip(a, b) else None


def one_slip(a: str, b: str) -> bool:
    """Whether they differ by one letter too many, too few, wrong (in long words) or swapped with the next."""
    if len(a) > len(b):
        a, b = b, a
    at = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(a))
    if len(b) - len(a) == 1:
        return a[at:] == b[at + 1 :]
    if len(a) != len(b):
        return False
    if a[at + 1 :] == b[at + 1 :]:
        return len(a) >= WRONG_LETTER_FROM
    return a[at : at + 2] == b[at : at + 2][::-1] and a[at + 2 :] == b[at + 2 :]
