"""Messages that nobody understands, as whoever reaches the broker may leave them there."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from celery.concurrency.solo import TaskPool
from celery.utils.imports import instantiate, symbol_by_name
from celery.worker import state
from kombu import Connection, Queue
from kombu.asynchronous.timer import Timer

from models.services.queue import QUEUE_NAME
from worker.app import create_app


@pytest.mark.parametrize("task", [["graft.train"], {"a": 1}])
def test_a_message_that_nobody_understands_is_dropped(task):
    """Before, it ended the worker, went back to the queue, and ended the next one."""
    app = create_app("memory://")
    handler = _handler(app)
    with Connection("memory://") as connection:
        queue = Queue(QUEUE_NAME)(connection.default_channel)
        queue.declare()
        with connection.Producer() as producer:
            producer.publish([[], {}, {}], routing_key=QUEUE_NAME, headers={"task": task, "id": "x"})
        message = queue.get()
        handler(message)
        assert message.acknowledged
        assert queue.get() is None


def _handler(app):
    kind = symbol_by_name(app.conf.worker_consumer)
    controller = SimpleNamespace(use_eventloop=False, state=state)  # all that is asked of a worker before it starts
    consumer = instantiate(kind, lambda _: None, app=app, controller=controller, pool=TaskPool(1), timer=Timer())
    consumer.update_strategies()
    return consumer.create_task_handler()
