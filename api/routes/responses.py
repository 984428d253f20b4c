"""/v1/responses: a model that writes answers, in OpenAI's newer form."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from api import context
from api.admission import CustomerRoute, needs
from api.authentication import Caller
from api.documentation import answers
from api.schemas.responses import CreateResponse, ResponseObject
from api.writing import responses

router = APIRouter(tags=["prediction"], route_class=CustomerRoute)


@router.post(
    "/v1/responses",
    response_model=ResponseObject,
    responses=answers(400, 401, 403, 404, 409, 413, 429, 503),
    dependencies=[needs("predict")],
)
async def create(request: Request, body: CreateResponse, caller: Caller) -> Response:
    """Write an answer to a text or a conversation. Nothing is stored, and no functions are called."""
    predictor = context.predictor_of(request)
    return await responses.answer(request, predictor, body, caller.customer_id)
