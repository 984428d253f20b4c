"""/v1/embeddings: the base model's own vectors."""

from __future__ import annotations

import base64

import numpy as np
import orjson
from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from api import context
from api.admission import CustomerRoute, needs
from api.authentication import Caller
from api.disconnection import unless_gone
from api.documentation import answers
from api.errors import InvalidBody
from api.schemas.embeddings import CreateEmbeddings, EmbeddingList
from models.backbones import registry
from models.serving.predictor import Embedded

router = APIRouter(tags=["prediction"], route_class=CustomerRoute)


@router.post(
    "/v1/embeddings",
    response_model=EmbeddingList,
    responses=answers(400, 401, 403, 404, 413, 429, 503),
    dependencies=[needs("predict")],
)
async def create(request: Request, body: CreateEmbeddings, caller: Caller) -> Response:
    """Embed a text or several with a base model."""
    parts, predictor = context.of(request), context.predictor_of(request)
    texts = [body.input] if isinstance(body.input, str) else body.input
    if not 0 < len(texts) <= parts.settings.max_inputs:
        raise InvalidBody(
            reason=f"input holds {len(texts)} texts; 1 to {parts.settings.max_inputs} are accepted.", param="input"
        )
    entry = registry.find(parts.settings, body.model or parts.settings.base_model)
    if body.dimensions not in {None, entry.width}:
        raise InvalidBody(
            reason=f"{entry.name} has {entry.width} dimensions; shortening them is not offered.", param="dimensions"
        )
    embedding = predictor.embed(texts, entry.name, customer_id=caller.customer_id)
    embedded = await unless_gone(request, embedding)
    parts.metrics.embedded_rows.inc(len(texts))
    content = await run_in_threadpool(_render, entry.name, embedded, body.encoding_format)
    return Response(content, media_type="application/json")


def _render(model: str, embedded: Embedded, encoding: str) -> bytes:
    matrix_ND = np.ascontiguousarray(embedded.vectors_ND, dtype="<f4")
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(row_D.tobytes()).decode() if encoding == "base64" else row_D,
        }
        for index, row_D in enumerate(matrix_ND)
    ]
    usage = {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens}
    answer = {"object": "list", "model": model, "data": data, "truncated": embedded.truncated, "usage": usage}
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
