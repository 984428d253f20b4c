"""The form of every process's logs: structured, on standard error, as JSON or for a console."""

from __future__ import annotations

import logging
import sys
from typing import BinaryIO, cast

import orjson
import structlog

from models import log_escapes
from models.log_lines import LogLines
from models.settings import Settings

# Without the values of local variables, which hold customers' texts and our own secrets.
_TRACEBACKS = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))


def configure(settings: Settings) -> None:
    """Send this process's logs to stderr. The libraries' own lines take the same form."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: list[structlog.typing.Processor] = (
        [_TRACEBACKS, log_escapes.for_json, structlog.processors.JSONRenderer()]
        if settings.log_format == "json"
        else [
            log_escapes.for_console,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=log_escapes.traceback),
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


def direct(settings: Settings, name: str) -> structlog.typing.FilteringBoundLogger:
    """Return a logger for the lines of every request: of the same form, past the standard library's records, together.

    Those cost a quarter of the event loop's time under load.
    """
    if settings.log_format != "json":
        return cast("structlog.typing.FilteringBoundLogger", structlog.stdlib.get_logger(name).bind())
    return cast(
        "structlog.typing.FilteringBoundLogger",
        structlog.wrap_logger(
            structlog.BytesLogger(cast("BinaryIO", LogLines(sys.stderr.buffer))),
            processors=[
                structlog.contextvars.merge_contextvars,
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                log_escapes.for_json,
                structlog.processors.JSONRenderer(serializer=orjson.dumps),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        ).bind(logger=name),
    )
