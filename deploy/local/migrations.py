"""`python -m deploy.local.migrations`: bring the database's schema up to date, once, before anything uses it."""

from __future__ import annotations

from models.records.database import Database
from models.settings import Settings, load


def migrate(settings: Settings) -> None:
    """Upgrade to the newest schema. Safe when several start at once."""
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    Database(settings.resolved_database_url).migrate()


if __name__ == "__main__":
    migrate(load())
