"""Passwords that are too easy, and secrets that check themselves."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paletta_server.accounts import addresses, mails, passwords, tokens
from paletta_server.accounts.schemas import DisplayName
from paletta_server.core.errors import Invalid
from paletta_server.core.settings import Settings

EMAIL = "ana.lopez@studio-norte.example"


@pytest.mark.parametrize(
    "password",
    [
        "Password123456789!",
        "passwordpassword",
        "P@ssw0rdP@ssw0rd",
        "correct horse battery staple",
        "CorrectHorseBatteryStaple1",
        "aaaaaaaaaaaaaaaaaaaa",
        "abcabcabcabcabcabcabc",
        "hunter2hunter2hunter2",
        "1234567890123456",
        "0987654321qwertyuiop",
        "qwertyuiopasdfghjkl",
        "zyxwvutsrqponmlkjihg",
        "1qaz2wsx3edc4rfv5tgb",
        "letmeinletmeinletmein",
        "iloveyousomuch2026!!",
        "welcome to paletta 1",
        "Paletta-Paletta-2026",
        "november2026november",
        "ana.lopez@studio-norte.example",
        "Ana-Lopez-Studio-Norte-1",
        "LOPEZ lopez LOPEZ lopez",
        "12121212121212121",
        "                    ",
        "!!!!!!!!!!!!!!!!!!!!",
    ],
)
def test_what_a_guesser_tries_early_is_refused(password: str) -> None:
    with pytest.raises(Invalid) as refused:
        passwords.check_strength(password, email=EMAIL, shortest=15)
    assert refused.value.code == "weak_password"
    assert password not in refused.value.detail


@pytest.mark.parametrize(
    "password",
    [
        "violet harbour kettle moss",
        "a-quiet-river-of-glass",
        "gK8#fjw92ks-skwPq2",
        "mi perro come zanahorias",
        "тихая река из стекла",
        "静かなガラスの川が流れて夜が明けた",
        "my sister paints orange boats",
        "\N{LATIN SMALL LETTER E WITH ACUTE}toile filante au-dessus du lac",
    ],
)
def test_what_is_long_and_uncommon_is_taken(password: str) -> None:
    passwords.check_strength(password, email=EMAIL, shortest=15)


@pytest.mark.parametrize(
    ("password", "word"),
    [("kettle moss 42", "shorter"), ("violet moss " * 22, "longer"), ("violet\x00harbour kettle", "control")],
)
def test_length_and_controls(password: str, word: str) -> None:
    with pytest.raises(Invalid, match=word):
        passwords.check_strength(password, email=EMAIL, shortest=15)


@given(st.text(max_size=passwords.LONGEST))
def test_no_password_breaks_the_check(password: str) -> None:
    assert passwords.predictable(password, email=EMAIL) in (True, False)


async def test_a_password_typed_on_another_keyboard_is_the_same() -> None:
    stored = await passwords.hashed("\N{LATIN SMALL LETTER E WITH ACUTE}toile filante")
    assert await passwords.verified("e\N{COMBINING ACUTE ACCENT}toile filante", stored) == (True, None)
    assert (await passwords.verified("etoile filante", stored))[0] is False


async def test_nobodys_password_is_never_right_and_costs_the_same() -> None:
    assert await passwords.verified("anything", None) == (False, None)
    assert not passwords._hasher.current_hasher.check_needs_rehash(passwords.NOBODYS_HASH)
    assert (await passwords.verified("anything", "not a hash"))[0] is False


# ---- secrets


@pytest.mark.parametrize("kind", ["d", "p", "v", "r"])
def test_a_secret_is_long_and_knows_itself(kind: tokens.Kind) -> None:
    made = {tokens.mint(kind) for _ in range(200)}
    assert len(made) == 200
    for secret in made:
        assert re.fullmatch(rf"plt_{kind}_[0-9A-Za-z]{{49}}", secret)
        assert tokens.well_formed(secret, kind)
    others: list[tokens.Kind] = [other for other in ("d", "p", "v", "r") if other != kind]
    assert not tokens.well_formed(secret, *others)


@given(st.integers(0, 54), st.characters())
def test_any_single_slip_is_noticed(position: int, character: str) -> None:
    secret = tokens.mint("d")
    slipped = secret[:position] + character + secret[position + 1 :]
    assert tokens.well_formed(slipped, "d") == (slipped == secret)
    assert not tokens.well_formed(secret[:position] + secret[position + 1 :], "d")


@given(st.text())
def test_no_text_breaks_the_check_of_a_secret(text: str) -> None:
    assert not tokens.well_formed(text, "d", "p")
    assert not tokens.well_formed("plt_d_" + text, "d", "p")


# ---- addresses, names, mails


@pytest.mark.parametrize(
    ("given_", "stored"),
    [
        ("Ana@Example.ORG", "ana@example.org"),
        (" ana@studio.test ", "ana@studio.test"),
        ("ana@münchen.example", "ana@xn--mnchen-3ya.example"),
    ],
)
def test_an_address_has_one_form(given_: str, stored: str) -> None:
    assert addresses.normal(given_) == stored


@pytest.mark.parametrize(
    "bad", ["ana", "ana@", "@example.org", "a b@example.org", "ana@example.org\r\nBcc: x@y.z"]
)
def test_what_is_no_address_is_refused(bad: str) -> None:
    with pytest.raises(ValueError):
        addresses.normal(bad)


def test_names_are_one_line_without_anything_that_drives_a_terminal() -> None:
    from pydantic import TypeAdapter

    name = TypeAdapter(DisplayName)
    assert name.validate_python(" Ana\u202e\x1b[31m\n López ") == "Ana [31m López"
    assert name.validate_python(" \t ") is None
    with pytest.raises(ValueError):
        name.validate_python("x" * 81)


def test_links_use_the_configured_address() -> None:
    settings = Settings(_env_file=None, public_url="https://paletta.example/")
    text = mails.reset(settings, "plt_r_x").text
    assert "https://paletta.example/account/reset?token=plt_r_x\n" in text
