"""`x-request-id` on every answer; the client's own is used where it is well-formed."""

from __future__ import annotations

import random
import re

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SANE = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_STATE_KEY = "request_id"


def request_id_of(scope: Scope) -> str:
    """Return the id that the layer has given to a request."""
    return str(scope.get("state", {}).get(_STATE_KEY, ""))


class RequestIds:
    """ASGI: gives the request an id, binds it to every log line, and puts it on the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Mark one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _SANE.fullmatch(given) else _new_id()
        scope.setdefault("state", {})[_STATE_KEY] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)

        async def mark(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        await self.app(scope, receive, mark)


def _new_id() -> str:
    # No secret, so no system call: that lets go of the interpreter's lock, and on a busy process the event loop then
    # waits for milliseconds until it gets the lock back.
    return f"req_{random.getrandbits(96):024x}"
