"""The trainer process: keeps base models warm and runs one training at a time. Started by `TrainerSupervisor`.

It has no database, no queue and no customer: a request with local paths comes in, events go out.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from queue import SimpleQueue
from typing import TYPE_CHECKING

import structlog

from models import process_memory
from models import settings as graft_settings
from models.learning.contract.errors import Stopped as TrainingStopped
from models.learning.contract.events import BaseChosen, Finished, Progress
from models.learning.contract.request import TrainRequest
from models.settings import Settings
from worker import errors, monitoring, protocol
from worker.protocol import Failed, Ready, Stop, Stopped, Train, TrainerEvent

if TYPE_CHECKING:
    from models.backbones.loading import Backbone
    from models.backbones.writing import DecoderBackbone

log = structlog.get_logger(__name__)

_OOM_SCORE = "500"
_PR_SET_PDEATHSIG = 1


class Outbox:
    """Writes events to the worker, whole lines at a time."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def send(self, run: str | None, event: TrainerEvent) -> None:
        """Write one event; blocks while the worker does not read, raises OSError when it is gone."""
        view = memoryview(protocol.encode_event(run, event))
        while view:
            view = view[os.write(self._fd, view) :]


class Inbox:
    """Reads commands in a thread, so that a stop is seen while a run goes on and the parent's end at any time."""

    def __init__(self) -> None:
        self._runs: SimpleQueue[Train] = SimpleQueue()
        self._stopped: set[str] = set()
        self._thread = threading.Thread(target=self._read, name="inbox", daemon=True)

    def start(self) -> None:
        """Begin to read standard input."""
        self._thread.start()

    def next_run(self) -> Train:
        """Wait for the next run."""
        return self._runs.get()

    def stop_requested(self, run: str) -> bool:
        """True if that run was asked to stop."""
        return run in self._stopped

    def _read(self) -> None:
        for line in _lines(sys.stdin.fileno()):
            try:
                command = protocol.decode_command(line)
            except Exception:
                log.exception("command_unreadable")
                break
            if isinstance(command, Stop):
                self._stopped.add(command.run)
            else:
                self._runs.put(command)
        # The worker has ended, or sends what cannot be read: the result would be lost.
        end_group()


def _lines(fd: int) -> Iterator[bytes]:
    # Not through `sys.stdin`: its lock, held by a thread that waits for input, aborts the interpreter's exit.
    rest = b""
    while chunk := os.read(fd, 65_536):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines


class WarmBackbones:
    """The base model that was used last, loaded and ready for the next run."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._name: str | None = None
        self._backbone: Backbone | DecoderBackbone | None = None

    def is_warm(self, name: str) -> bool:
        """Return whether the base model `name` is loaded."""
        return self._backbone is not None and self._name == name

    def get(self, name: str) -> Backbone | DecoderBackbone:
        """Return the base model `name`; raises what loading it raises."""
        if self._backbone is None or self._name != name:
            # torch is imported only after the process has set itself up.
            from models.backbones import loading, registry, writing  # noqa: PLC0415

            settings = self._settings
            entry = registry.find(settings, name)
            self._backbone, self._name = None, None  # two may not fit
            load = writing.load_decoder if entry.kind == "decoder" else loading.load
            self._backbone = load(entry, device=settings.device, precision=settings.precision, threads=settings.threads)
            self._name = name
        return self._backbone


def main() -> int:
    """Run until the worker closes standard input or kills the process."""
    events_fd = int(os.environ.pop(protocol.EVENTS_FD_VARIABLE))
    os.set_inheritable(events_fd, False)
    die_with_parent(int(os.environ.pop(protocol.PARENT_VARIABLE)))
    settings = graft_settings.load()
    _step_back(settings.trainer_niceness // 2)
    monitoring.configure_logs(settings)
    outbox, inbox, backbones = Outbox(events_fd), Inbox(), WarmBackbones(settings)
    inbox.start()
    _warm_up(settings, backbones, outbox)
    # Not before: on a busy machine a job waited half a minute for a trainer that had to start.
    os.nice(settings.trainer_niceness - settings.trainer_niceness // 2)
    while True:
        command = inbox.next_run()
        with structlog.contextvars.bound_contextvars(**command.context):
            failed = _run(command, backbones, inbox, outbox)
        # A trainer waits longer than it works, and kept the peak of its largest job: features, gradients, rows.
        gc.collect()
        process_memory.give_back()
        if failed is not None and failed.fatal:
            # Memory that was not freed, a device in an unknown state: a fresh process is cheap.
            return 1


def _step_back(niceness: int) -> None:
    """Let prediction on the same machine go first, and this process die first when memory runs out."""
    os.nice(niceness)
    try:
        with open("/proc/self/oom_score_adj", "w") as score:  # noqa: PTH123
            score.write(_OOM_SCORE)
    except OSError:
        pass  # not Linux


def _warm_up(settings: Settings, backbones: WarmBackbones, outbox: Outbox) -> None:
    begin = time.monotonic()
    try:
        backbones.get(settings.base_model)
        from models.learning import training  # noqa: F401, PLC0415  # its imports are part of being warm
    except Exception:
        # The process goes on: jobs may name other base models, and one that names this one gets the error.
        log.exception("warm_up_failed", base_model=settings.base_model)
    outbox.send(None, Ready(settings.base_model, time.monotonic() - begin))


def _run(command: Train, backbones: WarmBackbones, inbox: Inbox, outbox: Outbox) -> Failed | None:
    """Train from request to last event. Returns the failure if it failed."""
    begin = time.monotonic()
    request = command.request
    log.info("run_started", base_model=request.base_model, task=request.task, strategy=request.strategy)
    try:
        from models.learning import training  # noqa: PLC0415  # torch comes with it

        try:
            finished = False
            if request.base_candidates:
                request = _choose_base(command, backbones, inbox, outbox)
            if not backbones.is_warm(request.base_model):
                reading = f"Reading the base model '{request.base_model}', which takes longer the first time."
                outbox.send(command.run, Progress("reading", 0.0, reading))
            backbone = backbones.get(request.base_model)
            for event in training.train(request, backbone, stop=lambda: inbox.stop_requested(command.run)):
                finished = isinstance(event, Finished)
                outbox.send(command.run, event)
            if not finished:
                raise RuntimeError("training ended without a result")
        except TrainingStopped:
            outbox.send(command.run, Stopped())
    except Exception as error:
        failed = Failed(*errors.from_training(error))
        if failed.error.blame == "server":
            log.exception("run_failed", code=failed.error.code)
        else:
            log.info("run_refused", code=failed.error.code)
        outbox.send(command.run, failed)
        return failed
    log.info("run_ended", finished=finished, seconds=round(time.monotonic() - begin, 3))
    return None


def _choose_base(command: Train, backbones: WarmBackbones, inbox: Inbox, outbox: Outbox) -> TrainRequest:
    """Probe the candidates and tell the worker; return the request with the base that was chosen."""
    from models.learning.base_choice import choice  # noqa: PLC0415  # torch comes with it

    request = command.request
    for event in choice.choose(request, backbones.get, stop=lambda: inbox.stop_requested(command.run)):
        outbox.send(command.run, event)
        if isinstance(event, BaseChosen):
            request = replace(request, base_model=event.base, base_candidates=(), base_choice=event.describe())
    return request


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when the thread that started it ends; exit if that has happened already.

    Linux only. Elsewhere the end of standard input has to do, and it is watched on Linux too.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The parent may have died between fork and prctl.
    if os.getppid() != parent:
        os._exit(1)


def end_group() -> None:
    """Kill this process and everything in its group, now."""
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
