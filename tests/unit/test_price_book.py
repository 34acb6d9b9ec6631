"""The price book: reading the operator's file, and the arithmetic of prices, tax and parts."""

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paletta_server.core import money
from paletta_server.orders.checkout import split
from paletta_server.orders.price_book import PriceBook, parse
from paletta_server.orders.prices import differences

AMOUNTS = st.integers(0, 10**9)


@pytest.fixture(scope="module")
def text(repository: Path) -> str:
    return (repository / "manifests" / "price-book.yaml").read_text(encoding="utf-8")


@pytest.fixture
def book(text: str) -> PriceBook:
    parsed = parse(text)
    assert parsed.problems == []
    assert parsed.book is not None
    return parsed.book


def test_the_shipped_book_is_read_and_kept_as_it_is(book: PriceBook) -> None:
    assert book.currency == "USD"
    assert book.price("uhd4k", "business") == 19900
    assert PriceBook.from_document(book.to_document()) == book
    assert PriceBook.from_document(book.to_document()).digest() == book.digest()
    assert differences(book, book) == []


def test_a_change_is_told_in_words(text: str, book: PriceBook) -> None:
    changed = parse(text.replace('"99.00",  premium: "299.00"', '"109.00",  premium: "299.00"')).book
    assert changed is not None
    assert changed.digest() != book.digest()
    [change] = differences(book, changed)
    assert (change.key, change.before, change.after) == ("prices.hd.business", "99.00", "109.00")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("paletta_prices: 1", "prices: 1", "not a price book"),
        ("paletta_prices: 1", "paletta_prices: 2", "an unknown version of the format"),
        ("currency: USD", "currency: usd", "`usd` is not a currency"),
        ('"49.00"', '"49.001"', "`49.001` has more digits than USD has"),
        ('"49.00"', '"-49"', "`-49` is not an amount"),
        ('"49.00"', "lots", "`lots` is not an amount"),
        (
            'hd:       {individual: "49.00",  ',
            "hd:       {",
            "tier `hd` has no price for licence `individual`",
        ),
        ('original: {individual: "149.00"', 'original: {individual: "9.00"', "`original` costs less than"),
        ("[individual, business]", "[individual, gold]", "there is no licence `gold`"),
        ('{least: "10.00"', '{least: "2000"', "`least` is more than `most`"),
        ("seats: 1\n", "seats: many\n", "`seats` is a number of people"),
        ('# tax: {name: VAT, rate: "0.19"}', 'tax: {name: VAT, rate: "19"}', "a `rate` is a part of one"),
        ("  premium:\n", "  platinum:\n", "unknown key `platinum` in `licences`"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, before: str, after: str, message: str) -> None:
    assert before in text
    parsed = parse(text.replace(before, after, 1))
    assert parsed.book is None
    assert message in parsed.problems[0].message
    # A price that does not fit its neighbours is told where the prices begin.
    anchor = "hd:  " if "costs less" in message else before
    assert parsed.problems[0].line == text[: text.index(anchor)].count("\n") + 1


def test_a_contributors_price_is_honoured_within_bounds(book: PriceBook) -> None:
    assert book.price("hd", "individual", own={"hd": "20.00"}) == 2000
    assert book.price("hd", "business", own={"hd": "20.00"}) == 4041  # 20 × 99/49, half up
    assert book.price("hd", "individual", own={"hd": "1.00"}) == 1000
    assert book.price("hd", "individual", own={"hd": "9999.00"}) == 100000
    assert book.price("uhd4k", "individual", own={"hd": "20.00"}) == 9900
    assert book.price("hd", "individual", own={"hd": "20.00", "auto": True}) == 4900


def test_a_contributors_price_has_nothing_to_be_in_proportion_to_where_a_licence_is_free(text: str) -> None:
    given_away = parse(text.replace('individual: "49.00"', 'individual: "0.00"')).book
    assert given_away is not None
    assert given_away.price("hd", "individual", own={"hd": "50.00"}) == 0
    assert given_away.price("hd", "business", own={"hd": "50.00"}) == 9900


def test_a_contributors_price_counts_only_where_the_operator_allows_it(text: str) -> None:
    closed = parse(text.replace("contributor_prices:", "# contributor_prices:")).book
    assert closed is not None
    assert closed.price("hd", "individual", own={"hd": "20.00"}) == 4900


def test_an_editorial_clip_is_not_sold_under_every_licence(book: PriceBook) -> None:
    assert book.price("hd", "premium", editorial=True) is None
    assert book.price("hd", "business", editorial=True) == 9900


@given(AMOUNTS, st.lists(AMOUNTS, min_size=1, max_size=30))
def test_parts_add_up_to_the_whole(amount: int, weights: list[int]) -> None:
    parts = split(amount, weights)
    assert len(parts) == len(weights)
    assert sum(parts) == (amount if sum(weights) else 0)
    for part, weight in zip(parts, weights, strict=True):
        exact = Decimal(amount) * weight / (sum(weights) or 1)
        assert abs(part - exact) < 1


@given(AMOUNTS, st.sampled_from(["USD", "EUR", "JPY", "KWD"]))
def test_an_amount_written_is_the_amount_read(minor: int, currency: str) -> None:
    assert money.parse(money.text(minor, currency), currency) == minor


@given(AMOUNTS, st.decimals(0, 1, places=4))
def test_tax_is_rounded_half_up(minor: int, rate: Decimal) -> None:
    exact = Decimal(minor) * rate
    assert 0 <= money.share(minor, rate) - exact + Decimal("0.5") <= 1


@pytest.mark.parametrize("bad", ["", "1e99", "NaN", "Infinity", "1,00", "0x10"])
def test_nonsense_is_no_amount(bad: str) -> None:
    with pytest.raises(ValueError, match=r"amount|too much"):
        money.parse(bad, "USD")
