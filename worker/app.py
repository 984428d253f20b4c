"""The Celery app and its only task: configuration, and what a worker starts and stops.

`celery -A worker.app worker` — queue, pool and concurrency are set here. The database is the truth and a message is
only a hint, so messages are acknowledged at once, nothing is prefetched, and no results are kept.
"""

from __future__ import annotations

from typing import Any

import structlog
from celery import Celery, bootsteps, signals

from models import settings as graft_settings
from models.services.queue import QUEUE_NAME, TASK_NAME
from worker import monitoring

log = structlog.get_logger(__name__)

_TICK_S = 0.05


class Tick(bootsteps.StartStopStep):
    """Wakes the consumer often enough to fetch the next message as soon as a job is done.

    Without prefetching, the consumer asks for a message only between two waits, and a wait lasts up to a second: as
    long as two small jobs take.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)
    _entry: Any = None

    def start(self, c: Any) -> None:
        """Begin, at every connection to the broker."""
        monitoring.CONSUMER_SEEN.set_to_current_time()
        monitoring.CONSUMER_CONNECTED.set(1)
        self._entry = c.timer.call_repeatedly(_TICK_S, monitoring.CONSUMER_SEEN.set_to_current_time)

    def stop(self, c: Any) -> None:  # noqa: ARG002  # the name that Celery calls it by
        """End, when the connection is lost and when the worker ends."""
        monitoring.CONSUMER_CONNECTED.set(0)
        if self._entry is not None:
            self._entry.cancel()


def create_app(broker_url: str) -> Celery:
    """Return the app as the worker runs it, and as the tests send messages with it."""
    app = Celery("graft", broker=broker_url)
    app.conf.update(
        task_default_queue=QUEUE_NAME,
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        result_backend=None,
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        # A pool of processes would fork after threads are running. One thread is enough: the work is elsewhere.
        worker_pool="threads",
        worker_concurrency=1,
        worker_consumer="worker.consumer:Consumer",
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        # No messages between workers, nothing that has to be rebuilt when the broker restarts.
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A broker whose disk is full refuses every write, acknowledgements too: no reason for the worker to end.
        broker_channel_error_retry=True,
        broker_connection_timeout=4,
        broker_transport_options={
            "socket_connect_timeout": 4,
            "socket_timeout": 10,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "retry_on_timeout": True,
        },
        task_create_missing_queues=True,
        enable_utc=True,
    )
    app.steps["consumer"].add(Tick)
    return app


app = create_app(graft_settings.load().broker_url)


@app.task(name=TASK_NAME)
def train(job_id: str) -> None:
    """Run one attempt at the job whose turn it is: a message says that there is work, the database says which.

    It may come late, twice, or for a job that has ended. A lost message is sent again by the sweeper.
    """
    from worker import process_state  # noqa: PLC0415  # opens the database; importing the app must not

    log.debug("message_received", job_id=job_id)
    process_state.job_runner().run()


@signals.setup_logging.connect
def _configure_logs(**_: Any) -> None:
    monitoring.configure_logs(graft_settings.load())


@signals.worker_init.connect
def _start(sender: Any, **_: Any) -> None:
    # Workers do not exchange anything: all of it is in the database. As flags these would have to be repeated wherever
    # a worker is started.
    sender.options.update(without_mingle=True, without_gossip=True, without_heartbeat=True)
    # Not on `worker_ready`: that waits for the broker, and neither warming up nor sweeping needs one.
    from worker import process_state  # noqa: PLC0415  # opens the database; importing the app must not

    process_state.start()


@signals.worker_shutting_down.connect
def _shut_down(**_: Any) -> None:
    from worker import process_state  # noqa: PLC0415

    process_state.shut_down()


@signals.worker_shutdown.connect
def _close(**_: Any) -> None:
    from worker import process_state  # noqa: PLC0415

    process_state.close()
