"""Messages to workers through the broker: `{job_id}`, a hint that there is work, one for each queued job.

The database is the truth: it says whose job is next, and a lost message is sent again.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

import structlog
from celery import Celery
from kombu import Connection
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

TASK_NAME = "graft.train"
QUEUE_NAME = "graft"
_TIMEOUT_S = 1.0
# Pause after a failure: requests must not queue up behind a broker that does not answer.
_QUIET_S = 1.0


class JobQueue:
    """A producer that never raises and never hangs: sending may fail, and then the sweeper sends again."""

    def __init__(self, broker_url: str, *, timeout_s: float = _TIMEOUT_S, quiet_s: float = _QUIET_S) -> None:
        self._timeout_s, self._quiet_s = timeout_s, quiet_s
        self._quiet_until = 0.0
        self._app = Celery("graft-producer", broker=broker_url, set_as_current=False)
        self._app.conf.update(
            task_serializer="json",
            accept_content=["json"],
            task_ignore_result=True,
            task_default_queue=QUEUE_NAME,
            broker_pool_limit=10,
            broker_connection_timeout=timeout_s,
            broker_connection_retry=False,
            broker_transport_options={
                "socket_timeout": timeout_s,
                "socket_connect_timeout": timeout_s,
                "retry_on_timeout": False,
                "max_retries": 1,
                # Kombu would wait for two seconds before the second try.
                "interval_start": 0.0,
                "interval_step": 0.0,
                "interval_max": 0.0,
            },
            # Once more on a fresh connection: the pooled one may be from before the broker's restart.
            task_publish_retry=True,
            task_publish_retry_policy={"max_retries": 1, "interval_start": 0.0, "interval_max": 0.0},
        )

    def send(self, job_id: str) -> bool:
        """Send a message for this job; return whether the broker took it."""
        if time.monotonic() < self._quiet_until:
            return False
        try:
            with self._app.producer_pool.acquire(block=True, timeout=self._timeout_s) as producer:
                if time.monotonic() < self._quiet_until:  # another thread failed while this one waited
                    return False
                self._app.send_task(TASK_NAME, kwargs={"job_id": job_id}, queue=QUEUE_NAME, producer=producer)
        except (KombuError, RedisError, OSError) as error:
            self._quiet_until = time.monotonic() + self._quiet_s
            log.warning("message not sent, the sweeper will", job_id=job_id, error=type(error).__name__)
            return False
        return True

    def depth(self) -> int | None:
        """Count the messages that wait at the broker; None: it cannot be reached."""
        connection: Connection
        try:
            with self._app.connection_for_write() as connection:
                channel: Any = connection.default_channel
                with contextlib.suppress(*connection.channel_errors):
                    return int(channel.queue_declare(QUEUE_NAME, passive=True).message_count)
                return 0  # a queue that was never used does not exist
        except (KombuError, RedisError, OSError):
            return None

    def close(self) -> None:
        """Close the pooled connections."""
        self._app.close()
