"""Starting up without the garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from paletta_server.core import loading


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    gc.enable()


def test_what_is_made_meanwhile_is_left_alone_for_good() -> None:
    before = gc.get_freeze_count()
    with loading.for_good():
        assert not gc.isenabled()
        kept = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= before + len(kept)


def test_a_failed_start_collects_again() -> None:
    with pytest.raises(ImportError), loading.for_good():
        raise ImportError
    assert gc.isenabled()


def test_who_collects_nothing_still_does_not() -> None:
    gc.disable()
    with loading.for_good():
        pass
    assert not gc.isenabled()
