"""One attempt at one job, from the claim to the last write: a loop over events, chores and the clock.

The loop never blocks for long. Trainer and uploads report to its mailbox; what it does by itself is to renew the
lease, and to notice in time that somebody wants the job stopped, that nothing moves, or that the lease is gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Literal

import structlog

from models.errors import Unavailable
from models.learning.contract.events import Finished, Progress, VersionReady
from models.learning.contract.request import TrainRequest
from models.records.jobs import Job
from models.services import claims
from models.services.claims import Claim
from models.services.errors import LeaseLost
from models.services.resources import Resources
from worker import failures, metrics
from worker.chores import Chores, Done
from worker.errors import DiskFull, TrainerDied, TrainerStalled, TrainingTimeout
from worker.keeper import TrainerKeeper
from worker.patience import Patience
from worker.preparation import prepare
from worker.progress import ProgressLog
from worker.protocol import Died, Failed, Stopped, Train
from worker.stopping import Stopping
from worker.trainer_process import TrainerProcess
from worker.workspace import Workspace, shrink_caches

log = structlog.get_logger(__name__)

# How an attempt ends: the job's state after it, or that the job is somebody else's by now.
Outcome = Literal["succeeded", "failed", "cancelled", "paused", "queued", "lost"]

_SHUTDOWN_S = 5.0
_TICK_S = 0.2


class ShutDown:
    """Message: the worker is going; give the job back."""


class Attempt:
    """Runs one claimed job. Made, run once, thrown away."""

    def __init__(
        self, resources: Resources, claim: Claim, keeper: TrainerKeeper, chores: Chores, mailbox: SimpleQueue[Any]
    ) -> None:
        self._resources = resources
        self._settings = resources.settings
        self._claim = claim
        self._keeper = keeper
        self._chores = chores
        self._mailbox = mailbox
        self._run = f"{claim.job.id}/{claim.attempt}"
        self._workspace = Workspace.of(claim, self._settings.cache_dir)
        self._patience = Patience(self._settings.stall_timeout_s)
        self._progress = ProgressLog()
        self._begin = self._last_sign = time.monotonic()
        self._next_report = self._begin + self._settings.heartbeat_s
        self._give_up_at: float | None = None  # the worker is shutting down
        self._request: TrainRequest | None = None  # set when the data sets are here
        self._trainer: TrainerProcess | None = None
        self._training = False  # the trainer is at work on this run
        self._release_to: Literal["cancelled", "paused", "queued"] | None = None
        self._stopping: Stopping | None = None
        self._concluding = False  # the last write is under way
        self._failure: Exception | None = None  # the first of the chores that failed
        self._outcome: Outcome | None = None
        self._published = 0

    def run(self) -> Outcome:
        """Work until the job has ended, was given back, or belongs to somebody else."""
        self._chore("prepare", lambda: prepare(self._resources, self._claim, self._workspace, self._patience))
        while self._outcome is None:
            try:
                run, message = self._mailbox.get(timeout=_TICK_S)
            except Empty:
                pass
            else:
                if run is None or run == self._run:
                    self._take(message)
            if self._outcome is None:
                self._watch_clock()
        self._clean_up()
        return self._outcome

    # What arrives

    def _take(self, message: Any) -> None:
        self._last_sign = time.monotonic()
        match message:
            case Progress():
                self._progress.note(message)
            case VersionReady() | Finished() if self._is_ending:
                self._training = self._training and isinstance(message, VersionReady)
            case VersionReady():
                self._report()
                promote = message.servable_before_end
                publish = lambda: claims.publish(self._resources, self._claim, message, promote=promote)  # noqa: E731
                self._chore("publish", lambda: self._patience.persist(publish))
            case Finished():
                self._training = False
                self._report()
                self._conclude("finish", lambda: claims.finish(self._resources, self._claim, message))
            case Stopped():
                self._training = False
            case Failed():
                self._take_failure(message)
            case Died():
                self._take_death(message)
            case Done():
                self._take_done(message)
            case ShutDown():
                self._give_up_at = time.monotonic() + _SHUTDOWN_S
                if not self._concluding:
                    self._end_trainer()
                    self._release_to = "queued"

    def _take_failure(self, failed: Failed) -> None:
        self._training = False
        if failed.fatal:
            self._end_trainer()
        if self._is_ending:
            return
        if failed.blame == "user":
            self._conclude("fail", lambda: claims.fail(self._resources, self._claim, failed.as_error()))
        else:
            self._retry(failed)

    def _take_death(self, died: Died) -> None:
        was_training, self._training, self._trainer = self._training, False, None
        if was_training and not self._is_ending:
            self._retry(failures.server_fault(TrainerDied(how=failures.describe_status(died.status))))

    def _take_done(self, done: Done) -> None:
        if isinstance(done.error, LeaseLost):
            self._lose()
        elif done.chore in ("prepare", "publish"):
            if done.error is not None:
                self._failure = self._failure or done.error
                if not self._is_ending:
                    self._end_trainer()
                    self._retry(failures.of_machinery(done.error))
            elif done.chore == "prepare":
                self._request = done.result
            else:
                self._note_version(done.result.number, done.result.candidate)
        elif done.error is None:
            self._outcome = done.result.status
        elif done.chore == "finish" and not isinstance(done.error, Unavailable):
            # A version that could not be published is the reason why the best one is missing now.
            self._retry(failures.of_machinery(self._failure or done.error))
        else:
            # Nothing can be written: the lease runs out, and the sweeper does what we could not.
            log.error("conclusion_failed", chore=done.chore, exc_info=done.error)
            self._lose()

    def _note_version(self, number: int, candidate: str) -> None:
        self._published += 1
        if self._published == 1:
            metrics.FIRST_VERSION_SECONDS.observe(time.monotonic() - self._begin)
        log.info("version_published", version=number, candidate=candidate)

    # What the clock says

    def _watch_clock(self) -> None:
        now = time.monotonic()
        if now >= self._next_report:
            self._report()
        if self._outcome is not None:
            return
        if self._give_up_at is not None and now > self._give_up_at:
            self._release_to = "queued"
            self._release()
            if self._outcome is None:
                self._lose()
        elif self._release_to is not None:
            self._stop(now)
        elif self._training:
            self._watch_training(now)
        elif self._request is not None and not self._concluding:
            self._hand_over(self._request)

    def _report(self) -> None:
        """Heartbeat: renew the lease, say how far it is, hear what the customer wishes."""
        if self._patience.ended:
            return
        events = list(self._progress.events)
        try:
            wish = claims.heartbeat(self._resources, self._claim, events=events, **self._progress.position)
        except LeaseLost:
            if self._concluding:
                self._patience.end()  # our own last write may be what ended the lease: its result decides
            else:
                self._lose()
        except Unavailable as error:
            log.warning("heartbeat_failed", reason=str(error))
        else:
            self._progress.forget_written(len(events))
            if wish is not None and self._release_to is None:
                log.info("stop_requested", wish=wish)
                self._release_to = "cancelled" if wish == "cancel" else "paused"
        self._next_report = time.monotonic() + self._settings.heartbeat_s

    def _watch_training(self, now: float) -> None:
        if now - self._begin > self._settings.train_timeout_s:
            self._end_trainer()
            error = failures.server_fault(TrainingTimeout(seconds=self._settings.train_timeout_s)).as_error()
            self._conclude("fail", lambda: claims.fail(self._resources, self._claim, error))
        elif now - self._last_sign > self._settings.stall_timeout_s:
            self._end_trainer()
            self._retry(failures.server_fault(TrainerStalled(seconds=self._settings.stall_timeout_s)))

    def _hand_over(self, request: TrainRequest) -> None:
        trainer = self._keeper.current()
        if trainer is None:
            if time.monotonic() - self._last_sign > self._settings.stall_timeout_s:
                self._retry(failures.server_fault(TrainerDied(how="it could not be started")))
            return
        self._trainer, self._training = trainer, True
        self._last_sign = time.monotonic()
        job = self._claim.job
        trainer.begin(self._mailbox)
        context = {"job_id": job.id, "attempt": self._claim.attempt, "customer_id": job.customer_id}
        trainer.send(Train(self._run, request, context))

    def _stop(self, now: float) -> None:
        if self._training and self._trainer is not None:
            self._stopping = self._stopping or Stopping(self._trainer, self._run, now)
            if self._stopping.is_over(now):
                self._end_trainer()
        if not self._training:
            self._release()

    # How it ends

    @property
    def _is_ending(self) -> bool:
        return self._release_to is not None or self._concluding

    def _release(self) -> None:
        assert self._release_to is not None  # noqa: S101
        self._patience.end()
        try:
            job = claims.release(self._resources, self._claim, to=self._release_to)
        except LeaseLost:
            if not self._concluding:
                self._lose()
            # else the last write came first, and its result is on its way
        except Unavailable as error:
            log.warning("release_failed", reason=str(error))  # tried again at the next tick
        else:
            self._outcome = job.status  # type: ignore[assignment]  # the customer may wish for another by now

    def _retry(self, failed: Failed) -> None:
        log.warning("attempt_failed", code=failed.code, reason=failed.message)

        def retry() -> Job:
            if failed.code == DiskFull().code:
                # Everything there can be computed again; without room the next attempt ends like this one.
                shrink_caches(self._settings.cache_dir, 0)
            return claims.retry(self._resources, self._claim, failed.as_error())

        self._conclude("retry", retry)

    def _conclude(self, chore: str, write: Callable[[], Job]) -> None:
        """Submit the last write: it comes after every upload that is still under way."""
        self._concluding = True
        self._chore(chore, lambda: self._patience.persist(write))

    def _lose(self) -> None:
        log.warning("lease_lost")
        self._patience.end()
        self._end_trainer()
        self._outcome = "lost"

    def _end_trainer(self) -> None:
        if self._trainer is not None:
            self._keeper.discard(self._trainer)
        self._trainer, self._training = None, False

    def _clean_up(self) -> None:
        if self._training:
            self._end_trainer()
        elif self._trainer is not None:
            self._trainer.detach()
        job_ended = self._outcome in ("succeeded", "failed", "cancelled")
        self._chores.submit("clean up", lambda: self._workspace.remove(job_ended=job_ended))

    def _chore(self, name: str, function: Callable[[], Any]) -> None:
        self._chores.submit(name, function, lambda done: self._mailbox.put((self._run, done)))
