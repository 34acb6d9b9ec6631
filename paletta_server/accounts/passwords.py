"""Passwords: how they are hashed, and which ones are too easy to guess.

argon2id with 46 MiB, one pass, one lane (OWASP's password storage cheat sheet): about 50 ms on one core.
Three at once at most, in threads of their own, so that a rush of logins costs 140 MB and not the machine.
"""

import asyncio
import re
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import Final

from pwdlib import PasswordHash
from pwdlib.exceptions import UnknownHashError
from pwdlib.hashers.argon2 import Argon2Hasher

from paletta_server.core.errors import Invalid

LONGEST = 256
CONCURRENT_HASHES = 3

_hasher = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=47104, parallelism=1),))
_threads = ThreadPoolExecutor(CONCURRENT_HASHES, thread_name_prefix="argon2")

NOBODYS_HASH: Final = (
    "$argon2id$v=19$m=47104,t=1,p=1$jPKEDcaml4m43HaEeq/7eQ$JOOD8AxmVC0SKICZeTCFoEDStuBb1/FAcNU1faL36bE"
)
"""The hash of a password that nobody has: verified for unknown accounts, so that they cost what known ones
cost."""


async def hashed(password: str) -> str:
    """The argon2id hash to store, in PHC format."""
    return await asyncio.get_running_loop().run_in_executor(_threads, _hasher.hash, _normal(password))


async def verified(password: str, stored: str | None) -> tuple[bool, str | None]:
    """Whether the password is the one behind `stored`, and a new hash to store if the old one is of weaker
    make.

    Without a stored hash the work is done all the same and the answer is no.
    """
    try:
        right, renewed = await asyncio.get_running_loop().run_in_executor(
            _threads, _hasher.verify_and_update, _normal(password), stored or NOBODYS_HASH
        )
    except UnknownHashError:
        right, renewed = False, None
    return right and stored is not None, renewed


def check_strength(password: str, *, email: str, shortest: int) -> None:
    """Raise `Invalid` (`weak_password`) for a password that a guesser tries early.

    There are no rules on kinds of characters (NIST SP 800-63B §5.1.1.2). What counts is what remains when
    the parts that everybody thinks of are taken out: known words, the address, the service's name, runs
    and repeats.
    """
    password = _normal(password)
    if len(password) < shortest:
        raise _weak(f"the password is shorter than {shortest} characters")
    if len(password) > LONGEST:
        raise _weak(f"the password is longer than {LONGEST} characters")
    if any(unicodedata.category(character) == "Cc" for character in password):
        raise _weak("the password has control characters in it")
    if predictable(password, email=email):
        raise _weak(
            "the password is easy to guess",
            "common words, the address, repeats and runs such as 1234 do not count, and little else is in it; ",
        )


def predictable(password: str, *, email: str = "") -> bool:
    """Whether little remains of the password once everything that people commonly use is taken out of it."""
    plain = _normal(password).casefold()
    readings = {plain, plain.translate(_LEET)}
    local, _, domain = email.casefold().partition("@")
    own = {email.casefold(), local, domain, *re.split(r"[^a-z0-9]+", f"{local} {domain}")}
    words = sorted(_WORDS | {word for word in own if len(word) > 3}, key=len, reverse=True)
    rests = [_remainder(reading, words) for reading in readings]
    return any(len(rest) < _ENOUGH or len(set(rest)) < _ENOUGH_DIFFERENT for rest in rests)


def _remainder(text: str, words: list[str]) -> str:
    """The letters and digits that are left outside words, runs and repeats."""
    text = re.sub(r"[\W_]+", "", text)
    if not text or _period(text) * 2 <= len(text):  # one piece again and again
        return ""
    for word in words:
        text = text.replace(re.sub(r"[\W_]+", "", word), "\n")
    text = re.sub(r"(.)\1{2,}", r"\1", text)
    return "".join(_without_runs(piece) for piece in text.split("\n"))


def _period(text: str) -> int:
    """The length of the piece that the text repeats, as 3 for `abcabcab`; its own length where it repeats
    none."""
    return next(
        n for n in range(1, len(text) + 1) if all(a == b for a, b in zip(text, text[n:], strict=False))
    )


def _without_runs(text: str) -> str:
    """The text without runs of four or more along the alphabet, the digits or a keyboard, in either
    direction."""
    kept, start = [], 0
    while start < len(text):
        end = start + 4
        if len(text[start:end]) == 4 and _on_a_line(text[start:end]):
            while end < len(text) and _on_a_line(text[start : end + 1]):
                end += 1
            start = end
        else:
            kept.append(text[start])
            start += 1
    return "".join(kept)


def _on_a_line(text: str) -> bool:
    return any(text in line for line in _LINES)


def _normal(password: str) -> str:
    """One form for characters that keyboards compose differently (NIST SP 800-63B §5.1.1.2: NFKC)."""
    return unicodedata.normalize("NFKC", password)


def _weak(detail: str, reason: str = "") -> Invalid:
    return Invalid(
        detail,
        code="weak_password",
        hint=f"{reason}a sentence of four or more uncommon words is long and easy to remember",
        pointer="/password",
    )


_ENOUGH = 6
_ENOUGH_DIFFERENT = 4
"""With less than this outside the common parts, a guesser gets there by trying endings."""
_LEET = str.maketrans("013457@$!8", "oieastasib")
_LINES = tuple(
    line + line[:4] if forward else (line + line[:4])[::-1]
    for line in (
        "abcdefghijklmnopqrstuvwxyz",
        "1234567890",
        "qwertyuiop",
        "asdfghjkl",
        "zxcvbnm",
        "qwertzuiop",
        "azertyuiop",
        "qsdfghjklm",
        "yxcvbnm",
        "1qaz2wsx3edc4rfv5tgb6yhn7ujm",
        "1q2w3e4r5t6y7u8i9o0p",
        "qazwsxedcrfvtgbyhnujm",
    )
    for forward in (True, False)
)
_WORDS = frozenset(
    word
    for line in files(__package__).joinpath("common_words.txt").read_text("utf-8").splitlines()
    if not line.startswith("#")
    for word in line.split()
)
