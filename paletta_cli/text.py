"""Words and figures for people: cleaning foreign strings, sizes, rates, durations."""

import re
import unicodedata
from collections.abc import Iterable

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

_UNITS = {"": 1, "K": KIB, "M": MIB, "G": GIB, "T": 1024 * GIB}
_SURROGATE = re.compile("[\ud800-\udfff]")
_SIZE = re.compile(r"(?i)\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?(?:/s)?\s*")


def clean(text: object) -> str:
    """`text` on one line, without anything that could drive a terminal.

    Drops the Unicode categories Cc (controls, ESC, C1) and Cf (bidi overrides, zero-width); line ends and
    tabs become spaces, lone surrogates (undecodable file names) become U+FFFD.
    """
    plain = str(text)
    if plain.isascii() and plain.isprintable():
        return plain
    return "".join(_safe(char) for char in plain)


def clean_block(text: object) -> str:
    """As `clean`, but line ends stay: for text that is meant to have several lines."""
    return "\n".join(clean(line) for line in str(text).splitlines())


def encodable(text: str) -> str:
    """`text` that UTF-8 can carry: lone surrogates (undecodable file names) become U+FFFD, the rest stays."""
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)


def composed(name: str) -> str:
    """A file's name in NFC: macOS may hand out `é` as two characters, and the same name typed has one."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def name_trouble(name: str) -> str | None:
    """What keeps a file's name out of manifests and from the service (`is not valid UTF-8`), or None.

    Bytes that are no UTF-8 come from the system as lone surrogates, which neither JSON nor the service can carry.
    Controls and invisible characters (Cc, Cf), line separators and noncharacters are refused by both, as are what
    looks like a path and names of dots and spaces alone. The service has the same rule; a test compares the two.
    """
    if "/" in name or "\\" in name:
        return "has a slash or a backslash in it"
    if not name.strip(". "):
        return "has only dots and spaces in it"
    if name.isascii() and name.isprintable():
        return None
    categories = {unicodedata.category(char) for char in name}
    if "Cs" in categories:
        return "is not valid UTF-8"
    if categories & {"Cc", "Cf", "Zl", "Zp"} or "\ufffe" in name or "\uffff" in name:
        return "has control characters in it"
    return None


def _safe(char: str) -> str:
    if char in "\n\r\t":
        return " "
    category = unicodedata.category(char)
    if category in ("Cc", "Cf"):
        return ""
    return "\N{REPLACEMENT CHARACTER}" if category == "Cs" else char


def size(count: float) -> str:
    """Bytes for a person: `812 B`, `31.9 MiB`, `1.50 GiB` (binary units, as the service counts parts)."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    if unit == "B":
        return f"{value:.0f} B"
    return f"{value:.2f} {unit}" if value < 10 else f"{value:.1f} {unit}"


_WHOLE = ("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF",
          "XPF")  # fmt: skip
_THOUSANDTHS = ("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND")
"""ISO 4217's currencies whose minor unit is not a hundredth."""


def money(minor: int, currency: str) -> str:
    """Whole minor units as people write the amount, without the currency: `1234.50`."""
    digits = 0 if currency in _WHOLE else 3 if currency in _THOUSANDTHS else 2
    whole, part = divmod(abs(minor), 10**digits)
    sign = "-" if minor < 0 else ""
    return f"{sign}{whole}.{part:0{digits}d}" if digits else f"{sign}{whole}"


def rate(bytes_per_second: float) -> str:
    """Transfer speed, as in `12.4 MiB/s`."""
    return f"{size(bytes_per_second)}/s"


def duration(seconds: float) -> str:
    """Time for a person: `4 s`, `3:07`, `1:02:45`."""
    whole = int(seconds + 0.5)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def plural(count: int, noun: str, many: str | None = None) -> str:
    """`1 clip`, `2 clips`, `1,204 clips`."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def parse_size(text: str) -> int:
    """Bytes from `20M`, `512k`, `1.5GiB`, `800000` (binary units).

    Raises ValueError with a readable message.
    """
    match = _SIZE.fullmatch(text)
    if match is None or (value := int(float(match[1]) * _UNITS[match[2].upper()])) <= 0:
        raise ValueError(f"`{clean(text)}` is not a size such as 20M or 512K")
    return value


def closest(word: str, choices: Iterable[str]) -> str | None:
    """The choice a person who typed `word` most likely meant, or None."""
    import difflib

    found = difflib.get_close_matches(word.casefold(), list(choices), n=1, cutoff=0.6)
    return found[0] if found else None


def when(stamp: str) -> str:
    """The service's timestamp in this machine's time, to the minute."""
    from datetime import datetime

    return f"{datetime.fromisoformat(stamp).astimezone():%Y-%m-%d %H:%M}"


def cell(value: object) -> str:
    """A value as a cell of CSV that no spreadsheet runs: an apostrophe before words that begin as a formula does
    (OWASP, CSV injection). Numbers are given as numbers, so that a minus is theirs."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    words = clean(value)
    if isinstance(value, int | float) or words.lstrip()[:1] not in ("=", "+", "-", "@"):
        return words
    return f"'{words}"
