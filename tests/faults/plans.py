"""Which requests the fault proxy spoils, and how: drawn from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from tests.faults.proxy import Exchange, Fault, Kind


@dataclass
class RandomPlan:
    """Faults drawn for each try of each part, so that they do not depend on which thread comes first.

    `share` of the tries meet a fault, at most `most_in_a_row` of one part; `control` spoils the service's own
    requests to the store as well. What is sent is told apart by its length and part number.
    """

    seed: int | str
    share: float = 0.4
    most_in_a_row: int = 3
    control: bool = False
    kinds: tuple[Kind, ...] = (
        *("delay", "stall", "reset", "cut_request", "cut_reply", "lose_reply", "flip", "answer"),
    )
    _tries: dict[tuple[object, ...], int] = field(default_factory=dict)

    def __call__(self, exchange: Exchange) -> Fault | None:
        if not exchange.is_transfer and not self.control:
            return None
        about = (exchange.is_transfer, exchange.method, exchange.length, exchange.part)
        tries = self._tries[about] = self._tries.get(about, 0) + 1
        draw = random.Random(f"{self.seed}/{about}/{tries}")
        if tries > self.most_in_a_row or draw.random() >= self.share:
            return None
        if not exchange.is_transfer:
            # The service's own client waits long for an answer, so no stalls; and it sends no bodies of weight.
            return draw.choice(
                [Fault("delay", seconds=0.05), Fault("reset"), Fault("lose_reply"), _refusal(draw)]
            )
        kind = draw.choice(self.kinds)
        at = draw.choice([0, draw.randrange(exchange.length), exchange.length])
        if kind == "delay":
            return Fault(kind, seconds=draw.uniform(0.01, 0.4))
        if kind == "answer":
            return _refusal(draw)
        if kind == "cut_reply":
            return Fault(kind, at=draw.randrange(1, 200))
        return Fault(kind, at=min(at, exchange.length - 1) if kind == "flip" else at)


def _refusal(draw: random.Random) -> Fault:
    return draw.choice(
        [
            Fault("answer", status=500, code="InternalError"),
            Fault("answer", status=503, code="SlowDown"),
            Fault("answer", status=503, code="SlowDown", retry_after=1),
            Fault("answer", status=400, code="RequestTimeout"),
        ]
    )
