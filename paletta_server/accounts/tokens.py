"""Secrets that we hand out: 256 random bits, recognisable by their prefix, checkable without the database.

`plt_d_…` is a device's token (login), `plt_p_…` a personal one (scripts), `plt_v_…` and `plt_r_…` are the
single-use secrets of mailed links (verification, reset), `plt_o_…` opens the page of an order's files. The
last six characters are a CRC32 of the rest, so that a typo, a cut and a random guess are refused without a
query, and secret scanners can tell ours from noise. Only the SHA-256 of a secret is ever stored: with 256
bits of entropy a plain digest cannot be searched.
"""

import hashlib
import secrets
import zlib
from typing import Final, Literal

Kind = Literal["d", "p", "v", "r", "o"]

DEVICE: Final = "d"
PERSONAL: Final = "p"
VERIFY: Final = "v"
RESET: Final = "r"
ORDER: Final = "o"

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BITS = 256
_BODY = 43  # 62^43 > 2^256
_CHECK = 6  # 62^6 > 2^32
_PREFIXES = {kind: f"plt_{kind}_" for kind in (DEVICE, PERSONAL, VERIFY, RESET, ORDER)}


def mint(kind: Kind) -> str:
    """A fresh secret of this kind."""
    body = _PREFIXES[kind] + _base62(secrets.randbits(_BITS), _BODY)
    return body + _checksum(body)


def well_formed(text: str, *kinds: Kind) -> bool:
    """Whether `text` could be one of ours of these kinds: its prefix, length and checksum fit."""
    prefix = len(_PREFIXES[DEVICE])
    if text[:prefix] not in {_PREFIXES[kind] for kind in kinds} or len(text) != prefix + _BODY + _CHECK:
        return False
    return text.isascii() and _checksum(text[:-_CHECK]) == text[-_CHECK:]


def digest(secret: str) -> bytes:
    """What the database knows of a secret: its SHA-256, 32 bytes."""
    return hashlib.sha256(secret.encode()).digest()


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, rest = divmod(number, 62)
        digits.append(_DIGITS[rest])
    return "".join(reversed(digits))
