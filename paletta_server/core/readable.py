"""What settings may be, for `core.settings`: each says what is wrong with a word, and how it is written."""

from __future__ import annotations

import ipaddress
import re
from email.utils import getaddresses
from urllib.parse import urlsplit

_ARN = re.compile(r"arn:aws[a-z-]*:(?P<service>[a-z0-9-]+):[a-z0-9-]*:[0-9]{12}:(?P<kind>[a-z]+)/[^\s]+")


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


def address(written: str, *, login: bool = False) -> str:
    """An address of a service (`https://HOST[:PORT][/PATH]`), with no slash at the end. Raises ValueError.

    `login` allows `USER:PASSWORD@` before the host. What is wrong is said without the address, which may hold them.
    """
    meant = "write it as https://HOST or http://HOST:PORT"
    if not written.isprintable() or " " in written:
        raise ValueError(f"there is a space in it; {meant}")
    try:
        parts = urlsplit(written)
        named = parts.hostname and parts.port != 0  # `port` raises where it is none
    except ValueError as error:
        raise ValueError(f"it is no address; {meant}") from error
    if parts.scheme not in ("http", "https") or not named:
        raise ValueError(meant)
    if parts.query or parts.fragment or ("@" in parts.netloc and not login):
        raise ValueError(f"{meant}, with nothing else before or behind it")
    return written.rstrip("/")


def arn(written: str, service: str, kind: str) -> str:
    """The name of something at Amazon. Raises ValueError."""
    found = _ARN.fullmatch(written)
    if found is None or (found["service"], found["kind"]) != (service, kind):
        region = "" if service == "iam" else "REGION"
        raise ValueError(f"`{written}` is no ARN of a {kind}: arn:aws:{service}:{region}:ACCOUNT:{kind}/NAME")
    return written


def sender(written: str) -> str:
    """Who mails come from, `NAME <ADDRESS>` or an address. Raises ValueError."""
    found = [one.rpartition("@") for _, one in getaddresses([written])]
    if len(found) != 1 or not all(found[0]) or not written.isprintable():
        raise ValueError(f"`{written}` is no sender; write it as Paletta <no-reply@example.com>")
    return written
