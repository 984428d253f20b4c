"""/v1/completions: a model that writes goes on from a text."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from api import context
from api.admission import CustomerRoute, needs
from api.authentication import Caller
from api.documentation import answers
from api.schemas.completions import CompletionObject, CreateCompletion
from api.writing import completions

router = APIRouter(tags=["prediction"], route_class=CustomerRoute)


@router.post(
    "/v1/completions",
    response_model=CompletionObject,
    responses=answers(400, 401, 403, 404, 409, 413, 429, 503),
    dependencies=[needs("predict")],
)
async def create(request: Request, body: CreateCompletion, caller: Caller) -> Response:
    """Write on from a text, or from each of several."""
    predictor = context.predictor_of(request)
    return await completions.answer(request, predictor, body, caller.customer_id)
