"""/v1/models/{model}/predict: a customer's own endpoint. The hot path: no database, no pydantic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from api import context, json_bodies, uploads
from api.admission import DirectRoute, needs
from api.authentication import customer_of
from api.disconnection import unless_gone
from api.documentation import answers
from api.errors import InvalidBody, hint_at, shorten
from api.schemas.prediction import Predict, PredictionList
from models.datasets.examples import Media
from models.serving.predictor import PredictCall
from models.settings import Settings

router = APIRouter(tags=["prediction"], route_class=DirectRoute)

_MOST_LABELS = 1_000
_TOP_K_DIGITS = len(str(_MOST_LABELS))
_FIELDS = ("inputs", "input", "top_k", "min_score")
_BODY = {
    "parameters": [
        {
            "name": "model",
            "in": "path",
            "required": True,
            "schema": {"type": "string"},
            "example": "first-steps",
            "description": "A name, a full name (`ft:…`), or either with `@version`.",
        }
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": Predict.model_json_schema(),
                "examples": {
                    "many": {"value": {"inputs": ["Where is my card?", "I was charged twice"], "top_k": 2}},
                    "one": {"value": {"input": "Where is my card?"}},
                },
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "Pictures or sounds.",
                        },
                        "top_k": {"type": "integer", "minimum": 1},
                        "min_score": {"type": "number", "minimum": 0, "maximum": 1},
                    },
                    "additionalProperties": {
                        "type": "string",
                        "format": "binary",
                        "description": "Files of any other name.",
                    },
                }
            },
        },
    },
}


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request, read."""

    inputs: list[Any]
    top_k: int | None
    min_score: float | None


@router.post(
    "/v1/models/{model}/predict",
    response_model=PredictionList,
    openapi_extra=_BODY,
    responses=answers(400, 401, 403, 404, 409, 413, 429, 503),
    dependencies=[needs("predict")],
)
async def predict(request: Request) -> Response:
    """Predict one input or many. The predictions come back in the order of the inputs.

    Pictures and sounds are sent as base64 in JSON, `{"input": {"image": "/9j/4AAQ…"}}` or `{"audio": "UklGR…"}`, or as
    the files of a form, `-F file=@a.jpg -F file=@b.jpg`, at most 64 of them, with `top_k` and `min_score` as fields
    beside them.
    """
    parts, predictor = context.of(request), context.predictor_of(request)
    if uploads.is_multipart(request):
        asked = await _read_form(request, parts.settings)
    else:
        body = await json_bodies.read(request, parts.settings.body_limit_bytes)
        asked = _read(body, parts.settings.max_inputs)
    caller = customer_of(request)
    call = PredictCall(
        customer_id=caller.customer_id,
        customer_name=caller.customer_name,
        model_ref=request.path_params["model"],
        inputs=asked.inputs,
        top_k=asked.top_k,
        min_score=asked.min_score,
    )
    answer = await unless_gone(request, predictor.predict(call))
    parts.metrics.predicted_rows.inc(len(asked.inputs))
    return Response(
        orjson.dumps(
            {
                "object": "prediction.list",
                "model": answer.full_name,
                "version": answer.version,
                "task": answer.task,
                "predictions": answer.predictions,
                "truncated": answer.truncated,
                "usage": answer.usage,
                "timings": answer.timings,
            },
            option=orjson.OPT_SERIALIZE_NUMPY,
        ),
        media_type="application/json",
    )


async def _read_form(request: Request, settings: Settings) -> _Asked:
    """The files of a multipart form in their order, and its other fields; raises InvalidForm and InvalidBody."""
    folder = uploads.folder_of(settings)
    limit = settings.body_limit_bytes
    async with uploads.receive(request, folder=folder, limit=limit, same_names=True) as form:
        inputs = [Media(file.filename, await run_in_threadpool(file.path.read_bytes)) for file in form.in_order]
        body: dict[str, Any] = {"inputs": inputs, **form.fields}
    for name in ("top_k", "min_score"):
        if name in form.files:
            reason = (
                f"{name} is a file here. Send it as a plain field beside the files: curl -F {name}=…, without the @."
            )
            raise InvalidBody(reason=reason, param=name)
    if "top_k" in form.fields:
        text = form.fields["top_k"]
        # Python refuses to read thousands of digits; any number that long is refused below, like any other text.
        body["top_k"] = int(text) if text.isdecimal() and len(text) <= _TOP_K_DIGITS else text
    if "min_score" in form.fields:
        body["min_score"] = _number(form.fields["min_score"])
    if "inputs" in form.fields or "input" in form.fields:
        raise InvalidBody(reason="In a form, the inputs are files; send texts as JSON.", param="inputs")
    return _read(body, settings.max_inputs)


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _read(body: Any, max_inputs: int) -> _Asked:
    """Return what a parsed body asks; raises InvalidBody."""
    if not isinstance(body, dict):
        raise InvalidBody(reason='The body must be a JSON object such as {"inputs": ["..."]}.')
    for name in body:
        if name not in _FIELDS:
            raise InvalidBody(reason=f"Unknown field '{shorten(name)}'.{hint_at(name, _FIELDS)}", param=shorten(name))
    if ("inputs" in body) == ("input" in body):
        raise InvalidBody(reason="Send either inputs (a list) or input (one).", param="inputs")
    inputs = body["inputs"] if "inputs" in body else [body["input"]]
    if not isinstance(inputs, list):
        raise InvalidBody(reason="inputs must be a list; send one input as input.", param="inputs")
    if not inputs:
        raise InvalidBody(reason="inputs is empty.", param="inputs")
    if len(inputs) > max_inputs:
        raise InvalidBody(reason=f"inputs holds {len(inputs)}, at most {max_inputs} are accepted.", param="inputs")
    top_k, min_score = body.get("top_k"), body.get("min_score")
    if top_k is not None and (type(top_k) is not int or not 1 <= top_k <= _MOST_LABELS):
        raise InvalidBody(reason=f"top_k must be a whole number from 1 to {_MOST_LABELS}.", param="top_k")
    if min_score is not None and (type(min_score) not in {int, float} or not 0 <= min_score <= 1):
        raise InvalidBody(reason="min_score must be a number from 0 to 1.", param="min_score")
    return _Asked(inputs, top_k, min_score)
