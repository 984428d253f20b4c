"""Orphaned objects: of deleted customers, of uploads that failed, of attempts that lost their lease."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog
from sqlalchemy.orm import Session

from models.records import customers, files, jobs, versions
from models.services.resources import Resources
from models.storage.errors import ObjectMissing
from models.storage.keys import Place, locate

# A file's object is stored before its row is written. An upload that takes longer than this between the two has died.
UPLOAD_S = 3_600.0
# Databases limit how many values a statement may name.
_IDS = 1_000

log = structlog.get_logger(__name__)


def find(resources: Resources, keys: Sequence[str]) -> list[str]:
    """Return the orphans among keys that were listed before this call.

    Keys of another shape are left alone unless their customer is gone; so are all weights of a model whose versions are
    not in the database though an alias names one: a backup may have them.
    """
    places = {key: place for key in keys if (place := locate(key)) is not None}
    with resources.database.reading() as session:
        owners = customers.known_ids(session, {place.customer_id for place in places.values()})
        file_ids = files.known_ids(session, {place.file_id for place in places.values() if place.file_id})
        # In this order: an attempt that ends between the two has published by the second.
        running = jobs.running_attempts(session, {place.job_id for place in places.values() if place.job_id})
        prefixes = {place.artifact_prefix for place in places.values() if place.artifact_prefix}
        published = versions.known_prefixes(session, prefixes)
        model_ids = {place.model_id for place in places.values() if place.model_id}
        damaged = versions.find_models_with_losses(session, model_ids)
        now = resources.database.now(session)

    if damaged:
        log.error("versions_are_missing", models=sorted(damaged), consequence="their weights are kept")

    def is_orphan(key: str, place: Place) -> bool:
        if place.customer_id not in owners:
            return True
        if place.artifact_prefix is not None:
            if place.model_id in damaged:
                return False
            return place.artifact_prefix not in published and (place.job_id, place.attempt) not in running
        if place.file_id is not None and place.file_id not in file_ids:
            return _age(resources, key, now) > UPLOAD_S
        return False

    return [key for key, place in places.items() if is_orphan(key, place)]


def unknown_customers(resources: Resources, customer_ids: Sequence[str]) -> set[str]:
    """Return the ids, of those found before this call, that are no customer's any more."""
    return _unknown(resources, customer_ids, customers.known_ids)


def unknown_jobs(resources: Resources, job_ids: Sequence[str]) -> set[str]:
    """Return the ids, of those found before this call, that are no job's any more."""
    return _unknown(resources, job_ids, jobs.known_ids)


def _unknown(
    resources: Resources, ids: Sequence[str], known_ids: Callable[[Session, Sequence[str]], set[str]]
) -> set[str]:
    unknown = set(ids)
    with resources.database.reading() as session:
        for start in range(0, len(ids), _IDS):
            unknown -= known_ids(session, ids[start : start + _IDS])
    return unknown


def _age(resources: Resources, key: str, now: float) -> float:
    try:
        return now - resources.store.modified_at(key)
    except ObjectMissing:
        return 0.0
