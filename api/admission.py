"""Route classes: the caller is admitted before a byte of the body is read or a parameter is looked at."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from fastapi import Request, Response
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Depends as DependsParameter
from fastapi.params import Query
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from api import context
from api.authentication import Audience, Guard, admit
from api.documentation import SCOPES
from api.errors import InvalidQuery, hint_at, render, shorten
from api.json_bodies import JsonRequest
from api.schemas.base import Listing
from models.errors import GraftError
from models.services.access.scopes import KeyScope

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Scopes:
    """The scopes of which a route asks for one, among its dependencies."""

    def __init__(self, *scopes: KeyScope) -> None:
        self.scopes = scopes

    async def __call__(self) -> None:
        """Do nothing: the route's guard looks at the scopes before it looks at anything else."""


def needs(*scopes: KeyScope) -> DependsParameter:
    """Declare what a customer's key has to be allowed for a route: one of these."""
    return DependsParameter(Scopes(*scopes))


class _Guarded(APIRoute):
    audience: ClassVar[Audience]

    def __init__(self, path: str, endpoint: Handler, **options: Any) -> None:
        dependencies = options.get("dependencies") or ()
        declared = [found.dependency for found in dependencies if isinstance(found.dependency, Scopes)]
        self.guard = Guard(self.audience, tuple(scope for scopes in declared for scope in scopes.scopes))
        if (self.audience == "customer") != bool(self.guard.scopes):
            raise TypeError(f"{path}: a customer's route declares the scopes that it needs, and no other route does")
        # The guard has them; as a dependency they would cost every request a call.
        options["dependencies"] = [found for found in dependencies if not isinstance(found.dependency, Scopes)]
        if self.guard.scopes:
            options["openapi_extra"] = {**(options.get("openapi_extra") or {}), SCOPES: list(self.guard.scopes)}
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Handler:
        """Return FastAPI's handler after admission; JSON bodies are read here, where their size is bounded."""
        answer = super().get_route_handler()
        guard = self.guard
        reads_json = self.body_field is not None
        known = self._filters()

        async def admitted(request: Request) -> Response:
            await admit(request, guard)
            if known is not None:
                _refuse_unknown(request, known)
            if reads_json:
                request = JsonRequest(request.scope, request.receive)
                await request.load(context.of(request).settings.body_limit_bytes)
            return await answer(request)

        return admitted

    def _filters(self) -> list[str] | None:
        """Return the query parameters of a list, with or without pages; None for other routes."""
        if not (isinstance(self.response_model, type) and issubclass(self.response_model, Listing)):
            return None
        declared = get_flat_params(self.dependant)
        known = [parameter.alias for parameter in declared if isinstance(parameter.field_info, Query)]
        documented = (self.openapi_extra or {}).get("parameters", [])
        return [*known, *(parameter["name"] for parameter in documented)]


def _refuse_unknown(request: Request, known: list[str]) -> None:
    # A filter that is not one would silently list everything.
    for name in request.query_params:
        if name not in known and re.sub(r"\[.*\]$", "[key]", name) not in known:
            hint = hint_at(name, known) if known else " This list takes none."
            reason = f"Unknown query parameter '{shorten(name)}'.{hint}"
            raise InvalidQuery(reason=reason, param=shorten(name))


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
        self.app = _direct(endpoint, self.guard)


def _direct(answer: Handler, guard: Guard) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            await admit(request, guard)
            response = await answer(request)
        except GraftError as error:
            response = render(error)
        await response(scope, receive, send)

    return app
