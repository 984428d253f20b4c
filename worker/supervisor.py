"""The worker's own part: claims jobs and sees them through, while the trainer process does the work.

This process never imports torch. It is small, starts at once, answers signals at once, and outlives any trainer.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any

import structlog

from models.errors import Unavailable
from models.services import claims
from models.services.resources import Resources
from worker import metrics, workspace
from worker.attempt import Attempt, ShutDown
from worker.chores import Chores
from worker.keeper import TRAINER_COMMAND, TrainerKeeper

log = structlog.get_logger(__name__)


class Supervisor:
    """One per worker process. Runs one job at a time."""

    def __init__(self, resources: Resources, trainer_command: Sequence[str] = TRAINER_COMMAND) -> None:
        # The last part is new with every start: a worker that comes back under an old host name and pid is another.
        self.worker = f"{socket.gethostname()[:80]}:{os.getpid()}:{secrets.token_hex(6)}"
        self._resources = resources
        self._keeper = TrainerKeeper(resources.settings, trainer_command)
        self._chores = Chores()
        self._one_at_a_time = threading.Lock()
        self._closing = False
        # Reentrant, so that a signal handler may put into it.
        self._mailbox: SimpleQueue[Any] = SimpleQueue()

    def start(self) -> None:
        """Start the trainer in the background, so that its base model is warm before the first job."""
        self._keeper.start()
        self._chores.submit("remove litter", self._tidy)

    def run(self, job_id: str) -> str:
        """Claim the job and see it through; returns how it ended. Safe to call any number of times.

        `"not claimed"`: it has ended, or somebody else has it. Raises DatabaseUnavailable if it cannot be claimed.
        """
        with self._one_at_a_time, structlog.contextvars.bound_contextvars(job_id=job_id):
            if self._closing:
                return "not claimed"
            begin = time.monotonic()
            claim = claims.claim(self._resources, job_id, self.worker)
            if claim is None:
                log.info("job_not_claimed")
                return "not claimed"
            with structlog.contextvars.bound_contextvars(attempt=claim.attempt, customer_id=claim.job.customer_id):
                log.info("attempt_started", base_model=claim.job.base_model, task=claim.job.task)
                with metrics.RUNNING.track_inprogress():
                    mailbox = self._mailbox = SimpleQueue()
                    if self._closing:  # the signal came after the look at it and before the new mailbox
                        mailbox.put((None, ShutDown()))
                    outcome = Attempt(self._resources, claim, self._keeper, self._chores, mailbox).run()
                seconds = time.monotonic() - begin
                metrics.ATTEMPTS.labels(outcome).inc()
                metrics.ATTEMPT_SECONDS.labels(outcome).observe(seconds)
                log.info("attempt_ended", outcome=outcome, seconds=round(seconds, 3))
                self._chores.submit("tidy", self._tidy)
                return outcome

    def shut_down(self) -> None:
        """Give the running job back and take no other. Returns at once; may be called from a signal handler."""
        self._closing = True
        self._mailbox.put((None, ShutDown()))

    def close(self) -> None:
        """End the trainer. Call it last."""
        self.shut_down()
        self._keeper.close()

    def _tidy(self) -> None:
        settings = self._resources.settings
        litter = workspace.remove_litter(settings.cache_dir)
        freed = workspace.shrink_caches(settings.cache_dir, settings.feature_cache_bytes)
        forgotten = 0
        with contextlib.suppress(Unavailable):  # the next attempt's tidying asks again
            forgotten = workspace.remove_forgotten(self._resources)
        if litter or freed or forgotten:
            log.info("tidied", scratch_folders=litter, freed_bytes=freed, forgotten_folders=forgotten)
