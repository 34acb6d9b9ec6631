"""Who gets which part of what is kept of an item. Whole minor units in, and exactly the same sum out.

What a refund or a dispute reverses is the difference between two states, never a share of its own: so the reversals
of any refunds, in any order, add up to what was sold, and no unit is left over that an account for roundings would
have to hold.
"""

from dataclasses import dataclass

SCALE = 10_000
"""Rates are hundredths of a percent."""


def half_even(amount: int, part: int, whole: int) -> int:
    """`amount` · `part` / `whole`, a half rounded to the even neighbour: over many sales, halves favour nobody."""
    found, rest = divmod(amount * part, whole)
    return found + (2 * rest > whole or (2 * rest == whole and found % 2 == 1))


def royalty(net: int, rate: int) -> int:
    """A contributor's part of `net`, what an item brought before tax."""
    return half_even(net, rate, SCALE)


@dataclass(frozen=True, slots=True)
class Shares:
    """The parts of some money of an item."""

    tax: int
    royalty: int
    platform: int

    @property
    def total(self) -> int:
        return self.tax + self.royalty + self.platform

    def __sub__(self, other: "Shares") -> "Shares":
        return Shares(self.tax - other.tax, self.royalty - other.royalty, self.platform - other.platform)


def shares(kept: int, amount: int, tax: int, rate: int, goodwill: int = 0) -> Shares:
    """What becomes of the `kept` part (tax included) of an item sold for `amount` and `tax`.

    `goodwill`: what of the rest the shop gave back while the licence goes on. It bears that alone: the royalty is what
    it would be had that been kept, so that the platform's part may be below zero.

    No part grows when less is kept, without goodwill none is below zero, and they add up to `kept`.
    """
    mine = royalty(_net(kept + goodwill, amount, tax), rate)
    net = _net(kept, amount, tax)
    return Shares(kept - net, mine, net - mine)


def _net(kept: int, amount: int, tax: int) -> int:
    return half_even(kept, amount, amount + tax) if kept else 0
