"""Services of a worker's own for the fault drills. See `site.py`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.faults.site import Site, StoreAddress

if TYPE_CHECKING:
    from tests.support.stack import Addresses


@pytest.fixture(scope="session")
def session_site(
    stack: Addresses, worker_name: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """An API on the run's PostgreSQL and object store, with proxies before and behind it."""
    from tests.support.stack import make_database

    site = Site(
        tmp_path_factory.mktemp("site"),
        make_database(stack, f"paletta_faults_{worker_name}"),
        StoreAddress(stack.endpoint, stack.access_key, stack.secret_key),
        f"faults-{worker_name}",
        settings={"UPLOAD_CLAIM_SECONDS": "2"},  # drills kill its API, and have no time to wait
    )
    with site:
        yield site


@pytest.fixture
def site(session_site: Site) -> Iterator[Site]:
    """The service, empty, and without faults until the test makes some."""
    yield session_site
    session_site.clear()
