"""What is kept of a search: words that say what was wanted, and nothing that says who wanted it."""

import re
import unicodedata

LONGEST = 80

_NUMBER = re.compile(r"(?:\+?\d[\d().\-/ ]*){7,}")
_ADDRESS = re.compile(r"\S*@\S*")


def normalised(query: str) -> str | None:
    """Lower case, single spaces, no control characters, `LONGEST` characters at most; None where no word is left.

    E-mail addresses and what may be a telephone's or a card's number become `…`.
    """
    plain = "".join(
        " " if char.isspace() else char
        for char in unicodedata.normalize("NFC", query)
        if char.isspace() or unicodedata.category(char)[0] != "C"
    )
    plain = _NUMBER.sub("… ", _ADDRESS.sub("…", plain))
    return " ".join(plain.casefold().split())[:LONGEST].rstrip() or None
