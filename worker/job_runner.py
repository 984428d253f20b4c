"""The worker's own part: claims jobs and runs their attempts, while the trainer process does the training.

This process never imports torch. It is small, starts at once, answers signals at once, and outlives any trainer.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Literal

import structlog

from models.errors import Unavailable
from models.records.transitions import AttemptOutcome
from models.services import claims
from models.services.resources import Resources
from worker import identity, monitoring, workspace
from worker.attempt import Attempt, Mailbox
from worker.background_tasks import BackgroundTasks
from worker.protocol import ShutDown
from worker.trainer_supervisor import TRAINER_COMMAND, TrainerSupervisor

log = structlog.get_logger(__name__)


class JobRunner:
    """One per worker process. Runs one job at a time."""

    def __init__(self, resources: Resources, trainer_command: Sequence[str] = TRAINER_COMMAND) -> None:
        self.worker = identity.new_name()
        self._resources = resources
        self._trainers = TrainerSupervisor(resources.settings, trainer_command)
        self._tasks = BackgroundTasks()
        self._one_at_a_time = threading.Lock()
        self._closing = False
        # Reentrant, so that a signal handler may put into it.
        self._mailbox: Mailbox = SimpleQueue()

    def start(self) -> None:
        """Start the trainer in the background, so that its base model is warm before the first job."""
        self._trainers.start()
        self._tasks.submit("clean cache", self._clean_cache)

    def run(self) -> AttemptOutcome | Literal["not claimed"]:
        """Claim the job whose turn it is and run one attempt; return its outcome. Safe to call any number of times.

        `"not claimed"`: none is queued. Raises DatabaseUnavailable if none can be claimed.
        """
        with self._one_at_a_time:
            if self._closing:
                return "not claimed"
            begin = time.monotonic()
            claim = claims.claim_next(self._resources, self.worker)
            if claim is None:
                log.info("no_job_queued")
                return "not claimed"
            job = claim.job
            context = {"job_id": job.id, "attempt": claim.attempt, "customer_id": job.customer_id}
            with structlog.contextvars.bound_contextvars(**context):
                log.info("attempt_started", base_model=claim.job.base_model, task=claim.job.task)
                with monitoring.RUNNING.track_inprogress():
                    mailbox = self._mailbox = SimpleQueue()
                    if self._closing:  # the signal came after the look at it and before the new mailbox
                        mailbox.put((None, ShutDown()))
                    outcome = Attempt(self._resources, claim, self._trainers, self._tasks, mailbox).run()
                seconds = time.monotonic() - begin
                monitoring.ATTEMPTS.labels(outcome).inc()
                monitoring.ATTEMPT_SECONDS.labels(outcome).observe(seconds)
                log.info("attempt_ended", outcome=outcome, seconds=round(seconds, 3))
                self._tasks.submit("clean cache", self._clean_cache)
                return outcome

    def shut_down(self) -> None:
        """Give the running job back and take no other. Does not wait; may be called from a signal handler."""
        self._closing = True
        self._mailbox.put((None, ShutDown()))

    def close(self) -> None:
        """End the trainer. Call it last."""
        self.shut_down()
        self._trainers.close()

    def _clean_cache(self) -> None:
        settings = self._resources.settings
        scratch = workspace.remove_orphaned_scratch(settings.cache_dir)
        freed = workspace.shrink_caches(settings.cache_dir, settings.feature_cache_bytes)
        caches = 0
        with contextlib.suppress(Unavailable):  # done after the next attempt instead
            caches = workspace.remove_orphaned_caches(self._resources)
        if scratch or freed or caches:
            log.info("cache_cleaned", scratch_folders=scratch, freed_bytes=freed, cache_folders=caches)
