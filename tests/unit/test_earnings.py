"""Who gets what of a sale, to the unit; bank details; and the bank's file."""

from __future__ import annotations

import csv
import io
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from paletta_server.core.errors import Invalid
from paletta_server.earnings import bankfile, rates
from paletta_server.earnings.allocation import SCALE, Shares, half_even, royalty, shares
from paletta_server.earnings.details import checked, masked
from paletta_server.earnings.models import Payout
from paletta_server.earnings.schemas import PayoutAccountIn
from paletta_server.earnings.statements import bounds

AMOUNT = st.integers(0, 2000) | st.integers(0, 10**12)
RATE = st.integers(0, SCALE)


@st.composite
def sales(draw: st.DrawFn) -> tuple[int, int, int, list[int]]:
    """Amount, tax, rate, and refunds of any number that leave nothing below zero."""
    amount, tax, rate = draw(AMOUNT), draw(AMOUNT), draw(RATE)
    cuts = sorted(draw(st.lists(st.integers(0, amount + tax), max_size=6)))
    return amount, tax, rate, [after - before for before, after in zip([0, *cuts], cuts, strict=False)]


@given(AMOUNT, RATE)
@example(1, 5000)  # half a unit goes to the even neighbour, once down
@example(3, 5000)  # and once up
def test_a_royalty_is_off_by_half_a_unit_at_most(amount: int, rate: int) -> None:
    exact = Fraction(amount * rate, SCALE)
    found = royalty(amount, rate)
    assert abs(found - exact) <= Fraction(1, 2)
    if abs(found - exact) == Fraction(1, 2):
        assert found % 2 == 0
    assert 0 <= found <= amount


@given(sales())
@example((1, 0, 5000, [1]))
@example((0, 0, 5000, []))
def test_refunds_reverse_exactly_what_they_give_back(case: tuple[int, int, int, list[int]]) -> None:
    """Whatever is given back in whatever parts, each reversal is that part, and none of the shares is overdrawn."""
    amount, tax, rate, refunds = case
    kept = amount + tax
    sold = left = shares(kept, amount, tax, rate)
    assert (sold.tax, sold.royalty, sold.total) == (tax, royalty(amount, rate), amount + tax)
    for refund in refunds:
        after = shares(kept - refund, amount, tax, rate)
        reversal = left - after
        assert reversal.total == refund
        assert min(reversal.tax, reversal.royalty, reversal.platform) >= 0, "giving back gives nobody more"
        kept, left = kept - refund, after
    assert min(left.tax, left.royalty, left.platform) >= 0
    assert left.total == amount + tax - sum(refunds)


@given(sales())
def test_the_order_of_refunds_does_not_matter(case: tuple[int, int, int, list[int]]) -> None:
    amount, tax, rate, refunds = case
    ends = set()
    for order in (refunds, refunds[::-1], sorted(refunds)):
        left, kept = shares(amount + tax, amount, tax, rate), amount + tax
        for refund in order:
            reversal = shares(kept, amount, tax, rate) - shares(kept - refund, amount, tax, rate)
            left, kept = left - reversal, kept - refund
        ends.add(left)
    assert len(ends) == 1


@given(AMOUNT, AMOUNT, RATE, st.data())
def test_goodwill_costs_the_platform_alone(amount: int, tax: int, rate: int, data: st.DataObject) -> None:
    kept = data.draw(st.integers(0, amount + tax))
    gift = data.draw(st.integers(0, amount + tax - kept))
    with_gift, had_it_been_kept = (
        shares(kept, amount, tax, rate, gift),
        shares(kept + gift, amount, tax, rate),
    )
    without = shares(kept, amount, tax, rate)
    assert with_gift.royalty == had_it_been_kept.royalty
    assert (with_gift.tax, with_gift.total) == (without.tax, kept), "no tax is owed on what went back"
    assert with_gift.platform == without.platform - (with_gift.royalty - without.royalty)


@given(st.integers(1, 500), st.integers(0, 200), RATE)
def test_all_given_back_leaves_nothing(amount: int, tax: int, rate: int) -> None:
    assert shares(0, amount, tax, rate) == Shares(0, 0, 0)


def test_halves_favour_nobody() -> None:
    assert [half_even(n, 1, 2) for n in range(8)] == [0, 0, 1, 2, 2, 2, 3, 4]


# ---- rates


@pytest.mark.parametrize(
    ("text", "rate"), [("55", 5500), ("52.5", 5250), ("0", 0), ("100 %", 10000), ("33.33%", 3333)]
)
def test_rates_as_people_write_them(text: str, rate: int) -> None:
    assert rates.parse(text) == rate
    assert rates.parse(rates.percent(rate)) == rate


@pytest.mark.parametrize("text", ["", "half", "101", "-1", "33.333", "NaN", "Infinity", "1e999", "5,5", "%"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        rates.parse(text)
    assert caught.value.code == "bad_rate"


# ---- bank details

IBAN = "DE89 3704 0044 0532 0130 00"


def account(**given: str) -> PayoutAccountIn:
    return PayoutAccountIn.model_validate({"holder": "Ana Ferreira", **given})


def test_bank_details_are_stored_in_one_way() -> None:
    assert checked(account(iban=IBAN.lower(), bic="cobadeffxxx"))["number"] == "DE89370400440532013000"
    stored = checked(account(account="12-3456 789", bic="CHASUS33", country="us"))
    assert (stored["kind"], stored["number"], stored["country"]) == ("account", "123456789", "US")


@pytest.mark.parametrize(
    ("given", "code", "field"),
    [
        ({}, "one_account", "/iban"),
        ({"iban": IBAN, "account": "12345"}, "one_account", "/iban"),
        ({"iban": IBAN[:-1] + "1"}, "bad_iban", "/iban"),
        ({"iban": "DE89 3704 0044 0532 0103 00"}, "bad_iban", "/iban"),  # two figures changed places
        ({"iban": IBAN[:-3]}, "bad_iban", "/iban"),
        ({"iban": "=1+1"}, "bad_iban", "/iban"),
        ({"iban": "DE٨٩370400440532013000"}, "bad_iban", "/iban"),
        ({"iban": IBAN, "country": "FR"}, "bad_country", "/country"),
        ({"iban": IBAN, "bic": "BNPAFRPP"}, "bad_bic", "/bic"),
        ({"iban": IBAN, "bic": "COBA"}, "bad_bic", "/bic"),
        ({"account": "12", "bic": "CHASUS33", "country": "US"}, "bad_account", "/account"),
        ({"account": "=cmd()", "bic": "CHASUS33", "country": "US"}, "bad_account", "/account"),
        ({"account": "12345", "country": "US"}, "bic_missing", "/bic"),
        ({"account": "12345", "bic": "CHASUS33"}, "country_missing", "/country"),
        ({"holder": "123", "iban": IBAN}, "bad_holder", "/holder"),
    ],
)
def test_wrong_bank_details_name_the_field(given: dict[str, str], code: str, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        checked(account(**given))
    assert (caught.value.code, caught.value.extra["pointer"]) == (code, field)


def test_numbers_are_shown_by_their_end() -> None:
    assert masked("DE89370400440532013000") == "DE…3000"
    assert masked("123456789") == "…6789"
    assert masked("1234") == "…34"


def test_nothing_in_the_banks_file_is_a_formula() -> None:
    hostile = ['=HYPERLINK("http://x")', "+1", "-1", "@SUM(A1)", " =1", 'O"Neill, Ltd']
    payouts = [
        Payout(uid=f"payout_{n}", status="in_transit", holder=holder, number="DE1", bic=None, country="DE",
               currency="JPY" if n else "USD", amount=12345)
        for n, holder in enumerate(hostile)
    ]  # fmt: skip
    payouts.append(Payout(uid="payout_x", status="failed", holder="No", number="X", country="DE", amount=1))
    rows = list(csv.DictReader(io.StringIO(bankfile.document(payouts))))
    assert [row["holder"] for row in rows] == [*("'" + text for text in hostile[:5]), hostile[5]]
    assert [row["amount"] for row in rows[:2]] == ["123.45", "12345"]
    assert not any(cell[:1] in "=+-@" for row in rows for cell in row.values() if cell)


def test_months_are_whole() -> None:
    _, begin, end = bounds("2026-12")
    assert (begin.isoformat(), end.isoformat()) == ("2026-12-01T00:00:00+00:00", "2027-01-01T00:00:00+00:00")
    for wrong in ("2026-13", "2026-1", "26-01", "2026-00", "2026-01-01", "٢٠٢٦-01", "x"):
        with pytest.raises(Invalid):
            bounds(wrong)
