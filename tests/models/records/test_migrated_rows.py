"""What is in the database of an earlier release is there after an upgrade."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext

from models.records import migrations
from models.records.database import Database

TABLES = (
    "customers", "api_keys", "files", "models", "jobs", "job_events", "model_versions", "aliases", "usage_records",
)  # fmt: skip
VERSIONS = Path(migrations.__file__).parent / "versions"


def fill(path: Path) -> None:
    """Put a row into every table, each with the id "x", which those of other tables belong to."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        for table in TABLES:
            values = {
                name: "{}" if kind == "JSON" else "x" if kind.startswith("VARCHAR") else 1
                for _, name, kind, needed, default, key in connection.execute(f"PRAGMA table_info({table})")
                if (needed or key) and default is None
            }
            names, marks = ", ".join(f'"{name}"' for name in values), ", ".join("?" * len(values))
            connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", [*values.values()])  # noqa: S608


def count(path: Path) -> dict[str, int]:
    with sqlite3.connect(path) as connection:
        return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}  # noqa: S608


def enforces(database: Database) -> bool:
    with database.engine.connect() as connection:
        return bool(connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one())


def test_every_revision_keeps_every_row(tmp_path: Path) -> None:
    """Revision 0007 took all versions and events of an embedded installation with it, and the sweeper their weights."""
    path = tmp_path / "graft.db"
    database = Database(f"sqlite:///{path}")
    migrations.upgrade(database.engine, "0001")
    fill(path)
    for file in sorted(VERSIONS.glob("[0-9]*.py")):
        migrations.upgrade(database.engine, file.name[:4])
        assert count(path) == dict.fromkeys(TABLES, 1), file.name
        assert enforces(database)
    database.close()


def test_a_table_that_is_copied_takes_no_rows_of_others_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "graft.db"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    fill(path)

    def copy(config: Config, revision: str) -> None:
        """A revision of tomorrow: SQLite changes most things by a copy."""
        operations = Operations(MigrationContext.configure(config.attributes["connection"]))
        for table in ("jobs", "models"):
            with operations.batch_alter_table(table, recreate="always"):
                pass

    monkeypatch.setattr(command, "upgrade", copy)
    database.migrate()
    assert count(path) == dict.fromkeys(TABLES, 1)
    assert enforces(database)
    database.close()


def test_a_revision_that_leaves_rows_behind_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "graft.db"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    fill(path)

    def drop(config: Config, revision: str) -> None:
        config.attributes["connection"].exec_driver_sql("DELETE FROM jobs")

    monkeypatch.setattr(command, "upgrade", drop)
    with pytest.raises(RuntimeError, match="nothing was changed"):
        database.migrate()
    assert count(path) == dict.fromkeys(TABLES, 1)
    assert enforces(database)
    database.close()
