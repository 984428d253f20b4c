"""Metered usage on the wire."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from api.schemas.base import Object, UnixSeconds
from models.services.usage import UsageSummary


class UsageBucket(Object):
    """Usage of one hour or day, by kind and model."""

    object: Literal["usage.bucket"] = "usage.bucket"
    id: str = Field(description="The cursor: `after` of the next page.")
    start_time: UnixSeconds = Field(description="Start of the hour or of the day in UTC, Unix seconds.")
    end_time: UnixSeconds
    kind: str | None = Field(description="training, prediction, embedding, storage; null: all of them.")
    model: str | None = Field(description="The model's full name, empty for stored files; null: all of them.")
    requests: int = Field(description="Number of requests, or of jobs.")
    rows: int = Field(description="Rows that were answered or trained on.")
    tokens: int = Field(description="Tokens that were read.")
    seconds: float = Field(description="Seconds of training, or of the engine's time.")
    byte_days: float = Field(description="Stored bytes times days: 24 hours of 1 MB are 1,000,000.")


def usage_bucket(row: UsageSummary, *, width_s: int, by_kind: bool, by_model: bool) -> UsageBucket:
    """Return a sum in its wire form."""
    return UsageBucket(
        id=row.id,
        start_time=row.start,
        end_time=row.start + width_s,
        kind=row.kind if by_kind else None,
        model=row.model if by_model else None,
        requests=row.requests,
        rows=row.rows,
        tokens=row.tokens,
        seconds=row.seconds,
        byte_days=row.byte_days,
    )
