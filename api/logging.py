"""Structured logs, and one line per request. Keys and texts are never logged."""

from __future__ import annotations

import logging
import time

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models import logs
from models.settings import Settings

# Scraped every few seconds; the other lines would be hard to find.
_QUIET = {"/healthz", "/readyz", "/metrics"}
_LOGGED_PARAMS = ("job_id", "file_id", "model")
# Whose account or key an operator's action is about. `customer_id` and `key_id` are the caller's own.
_TARGET_PARAMS = ("customer_id", "key_id")
_TARGETS = "logged_targets"


def configure(settings: Settings) -> None:
    """Send this process's logs to stderr in the form of all others, uvicorn's too."""
    logs.configure(settings)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = name != "uvicorn.access"  # the line below replaces uvicorn's


class AccessLog:
    """ASGI: one line per request. The caller's ids are those that the request bound on its way."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.log = logs.direct(settings, "graft.access")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Log one request when its answer is out."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 0

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watch)
        finally:
            path = route_template(scope)
            write = self.log.debug if path in _QUIET else self.log.info
            params = scope.get("path_params", {})
            client = scope.get("client")
            write(
                "request",
                method=scope["method"],
                route=path,
                status=status,
                ms=round((time.perf_counter() - start) * 1000, 2),
                address=client[0] if client else "",
                **{name: params[name] for name in _LOGGED_PARAMS if name in params},
                **{f"target_{name}": params[name] for name in _TARGET_PARAMS if name in params},
                **scope.get("state", {}).get(_TARGETS, {}),
            )


def note_target(request: Request, **ids: str) -> None:
    """Name what an operator's action has made, in the access line of its request."""
    request.scope.setdefault("state", {})[_TARGETS] = {f"target_{name}": value for name, value in ids.items()}


def route_template(scope: Scope) -> str:
    """Return the path as the route declares it: ids neither multiply metrics nor leak into them."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else "(none)"
