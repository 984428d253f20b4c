"""The one place where errors become answers: `{"error": {"message", "type", "param", "code", "details"}}`."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterable
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.errors import Conflict, GraftError, InvalidRequest, NotFound, TooLarge

log = structlog.get_logger("graft.api")

_DETAILS_SHOWN = 100
_SHOWN_CHARS = 100
# Longer waits are not for the openai SDK, which repeats a request after a second or two instead.
_SDK_WAITS_S = 60.0
# pydantic names the branch of a union in the location; callers have fields only.
_UNION_BRANCHES = {"int", "float", "str", "bool", "dict", "list", "constrained-str", "constrained-int", "is-instance"}


class InvalidBody(InvalidRequest):
    """A request's field is missing, unknown or has a wrong value."""


class InvalidQuery(InvalidRequest):
    """A list has no such query parameter."""


class InvalidJson(InvalidRequest):
    """The body is not JSON, with the place; or it is, and an object in it has a key twice."""

    message = "The body is not valid JSON: {reason}."


class CompressedBody(InvalidRequest):
    """The body comes compressed."""

    status = 415
    message = "Compressed bodies are not read (content-encoding: {encoding}). Send it as it is, without that header."


class UnsupportedMediaType(InvalidRequest):
    """The body's content type is not one that this route reads."""

    status = 415
    message = (
        "This route reads {expected}, but the content type is {got!r}. Send the header `content-type: {expected}`."
    )


class BodyTooLarge(TooLarge):
    """A JSON body, or a form field, is over its limit."""

    message = "The body is larger than {limit} bytes."


class UploadTooLarge(TooLarge):
    """A file is over the upload limit."""

    message = "The upload is larger than {limit} bytes, the most that is accepted."


class UnknownRoute(NotFound):
    """No route has this path."""

    message = "There is no route {method} {path}.{hint}"


class MethodNotAllowed(InvalidRequest):
    """The path exists, the method does not."""

    status = 405
    message = "{path} does not answer {method}; it answers {allowed}."


class InternalError(GraftError):
    """A fault of the server. Its message has no details; the log has them."""


class ClientClosedRequest(InvalidRequest):
    """The client left before the body was complete; this answer is for the access log."""

    status = 499
    message = "The client closed the connection before the body was complete."


def render(error: GraftError) -> Response:
    """Return the HTTP answer to a domain error, with the headers that its status calls for."""
    headers: dict[str, str] = {}
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(retry_after_s)))
    if error.status == 401:
        headers["www-authenticate"] = 'Bearer realm="graft"'
    if (isinstance(error, Conflict) and retry_after_s is None) or (retry_after_s or 0.0) > _SDK_WAITS_S:
        # The openai SDK repeats a 409 by itself, which helps against lock timeouts only, and a 429 within seconds.
        headers["x-should-retry"] = "false"
    if isinstance(error, MethodNotAllowed):
        headers["allow"] = str(error.data["allowed"])
    fault = error.as_dict()
    total = getattr(error, "total", None)
    if fault.get("details") and total is not None:
        fault["total"] = total  # `details` shows the first hundred
    body = orjson.dumps({"error": fault}, default=str, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, error.status, headers, "application/json")


def from_validation(errors: Iterable[Any]) -> InvalidBody:
    """Return one error of the wire format for pydantic's list: the first is the message, all are `details`."""
    details = [_describe(error) for error in errors][:_DETAILS_SHOWN]
    first = details[0]
    return InvalidBody(reason=first["message"], param=first["param"], details=details if len(details) > 1 else None)


def hint_at(name: str, known: Collection[str]) -> str:
    """Return the hint after an unknown name: the nearest known one, or all of them."""
    meant = nearest(name, known)
    return f" Did you mean '{meant}'?" if meant else f" Known: {', '.join(known)}."


def nearest(name: str, known: Collection[str]) -> str | None:
    """Return the known name that a misspelt one most likely means."""
    if len(name) > _SHOWN_CHARS:  # to compare is quadratic
        return None
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return matches[0] if matches else None


def shorten(text: str) -> str:
    """Shorten a caller's text for a message: no longer than a line."""
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"


def register(app: FastAPI) -> None:
    """Render every error that a route raises here."""

    def on_graft_error(_request: Request, error: Exception) -> Response:
        return render(error if isinstance(error, GraftError) else InternalError())

    def on_validation_error(_request: Request, error: Exception) -> Response:
        return render(from_validation(error.errors()) if isinstance(error, RequestValidationError) else InternalError())

    def on_http_error(request: Request, error: Exception) -> Response:
        return render(_from_http(app, request, error))

    app.add_exception_handler(GraftError, on_graft_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(HTTPException, on_http_error)


class ErrorBoundary:
    """ASGI: turns an unexpected exception into a 500 inside of the middlewares, where it is counted, logged and marked.

    Starlette's own last resort answers outside of them, without `x-request-id`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; answer 500, or 503 where a part is away, if it raises before it has answered."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except Exception:
            log.exception("request failed", path=scope["path"])
            if started:
                raise
            await render(InternalError())(scope, receive, send)


def _from_http(app: FastAPI, request: Request, error: Exception) -> GraftError:
    status = error.status_code if isinstance(error, HTTPException) else 500
    path, method = shorten(request.url.path), shorten(request.method)
    if status == 404:
        return UnknownRoute(method=method, path=path, hint=_hint(app, path))
    if status == 405 and isinstance(error, HTTPException):
        return MethodNotAllowed(method=method, path=path, allowed=", ".join(sorted(_methods(app, request))))
    if status < 500 and isinstance(error, HTTPException):
        return InvalidBody(reason=str(error.detail))
    return InternalError()


def _methods(app: FastAPI, request: Request) -> set[str]:
    # The framework has the methods of one route only, and a path may have several.
    found: set[str] = set()
    for route in app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return found


def _hint(app: FastAPI, path: str) -> str:
    paths = [route.path for route in app.routes if hasattr(route, "path")]
    if not path.startswith("/v1") and "/v1" + path.rstrip("/") in paths:
        return f" Did you mean /v1{path.rstrip('/')}? The base URL ends in /v1."
    match = nearest(path.rstrip("/"), paths)
    return f" Did you mean {match}? /docs lists all routes." if match else " /docs lists all routes."


def _describe(error: dict[str, Any]) -> dict[str, Any]:
    context = error.get("ctx", {})
    location = [part for part in error["loc"] if part not in {"body", "query", "path", "header"}]
    field = context.get("field")
    location = [*location, field] if field else location
    param = _join(location)
    kind = error["type"]
    if kind == "missing":
        message = f"{param} is required." if param else "A JSON body is required."
    elif kind in {"unknown_field", "invalid_field"}:
        message = error["msg"]
    elif kind in {"model_attributes_type", "model_type", "dict_type"} and not param:
        message = "The body must be a JSON object."
    else:
        message = f"{param}: {error['msg']}." if param else f"{error['msg']}."
    return {"message": message, "param": param or None}


def _join(location: list[Any]) -> str:
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part not in _UNION_BRANCHES and not part.startswith(("literal[", "function-", "list[", "nullable[")):
            text += f".{part}" if text else str(part)
    return text
