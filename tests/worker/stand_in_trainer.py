"""A small trainer that speaks the worker's protocol and misbehaves on request.

The request's `base_model` says how: it stands in for trainings that crash, hang or ignore what they are told.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

from models.errors import InvalidRequest
from models.learning.events import Candidate, Finished, Progress
from worker import failures, parent_death, protocol, trainer
from worker.protocol import Ready


def main() -> None:
    outbox = trainer.Outbox(int(os.environ[protocol.EVENTS_FD_VARIABLE]))
    parent_death.die_with_parent(int(os.environ[protocol.PARENT_VARIABLE]))
    inbox = trainer.Inbox()
    inbox.start()
    outbox.send(None, Ready("stand-in", 0.0))
    sys.stdout.write("a library prints to standard output\n")
    sys.stdout.flush()
    while True:
        command = inbox.next_run()
        run, request = command.run, command.request

        def send(event, run=run):
            outbox.send(run, event)

        def stopped(run=run):
            return inbox.stop_requested(run)

        behave(request.base_model, request, send, stopped)


def behave(how, request, send, stopped):
    send(Progress("reading", 1.0, "Reading"))
    if how == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "user-error":
        send(failures.of_training(InvalidRequest(reason="Two classes are needed.")))
        return
    elif how == "server-error":
        send(failures.of_training(RuntimeError("secret path /etc/shadow")))
        sys.exit(1)
    elif how == "stall":
        time.sleep(3600)
    elif how == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen(["sleep", "3600"])
        (request.output_dir.parent / "child.pid").write_text(str(child.pid))
        while True:
            send(Progress("fitting", 20.0))
            time.sleep(0.05)
    elif how == "gentle":
        while not stopped():
            send(Progress("fitting", 20.0))
            time.sleep(0.02)
        send(protocol.Stopped())
        return
    send(write_candidate(request))
    send(Progress("refining", 90.0, "Refining", 1.0, {"loss": 0.5}))
    send(Finished("head", {"score": 0.9}, trained_rows=10, trained_tokens=100, seconds=0.1))


def write_candidate(request):
    folder = request.output_dir / "head"
    folder.mkdir()
    weights = b"weights of " + request.training.path.read_bytes()[:10]
    (folder / "weights.safetensors").write_bytes(weights)
    manifest = {
        "files": {"weights.safetensors": {"sha256": hashlib.sha256(weights).hexdigest(), "bytes": len(weights)}}
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return Candidate("head", folder, {"score": 0.9}, {"score": 0.9}, improves=True)


if __name__ == "__main__":
    main()
