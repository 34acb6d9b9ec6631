"""Schema migrations (Alembic). Each must suit the previous code too: old and new nodes run side by side."""

from functools import partial
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, pool

from paletta_server.core.dbconnect import connect
from paletta_server.core.settings import Settings


def config(settings: Settings) -> Config:
    """Alembic's configuration for this database; there is no ini file."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent))
    made.attributes["engine"] = partial(_engine, settings)
    return made


def _engine(settings: Settings) -> Engine:
    return create_engine(settings.sqlalchemy_url, poolclass=pool.NullPool, creator=lambda: connect(settings))


def migrate(settings: Settings, revision: str = "head") -> None:
    """Bring the database to `revision`. Safe to run from several nodes at once: one does it, the others wait."""
    command.upgrade(config(settings), revision)


def versions(settings: Settings) -> tuple[str | None, str | None]:
    """The revision that the database is at, and the one that this code wants."""
    engine = _engine(settings)
    try:
        with engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()
    return current, ScriptDirectory.from_config(config(settings)).get_current_head()
