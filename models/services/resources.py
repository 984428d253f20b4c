"""The control plane's parts that every use case works with, opened once per process."""

from __future__ import annotations

from dataclasses import dataclass

from models.records.audit import SYSTEM, Actor
from models.records.database import Database
from models.services.queue import JobQueue
from models.services.validation.pool import ValidationPool, open_pool
from models.settings import Settings
from models.storage import open_store
from models.storage.store import ObjectStore


@dataclass(frozen=True, slots=True)
class Resources:
    """The settings, the database, the store, the queue and who reads uploads, as one actor uses them.

    Threads may share it.
    """

    settings: Settings
    database: Database
    store: ObjectStore
    queue: JobQueue
    validations: ValidationPool
    actor: Actor = SYSTEM

    def close(self) -> None:
        """Close every connection, and end the processes that read uploads."""
        self.validations.close()
        self.queue.close()
        self.database.close()


def open_resources(settings: Settings) -> Resources:
    """Open what the settings name. Nothing is contacted, and no process started, before it is used."""
    return Resources(
        settings=settings,
        database=Database(settings.resolved_database_url),
        store=open_store(settings),
        queue=JobQueue(settings.broker_url),
        validations=open_pool(settings),
    )
