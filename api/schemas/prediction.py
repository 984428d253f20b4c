"""Predictions on the wire. Documentation only: the hot path builds and reads these by hand."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from api.schemas.base import Body, Object


class Predict(Body):
    """One input or many for one model."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"inputs": ["Where is my card?", "I was charged twice"], "top_k": 2},
                {"input": "Where is my card?"},
                {"input": {"text": "A plane is taking off.", "text_pair": "An air plane is taking off."}},
            ]
        }
    )

    inputs: list[Any] | None = Field(
        None,
        description="Many inputs: texts, or what the model was trained on. The predictions come back in their order.",
    )
    input: Any = Field(None, description="One input.")
    top_k: int = Field(1, description="How many of the best labels to tell.", ge=1, le=1000)


class PredictionUsage(Object):
    """What the request cost."""

    rows: int
    tokens: int


class PredictionList(Object):
    """The answers, in the order of the inputs."""

    object: Literal["prediction.list"] = "prediction.list"
    model: str
    version: int
    task: str
    predictions: list[dict[str, Any]] = Field(
        description="One per input, by task: `label`, `score` and `top`; `labels`, `scores` and `top` where a row may "
        "have several; `value`, between `low` and `high` for nine of ten; `spans` of `start`, `end` (characters, "
        "exclusive), `label`, `score` and `text`."
    )
    usage: PredictionUsage
    timings: dict[str, float] = Field(description="Milliseconds, by stage.")
