"""Files on the wire."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from api.schemas.base import Object, UnixSeconds
from models.records.files import File

PURPOSE = "fine-tune"


class FileObject(Object):
    """An uploaded data set, validated and immutable, or what a job has left."""

    object: Literal["file"] = "file"
    id: str = Field(description="`file-…`.")
    bytes: int = Field(description="Its size.")
    created_at: UnixSeconds
    filename: str = Field(description="The name that it was uploaded under.")
    purpose: str = Field(
        description="`fine-tune`, `validation` for a file to score on, `unlabeled` for rows without labels, or "
        "`fine-tune-results` for what a job has left."
    )
    status: Literal["processed"] = Field("processed", description="A file exists only when it was found valid.")
    status_details: str | None = Field(None, description="Always null.")
    expires_at: int | None = Field(None, description="Always null: files stay until they are deleted.")
    sha256: str = Field(description="Hash of its content.")
    format: str | None = Field(None, description="csv, tsv, jsonl, parquet, chat, zip, ….")
    task: str | None = Field(None, description="What can be learned from it; of rows without labels what they are.")
    rows: int | None = Field(None, description="Number of rows.")
    columns: dict[str, str] = Field(description="Canonical name → the file's own name.")
    labels: dict[str, int] = Field(description="Label → number of rows that carry it.")
    warnings: list[dict[str, Any]] = Field(
        description="Findings that are no errors: `code`, `message`, `count`, `rows`."
    )


def file_object(file: File) -> FileObject:
    """Return a row in its wire form. A file exists only when it was found valid, so it is always `processed`."""
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
