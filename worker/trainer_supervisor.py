"""One warm trainer process: started before the first job, and again whenever it has ended."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

import structlog

from models.settings import Settings
from worker import monitoring
from worker.trainer_process import TrainerProcess

log = structlog.get_logger(__name__)

TRAINER_COMMAND = (sys.executable, "-m", "worker.trainer")
_SHORT_LIFE_S = 10.0
_LONGEST_PAUSE_S = 30.0


class TrainerSupervisor:
    """Owns the trainer process. All processes are started from one thread that lives as long as the worker."""

    def __init__(self, settings: Settings, command: Sequence[str] = TRAINER_COMMAND) -> None:
        self._command = command
        self._environment = trainer_environment(settings)
        self._changed = threading.Condition()
        self._current: TrainerProcess | None = None
        self._closing = False
        self._pause_s = 0.0
        self._thread = threading.Thread(target=self._keep, name="trainer-supervisor", daemon=True)

    def start(self) -> None:
        """Start the first trainer in the background."""
        self._thread.start()

    def current(self) -> TrainerProcess | None:
        """Return the live trainer, or None while there is none."""
        with self._changed:
            trainer = self._current
            return trainer if trainer is not None and trainer.alive else None

    def discard(self, trainer: TrainerProcess) -> None:
        """Kill a trainer in an unknown state, or one that is not wanted any more; a fresh one starts at once."""
        trainer.detach()
        trainer.signal_group(signal.SIGKILL)
        self._forget(trainer)

    def close(self, timeout_s: float = 5.0) -> None:
        """Kill the trainer and start no other."""
        with self._changed:
            self._closing = True
            trainer = self._current
            self._changed.notify_all()
        if trainer is not None:
            trainer.signal_group(signal.SIGKILL)
            trainer.wait(timeout_s)
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _forget(self, trainer: TrainerProcess) -> None:
        with self._changed:
            # One that dies young without having worked (a missing library, no memory) would otherwise be restarted
            # in a tight loop.
            if not trainer.used and time.monotonic() - trainer.started_at < _SHORT_LIFE_S:
                self._pause_s = min(_LONGEST_PAUSE_S, max(0.5, self._pause_s * 2))
            else:
                self._pause_s = 0.0
            if self._current is trainer:
                self._current = None
                self._changed.notify_all()

    def _keep(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._current is None)
                if self._pause_s and not self._closing:
                    self._changed.wait_for(lambda: self._closing, timeout=self._pause_s)
                if self._closing:
                    return
            try:
                trainer = TrainerProcess(self._command, self._environment, self._forget)
            except OSError:
                log.exception("trainer_not_started")
                with self._changed:
                    self._pause_s = min(_LONGEST_PAUSE_S, max(0.5, self._pause_s * 2))
                continue
            log.info("trainer_started", pid=trainer.pid)
            monitoring.TRAINERS_STARTED.inc()
            with self._changed:
                if self._closing:
                    trainer.signal_group(signal.SIGKILL)
                elif trainer.alive:
                    self._current = trainer


def trainer_environment(settings: Settings) -> dict[str, str]:
    """Return the environment of a trainer: the worker's own without the operator's key, and its compute threads.

    Left alone, every library takes all cores and spins while it waits; two threads that spin against a busy core
    were six times slower than one.
    """
    threads = str(settings.threads or len(os.sched_getaffinity(0)))
    return {
        **{name: value for name, value in os.environ.items() if name != "GRAFT_ADMIN_KEY"},
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "true",
        "PYTHONUNBUFFERED": "1",
    }
