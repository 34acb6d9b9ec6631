"""What people may write on one line that others read: on paper, in mails, in a terminal; and what can be kept of what
others send us."""

import re
import unicodedata

from pydantic import AfterValidator

_JOINERS = "\u200c\u200d"
"""Without these some scripts, and some pictures of people, fall apart."""


def visible(text: str) -> str:
    """`text`, unless something in it cannot be seen and changes what is: controls, and marks that turn the direction
    of reading around. Raises ValueError."""
    for char in text:
        if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") and char not in _JOINERS:
            raise ValueError(f"has a character that cannot be seen (U+{ord(char):04X}); leave it out")
    return text


Visible = AfterValidator(visible)

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
"""PostgreSQL's text holds no zero character, and UTF-8 no half of a surrogate pair."""


def plain(text: str) -> str:
    """A text of others without what the database refuses: one letter must not keep what it says from being known."""
    return _UNSTORABLE.sub("", text)
