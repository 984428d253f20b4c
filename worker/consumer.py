"""The consumer of messages: one that nobody understands is dropped and logged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from celery.worker import consumer

log = structlog.get_logger(__name__)


class Consumer(consumer.Consumer):
    """Celery's consumer, which leaves a message that it cannot even look at unacknowledged and ends its worker.

    The broker then restores the message, and it ends the next worker. Nothing is lost by dropping it: the database is
    the truth, and the sweeper sends a job's message again.
    """

    app: Any

    def create_task_handler(self, *arguments: Any, **options: Any) -> Callable[[Any], None]:
        """Return what is called with each message."""
        handle = super().create_task_handler(*arguments, **options)
        # A broker that is away is no fault of the message.
        connection: Any = self.app.connection_for_read()
        passed_on = (*connection.connection_errors, *connection.channel_errors)

        def receive(message: Any) -> None:
            try:
                handle(message)
            except passed_on:
                raise
            except Exception as error:  # whatever it is: headers, types and sizes are the sender's
                log.error("message_dropped", error=repr(error)[:200])
                if not message.acknowledged:
                    message.reject_log_error(log, connection.connection_errors)

        return receive
