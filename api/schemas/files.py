"""Files on the wire."""

from __future__ import annotations

from typing import Any, Literal

from api.schemas.base import Object, UnixSeconds
from models.records.files import File

PURPOSE = "fine-tune"


class FileObject(Object):
    """An uploaded data set, validated and immutable."""

    object: Literal["file"] = "file"
    id: str
    bytes: int
    created_at: UnixSeconds
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    status_details: str | None = None
    expires_at: int | None = None
    sha256: str
    format: str | None = None
    task: str | None = None
    rows: int | None = None
    columns: dict[str, str]
    labels: dict[str, int]
    warnings: list[dict[str, Any]]


def file_object(file: File) -> FileObject:
    """A row as the wire has it. A file exists only when it was found valid, so it is always `processed`."""
    profile = file.profile
    return FileObject(
        id=file.id,
        bytes=file.bytes,
        created_at=int(file.created_at),
        filename=file.filename,
        purpose=file.purpose,
        sha256=file.sha256,
        format=profile.get("format"),
        task=profile.get("task"),
        rows=profile.get("rows"),
        columns=profile.get("columns") or {},
        labels=profile.get("labels") or {},
        warnings=profile.get("warnings") or [],
    )
