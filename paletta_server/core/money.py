"""Money: whole minor units (cents) of an ISO 4217 currency. Never a float, and rounded in one place only."""

from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

_DECIMALS = {"BIF": 0, "CLP": 0, "DJF": 0, "GNF": 0, "ISK": 0, "JPY": 0, "KMF": 0, "KRW": 0, "PYG": 0,
             "RWF": 0, "UGX": 0, "VND": 0, "VUV": 0, "XAF": 0, "XOF": 0, "XPF": 0,
             "BHD": 3, "IQD": 3, "JOD": 3, "KWD": 3, "LYD": 3, "OMR": 3, "TND": 3}  # fmt: skip
"""ISO 4217's minor units where they are not two digits."""

MOST = 10**12
"""No amount of ours is larger; it keeps sums far within a bigint."""


def decimals(currency: str) -> int:
    """Digits after the point of the currency's amounts."""
    return _DECIMALS.get(currency, 2)


def parse(text: str, currency: str) -> int:
    """Minor units of an amount such as `49.00`.

    Raises ValueError for what is no amount, is negative, has more digits than the currency, or is absurd.
    """
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"`{text}` is not an amount") from None
    if not amount.is_finite() or amount < 0:
        raise ValueError(f"`{text}` is not an amount")
    minor = amount.scaleb(decimals(currency))
    if minor != minor.to_integral_value():
        raise ValueError(f"`{text}` has more digits than {currency} has")
    if minor > MOST:
        raise ValueError(f"`{text}` is too much")
    return int(minor)


def text(minor: int, currency: str) -> str:
    """The amount as people write it, without the currency: `1234.50`."""
    digits = decimals(currency)
    return f"{Decimal(minor).scaleb(-digits):.{digits}f}"


def share(minor: int, rate: Decimal) -> int:
    """`rate` of an amount, half a minor unit rounded up: the one rounding rule for tax and price ratios."""
    return int((Decimal(minor) * rate).to_integral_value(ROUND_HALF_UP))
