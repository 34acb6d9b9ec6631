"""What is being uploaded: a file with its metadata, how far it has come, and its parts."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paletta_cli.transfer.fingerprint import Fingerprint

ENDED = frozenset(
    {
        "in_review",
        "live",
        "changes_requested",
        "taken_down",
        "rejected",
        "failed",
        "cancelled",
        "expired",
        "deleted",
        "invalid",
        "changed",
    }
)
"""Stages after which nothing more happens. The last two are ours, the others the service's."""

PROCESSING = ("stored", "verifying", "probing", "transcoding", "publishing")
"""Stages between the last byte and the verdict, in their order."""


@dataclass(slots=True, eq=False)
class Item:
    """One file of a run.

    `stage` is the service's word, or before it knows the file: `waiting`, `reading`, `registering`; or
    `invalid`, `changed`. `outcome` is how it was registered (created, resumed, already_yours, invalid).
    `transferred` says that nothing is left to do for the transfer, well or badly.
    """

    ref: str
    path: Path
    size: int
    metadata: Mapping[str, Any]
    print: Fingerprint | None = None
    outcome: str = ""
    twin: str = ""
    """The ref of the file of this run that has the same bytes and stands for both."""
    differs: bool = False
    """Whether the clip was there before, and the manifest now says something else about it."""
    stage: str = "waiting"
    upload_id: str = ""
    clip_id: str = ""
    reason: str = ""
    hint: str = ""
    warnings: list[str] = field(default_factory=list)
    problems: list[dict[str, Any]] = field(default_factory=list)
    doubts: list[dict[str, Any]] = field(default_factory=list)
    """The service's warnings about the metadata, in the form of problems; it says each of them only once."""
    part_count: int = 0
    pending: set[int] = field(default_factory=set)
    adrift: set[int] = field(default_factory=set)
    """Parts of which the store and we know different things, until the service says which it is."""
    there: int | None = 0
    """Bytes that the store had before this run; None where the service does not say."""
    sent: int = 0
    """Bytes that are in the store or on their way."""
    progress: float | None = None
    """Of the transcoding, 0 to 1."""
    transferred: bool = False
    completions: int = 0
    """How often completion was asked for without success."""
    begun: float = 0.0

    @property
    def title(self) -> str:
        return str(self.metadata.get("title") or self.path.name)

    @property
    def ended(self) -> bool:
        return self.stage in ENDED

    @property
    def left(self) -> int:
        """Bytes that are still to be sent."""
        return max(0, self.size - self.sent)

    def found(self, answer: Mapping[str, Any]) -> None:
        """Take over from a registration's answer, or a rehearsal's, how much of the file is there."""
        stage, part_size = answer.get("stage"), int(answer.get("part_size") or 0)
        if answer["outcome"] == "already_yours" or stage in PROCESSING or stage in ENDED:
            self.there = self.size
        elif stage == "completing" or (answer["outcome"] == "resumed" and not part_size):
            self.there = None  # being put together; or a service that is older than the question
        else:
            parts = answer.get("uploaded_parts") or ()
            self.there = sum(min(part_size, self.size - (number - 1) * part_size) for number in parts)


def mark_twins(items: Iterable[Item]) -> None:
    """Let files of the same bytes know which of them stands for all: the one that is sent, or else the first."""
    alike: dict[str, list[Item]] = {}
    for item in items:
        item.twin = ""
        if item.print is not None and item.stage not in ("invalid", "changed"):
            alike.setdefault(item.print.sha256, []).append(item)
    for same in alike.values():
        first = next((item for item in same if item.outcome != "already_yours"), same[0])
        for item in same:
            if item is not first and item.outcome in ("", "already_yours"):
                item.twin = first.ref


@dataclass(frozen=True, slots=True)
class SignedPut:
    """One signed request: `headers` must be sent as they are. `signed_at` is this machine's clock."""

    url: str
    headers: Mapping[str, str]
    signed_at: float = field(default_factory=time.time)

    @property
    def age(self) -> float:
        """Seconds since it was signed; a clock set back makes it endless, which only costs a new signature."""
        age = time.time() - self.signed_at
        return age if age >= 0 else float("inf")


@dataclass(slots=True, eq=False)
class Part:
    """A part that is still to be sent, and what went wrong with it so far."""

    item: Item
    number: int
    signed: SignedPut | None = None
    tries: int = 0
    damaged: int = 0
    refused: int = 0
    first_trouble: float = 0.0
    counted: int = 0
    """Bytes of the try under way that the meter has counted."""

    @property
    def offset(self) -> int:
        assert self.item.print is not None
        return (self.number - 1) * self.item.print.part_size

    @property
    def length(self) -> int:
        assert self.item.print is not None
        return self.item.print.length(self.number)


@dataclass(slots=True)
class Meter:
    """Bytes of a run. Written by many threads under the uploader's lock, read by the view."""

    total: int = 0
    skipped: int = 0
    """Were there before: parts of an earlier run, files that are already yours."""
    sent: int = 0
    """Sent by this run, including parts on their way; goes back when a part has to be sent again."""
    stored: int = 0
    """Acknowledged by the store in this run."""
    parts: int = 0
    """Parts acknowledged in this run."""
    repeated: int = 0
    """Sent for nothing."""
