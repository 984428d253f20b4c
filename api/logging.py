"""Structured logs, and one line per request. Keys and texts are never logged."""

from __future__ import annotations

import logging
import sys
import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.settings import Settings

# Scraped every few seconds; they would drown the rest.
_QUIET = {"/healthz", "/readyz", "/metrics"}
_LOGGED_PARAMS = ("job_id", "file_id", "model")

# Without the values of local variables, which hold customers' texts and our own secrets.
_TRACEBACKS = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))


def configure(settings: Settings) -> None:
    """Send this process's logs to stderr, as JSON or for a console. The libraries' own lines take the same form."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    # Tracebacks without local variables: those hold keys and texts.
    renderer: list[structlog.typing.Processor] = (
        [_TRACEBACKS, structlog.processors.JSONRenderer()]
        if settings.log_format == "json"
        else [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = name != "uvicorn.access"  # the line below replaces uvicorn's


class AccessLog:
    """ASGI: one line per request. Customer and job ids come from what the request bound on its way."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        # Bound once: a lazy logger would be assembled anew for every line.
        self.log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("graft.access").bind()

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
            write(
                "request",
                method=scope["method"],
                route=path,
                status=status,
                ms=round((time.perf_counter() - start) * 1000, 2),
                **{name: params[name] for name in _LOGGED_PARAMS if name in params},
            )


def route_template(scope: Scope) -> str:
    """The path as the route declares it, so that ids neither multiply metrics nor leak into them."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else "(none)"
