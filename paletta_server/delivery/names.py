"""What a delivered file is called. Titles are other people's words: none reaches a header or a disk as it is."""

import unicodedata
from urllib.parse import quote

LONGEST = 120
"""Bytes of UTF-8 of a title in a file's name: half of what file systems take, so that much can be put around it."""
_FORBIDDEN = frozenset('<>:"/\\|?*')
_ATTR = "!#$&+-.^_`|~"
"""What RFC 8187 lets stand unquoted besides letters and digits."""


def title_words(title: str) -> str:
    """The title as part of a file name on any system: one line, no separators, no controls, never empty."""
    kept = "".join(
        " " if char in _FORBIDDEN or unicodedata.category(char)[0] in "CZ" else char
        for char in unicodedata.normalize("NFC", title)
    )
    words = " ".join(kept.split()).strip(" .")
    while len(words.encode()) > LONGEST:
        words = words[:-1].rstrip(" .")
    return words or "untitled"


def file_name(clip_uid: str, title: str, extension: str) -> str:
    """`clip_7h3k9m2qxw4t-Yellow tram.mov`; `extension` has its dot."""
    return f"{clip_uid}-{title_words(title)}{extension}"


def disposition(name: str) -> str:
    """Content-Disposition that saves as `name` (RFC 6266), with an ASCII name beside it for old clients."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = "".join("_" if char in '"\\%' or not char.isprintable() else char for char in plain)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe=_ATTR)}"
