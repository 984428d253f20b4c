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
from pathlib import Path

from models.errors import InvalidRequest
from models.learning.contract.events import Finished, Progress, VersionReady
from worker import errors, protocol, trainer
from worker.protocol import Failed, Ready, Stopped


def main() -> None:
    outbox = trainer.Outbox(int(os.environ[protocol.EVENTS_FD_VARIABLE]))
    trainer.die_with_parent(int(os.environ[protocol.PARENT_VARIABLE]))
    inbox = trainer.Inbox()
    inbox.start()
    outbox.send(None, Ready("stand-in", 0.0))
    sys.stdout.write("a library prints to standard output\n")
    sys.stdout.flush()
    while True:
        command = inbox.next_run()
        run, request = command.run, command.request
        outbox.send(run, Progress("reading", 1.0, "Reading"))
        try:
            behave = BEHAVIOURS[request.base_model]
            for event in behave(request, lambda run=run: inbox.stop_requested(run)):
                outbox.send(run, event)
        except Exception as error:
            failed = Failed(*errors.from_training(error))
            outbox.send(run, failed)
            if failed.fatal:
                sys.exit(1)


def succeed(request, stopped):
    yield write_candidate(request)
    yield Progress("refining", 90.0, "Refining", 1.0, {"loss": 0.5})
    yield Finished("head", {"score": 0.9}, trained_rows=10, trained_tokens=100, seconds=0.1)


def hold(request, stopped):
    while not (request.output_dir / "go").exists():
        yield Progress("fitting", 20.0)
        time.sleep(0.02)
    yield from succeed(request, stopped)


def listen(request, stopped):
    while not stopped():
        yield Progress("fitting", 20.0)
        time.sleep(0.02)
    yield Stopped()


def ignore(request, stopped):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "3600"])
    (request.output_dir.parent / "child.pid").write_text(str(child.pid))
    while True:
        yield Progress("fitting", 20.0)
        time.sleep(0.05)


def stall(request, stopped):
    time.sleep(3600)
    yield


def crash(request, stopped):
    os.kill(os.getpid(), signal.SIGKILL)
    yield


def refuse(request, stopped):
    raise InvalidRequest(reason="Two classes are needed.")
    yield


def fail(request, stopped):
    raise RuntimeError("secret path /etc/shadow")
    yield


def fill_the_disk(request, stopped):
    Path("/dev/full").write_text("x")
    yield


def fill_the_memory(request, stopped):
    bytearray(1 << 60)
    yield


def publish_nothing(request, stopped):
    yield Finished("head", {"score": 0.9}, trained_rows=10, trained_tokens=100, seconds=0.1)


def publish_rubbish(request, stopped):
    yield VersionReady("head", request.output_dir, {"score": 0.9}, {"score": 0.9}, improves=True)
    yield Finished("head", {"score": 0.9}, trained_rows=10, trained_tokens=100, seconds=0.1)


BEHAVIOURS = {
    "quick": succeed,
    "hold": hold,
    "gentle": listen,
    "deaf": ignore,
    "stall": stall,
    "crash": crash,
    "user-error": refuse,
    "server-error": fail,
    "full-disk": fill_the_disk,
    "no-memory": fill_the_memory,
    "nothing": publish_nothing,
    "rubbish": publish_rubbish,
}


def write_candidate(request):
    folder = request.output_dir / "head"
    folder.mkdir()
    weights = b"weights of " + request.training.path.read_bytes()[:10]
    (folder / "weights.safetensors").write_bytes(weights)
    manifest = {
        "files": {"weights.safetensors": {"sha256": hashlib.sha256(weights).hexdigest(), "bytes": len(weights)}}
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return VersionReady("head", folder, {"score": 0.9}, {"score": 0.9}, improves=True)


if __name__ == "__main__":
    main()
