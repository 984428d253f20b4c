"""Route classes: who is let in is settled before a byte of the body is read or a parameter is looked at."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from fastapi import Request, Response
from fastapi.routing import APIRoute

from api import context
from api.authentication import Audience, admit
from api.json_bodies import JsonRequest

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class _Guarded(APIRoute):
    audience: ClassVar[Audience]

    def get_route_handler(self) -> Handler:
        """FastAPI's handler behind the door; JSON bodies are read here, where their size is bounded."""
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
    """For customers' keys."""

    audience = "customer"


class OperatorRoute(_Guarded):
    """For the operator's key."""

    audience = "operator"


class DirectRoute(CustomerRoute):
    """For customers' keys, on the hot path: the endpoint takes the request itself, FastAPI adds documentation only."""

    def get_route_handler(self) -> Handler:
        """The endpoint behind the door, with nothing between."""
        answer: Handler = self.endpoint
        audience = self.audience

        async def guard(request: Request) -> Response:
            await admit(request, audience)
            return await answer(request)

        return guard
