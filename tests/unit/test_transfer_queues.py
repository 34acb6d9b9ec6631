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


def test_the_least_comes_first_and_what_was_put_off_is_not_left_behind() -> None:
    inbox: Inbox[int] = Inbox(float)
    inbox.put(3, 1)
    inbox.put(2, delay=1e-9)
    inbox.put(9, first=True)
    assert len(inbox) == 4
    assert inbox.take(10, lambda *_: True) == [9, 1, 2, 3]


def test_one_that_is_not_admitted_stays_and_who_comes_before_it_is_asked_instead() -> None:
    inbox: Inbox[int] = Inbox(float)
    inbox.put(5)
    asked = threading.Event()

    def admit(thing: int) -> bool:
        asked.set()
        return thing < 5

    taken: list[list[int]] = []
    taker = threading.Thread(target=lambda: taken.append(inbox.take(admit=admit)))
    taker.start()
    assert asked.wait(60)
    inbox.put(4)
    taker.join(60)
    assert taken == [[4]]
    assert len(inbox) == 1


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
    worker.join(60)
    assert taken == [[1], [2]]
    inbox.clear()
    assert len(inbox) == 0
