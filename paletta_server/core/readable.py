"""What settings may be, for `core.settings`: each says what is wrong with a word, and how it is written."""

from __future__ import annotations

import ipaddress


def proxies(words: tuple[str, ...]) -> tuple[str, ...]:
    """Addresses and networks, or `*` alone. Raises ValueError.

    uvicorn takes anything else for the name of a socket, and silently trusts nobody: all clients then share the
    balancer's address, and whoever guesses passwords locks everybody out.
    """
    if words == ("*",):
        return words
    for word in words:
        if word == "*":
            raise ValueError("`*` trusts everybody, so it stands alone")
        try:
            ipaddress.ip_network(word)
        except ValueError as error:
            raise ValueError(f"`{word}` is no address and no network{_meant(word)}") from error
    return words


def _meant(word: str) -> str:
    try:
        return f": did you mean {ipaddress.ip_network(word, strict=False)}?"
    except ValueError:
        return "; write 10.0.0.7 or 10.0.0.0/16, commas between"
