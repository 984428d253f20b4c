"""Schema migrations. `upgrade` runs them in process; a new one is made with `revise` and then read by a human."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

log = structlog.get_logger(__name__)

# The key of the advisory lock: any number that no other user of this database takes.
_LOCK = 0x6772616674


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring the schema to a revision, in one transaction. Whoever comes second waits and finds nothing to do.

    A schema of a newer release stays as it is: who goes back to old processes keeps it, and they run on it.
    """
    with _begin(engine) as connection:
        if connection.dialect.name == "postgresql":
            # Released with the transaction, also if this process dies. Other statements' 30 s are too short here.
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        # SQLite: the transaction began as IMMEDIATE and holds the only writing lock.
        config = _configure(connection)
        current = MigrationContext.configure(connection).get_current_revision()
        if current is not None and current not in _known(config):
            log.warning("schema_of_a_newer_release", revision=current)
            return
        command.upgrade(config, revision)


@contextmanager
def _begin(engine: Engine) -> Iterator[Connection]:
    """Begin a transaction in which a table may be made anew: rows of others that belong to its rows stay.

    SQLite cannot change a column in place: the table is copied, dropped and renamed, and while it enforces foreign keys
    a drop deletes the rows first, with all that cascades from them. It can be told so outside of a transaction alone.
    """
    with engine.connect() as connection:
        if connection.dialect.name != "sqlite":
            with connection.begin():
                yield connection
            return
        driver = connection.connection.cursor()
        driver.execute("PRAGMA foreign_keys = OFF")
        try:
            with connection.begin():
                yield connection
                if lost := connection.execute(text("PRAGMA foreign_key_check")).fetchall():
                    raise RuntimeError(f"{len(lost)} rows refer to none after the migration: nothing was changed")
        finally:
            driver.execute("PRAGMA foreign_keys = ON")
            driver.close()


def revise(engine: Engine, message: str, number: str) -> None:
    """Write a new revision from the difference between the tables and the database."""
    with engine.begin() as connection:
        command.revision(_configure(connection), message, autogenerate=True, rev_id=number)


def _known(config: Config) -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}


def _configure(connection: Connection) -> Config:
    config = Config()
    # The configuration parser would read a percent sign in the path as an interpolation.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
