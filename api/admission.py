"""Route classes: the caller is admitted before a byte of the body is read or a parameter is looked at."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from api import context
from api.authentication import Audience, admit
from api.errors import render
from api.json_bodies import JsonRequest
from models.errors import GraftError

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class _Guarded(APIRoute):
    audience: ClassVar[Audience]

    def get_route_handler(self) -> Handler:
        """Return FastAPI's handler after admission; JSON bodies are read here, where their size is bounded."""
        answer = super().get_route_handler()
        audience = self.audience
        reads_json = self.body_field is not None

        async def guard(request: Request) -> Response:
            await admit(request, audience)
            if reads_json:
                request = JsonRequest(request.scope, request.receive)
                await request.load(context.of(request).settings.body_limit_bytes)
            return await answer(request)

        return guard


class CustomerRoute(_Guarded):
    """A route for customers' keys."""

    audience = "customer"


class OperatorRoute(_Guarded):
    """A route for the operator's key."""

    audience = "operator"


class DirectRoute(CustomerRoute):
    """A route for customers' keys on the hot path: the endpoint takes the request, FastAPI only documents it."""

    def __init__(self, path: str, endpoint: Handler, **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.app = _direct(endpoint, self.audience)


def _direct(answer: Handler, audience: Audience) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            await admit(request, audience)
            response = await answer(request)
        except GraftError as error:
            response = render(error)
        await response(scope, receive, send)

    return app
