"""What the worker's own process may and may not do."""

from __future__ import annotations

import json
import subprocess
import sys

from models.services.queue import QUEUE_NAME, TASK_NAME
from worker.app import app


def test_the_workers_own_process_never_imports_torch():
    program = (
        "import sys, json\n"
        "import worker.app, worker.process_state, worker.sweeper\n"
        "print(json.dumps([m for m in ('torch', 'transformers', 'sklearn', 'numpy') if m in sys.modules]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout)
    assert "torch" not in loaded
    assert "transformers" not in loaded
    assert "sklearn" not in loaded


def test_messages_are_json_acknowledged_early_and_never_hoarded():
    assert app.conf.accept_content == ["json"]
    assert app.conf.task_serializer == "json"
    assert app.conf.task_acks_late is False
    assert app.conf.worker_disable_prefetch is True
    assert app.conf.task_ignore_result is True
    assert app.conf.result_backend is None


def test_the_worker_takes_the_task_and_the_queue_that_the_api_sends_to():
    assert TASK_NAME in app.tasks
    assert list(app.amqp.queues.consume_from) == [QUEUE_NAME]
