"""AWS for tests: a server that speaks its services (moto), on this machine."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

KEY = "a-test"


@contextmanager
def server() -> Iterator[str]:
    """The address of a server of our own."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        running.stop()


@contextmanager
def archive_by_hand() -> Iterator[None]:
    """What is asked back from an archive comes when a test says so: by `inside(…).status = "RESTORED"`."""
    from moto.moto_api import state_manager

    state_manager.set_transition("s3::keyrestore", {"progression": "manual", "times": 10**9})
    try:
        yield
    finally:
        state_manager.unset_transition("s3::keyrestore")


def inside(bucket: str, key: str) -> Any:
    """A stored object, in moto's own hands."""
    from moto.s3.models import s3_backends

    (found,) = (
        backend["aws"].buckets[bucket].keys[key]
        for backend in s3_backends.values()
        if bucket in backend["aws"].buckets
    )
    return found
