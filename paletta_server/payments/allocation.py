"""Which part of a refund belongs to which item. Whole minor units in, and the same sum out."""

from collections.abc import Iterable, Mapping


def spread(amount: int, rooms: Mapping[int, int]) -> dict[int, int]:
    """`amount` over items in proportion to what each has room for, never more than that, exact to the unit.

    What exceeds all the room together is left out. Fractions go to the largest remainders, then to the first.
    """
    total = sum(rooms.values())
    amount = min(amount, total)
    if amount <= 0:
        return {}
    parts = {key: amount * room // total for key, room in rooms.items()}
    missing = amount - sum(parts.values())
    by_remainder = sorted(rooms, key=lambda key: (-(amount * rooms[key] % total), key))
    for key in by_remainder[:missing]:
        parts[key] += 1
    return {key: part for key, part in parts.items() if part}


def by_item(refunds: Iterable[Mapping[int, int]], gross: Mapping[int, int]) -> dict[int, int]:
    """What was given back for each item in all, at most the `gross` that was paid for it.

    A refund made at the gateway by hand names no items; should one that does come on top, the excess counts
    towards the others.
    """
    sums = dict.fromkeys(gross, 0)
    for refund in refunds:
        for key, amount in refund.items():
            sums[key] += amount
    excess = sum(max(0, amount - gross[key]) for key, amount in sums.items())
    capped = {key: min(amount, gross[key]) for key, amount in sums.items()}
    for key, amount in spread(excess, {key: gross[key] - part for key, part in capped.items()}).items():
        capped[key] += amount
    return {key: amount for key, amount in capped.items() if amount}
