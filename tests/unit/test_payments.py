"""Parts of the payments that are plain arithmetic and words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paletta_server.payments import disputes
from paletta_server.payments.allocation import by_item, spread
from paletta_server.payments.gateway import Forged
from paletta_server.payments.sandbox.signing import sign, verify

ROOMS = st.dictionaries(st.integers(1, 9), st.integers(0, 10**6), min_size=1)


@given(st.integers(0, 10**7), ROOMS)
def test_spreading_is_exact_and_never_overflows(amount: int, rooms: dict[int, int]) -> None:
    parts = spread(amount, rooms)
    assert sum(parts.values()) == min(amount, sum(rooms.values()))
    assert all(0 < part <= rooms[key] for key, part in parts.items())


@given(ROOMS, st.lists(st.dictionaries(st.integers(1, 9), st.integers(1, 10**6)), max_size=6))
def test_what_was_given_back_fits_what_was_paid(gross: dict[int, int], asked: list[dict[int, int]]) -> None:
    refunds = [{key: part for key, part in one.items() if key in gross} for one in asked]
    total = sum(sum(one.values()) for one in refunds)
    given_back = by_item(refunds, gross)
    assert all(0 < part <= gross[key] for key, part in given_back.items())
    assert sum(given_back.values()) == min(total, sum(gross.values()))


def test_spreading_is_in_proportion() -> None:
    assert spread(100, {1: 200, 2: 100}) == {1: 67, 2: 33}
    assert spread(1, {1: 1, 2: 1}) == {1: 1}
    assert spread(5, {1: 0, 2: 0}) == {}


@pytest.mark.parametrize(
    ("before", "after", "opens"),
    [
        ("won", "needs_response", False),
        ("lost", "under_review", False),
        ("warning_closed", "warning_under_review", False),
        ("won", "appeal_under_review", True),
        ("prevented", "needs_response", True),
        ("prevented", "prevented", False),
    ],
)
def test_closed_disputes_stay_closed(before: str, after: str, opens: bool) -> None:
    assert disputes.reopens(before, after) is opens


def test_an_unknown_word_is_an_open_dispute() -> None:
    assert disputes.OUTCOMES.get("a_word_of_next_year") is None
    assert disputes.holds_back(None, withdrawn=1)
    assert not disputes.holds_back(None, withdrawn=0), "an inquiry takes no money"
    assert disputes.blocks_refunds("a_word_of_next_year", None)
    assert not disputes.blocks_refunds("warning_needs_response", None)


@given(st.binary(max_size=200), st.integers(0, 63))
def test_a_signature_fits_one_body_and_one_secret(body: bytes, place: int) -> None:
    header = sign(body, "a secret")
    verify(body, header, "a secret")
    flipped = header[: -64 + place] + ("0" if header[-64 + place] != "0" else "1") + header[-64 + place + 1 :]
    for other in ((body + b"x", header, "a secret"), (body, header, "another"), (body, flipped, "a secret")):
        with pytest.raises(Forged):
            verify(*other)
    if place == 63:
        with pytest.raises(Forged):
            verify(body, header, "")
