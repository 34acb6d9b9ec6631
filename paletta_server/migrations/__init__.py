"""Schema migrations (Alembic). Each must suit the previous code too: old and new nodes run side by side."""

import itertools
import logging
import os
import time
from functools import partial
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg.errors import LockNotAvailable
from sqlalchemy import Engine, create_engine, pool
from sqlalchemy.exc import OperationalError

from paletta_server.core.dbconnect import connect
from paletta_server.core.settings import Settings

log = logging.getLogger(__name__)

VERSIONS = Path(__file__).parent / "versions"
LOCK_SECONDS = 2
"""How long a migration waits for a table, and with it everybody who comes after it: less than people notice as an
outage, and far less than `lock_timeout` of the service's own connections."""
LIMITS = {"lock_timeout": f"{LOCK_SECONDS}s", "statement_timeout": "60s"}
"""A migration holds its locks until it commits: what takes longer belongs into jobs or `online`."""
TRIES, PAUSE_SECONDS = 40, 3.0
"""Three minutes in all and more: a long transaction of the service ends within 60 s, a backup's within minutes."""


def config(settings: Settings) -> Config:
    """Alembic's configuration for this database; there is no ini file."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent))
    made.attributes["engine"] = partial(_engine, settings)
    return made


def _engine(settings: Settings) -> Engine:
    return create_engine(settings.sqlalchemy_url, poolclass=pool.NullPool, creator=lambda: connect(settings))


def migrate(settings: Settings, revision: str = "head", *, beside: Path | None = None) -> None:
    """Bring the database to `revision`. Safe to run from several nodes at once: one does it, the others wait.

    Beside a service that runs: a migration that does not get its lock within LOCK_SECONDS lets everybody pass who
    queued up behind it, and tries again a little later. `beside` is a folder of further migrations. Raises
    OperationalError where the lock was not to be had in all of TRIES.
    """
    chosen = config(settings)
    if beside is not None:
        chosen.set_main_option("path_separator", "os")
        chosen.set_main_option("version_locations", os.pathsep.join([str(VERSIONS), str(beside)]))
    for attempt in itertools.count(1):
        try:
            command.upgrade(chosen, revision)
            return
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable) or attempt == TRIES:
                raise
            log.warning(
                "a migration waits for a lock that somebody holds", extra={"try": attempt, "of": TRIES}
            )
            time.sleep(PAUSE_SECONDS)


def revisions() -> list[str]:
    """All revisions that this code knows, the oldest first."""
    script = ScriptDirectory(str(Path(__file__).parent))
    return [one.revision for one in script.walk_revisions()][::-1]


def versions(settings: Settings) -> tuple[str | None, str | None]:
    """The revision that the database is at, and the one that this code wants."""
    engine = _engine(settings)
    try:
        with engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()
    return current, ScriptDirectory.from_config(config(settings)).get_current_head()
