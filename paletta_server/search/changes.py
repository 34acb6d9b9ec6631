"""The sequence of changes in the database that every replica of the index follows."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

TOPIC = "clips"
"""What a trigger announces with every change."""
KEPT_DAYS = 7
"""Changes are kept so long. A replica that was away for longer is rebuilt."""
PER_READ = 5_000


class Change(NamedTuple):
    """A row of `clip_changes`; `at` as PostgreSQL writes it. Changes are ordered by `xid`, then `seq`."""

    xid: int
    seq: int
    clip_id: int
    at: str

    @property
    def place(self) -> tuple[int, int]:
        return self.xid, self.seq


@dataclass(frozen=True, slots=True)
class Position:
    """How far a replica has come. It is kept in the index's own commits, so that the two cannot disagree.

    Every change up to (`xid`, `seq`) is in the index. `anchor` is a change that the followed database has: one
    without it is another database, an older state of it, or one that has pruned what this replica missed.
    """

    xid: int
    seq: int
    anchor: Change

    def as_state(self) -> dict[str, Any]:
        return {"xid": self.xid, "seq": self.seq, "anchor": list(self.anchor)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self | None:
        try:
            return cls(int(state["xid"]), int(state["seq"]), Change(*state["anchor"]))
        except (KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class Read:
    """What one look at the sequence showed."""

    known: bool
    """Whether this is the database that the position belongs to."""
    horizon: int
    """Transactions before this one are over: no change of theirs can still appear."""
    changes: Sequence[Change]
    full: bool
    """Whether there may be more."""


_READ = text(
    """
    WITH here AS (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS horizon)
    SELECT here.horizon,
      EXISTS (SELECT FROM clip_changes WHERE seq = :anchor_seq AND xid = :anchor_xid AND at::text = :anchor_at),
      next.xid, next.seq, next.clip_id, next.at::text
    FROM here LEFT JOIN LATERAL (
      SELECT xid, seq, clip_id, at FROM clip_changes
      WHERE (xid, seq) > (:xid, :seq) AND seq <> ALL (CAST(:seen AS bigint[])) ORDER BY xid, seq LIMIT :most
    ) AS next ON true
    """
)


async def read(
    session: AsyncSession, position: Position, seen: Collection[int] = (), *, most: int = PER_READ
) -> Read:
    """Changes behind a position, but for those `seen` (by `seq`), in one snapshot of the database."""
    rows = (
        await session.execute(
            _READ,
            {
                "xid": position.xid,
                "seq": position.seq,
                "anchor_seq": position.anchor.seq,
                "anchor_xid": position.anchor.xid,
                "anchor_at": position.anchor.at,
                "seen": list(seen),
                "most": most,
            },
        )
    ).all()
    horizon, known = rows[0][0], rows[0][1]
    changes = [Change(*row[2:]) for row in rows if row[2] is not None]
    return Read(known, horizon, changes, full=len(changes) == most)


class Reader:
    """Decides what was read and how far the position may move.

    Changes are taken up as soon as they are visible, also those behind the horizon, so that one long transaction
    anywhere in the cluster delays nothing. Since a change that is still to come may be placed before those, the
    position stays, and what was taken up ahead of it is remembered (and repeated, harmlessly, after a crash).
    """

    def __init__(self, position: Position) -> None:
        self.position = position
        self._ahead: dict[int, Change] = {}

    @property
    def seen(self) -> list[int]:
        return list(self._ahead)

    def next(self, found: Read) -> tuple[set[int], Position]:
        """The clips to look at now, and the position once they are in the index: then call `moved`."""
        read: Iterable[Change] = [*self._ahead.values(), *found.changes]
        # With more to come, nothing is known of what lies behind the last one.
        end = found.changes[-1].place if found.full else None
        over = [one for one in read if one.xid < found.horizon and (end is None or one.place <= end)]
        last = max(over, key=lambda one: one.place, default=None)
        position = self.position
        if last is not None and last.place > (position.xid, position.seq):
            position = Position(last.xid, last.seq, last)
        return {one.clip_id for one in found.changes} - {0}, position

    def moved(self, found: Read, position: Position) -> None:
        self.position = position
        self._ahead |= {one.seq: one for one in found.changes}
        here = (position.xid, position.seq)
        self._ahead = {seq: one for seq, one in self._ahead.items() if one.place > here}


PARTS = 30
"""A part a night: a month for all of a catalogue, and seconds of work for a replica of a million clips."""


async def mark(session: AsyncSession) -> Change:
    """Add a change of no clip, for a replica to recognise this database by. Commit it before reading."""
    row = (
        await session.execute(
            text("INSERT INTO clip_changes (clip_id) VALUES (0) RETURNING xid, seq, clip_id, at::text")
        )
    ).one()
    return Change(*row)


async def beginning(session: AsyncSession, anchor: Change) -> Position:
    """The position of an index whose documents are read after this."""
    horizon = await session.scalar(text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"))
    assert horizon is not None
    return Position(horizon - 1, 2**62, anchor)


async def prune(session: AsyncSession, *, days: float = KEPT_DAYS) -> int:
    """Forget old changes, never the newest ones: replicas that are up to date hold on to those."""
    gone = await session.execute(
        text(
            "DELETE FROM clip_changes WHERE at < now() - make_interval(secs => :seconds)"
            " AND xid < (SELECT max(xid) FROM clip_changes)"
        ),
        {"seconds": days * 86_400},
    )
    return int(gone.rowcount)  # type: ignore[attr-defined]


async def look_again(session: AsyncSession, part: int) -> int:
    """Have every replica look anew at one of `PARTS` parts of all clips, listed or not; how many clips that is."""
    again = await session.execute(
        text("INSERT INTO clip_changes (clip_id) SELECT id FROM clips WHERE id % :parts = :part"),
        {"parts": PARTS, "part": part % PARTS},
    )
    return int(again.rowcount)  # type: ignore[attr-defined]
