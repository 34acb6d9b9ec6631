"""How a follower of the catalogue decides what was read and how far it has come, without a database."""

from __future__ import annotations

import random

import pytest

from paletta_server.search.changes import Change, Position, Read, Reader

ANCHOR = Change(1, 1, 0, "then")
START = Position(1, 1, ANCHOR)


def change(xid: int, seq: int, clip: int = 7) -> Change:
    return Change(xid, seq, clip, f"at {seq}")


def take(reader: Reader, horizon: int, *changes: Change, full: bool = False) -> set[int]:
    found = Read(True, horizon, sorted(changes, key=lambda one: one.place), full)
    clips, position = reader.next(found)
    reader.moved(found, position)
    return clips


def test_the_position_moves_over_what_is_over_for_certain() -> None:
    reader = Reader(START)
    assert take(reader, 9, change(5, 11, 70), change(4, 12, 71)) == {70, 71}
    assert (reader.position.xid, reader.position.seq) == (5, 11)
    assert reader.position.anchor == change(5, 11, 70)
    assert reader.seen == []


def test_what_lies_behind_a_running_transaction_is_taken_up_and_not_passed() -> None:
    """Transaction 5 still runs: 6 has committed before it."""
    reader = Reader(START)
    assert take(reader, 5, change(6, 20, 70)) == {70}
    assert reader.position == START
    assert reader.seen == [20]
    assert take(reader, 5) == set()  # not again
    assert take(reader, 9, change(5, 19, 71)) == {71}
    assert (reader.position.xid, reader.position.seq) == (6, 20)
    assert reader.seen == []


def test_a_cut_read_passes_nothing_that_it_has_not_seen() -> None:
    reader = Reader(START)
    take(reader, 5, change(8, 30))
    take(reader, 99, change(5, 31), change(6, 32), full=True)
    # 8 was taken up long ago, but 7 may be in what was cut off.
    assert (reader.position.xid, reader.position.seq) == (6, 32)
    assert take(reader, 99, change(7, 33, 72)) == {72}
    assert (reader.position.xid, reader.position.seq) == (8, 30)


def test_marks_are_no_clips() -> None:
    reader = Reader(START)
    assert take(reader, 9, change(3, 10, 0)) == set()
    assert reader.position.seq == 10


@pytest.mark.parametrize("seed", range(200))
def test_every_change_is_taken_up_whatever_commits_when(seed: int) -> None:
    """Transactions write and commit in any order; the follower looks, and dies, at any moment."""
    noise = random.Random(seed)
    committed: list[Change] = []
    running: dict[int, list[Change]] = {}
    next_xid, next_seq = 2, 2
    reader, kept = Reader(START), START
    taken: set[int] = set()
    for _ in range(60):
        match noise.randrange(5):
            case 0:
                running[next_xid] = []
                next_xid += 1
            case 1 if running:
                xid = noise.choice(list(running))
                running[xid].append(Change(xid, next_seq, next_seq, "at"))
                next_seq += 1
            case 2 if running:
                committed += running.pop(noise.choice(list(running)))
            case 3:
                taken |= _look(reader, committed, running, next_xid, noise)
                kept = reader.position
            case 4 if noise.random() < 0.2:
                reader = Reader(kept)  # what was only in memory is lost
    committed += [one for changes in running.values() for one in changes]
    while True:
        more = _look(reader, committed, {}, next_xid, noise)
        taken |= more
        if not more:
            break
    assert taken == {one.clip_id for one in committed}


def _look(
    reader: Reader, committed: list[Change], running: dict[int, list[Change]], next_xid: int, noise: random.Random
) -> set[int]:  # fmt: skip
    here = (reader.position.xid, reader.position.seq)
    rows = sorted(
        (one for one in committed if one.place > here and one.seq not in reader.seen),
        key=lambda one: one.place,
    )
    most = noise.choice((1, 2, 50))
    horizon = min(running, default=next_xid)
    return take(reader, horizon, *rows[:most], full=len(rows[:most]) == most)


def test_a_position_survives_as_plain_values() -> None:
    assert Position.from_state(START.as_state()) == START
    assert Position.from_state({}) is None
    assert Position.from_state({"xid": "x", "seq": 1, "anchor": [1]}) is None
