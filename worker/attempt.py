"""One attempt at one job, from the claim to the last write: a loop over messages and the clock, in phases.

The loop never blocks for long. The trainer and the background tasks report to its mailbox; what it does by itself is
to renew the lease, and to notice in time that a stop is wanted, that nothing moves, or that the lease is lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, cast

import structlog

from models.errors import JobError, Unavailable
from models.learning.contract.events import BaseChosen, Finished, Progress, VersionReady
from models.learning.contract.request import TrainRequest
from models.records.jobs import Job
from models.records.transitions import ENDED, AttemptOutcome, Released
from models.services import base_choice, claims
from models.services.claims import Claim
from models.services.errors import LeaseLost
from models.services.resources import Resources
from worker import errors, monitoring
from worker.background_tasks import BackgroundTasks, Done, Retry
from worker.errors import DiskFull, TrainerDied, TrainerStalled, TrainingCrashed, TrainingTimeout
from worker.heartbeat import Heartbeat
from worker.phases import STOPPABLE, WORKING, WRITING, Event, Phase, follow
from worker.protocol import Died, Failed, ShutDown, Stopped, Train
from worker.trainer_process import Termination, TrainerProcess
from worker.trainer_supervisor import TrainerSupervisor
from worker.workspace import Workspace, await_room, prepare

log = structlog.get_logger(__name__)

Mailbox = SimpleQueue[Any]  # pairs of a run, or None for any, and a message

_SHUTDOWN_S = 5.0
_TICK_S = 0.2


class Attempt:
    """Runs one claimed job. Made, run once, thrown away."""

    def __init__(
        self, resources: Resources, claim: Claim, trainers: TrainerSupervisor, tasks: BackgroundTasks, mailbox: Mailbox
    ) -> None:
        self._resources = resources
        self._settings = resources.settings
        self._claim = claim
        self._trainers = trainers
        self._tasks = tasks
        self._mailbox = mailbox
        self._run = f"{claim.job.id}/{claim.attempt}"
        self._workspace = Workspace.of(claim, self._settings.cache_dir)
        self._retry = Retry(self._settings.stall_timeout_s)
        self._heartbeat = Heartbeat(resources, claim)
        self._begin = self._last_activity_at = time.monotonic()
        self._phase = Phase.PREPARING
        self._request: TrainRequest | None = None  # from WAITING on
        self._trainer: TrainerProcess | None = None  # from TRAINING on, while it lives
        self._termination: Termination | None = None  # STOPPING
        self._release_to: Released = "queued"  # STOPPING, WITHDRAWING, RELEASING
        self._outcome: AttemptOutcome = "lost"  # ENDED
        self._give_up_at: float | None = None  # the worker is shutting down
        self._first_error: Exception | None = None  # of the background tasks
        self._published = 0

    def run(self) -> AttemptOutcome:
        """Work until the job has ended, was given back, or belongs to another attempt."""
        self._submit("prepare", lambda: prepare(self._resources, self._claim, self._workspace, self._retry))
        while not self._ended:
            try:
                run, message = self._mailbox.get(timeout=_TICK_S)
            except Empty:
                pass
            else:
                if run is None or run == self._run:
                    self._take(message)
            if not self._ended:
                self._watch_clock(time.monotonic())
        if self._trainer is not None:
            self._trainer.detach()
        job_ended = self._outcome in ENDED
        self._tasks.submit("clean up", lambda: self._workspace.remove(job_ended=job_ended))
        return self._outcome

    @property
    def _ended(self) -> bool:
        return self._phase is Phase.ENDED

    def _move(self, event: Event) -> None:
        self._phase = follow(self._phase, event)

    # Messages

    def _take(self, message: Any) -> None:
        self._last_activity_at = time.monotonic()
        match message:
            case Progress():
                self._heartbeat.note(message)
            case BaseChosen() if self._phase is Phase.TRAINING:
                self._write("choose base", lambda: self._keep_base(message))
            case VersionReady() if self._phase is Phase.TRAINING:
                self._publish(message)
            case Finished() | Stopped() | Failed() | Died():
                self._take_end_of_run(message)
            case Done(task="prepare" | "choose base" | "publish"):
                self._take_work_done(message)
            case Done():
                self._take_last_write(message)
            case ShutDown():
                self._shut_down()

    def _keep_base(self, chosen: BaseChosen) -> None:  # before any version: the claim has the model's new name then
        self._claim = base_choice.keep(self._resources, self._claim, chosen)

    def _publish(self, candidate: VersionReady) -> None:
        self._send_heartbeat()
        if self._ended:
            return
        promote = candidate.servable_before_end
        self._write("publish", lambda: claims.publish(self._resources, self._claim, candidate, promote=promote))

    def _take_end_of_run(self, message: Finished | Stopped | Failed | Died) -> None:
        if isinstance(message, Died):
            self._trainer = None
        elif isinstance(message, Failed) and message.fatal:
            self._discard_trainer()
        if self._phase is Phase.STOPPING:
            self._move(Event.TRAINER_IDLE)
        elif self._phase is Phase.TRAINING:
            match message:
                case Finished():
                    self._move(Event.TRAINED)
                    self._send_heartbeat()
                    self._write("finish", lambda: claims.finish(self._resources, self._claim, message))
                case Failed(error=error) if error.blame == "user":
                    self._fail(error)
                case Failed(error=error):
                    self._fail_attempt(error)
                case Died(status=status):
                    self._fail_attempt(errors.server_error(TrainerDied(how=errors.describe_exit(status))))
                case Stopped():  # without having been asked
                    self._fail_attempt(errors.server_error(TrainingCrashed()))

    def _take_work_done(self, done: Done) -> None:
        if isinstance(done.error, LeaseLost):
            self._lose()
        elif done.error is not None:
            self._first_error = self._first_error or done.error
            if self._phase in WORKING:
                self._discard_trainer()
                self._fail_attempt(errors.from_background(done.error))
        elif done.task == "publish":
            self._published += 1
            if self._published == 1:
                monitoring.FIRST_VERSION_SECONDS.observe(time.monotonic() - self._begin)
            log.info("version_published", version=done.result.number, candidate=done.result.candidate)
        elif self._phase is Phase.PREPARING:
            self._request = done.result
            self._move(Event.PREPARED)

    def _take_last_write(self, done: Done) -> None:
        if done.error is None:
            self._end(done.result)
        elif isinstance(done.error, LeaseLost):
            self._lose()
        elif self._phase is Phase.WITHDRAWING:
            self._move(Event.FAILED)
        elif done.task == "finish" and not isinstance(done.error, Unavailable):
            # A version that could not be published is the reason why the best one is missing now.
            self._fail_attempt(errors.from_background(self._first_error or done.error))
        else:
            # Nothing can be written: the lease runs out, and the sweeper takes the job back.
            log.error("last_write_failed", task=done.task, exc_info=done.error)
            self._lose()

    def _shut_down(self) -> None:
        self._give_up_at = time.monotonic() + _SHUTDOWN_S
        if self._phase not in WRITING:
            self._discard_trainer()
            self._release_to = "queued"
        self._move(Event.SHUT_DOWN)

    # The clock

    def _watch_clock(self, now: float) -> None:
        if self._heartbeat.is_due(now):
            self._send_heartbeat()
        if self._give_up_at is not None and now > self._give_up_at and not self._ended:
            self._release()
            if not self._ended:
                self._lose()
        if self._phase is Phase.WAITING:
            self._hand_over()
        elif self._phase is Phase.TRAINING:
            self._watch_training(now)
        elif self._phase is Phase.STOPPING and self._termination is not None and self._termination.is_overdue(now):
            self._discard_trainer()
            self._move(Event.TRAINER_IDLE)
        if self._phase in (Phase.RELEASING, Phase.WITHDRAWING):
            self._release()

    def _send_heartbeat(self) -> None:
        if self._retry.ended:
            return
        try:
            stop_requested = self._heartbeat.send()
        except LeaseLost:
            if self._phase in WRITING:
                self._retry.end()  # the attempt's own last write may be what ended the lease: its result decides
            else:
                self._lose()
        except Unavailable as error:
            log.warning("heartbeat_failed", reason=str(error))
        else:
            if stop_requested is not None and self._phase in STOPPABLE:
                self._stop(stop_requested)

    def _stop(self, requested: str) -> None:
        log.info("stop_requested", requested=requested)
        self._release_to = "cancelled" if requested == "cancel" else "paused"
        self._move(Event.STOP_REQUESTED)
        if self._phase is Phase.STOPPING and self._trainer is not None:
            self._termination = Termination(self._trainer, self._run, time.monotonic())

    def _hand_over(self) -> None:
        trainer = self._trainers.current()
        if trainer is None:
            if time.monotonic() - self._last_activity_at > self._settings.stall_timeout_s:
                self._fail_attempt(errors.server_error(TrainerDied(how="it could not be started")))
            return
        self._trainer = trainer
        self._move(Event.HANDED_OVER)
        self._last_activity_at = time.monotonic()
        trainer.begin(self._mailbox)
        job = self._claim.job
        context = {"job_id": job.id, "attempt": self._claim.attempt, "customer_id": job.customer_id}
        trainer.send(Train(self._run, cast("TrainRequest", self._request), context))

    def _watch_training(self, now: float) -> None:
        if now - self._begin > self._settings.train_timeout_s:
            self._discard_trainer()
            self._fail(errors.server_error(TrainingTimeout(seconds=self._settings.train_timeout_s)))
        elif now - self._last_activity_at > self._settings.stall_timeout_s:
            self._discard_trainer()
            self._fail_attempt(errors.server_error(TrainerStalled(seconds=self._settings.stall_timeout_s)))

    # The end

    def _release(self) -> None:
        self._retry.end()
        try:
            job = claims.release(self._resources, self._claim, to=self._release_to)
        except LeaseLost:
            if self._phase not in WRITING:  # else the last write came first, and its result is on its way
                self._lose()
        except Unavailable as error:
            log.warning("release_failed", reason=str(error))  # tried again at the next tick
        else:
            self._end(job)

    def _fail(self, error: JobError) -> None:
        self._move(Event.FAILED)
        self._write("fail", lambda: claims.fail(self._resources, self._claim, error))

    def _fail_attempt(self, error: JobError) -> None:
        """End the attempt through the server's fault: another one follows unless they are used up."""
        log.warning("attempt_failed", code=error.code, reason=error.message)

        def retry() -> Job:
            if error.code == DiskFull().code:
                # Without free space the next attempt would end like this one, and so would the last one.
                await_room(self._settings.cache_dir, self._retry.pause, longest_s=self._settings.room_wait_s)
            return self._retry.call(lambda: claims.retry(self._resources, self._claim, error))

        self._move(Event.FAILED)
        self._submit("retry", retry)

    def _end(self, job: Job) -> None:
        self._move(Event.WRITTEN)
        self._outcome = cast("AttemptOutcome", job.status)  # the customer may have asked for another by now

    def _lose(self) -> None:
        log.warning("lease_lost")
        self._retry.end()
        self._discard_trainer()
        self._move(Event.LOST)

    def _discard_trainer(self) -> None:
        if self._trainer is not None:
            self._trainers.discard(self._trainer)
        self._trainer = None

    def _write(self, task: str, write: Callable[[], Any]) -> None:
        """Submit a write that is repeated while it cannot be done; it comes after every upload under way."""
        self._submit(task, lambda: self._retry.call(write))

    def _submit(self, task: str, function: Callable[[], Any]) -> None:
        self._tasks.submit(task, function, lambda done: self._mailbox.put((self._run, done)))
