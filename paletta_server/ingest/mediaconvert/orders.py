"""What is ordered from MediaConvert, in a form that a row can keep until the job is back."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from paletta_server.ingest.checkup import Decoded
from paletta_server.ingest.plan import OutputPlan, Posters, Preview, Rendition, Storyboard
from paletta_server.ingest.probe import Audio, Probe, Video


@dataclass(frozen=True, slots=True)
class Order:
    """A film that has passed, what is to be made of it, and seconds per step so far."""

    plan: OutputPlan
    probe: Probe
    decoded: Decoded
    warnings: tuple[str, ...]
    figures: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def digest(self, key: str) -> str:
        """What tells orders of one clip apart: the plan, and the original that it is for."""
        plain = json.dumps([self.plan.to_dict(), key], sort_keys=True)
        return hashlib.sha256(plain.encode()).hexdigest()


FOREIGN = "it was ordered by another version of the service"
"""Why an attempt ends whose order `from_dict` cannot read: the next one is ordered anew."""


def from_dict(found: dict[str, Any]) -> Order:
    """The order that `Order.to_dict` wrote. Raises `TypeError` or `KeyError` for one of another version."""
    plan, probe, decoded = found["plan"], found["probe"], found["decoded"]
    return Order(
        OutputPlan(
            comp=Preview(**plan["comp"]),
            loop=Preview(**plan["loop"]),
            posters=Posters(**{**plan["posters"], "times": tuple(plan["posters"]["times"])}),
            storyboard=Storyboard(**plan["storyboard"]),
            renditions=tuple(Rendition(**made) for made in plan["renditions"]),
            original_serves=tuple(plan["original_serves"]),
            deinterlace=plan["deinterlace"],
            tone_map=plan["tone_map"],
        ),
        Probe(
            **{
                **probe,
                "video": Video(**probe["video"]),
                "audio": tuple(Audio(**track) for track in probe["audio"]),
            }
        ),
        Decoded(decoded["frames"], tuple(decoded["cuts"])),
        tuple(found["warnings"]),
        dict(found["figures"]),
    )
