"""The inbox between two stages."""

from __future__ import annotations

import threading

from paletta_cli.transfer.queues import Inbox


def test_in_order_and_urgent_ones_first() -> None:
    inbox: Inbox[str] = Inbox()
    inbox.put("a", "b")
    inbox.put("c", first=True)
    assert inbox.take(10, lambda *_: True) == ["c", "a", "b"]


def test_held_back_things_come_later_but_not_after_closing() -> None:
    inbox: Inbox[str] = Inbox()
    inbox.put("late", delay=3600)
    inbox.put("now")
    assert inbox.take(10, lambda *_: True) == ["now"]
    inbox.close()
    assert inbox.take(10) == ["late"]
    assert inbox.take(10) == []


def test_a_full_batch_goes_at_once_and_a_small_one_when_it_is_ripe() -> None:
    inbox: Inbox[int] = Inbox()
    inbox.put(1, 2, 3)
    assert inbox.take(2, lambda *_: False) == [1, 2]
    asked: list[int] = []

    def ripe(count: int, _waited: float) -> bool:
        asked.append(count)
        return len(asked) == 3

    assert inbox.take(2, ripe) == [3]
    assert asked == [1, 1, 1]


def test_a_waiting_taker_hears_of_new_things_and_of_the_end() -> None:
    inbox: Inbox[int] = Inbox()
    taken: list[list[int]] = []

    def work() -> None:
        while batch := inbox.take():
            taken.append(batch)

    worker = threading.Thread(target=work)
    worker.start()
    inbox.put(1)
    inbox.put(2)
    inbox.close()
    worker.join(5)
    assert taken == [[1], [2]]
    inbox.clear()
    assert len(inbox) == 0
