"""What a body asks of a model that writes: the parameters that chat and completions have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from api.errors import InvalidBody
from models.serving.writing import SamplingParams

_MOST_STOPS = 16
_MOST_BIASES = 300
_MOST_LEVELS = 64  # of JSON inside JSON: a schema is walked by code that calls itself


class SamplingBody(Protocol):
    """The fields of a body that steer how an answer is written."""

    temperature: float | None
    top_p: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    stop: str | list[str] | None
    seed: int | None
    logit_bias: Any


def sampling_of(body: SamplingBody, *, max_tokens: int | None, logprobs: int | None) -> SamplingParams:
    """Return the parameters, OpenAI's defaults where nothing is said. Raises InvalidBody."""
    stops = [body.stop] if isinstance(body.stop, str) else body.stop or []
    if len(stops) > _MOST_STOPS or not all(stops):
        raise InvalidBody(reason=f"stop takes up to {_MOST_STOPS} strings, none of them empty.", param="stop")
    return SamplingParams(
        max_tokens=max_tokens,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        seed=body.seed,
        stop=tuple(stops),
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        logit_bias=_biases(body.logit_bias),
        logprobs=logprobs,
    )


def schema_of(response_format: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return the JSON schema of the answer, None for a text. Raises InvalidBody."""
    kind = None if response_format is None else response_format.get("type")
    if response_format is None or kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    if kind != "json_schema":
        raise InvalidBody(
            reason="response_format.type is text, json_object or json_schema.", param="response_format.type"
        )
    wrapped = response_format.get("json_schema")
    schema = wrapped.get("schema") if isinstance(wrapped, dict) else None
    require_shallow(schema, param="response_format.json_schema")
    if not isinstance(schema, dict):
        raise InvalidBody(
            reason='response_format.json_schema needs a schema: {"name": "…", "schema": {"type": "object", …}}.',
            param="response_format.json_schema",
        )
    return schema


def require_shallow(value: Any, *, param: str) -> None:
    """Raise InvalidBody for JSON so deep that whatever walks down it may run out of stack."""
    level, depth = [value], 0
    while level:
        if depth > _MOST_LEVELS:
            reason = f"{param} is nested more than {_MOST_LEVELS} levels deep. Define the inner parts in $defs."
            raise InvalidBody(reason=reason, param=param)
        inner = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list))
        level, depth = [value for values in inner for value in values], depth + 1


def _biases(given: Any) -> dict[int, float]:
    if given is None:
        return {}
    reason = f"logit_bias maps up to {_MOST_BIASES} token ids to numbers from -100 to 100."
    if not isinstance(given, dict) or len(given) > _MOST_BIASES:
        raise InvalidBody(reason=reason, param="logit_bias")
    try:
        biases = {int(token): float(bias) for token, bias in given.items()}
    except (TypeError, ValueError) as error:
        raise InvalidBody(reason=reason, param="logit_bias") from error
    if not all(-100 <= bias <= 100 for bias in biases.values()):
        raise InvalidBody(reason=reason, param="logit_bias")
    return biases
