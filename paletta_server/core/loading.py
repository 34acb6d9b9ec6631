"""Starting up without the garbage collector, which would take a third of the time and find nothing."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def for_good() -> Iterator[None]:
    """Around imports: the hundreds of thousands of objects that they make live as long as the process does.

    They are not looked through while they are being made, nor later on.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
