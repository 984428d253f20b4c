"""/v1/chat/completions: a model that writes answers in its own words, a classifier with its label."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from api import classified_chat, context
from api.admission import CustomerRoute, needs
from api.authentication import Caller
from api.documentation import answers
from api.schemas.chat import ChatCompletionObject, CreateChatCompletion
from api.writing import chat as written_chat

router = APIRouter(tags=["prediction"], route_class=CustomerRoute)


@router.post(
    "/v1/chat/completions",
    response_model=ChatCompletionObject,
    responses=answers(400, 401, 403, 404, 409, 413, 429, 503),
    dependencies=[needs("predict")],
)
async def create(request: Request, body: CreateChatCompletion, caller: Caller) -> Response:
    """Write the assistant's next message; of a classifier, it is the label of the user's last one.

    A model of values answers with the number, one of spans or boxes with the JSON that `predict` gives. A model of
    pictures reads the one `image_url` of that message, a data URL, one of sounds its `input_audio`; a text beside them
    is not read. Pairs of texts are not messages: they are for `predict` alone.
    """
    predictor = context.predictor_of(request)
    if await predictor.writes(caller.customer_id, body.model):
        return await written_chat.answer(request, predictor, body, caller.customer_id)
    return await classified_chat.answer(request, predictor, body, caller.customer_id, caller.customer_name)
