"""How the commands speak: plain lines on standard error, results on standard output, nothing live in them."""

from __future__ import annotations

import sys
import unicodedata


def clean(text: str) -> str:
    """Return `text` without control and format characters: it may come from a log or a server."""
    return "".join(
        character
        for character in text
        if character == "\n" or unicodedata.category(character) not in ("Cc", "Cf")
    )


def say(text: str) -> None:
    """Write lines to standard error."""
    sys.stderr.write(clean(text) + "\n")
    sys.stderr.flush()


def result(text: str) -> None:
    """Write a result to standard output."""
    sys.stdout.write(clean(text) + "\n")
    sys.stdout.flush()


def error(text: str) -> None:
    """Write an error; a line that begins with `hint:` stays on its own."""
    say(f"error: {text}")
