"""Metered usage on the wire."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from api.schemas.base import Object, UnixSeconds
from models.services.usage import HOUR_S, UsageSummary


class UsageBucket(Object):
    """Usage of one hour, by kind and model."""

    object: Literal["usage.bucket"] = "usage.bucket"
    start_time: UnixSeconds = Field(description="Start of the hour, Unix seconds.")
    end_time: UnixSeconds
    kind: str = Field(description="training, predict, embeddings, ….")
    model: str = Field(description="The model's full name.")
    requests: int = Field(description="Number of requests, or of jobs.")
    rows: int = Field(description="Rows that were answered or trained on.")
    tokens: int = Field(description="Tokens that were read.")
    seconds: float = Field(description="Seconds of training.")


def usage_bucket(row: UsageSummary) -> UsageBucket:
    """Return a sum in its wire form."""
    return UsageBucket(
        start_time=row.hour,
        end_time=row.hour + HOUR_S,
        kind=row.kind,
        model=row.model,
        requests=row.requests,
        rows=row.rows,
        tokens=row.tokens,
        seconds=row.seconds,
    )
