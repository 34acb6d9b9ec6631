"""`paletta-server search reindex`: build the search index anew, beside the one that answers meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paletta_server.commands import terminal

if TYPE_CHECKING:
    from paletta_server.core.settings import Settings


def reindex(*, as_json: bool) -> int:
    """Build every replica on this machine anew; 1 where another build was at it."""
    from paletta_server.core.logging import configure_logging
    from paletta_server.core.settings import get_settings

    settings = get_settings()
    configure_logging(settings)
    done = asyncio.run(build_all(settings))
    if as_json:
        terminal.result(json.dumps({"replicas": done}, indent=2))
    for one in done:
        words = f"{one['clips']:,} clips" if one["built"] else "another build is at it"
        terminal.say(f"{one['replica']}: {words}")
    if any(one["built"] for one in done):
        terminal.say("hint: a running API takes it up within a second")
    return 0 if all(one["built"] for one in done) else 1


async def build_all(settings: Settings) -> list[dict[str, Any]]:
    """Build one replica after the other; for each its name, how many clips it has, and whether it was built."""
    from paletta_server.core.database import Database
    from paletta_server.search.replica import Replica

    database = Database(settings, pool_size=2)
    try:
        if settings.search_backend == "opensearch":
            return [await _build_shared(settings, database)]
        return [await _build(database, replica) for replica in Replica.all_of(Path(settings.search_dir))]
    finally:
        await database.close()


async def _build_shared(settings: Settings, database: Any) -> dict[str, Any]:
    from paletta_server.search.opensearch_client import connect
    from paletta_server.search.shared_follower import rebuild

    client = connect(settings)
    try:
        with terminal.bar(settings.opensearch_index, " clips") as bar:
            name = await rebuild(database, client, settings.opensearch_index, _onto(bar))
            return {"replica": settings.opensearch_index, "clips": bar.n, "built": name is not None}
    finally:
        client.close()


def _onto(bar: Any) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return progress


async def _build(database: Any, replica: Any) -> dict[str, Any]:
    from paletta_server.search.build import build

    with terminal.bar(replica.folder.name, " clips") as bar:
        folder = await build(database, replica, _onto(bar))
        return {"replica": replica.folder.name, "clips": bar.n, "built": folder is not None}
