"""The object store: one interface, a local directory and S3 behind it."""

from __future__ import annotations

from pathlib import Path

from models.settings import Settings
from models.storage.filesystem import DirectoryStore
from models.storage.store import ObjectStore


def open_store(settings: Settings) -> ObjectStore:
    """Open the store that the settings name: `s3://bucket/prefix` or a folder. Touches no network."""
    location = settings.resolved_object_store
    if not location.startswith("s3://"):
        return DirectoryStore(Path(location))
    from models.storage.s3 import S3Connection, S3Store  # noqa: PLC0415 — boto3 is slow to import and not needed for a folder

    bucket, _, prefix = location.removeprefix("s3://").partition("/")
    access_key, secret_key = settings.s3_access_key_id, settings.s3_secret_access_key
    connection = S3Connection(
        endpoint_url=settings.s3_endpoint_url,
        region=settings.s3_region,
        access_key_id=access_key.get_secret_value() if access_key else None,
        secret_access_key=secret_key.get_secret_value() if secret_key else None,
    )
    return S3Store(bucket, prefix, connection)
