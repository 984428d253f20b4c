"""The text fields of an upload."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from api.schemas.base import Body, Columns


class CreateFile(Body):
    """The fields beside the file."""

    purpose: Literal["fine-tune", "validation", "evals", "unlabeled"] = Field(
        "fine-tune",
        description="`fine-tune`; `validation` (also `evals`) for a file to score on; `unlabeled` for rows without "
        "labels.",
    )
    task: str | None = Field(None, description="Inferred from the columns if none is given.", max_length=40)
    columns: Columns | None = Field(None, description='JSON, e.g. {"text": "body", "label": "queue"}.')
