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
    top_k: int | None = Field(
        None,
        description="How many of the best labels to return, 1 if it is not given; of boxes, at most so many of a "
        "picture, all if it is not given. Refused for models whose answers have neither.",
        ge=1,
        le=1000,
    )
    min_score: float | None = Field(
        None,
        description="Of boxes: the score that they must reach, in place of the one that the version found best on "
        "held-out pictures. Below 0.02 no box is kept. Refused for models of anything else.",
        ge=0,
        le=1,
    )


class ScoredLabel(Object):
    """A label and its probability."""

    label: str = Field(description="The label.")
    score: float = Field(description="Its probability, calibrated.")


class LabelPrediction(Object):
    """One label: of a text, a picture or a sound."""

    label: str = Field(description="The most probable label.")
    score: float = Field(description="Its probability, calibrated.")
    top: list[ScoredLabel] = Field(description="The `top_k` most probable labels.")


class LabelsPrediction(Object):
    """Any number of labels."""

    labels: list[str] = Field(description="Labels over their thresholds, the most probable first.")
    scores: dict[str, float] = Field(description="The probability of every label.")
    top: list[ScoredLabel] = Field(description="The `top_k` most probable labels.")


class ValuePrediction(Object):
    """A number."""

    value: float = Field(description="The value.")
    low: float | None = Field(None, description="Nine of ten true values lie above this.")
    high: float | None = Field(None, description="Nine of ten true values lie below this.")


class SpanObject(Object):
    """A labelled stretch of the text."""

    start: int = Field(description="Its first character, from 0.")
    end: int = Field(description="One past its last character.")
    label: str = Field(description="Its label.")
    score: float = Field(description="The probability of its least probable word.")
    text: str = Field(description="The characters themselves.")


class SpansPrediction(Object):
    """The spans of a text, in its order."""

    spans: list[SpanObject] = Field(description="The spans; empty: there is none.")


class BoxEdges(Object):
    """The edges of a box in pixels of the picture as it is seen, upright whatever its EXIF says."""

    left: float = Field(description="From its left edge.")
    top: float = Field(description="From its top.")
    right: float = Field(description="From its left edge.")
    bottom: float = Field(description="From its top.")


class BoxObject(Object):
    """Something that was found in a picture."""

    label: str = Field(description="Its label.")
    score: float = Field(description="How sure the model is of label and box, from 0 to 1.")
    box: BoxEdges = Field(description="Where it is.")


class BoxesPrediction(Object):
    """What was found in a picture, the surest first."""

    boxes: list[BoxObject] = Field(description="The boxes; empty: there is none.")


Prediction = LabelPrediction | LabelsPrediction | ValuePrediction | SpansPrediction | BoxesPrediction


class PredictionUsage(Object):
    """The cost of the request."""

    rows: int = Field(description="Inputs.")
    tokens: int = Field(description="Tokens that were read.")


class PredictionList(Object):
    """The answers, in the order of the inputs."""

    object: Literal["prediction.list"] = "prediction.list"
    model: str = Field(description="The full name of the model that answered.")
    version: int = Field(description="The version that answered.")
    task: str = Field(description="What it learned: it decides which form the predictions have.")
    predictions: list[Prediction] = Field(description="One per input, in the form of the task.")
    truncated: list[int] = Field(
        description="Inputs, from 0, that are not read to their end (more than 8,192 tokens; with versions of before "
        "there were windows, more than the base's input): their answers are about what comes before."
    )
    usage: PredictionUsage = Field(description="What the request cost.")
    timings: dict[str, float] = Field(description="Milliseconds, by stage.")
